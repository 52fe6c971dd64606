//! Code of other languages, and queries of other databases.

use super::{CRITICAL, Class, Places, Rule, WARNING, by_code};

const fn rule(
    class: Class,
    id: &'static str,
    score: u32,
    words: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        id,
        class,
        score,
        places: Places::ANY,
        words,
        pattern,
    }
}

pub(super) const RULES: &[Rule] = &[
    // (933100, 933190)
    rule(
        Class::Php,
        "php-tag",
        CRITICAL,
        &["<?"],
        r#"<\?(?:php\b|=|\s+(?:echo|system|eval|print|exec|include|require|phpinfo|passthru|\$\w+\s*=))"#,
    ),
    // (933150, 933160, 933210)
    rule(
        Class::Php,
        "php-function",
        CRITICAL,
        &["(", "$_"],
        r#"\b(?:system|passthru|shell_exec|proc_open|pcntl_exec|popen|assert|create_function|call_user_func(?:_array)?|eval|exec|highlight_file|show_source|file_put_contents|fsockopen|base64_decode|str_rot13|gzinflate|gzuncompress|chr|readfile|file_get_contents|fopen|include(?:_once)?|require_once|unserialize|move_uploaded_file|preg_replace|array_map|print_r|var_dump|die|md5)\s*\(\s*(?:\$_(?:get|post|request|cookie|server|files)|\$\{|base64_decode|str_rot13|gzinflate|chr\s*\(|hex2bin|strrev|file_get_contents|'(?:cat|ls|id|whoami|uname|wget|curl|ping|nc|pwd|dir|echo|sleep)\b|"(?:cat|ls|id|whoami|uname|wget|curl|ping|nc|pwd|dir|echo|sleep)\b|['"](?:/etc|/proc|php:|https?://|\.\./|data:))|\bphpinfo\s*\(\s*(?:\)|-?\d)|\bphpversion\s*\(\s*\)|\$_(?:get|post|request|cookie|server|files|session|env)\s*\[[^\]]{0,40}\]\s*\(|\$\w+\s*=\s*\$_(?:get|post|request|cookie)\b|\$\{\s*(?:@?(?:phpinfo|system|eval|print|exec|passthru)\s*\()|\bpreg_replace\s*\(\s*['"]/[^'"]*/\w*e|^\s*(?:\w+\s*=\s*)?(?:system|passthru|shell_exec|proc_open)\s*\(\s*['"$]|\$\{[^}]{0,20}@(?:print|eval|system)"#,
    ),
    // (933110) Programs that a careless server would run.
    Rule {
        places: Places::FILE_NAME,
        ..rule(
            Class::Php,
            "php-upload",
            CRITICAL,
            &[".p", ".j", ".a", ".c", ".ht", ".user.ini", ".s"],
            r#"\.(?:php\d?|phtml|phar|phtm|pht|phps|jspx?|jspf|aspx?|ashx|asmx|asa|cgi|shtml|htaccess|user\.ini|pl|war)[\s.;:/\\]*(?:$|\.(?:gif|jpe?g|png|txt)$|;|:)"#,
        )
    },
    Rule {
        places: Places::RAW,
        ..rule(Class::Php, "php-file", WARNING, &["<?php"], r"<\?php\s")
    },
    // (933170)
    rule(
        Class::Php,
        "php-object",
        CRITICAL,
        &["o:", "c:", "a:"],
        r#"\b[oc]:\+?\d+:["'][\w\\]+["']:\d+:\{|^\s*a:\d+:\{[isboda]:"#,
    ),
    // (933110, 933120, 933130)
    rule(
        Class::Php,
        "php-variable",
        WARNING,
        &[
            "$_",
            "$globals",
            "allow_url_",
            "auto_prepend",
            "disable_functions",
            "open_basedir",
            "safe_mode",
        ],
        r#"\$_(?:get|post|request|server|cookie|files|session|env)\b|\$globals\b|\b(?:allow_url_(?:include|fopen)|auto_(?:prepend|append)_file|disable_functions|open_basedir|safe_mode)\s*=?"#,
    ),
    // (944150 to 944152) Log4Shell, however it is written.
    Rule {
        places: Places::EVERYWHERE,
        ..rule(
            Class::Java,
            "java-jndi",
            CRITICAL,
            &["${", "$%7b"],
            r#"\$\{\s*(?:jndi\s*:|(?:lower|upper|k8s|base64|bundle|main|marker|sd|date)\s*:\s*[^}]{0,40}\}|:{1,2}-|(?:env|sys|ctx|java|web|docker|log4j)\s*:[^}]{0,60}:-)|\$\{[^}]{0,80}\$\{[^}]{0,40}(?:lower|upper|::-|:-|env|sys)|\$\{[^}]{0,100}(?:ldaps?|rmi|dns|iiop|nis|corba)\s*:\s*/"#,
        )
    },
    rule(
        Class::Java,
        "java-lookup",
        WARNING,
        &["${"],
        r#"\$\{\s*(?:env|sys|java|ctx)\s*:"#,
    ),
    // (944100 to 944130, 944250)
    rule(
        Class::Java,
        "java-class",
        CRITICAL,
        &[
            "java",
            "getruntime",
            "processbuilder",
            "_memberaccess",
            "ognl",
            "classloader",
            "xwork",
            "#context",
            "@java",
            "invoke",
            "scriptengine",
            "bsh.",
            "freemarker",
        ],
        r#"\bjava[\s.]*(?:\.\s*lang\s*\.\s*(?:runtime|process\w*|class|system|thread|reflect|string|math|unsafe)|\.\s*io\s*\.\s*(?:file\w*|bufferedreader|inputstreamreader)|\.\s*util\s*\.\s*scanner|\.\s*net\s*\.\s*(?:url|socket)|x?\.script\.)\b[^\s]{0,40}[(@.]|\bgetruntime\s*\(\s*\)|\bnew\s+(?:java\.lang\.)?processbuilder\b|#_?memberaccess\b|@ognl\.|\bclass\s*\.\s*(?:module\s*\.\s*)?classloader|\bclass\.forname\s*\(|\bxwork\w*\.methodaccessor|#context\s*\[|@java\.lang|\bt\s*\(\s*java\.|\.getclass\s*\(\s*\)\s*\.|\bfreemarker\.template|\borg\.apache\.(?:commons\.(?:collections|fileupload|io)|xalan|struts2|wicket)|\bcom\.sun\.(?:rowset|org)|\bscriptenginemanager\b"#,
    ),
    // (944200, 944210) Objects in their stored form.
    rule(
        Class::Java,
        "java-object",
        CRITICAL,
        &[
            "ro0ab",
            "aced0005",
            "h4siaaaaaaaa",
            "kztaaabx",
            "cs7qaf",
            "aaeaaad/////aq",
            "\\xac\\xed",
        ],
        r#"^(?:ro0ab[a-z0-9+/=]{8}|kztaaabx|cs7qaf|aced0005[0-9a-f]{4}|aaeaaad/////aq)"#,
    ),
    rule(
        Class::Template,
        "template-expression",
        CRITICAL,
        &[
            "{{", "${", "#{", "<%", "{%", "@(", "*{", "[[${", "{php}", "{system", "~{", "{$",
            "{if", "{{{", "[%",
        ],
        r#"(?:\{\{|[$#*@~]\{|<%=?|@\(|\{%|\[%|\{)\s*['"(]*\d+['"]?\s*[*+-]\s*['"]?\d+['")]*\s*(?:\}|%>|\)|%\]|\s)|\{\{-?\s*(?:config\b|self\b|request\b|settings\b|lipsum|cycler|joiner|namespace|get_flashed|url_for|range|dump\s*\(|app\.|_self|_context|constructor|\(|\[|'|"|[\w.]*\.(?:constructor|mro|__\w+)|[\w.()\[\]'"]*__\w+__)[^}]{0,200}[(\[.|_*][^}]{0,200}\}?\}?|\{%-?\s*(?:for|if|set|import|include|with|print|debug|load|extends)\b[^%]{0,200}(?:__\w+__|\(\s*\)|config|self|request|popen|\[\]|\.items|\d\s*==|settings)|[$#*@]\{\s*(?:t\s*\(|new\s|\w+\.(?:getclass|class\b|constructor)|class\b|''|""|self\b|request\.|session|applicationscope|facescontext|%|system|`|self\.|pagecontext|'\w*'\.|param\.|header\.|cookie\[|springmacro|\w+\?(?:new|api|eval|interpret)|product\.getclass|config\.|dump\s*\()[^}]{0,200}|<%=?\s*(?:system|`|file\.|io\.|dir\.|exec|eval|require|import|require|response\.write|runtime|%x|global\.|process\.|puts|@?page|out\.print)|\{(?:php|system|exec|literal|\$smarty|smarty|include|fetch|eval)\b[^}]{0,100}\}?|\{if\s+(?:system|phpinfo|exec|passthru)|\{\{\{?[#/]with\b|\{\{#(?:with|lookup)\b|\{\{-?\s*this(?:\s*[\[(]|\.(?:constructor|__|push|pop)\b|[\w.]*\()"#,
    ),
    rule(
        Class::Template,
        "template-introspection",
        CRITICAL,
        &[
            "__",
            "#set",
            "#foreach",
            "<#assign",
            "?new(",
            "|attr",
            "<#",
            "#evaluate",
            "#include",
            "|filter(",
            "|map(",
            "registerundefined",
            "getfilter",
            "getowner",
            "<c:",
            "th:",
            "#{",
            "tostring().constructor",
        ],
        r#"__(?:subclasses__|globals__|mro__|bases__|base__)\s*[\[(.'"|)]|__builtins__\s*[.\[]|__class__\s*(?:\.|\]|\)|\[)\s*_{0,2}(?:mro|bases?\b|base__|subclasses|init__|globals|dict__\s*\[)|\[\s*['"]__(?:class|globals|builtins|init|import|mro|subclasses|bases?)__['"]|#set\s*\(\s*\$\w+\s*=|#(?:foreach|evaluate|parse)\s*\(\s*[\$'"]|<#(?:assign|list|include|setting|import)\b|\?new\s*\(|\?(?:api|eval|interpret)\b|\|\s*attr\s*\(|\|\s*(?:filter|map|sort|reduce)\s*\(\s*['"](?:system|exec|passthru|id|var_dump)|registerundefinedfiltercallback|\.getfilter\s*\(|\{\{[^}]{0,100}\|\s*(?:safe|attr|join)\b[^}]{0,60}__|tostring\(\)\.constructor"#,
    ),
    // (942290) Operators that a query for a text does not have.
    rule(
        Class::Nosql,
        by_code::NOSQL_OPERATOR,
        CRITICAL,
        &["$"],
        r#"^\$(?:ne|gt|gte|lt|lte|nin|where|regex|exists|function|expr|not|accumulator|type|mod|all|elemmatch|size)$|\[\s*['"]?\$(?:ne|gt|gte|lt|lte|in|nin|where|regex|exists|or|and|nor|not|eq|all|expr|type|size|elemmatch|func|function|options)['"]?\s*\]|\{\s*['"]?\$(?:ne|gt|gte|lt|lte|in|nin|where|regex|exists|or|and|nor|not|expr|func|function)['"]?\s*:|['",]\s*\$(?:ne|gt|gte|lt|lte|nin|where|regex|exists|or|and|nor|expr)['"]?\s*:|^\s*,?\s*\$(?:where|or|and|ne|gt|regex)\s*:|^\s*\$(?:where|ne|gt|regex)\s*="#,
    ),
    rule(
        Class::Nosql,
        "nosql-script",
        CRITICAL,
        &[
            "this.",
            "return",
            "db.",
            "sleep(",
            "true",
            "mapreduce",
            "||",
            "&&",
            "tojson",
            "print(",
        ],
        r#"^[^'"`]{0,24}['"`][\s})\]]*(?:;|\|\||&&)\s*(?:return\b|this\.\w+|db\.\w+|sleep\s*\(|var\s+\w+\s*=|\(?function|it\s*=|while\s*\(|print\s*\()|\bdb\.(?:getcollection|\w+\.(?:find|insert|drop|remove|update|mapreduce|count)\w*\s*\(|injection|dropdatabase|getname|getcollectionnames)|\bthis\.(?:password|passwd|username|\w+\.match)\b\s*(?:\.match|[=!]=)|^(?:[^'"`]{0,24}['"`][\s)}]*|\s*)(?:\|\||&&)\s*(?:['"]?\w+['"]?)\s*===?\s*['"]?\w+|^\s*return\s*\(?\s*(?:true|1\s*==\s*1|this\.)|\btojsononeline\b|^\s*true,\s*\$where"#,
    ),
    // (921200)
    rule(
        Class::Ldap,
        "ldap-filter",
        CRITICAL,
        &[
            ")(", "(|", "(&", "(!", "*)", "*(", "=*", ") (", "( |", "( &",
        ],
        r#"[\w*\s]*\)\s*\(\s*[|&!]\s*(?:\(|\)|$)|\*\s*\)\s*\(|\*\s*\(\s*\|\s*\(|^\s*[*\w]{0,40}\)\s*\(\s*[|&!]?\s*\(?\s*\w+\s*[~<>]?=|\(\s*[|&!]\s*\(\s*[\w-]+\s*[~<>]?=|^[^()]{0,40}\)\s*\(\s*\w+\s*=\s*\*|^\s*\*\s*\)+\s*(?:\(|%|$)|^\(?[|&]\s*\(?\w+\s*=\s*\*|\bobjectclass\s*=\s*\*|^\*\(\|"#,
    ),
    rule(
        Class::Xxe,
        "xxe-entity",
        CRITICAL,
        &[
            "<!entity",
            "<!doctype",
            "xinclude",
            "xi:include",
            "xsl:",
            "<!element",
            "<!attlist",
        ],
        r#"<!entity\s|<!doctype[^>]{0,200}(?:\[|\bsystem\s*['"]|\bpublic\s*['"][^'"]*['"]\s*['"](?:file|http://(?:localhost|\d)|ftp|gopher|php|expect))|\bxi:include\b|/xinclude\b|<xsl:(?:value-of|include|import|copy-of|variable|template|stylesheet)\b|<!(?:element|attlist)\s+\w"#,
    ),
    Rule {
        places: Places::EVERYWHERE,
        ..rule(
            Class::Xxe,
            "xxe-external",
            CRITICAL,
            &["<!entity", "<!doctype", "xi:include"],
            r#"<!entity\s+[^>]{0,200}(?:\bsystem\b|\bpublic\b|%|&)|<!doctype[^>]{0,200}\bsystem\s*['"]\s*(?:file|https?|ftp|gopher|php|expect|jar|/)|<!entity\s+(?:%\s*)?\w+\s+['"]|\bxi:include\b"#,
        )
    },
    // (934110) Addresses that only the inside knows.
    rule(
        Class::Ssrf,
        "ssrf-metadata",
        CRITICAL,
        &[
            "169.254.",
            "metadata",
            "100.100.100.200",
            "[::ffff",
            "0xa9fe",
            "2852039166",
            "latest/meta-data",
            "fd00:ec2",
            "192.0.0.192",
            "a9fe",
            "instance-data",
            "0251",
        ],
        r#"(?:^|[/@\s"'=.])169\.254\.(?:169\.254|170\.2)\b|\bmetadata\.(?:google|azure|tencentyun|packet|platformequinix)\b|\b100\.100\.100\.200\b|\[::ffff:(?:169\.254|a9fe|7f00|127)|\b0xa9fea9fe\b|\b2852039166\b|latest/meta-data|computemetadata/v1|\[fd00:ec2::254\]|\b192\.0\.0\.192\b|\b0251\.0?376|\binstance-data(?:\.ec2)?\b/"#,
    ),
    rule(
        Class::Ssrf,
        "ssrf-address",
        CRITICAL,
        &["://"],
        r#"^\s*['"]?(?:url:)?(?:https?|ftp)://(?:[^\s/@]{0,60}@)?(?:0x[0-9a-f]{1,8}(?:[.:/]|$)|\d{8,10}(?:[:/]|$)|0\d{1,3}\.\d|0\.0\.0\.0|127\.\d{1,3}(?:\.\d{1,3}){0,2}(?::(?:22|25|11211|6379|9200|2375|3306|5432|27017)\b|/(?:admin|server-status|etc|latest)|$)|\[(?:::|0:0:0:0:0:(?:0|ffff):[\w:.]+|::ffff:[\w:.]+)\](?::\d+)?(?:/|$)|\[::1\](?::(?:\d{1,3}|11211|6379|9200|2375|3306|5432|27017))?(?:/|$)|(?:localtest\.me|lvh\.me|[\w.-]+\.(?:nip|sslip|xip)\.io|spoofed\.burpcollaborator\.net))|^\s*(?:https?://[^\s]{0,100})?(?:burpcollaborator\.net|oastify\.com|interact\.sh)"#,
    ),
    rule(
        Class::Ssrf,
        "ssrf-local",
        WARNING,
        &[
            "://localhost",
            "://127.",
            "://10.",
            "://192.168.",
            "://172.",
            "://[::",
        ],
        r#"^\s*(?:https?|ftp)://(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|\[::)"#,
    ),
    // (934130)
    rule(
        Class::Prototype,
        "prototype-pollution",
        CRITICAL,
        &["__proto__", "constructor", "prototype"],
        r#"\b__proto__\b|\bconstructor\s*(?:\.\s*prototype\b|\[\s*['"]?prototype|\]\s*\[\s*['"]?prototype|['"]?\s*:\s*\{\s*['"]?prototype)|\[['"]?prototype['"]?\]"#,
    ),
];

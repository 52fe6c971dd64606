//! SQL injection.
//!
//! Three things give it away: that it leaves the text it was put into (a quote that is not closed, a parenthesis,
//! a semicolon), that it compares what needs no comparison, and functions and tables that no visitor names.

use super::{CRITICAL, Class, NOTICE, Places, Rule, WARNING, by_code};

const fn rule(
    id: &'static str,
    score: u32,
    words: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        id,
        class: Class::Sqli,
        score,
        places: Places::ANY,
        words,
        pattern,
    }
}

/// How the text that a value was put into may be left.
macro_rules! left {
    () => {
        r#"(?:^|['"`)\d])[\s(+]*"#
    };
}

/// Without any of these there is nothing that libinjection calls an injection, and it takes its time.
const HINTS: &[&str] = &[
    "'",
    "\"",
    "`",
    "--",
    "#",
    "/*",
    "||",
    "&&",
    " or",
    ")or",
    "1or",
    " and",
    ")and",
    "1and",
    "or ",
    "and ",
    "or(",
    "and(",
    "select",
    "union",
    "insert",
    "update",
    "delete",
    "drop",
    "having",
    "where",
    "order by",
    "group by",
    "case",
    "when",
    "exec",
    "declare",
    "into",
    "limit",
    "procedure",
    "sleep",
    "benchmark",
    "waitfor",
    "xor",
    "rlike",
    "regexp",
    "between",
    "if(",
    "@@",
    "char(",
    "chr(",
    "concat",
    "user(",
    "version(",
    "database(",
    "schema(",
    "cast(",
    "convert(",
    "<=>",
    "null",
    "not ",
    "is ",
];

pub(super) const RULES: &[Rule] = &[
    // Its grammar, by libinjection (942100).
    rule(by_code::SQL_GRAMMAR, CRITICAL, HINTS, ""),
    // A whole statement: rather a question about SQL, or a tool's, than an injection.
    rule(by_code::SQL_STATEMENT, NOTICE, &[], ""),
    // `or 1=1` (942130).
    rule(
        by_code::SQL_TAUTOLOGY,
        CRITICAL,
        &[
            "or", "and", "||", "&&", "having", "where", "when", "like", "not", "=",
        ],
        r#"(?:\b(?:or|x?and|xor|having|where|when|not|if)\b|\|\||&&|^\s*\d*\s*(?:or|and)\d?)[\s(+'"`!~-]*([\w.@$]+)['"`\s)]*(?:<=>|<>|!=|[<>]=?|=|\b(?:not\s+)?(?:like|r?like|regexp|glob)\b|\bis\b)[\s(+'"`!~-]*([\w.@$%]+)"#,
    ),
    // A quote that ends somebody else's text, and what goes on behind it (942150, 942330).
    rule(
        by_code::SQL_BREAKOUT,
        CRITICAL,
        &["'", "\"", "`"],
        r#"(['"`])[%\s)]*(?:(?:\bx?or\b|\band\b|\bwhere\b|\bhaving\b|\bwhen\b|\|\||&&)[\s(+!~-]*(?:\w+[\s)]*(?:<=>|<>|!=|[<>=]|\blike\b|\bin\s*\(|\bbetween\b|\bis\b|\bregexp\b)|\w+\s*\(|\d+[\s)]*(?:[=<>!^|&]|--|\#|/\*|$|\blike\b|\bbetween\b|\bin\b)|@|\(\s*(?:select\b|\d|['"]|\w+\s*[=<>(])|['"][\w\s%.]{0,30}(?:['"][\s)]*(?:[=<>!|*/-]|\blike\b|\bin\b|\bbetween\b|\bregexp\b|\bis\b|\#|$)|$)|true\b|false\b|null\b|exists\b|not\b)|\bin\s+boolean\s+mode|\b(?:procedure\s+analyse|limit\s+\d|order\s+by\s+\w+\s*(?:--|\#|,|$)|group\s+by\s+\w+\s*(?:--|\#|,|having)|union\b[\s(]*(?:all\b|distinct\b)?[\s(]*select\b|into\s+(?:out|dump)file|r?like\s*['"(%]|rlike\b|regexp\s*['"(]|collate\s|waitfor\b|having\s+\w+\s*[=<>])|,\s*(?:\(\s*select|null\s*[,)]|sleep\s*\(|benchmark\s*\(|@@|\d+\s*\)\s*(?:--|\#|/\*))|[;\s]*(?:--|\#)[\s+-]*$|[;\s]*--\s+\w{0,12}['"]?$|[+|-]{1,2}\s*\(\s*select\b|[+|]{1,2}\s*(?:char|chr|version|user|database|utl_\w+|sleep|load_file)\b|/\*[^*]{0,8}$)"#,
    ),
    // A value that goes on where another has ended: ` or ''='`, ` or 2 between 1 and 3`.
    rule(
        "sqli-continuation",
        CRITICAL,
        &["or", "and", "||", "&&"],
        r#"^[\s)]*(?:\b(?:or|and|xor)\b|\|\||&&)[\s(!]*(?:['"][\w\s]{0,24}['"]?\s*(?:[=<>]|!=|\blike\b)|\w{1,16}\s*(?:=\s*['"]|\blike\s+['"]|\bbetween\s+['"\d]|\bin\s*\(\s*['"\d])|(?:\d+|true|false)\s*(?:--|\#|/\*)|\bexists\s*\(\s*select)"#,
    ),
    // `'='`, `x' or 'y`: nothing but that.
    rule(
        "sqli-quotes",
        CRITICAL,
        &["'", "\""],
        r#"^\s*(?:\w{0,16}'\s*(?:[-+*/^&|=<>]{1,3}\s*|\|\|\s*|&&\s*)'\s*\w{0,16}|\w{1,16}"\s*(?:[-+*/^&|=<>]{1,3}|\|\||&&)\s*"\s*\w{0,16}|'\s*(?:(?:not\s+)?(?:r?like|or|and|xor|regexp|in|is|div|mod|sounds\s+like))\s*'\s*|\w{1,16}(?:'\s*(?:not\s+)?(?:r?like|or|and|xor|regexp|in|is|div|mod)\s*'|"\s*(?:not\s+)?(?:r?like|or|and|xor|regexp|in|is|div|mod)\s*")\s*\w{0,16})$"#,
    ),
    // `; drop table` (942350, 942360).
    rule(
        by_code::SQL_STACKED,
        CRITICAL,
        &[";"],
        r#"([\w'"`%)\s-]?)[\s)]*;\s*[\s(]*(?:select\b\s*(?:[*('"@\d]|\w+\s*(?:,|\(|from\b)|(?:case|null|distinct|top)\b)|values\s*\(|insert\s+into\b|update\s+[\w.`"\[\]]+\s+set\b|delete\s+from\b|(?:drop|alter|create(?:\s+or\s+replace)?|truncate)\s+(?:table|database|user|login|function|procedure|view|index|schema|trigger|role|column|assembly|extension)\b|exec(?:ute)?[\s(]+(?:[@'"]|xp_|sp_|master|sys|dbo|immediate\b|\w+\.\w|\w+\s*['"@(])|declare\s+@|shutdown\b|waitfor\b|iif\s*\(|if\s*\(\s*\(?\s*\d|call\s+\w+\s*\(|grant\s+\w+|copy\s+\w+\s+(?:from|to)\b|backup\s+(?:database|log)|begin\s+(?:dbms|execute)|set\s+@|use\s+\w+\s*;|handler\s+\w+\s+open|prepare\s+\w+\s+from|load\s+data|attach\s+database|do\s*\(|row\s*\(|\{\s*call)"#,
    ),
    // (942270, 942190)
    rule(
        "sqli-union",
        CRITICAL,
        &["union"],
        r#"\bunion\b[\s(+@]*(?:(?:all|distinct(?:row)?)\b)?[\s(+]*select\b\s*(?:[\d'"@(*+~!{.`$\\-]|(?:null|distinct|top|all|case|char|chr|cast|concat\w*|unhex|hex|load_file|version|user|database|count|group_concat|sum|current_user|md5|ascii|substr\w*|mid|if|not|true|false|x'|pg_\w+|utl_\w+|extractvalue)\b|\w+\s*(?:,|\(|\bfrom\b\s*[\w(`"\[]|--|\#|/)|$)"#,
    ),
    rule(
        "sqli-union-values",
        CRITICAL,
        &["union"],
        r#"\bunion\b[\s(+]*(?:(?:all|distinct)\b[\s(+]*)?(?:values\s*\(|table\s+\w+)"#,
    ),
    // Time (942160, 942170, 942280).
    rule(
        "sqli-delay",
        CRITICAL,
        &[
            "sleep",
            "benchmark",
            "waitfor",
            "receive_message",
            "dbms_lock",
            "randomblob",
            "wait for",
        ],
        r#"(?:\b(?:select|and|or|xor|when|having|where|by|r?like|then|not|if|in)\b|\|\||&&|[=<>+*/^|-]|['"`]\s*[,(]|^\s*[\d'"(,]*|\)\s*,|\(\s*\()[\s(,+\d'"!-]*\bsleep\s*\(\s*['"]?(?:[\d.]+['"]?\s*[)*+,/-]|\(|__)|\bpg_sleep\w*\s*\(|\bbenchmark\s*\(\s*\(?[\d(]|\bwait\s*for\s+(?:delay|time)\b\s*(?:['"@(\d]|0x|--|$)|\bdbms_(?:pipe\s*\.\s*receive_message|lock\s*\.\s*sleep)\b|\brandomblob\s*\(|\bgenerate_series\s*\(\s*\d+\s*,\s*\d+\s*,\s*case\b"#,
    ),
    // Answers that travel in error messages (942150, 942151).
    rule(
        "sqli-function",
        CRITICAL,
        &[
            "extractvalue",
            "updatexml",
            "utl_",
            "load_file",
            "regexp_substring",
            "crypt_key",
            "make_set",
            "procedure",
            "json_",
            "ctxsys",
            "dbms_",
            "sys_context",
            "fn_varbintohexstr",
            "openrowset",
            "opendatasource",
            "xmltype",
            "lo_import",
            "lo_export",
            "sys_eval",
            "sys_exec",
            "pg_read_file",
            "pg_ls_dir",
            "gtid_subset",
            "name_const",
            "exp(",
            "polygon",
            "st_latfromgeohash",
            "db_name",
            "load_extension",
            "bulk_column",
            "convert",
            "cast",
            "elt",
            "sp_",
            "xp_",
            "pg_",
        ],
        r#"\bextractvalue\s*\(\s*(?:\d|\w*\(|rand|null|['"/])|\bupdatexml\s*\(\s*(?:\d|\w*\(|null|rand|['"])|\butl_(?:http|inaddr|file|tcp|smtp|raw)\b|\bload_file\s*\(\s*(?:0x|char|chr|concat|@|['"]\s*(?:/|\\|[a-z]:))|\bregexp_substring\s*\(\s*repeat|\bcrypt_key\s*\(|\bmake_set\s*\(\s*\d|\bprocedure\s+analyse\s*\(|\bjson_(?:extract|depth|keys|length)\s*\([^)]{0,60}\)[\s)]*(?:[=<>]|!=)|\bctxsys\s*\.|\bdbms_(?:xmlgen|java|xslprocessor|assert|ldap|export)\b|\bfn_varbintohexstr\b|\bopen(?:rowset|datasource)\s*\(|\bxmltype\s*\(\s*(?:chr|char|\()|\blo_(?:import|export)\s*\(|\bsys_(?:eval|exec)\s*\(|\bpg_(?:read_file|ls_dir|read_binary_file|stat_file)\s*\(|\bgtid_subset\s*\(|\bname_const\s*\(|\bexp\s*\(\s*~|\bload_extension\s*\(|\b(?:convert|cast)\s*\([^;]{0,40}(?:\(\s*select\b|@@|db_name|user_name|char\s*\()|\belt\s*\(\s*\d+\s*[=<>]|(?:\bexec(?:ute)?[\s(]+(?:master\s*\.*\s*)?(?:\.|dbo|sys|\[)*|\.\.|\bdbo\s*\.\s*|[;'")]\s*)(?:xp|sp)_\w+|\bxp_(?:cmdshell|dirtree|regread|regwrite|availablemedia|fileexist|servicecontrol|enumdsn|loginconfig|makecab|ntsec|terminate)\w*['"\s]*[('"]"#,
    ),
    // What a database knows of itself (942140).
    rule(
        "sqli-schema",
        CRITICAL,
        &[
            "information_schema",
            "sys",
            "pg_",
            "all_t",
            "user_t",
            "dba_",
            "sqlite_",
            "msys",
            "mysql",
            "syscat",
            "rdb$",
            "all_users",
            "user_",
            "all_",
            "domain.",
            "v$",
            "dual",
            "performance_schema",
            "master",
        ],
        r#"\binformation_schema\s*[\s.`\d\[\]"(]{0,6}\w|\b(?:from|join|into|update|table)\b[\s(`"\[]*(?:(?:master|sys|tempdb|msdb|dbo)\s*\.+\s*)*(?:sysobjects|syscolumns|sysusers|sysdatabases|sysibm\.|syscat\.|sys\.(?:tables|columns|databases|objects|user|all_|sql_logins|v_\$)|syslogins|pg_(?:catalog|shadow|user|tables|class|database|roles|authid|stat_activity|settings)|all_(?:tables|users|tab_\w+|objects|db_links|constraints)|user_(?:tables|tab_\w+|objects|constraints|users|role_privs|sys_privs|password)|dba_\w+|sqlite_(?:master|schema|temp_master)|msysaccessobjects|msysqueries|mysql\s*\.\s*\w+|rdb\$\w+|domain\.\w+|v\$\w+|performance_schema\.\w+)"#,
    ),
    rule(
        "sqli-variable",
        CRITICAL,
        &["@@"],
        r#"(?:[=<>'"(,+|-]|\b(?:select|and|or|by|like|convert|char)\b|^\s*\d*)[\s(]*@@\s*`?(?:version|hostname|datadir|basedir|servername|servicename|language|spid|global|session|secure_file_priv|tmpdir|port|options|microsoftversion|plugin_dir|\w+_comment|rowcount|identity|innodb_version)\b"#,
    ),
    // Questions that only ask for yes or no (942230, 942180).
    rule(
        "sqli-conditional",
        CRITICAL,
        &["case", "if", "when"],
        r#"\bcase\s+(?:when\b|\w+\s+when\b)[\s(]*(?:\(?\s*(?:\d+|['"]\w*['"]|ascii|ord|substr\w*|length|user|\(?\s*select)\s*[(=<>]).{0,120}\bthen\b|\b(?:if|iif|ifnull|nullif|decode)\s*\(\s*\(?\s*(?:\d+\s*[=<>]\s*\d+\s*,|(?:ascii|ord|substr\w*|length|mid|left|hex|(?:system_)?user|database|version|count|char|unicode|now)\s*\(|\(?\s*select\b[^)]{0,80}[)=<>])"#,
    ),
    // A question inside of another.
    rule(
        "sqli-subquery",
        CRITICAL,
        &["select"],
        r#"(?:[=<>!+*/^|,'"(&-]|\b(?:and|or|in|exists|not|union|like|all|any|by|then|if|when|where)\b|^\s*\d*)\s*\(\s*select\b[\s(]*(?:\d+\s*(?:\)|,|from\b)|['"]\w*['"]\s*[,)]|count\s*\(|(?:group_)?concat\w*\s*\(|(?:char|chr|ascii|ord|substr\w*|mid|length|hex|unhex|cast|convert|version|user|database|schema|current_\w+|sleep|pg_sleep|benchmark|if|case|distinct|top\s+\d|upper|lower|md5|load_file|min|max|coalesce|ifnull|json_\w+|xmlagg|utl_\w+|listagg|string_agg|banner|table_name|column_name|password|passwd|user_?name)\b|null\s*[,)]|@@|\*\s*from\b|\w+\s+from\b\s*\w+\s*(?:\)|where\b|limit\b|order\b|--|\#)|\w+\s*,\s*\w+\s+from\b)"#,
    ),
    // A letter at a time.
    rule(
        "sqli-probe",
        CRITICAL,
        &[
            "ascii", "substr", "strcmp", "lpad", "unicode(", "length(", "ord(", "mid(", "char(",
            "chr(", "hex(", "bin(", "left(", "right(", "conv(", "lower(", "upper(", "ord (",
            "mid (", "char (", "chr (", "hex (", "left (", "right (",
        ],
        r#"\b(?:ascii|ord|unicode|hex|bin|conv|lower|upper|strcmp|length|char_length)\s*\(\s*\(?\s*(?:substr(?:ing)?|mid|left|right|lower|upper|chr|char|database|version|user|\(?\s*select|cast|convert|current_user|system_user|table_name|column_name|password)\b|\b(?:substr(?:ing)?|mid|left|right|lpad)\s*\(\s*\(?\s*(?:(?:user|version|database|schema|current_user|system_user|session_user|db_name)\s*\(|@@|select\b|password\b|table_name|column_name)|\b(?:char|chr)\s*\(\s*(?:0x[0-9a-f]+|\d+)[\s)]*(?:\|\||\+|,|\.)\s*(?:(?:char|chr)\s*\(|(?:0x[0-9a-f]+|\d+)\s*,\s*\d+)"#,
    ),
    // How many columns there are.
    rule(
        "sqli-order-by",
        CRITICAL,
        &["order", "group"],
        concat!(
            left!(),
            r#"(?:order|group)\s+by\s+(?:\d+\s*(?:--|\#|/\*|;\s*$|,\s*(?:\d|\w+\())|(?:sleep|rand|if|case|updatexml|extractvalue|benchmark)\b\s*[\s(])|^\s+order\s+by\s+\d+\s*$|['"`][\s)]*(?:order|group)\s+by\s+\d|^-?\d+[\s)]+order\s+by\s+\d+\s*$"#
        ),
    ),
    rule(
        "sqli-file",
        CRITICAL,
        &["outfile", "dumpfile", "infile"],
        r#"(?:['"`)\d\w]|^)\s*\binto\s+(?:out|dump)file\b\s*(?:['"/\\@]|0x|char|$)|\bload\s+data\s+(?:low_priority\s+|local\s+)*infile\b"#,
    ),
    // What ends a statement's rest (942440): of a number or in a parenthesis, for quotes see above.
    rule(
        "sqli-comment",
        CRITICAL,
        &["--", "#", "/*"],
        r#"^\s*-?\d+[\s)]*[;)]\s*(?:--\s*\w{0,8}$|\#\s*$)|^\s*-?[\w.]{0,24}[\s)]+(?:or|and|xor|having|limit|where)\b[^\n]{1,120}(?:--[\s+-]*$|\#\s*$|/\*\s*$|--\s+\w{0,8}$)|^\s*\)+[\s;]*(?:--|\#)\s*$"#,
    ),
    rule(
        "sqli-parenthesis",
        CRITICAL,
        &["or", "and"],
        r#"^[\w%.-]{0,20}\s*['"`]?\)+\s*(?:\bor\b|\band\b|\|\||&&)\s*\(+\s*['"`]?\w*['"`]?\s*(?:=|<|>|\blike\b)"#,
    ),
    // Text put together from pieces, numbers in hex (942450).
    rule(
        "sqli-concatenation",
        WARNING,
        &["||", "concat", "'+'"],
        r#"['"]\s*\|\|\s*['"(]|'\s*\+\s*'|\bconcat(?:_ws)?\s*\(\s*(?:0x|char|chr|['"]|@|\()"#,
    ),
    rule(
        "sqli-hex",
        WARNING,
        &["0x"],
        r#"(?:^|[=(,\s])0x(?:[0-9a-f]{2}){4,}(?:\W|$)"#,
    ),
    rule(
        "sqli-exec",
        CRITICAL,
        &["exec", "declare"],
        r#"\bdeclare\s+@\w+\s+(?:as\s+)?(?:n?(?:var)?char|int|table|sysname|varbinary)|\bexec(?:ute)?\s*\(\s*(?:@|0x|char\b)|\bexec\s*\(\s*['"]\s*(?:select|insert|drop|xp_)|\bexecute\s+immediate\b|\bexec\s+(?:master|xp_|sp_|sys\.)"#,
    ),
    rule(
        "sqli-keywords",
        NOTICE,
        &[
            "select", "insert", "delete", "update", "drop", "having", "union",
        ],
        r#"\bselect\b.{0,80}\bfrom\b\s+\w|\binsert\s+into\b.{0,80}\bvalues\s*\(|\bdelete\s+from\b\s+\w+\s+where\b|\bdrop\s+(?:table|database)\s+\w+\s*(?:;|--|$)|\bupdate\s+\w+\s+set\s+\w+\s*="#,
    ),
];

//! Scripts in what may become part of a page.

use super::{CRITICAL, Class, Places, Rule, WARNING, by_code};

const fn rule(
    id: &'static str,
    score: u32,
    words: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        id,
        class: Class::Xss,
        score,
        places: Places::ANY,
        words,
        pattern,
    }
}

pub(super) const RULES: &[Rule] = &[
    // Its grammar, by libinjection (941100).
    rule(by_code::HTML_GRAMMAR, WARNING, &[], ""),
    // (941110)
    rule(
        "xss-script",
        CRITICAL,
        &["script", "scr"],
        r#"<[\s/\x00-\x1f]*(?:\w{1,12}:)?script\b[^`]|<\s*/?\s*script[^>\w]*$|<scr\W{0,3}<|<\s*script\b[^>]*>[^`]"#,
    ),
    // (941120, 941160)
    rule(
        "xss-event",
        CRITICAL,
        &["on"],
        r#"<[a-z!?/%:\x60][^>]*?[\s/"'`\x0b;,)(]on[a-z]{3,30}[\s\x00-\x1f]*=|<[a-z]\w*[^<]{0,200}?[\s/"'`]on[a-z]{3,30}\s*=\s*['"`]?\s*(?:\w+\s*[(`=]|\w+\.\w|javascript:)|(?:["'`]|^)[\s/;>)]*[\s/"'`;]?on(?:abort|activate|after|animation|auxclick|before|begin|blur|bounce|cancel|canplay|change|click|close|contextmenu|copy|cuechange|cut|dblclick|drag|drop|durationchange|end|ended|error|finish|focus|formdata|fullscreenchange|got|hashchange|input|invalid|key|load|lost|message|mouse|page|paste|pause|play|pointer|popstate|progress|ready|repeat|reset|resize|scroll|search|seek|select|show|slotchange|start|storage|submit|suspend|timeupdate|toggle|touch|transition|unhandled|unload|volumechange|wait|webkit|wheel)[a-z]{0,20}[\s\x00-\x1f]*=[^=]"#,
    ),
    // (941170, 941210)
    rule(
        "xss-uri",
        CRITICAL,
        &["script", "s c r i p t", "j", "mocha:", "data:"],
        r#"j[\s\\]*a[\s\\]*v[\s\\]*a[\s\\]*s[\s\\]*c[\s\\]*r[\s\\]*i[\s\\]*p[\s\\]*t\s*:(?:[^\s'"<>]*[(=`\[.%/]|[\s/*-]*[^\s]{0,40}[(`])|=\s*['"`]?[\s\x00-\x1f]*(?:javascript|j[\s]+a|vbscript|livescript|mocha)\s*:|\b(?:vb|live|j|w)script\s*:\s*\w+[\s(.=]|\bmocha:[\[\w]|\S\s*\bdata:image/svg\+xml[^,]{0,40}[,;]|\bdata:[\w+-]*(?:text/html|text/xml|application/x?html|text/javascript|application/javascript)[^,]{0,40}[,;]|(?:href|src|action|data|location|url)\s*[=(]\s*['"`]?\s*data:(?:text/|;|,|application/)"#,
    ),
    // Elements that no comment needs (941320, only with what makes them dangerous).
    rule(
        "xss-element",
        CRITICAL,
        &["<"],
        r#"<[\s/]*(?:iframe|frame|embed|object)\b[^>]{0,400}?\b(?:src|data)\s*=\s*(?:https?:|['"`]\s*http:)|<\s*object\b[^>]{0,200}\btype\s*=\s*['"`]?text/|<[\s/]*(?:iframe|frame|embed|object|applet|portal|fencedframe)\b[^>]{0,400}?\b(?:srcdoc|src|data|code|codebase|archive|onload)\s*=\s*['"`]?\s*(?:[^\s'"`>h/]|//|/[^/]|https?:[^>]{0,200}\.(?:js|swf|svg|hta|xss))|<\s*base\b[^>]{0,100}\bhref\s*=|<\s*meta\b[^>]{0,200}\b(?:http-equiv|charset|content)\s*=\s*['"`]?\s*(?:refresh|set-cookie|link|content-type|x-|utf-7|\d+\s*;)|<\s*link\b[^>]{0,200}\brel\s*=\s*['"`]?\s*(?:stylesheet|import|prefetch|dns)|<\s*(?:layer|bgsound|ilayer|xml|xss|isindex|vmlframe|handler|animate\w*|set)\b[^>]{0,200}\b(?:src|href|id|to|values|attributename|ev:event|onbegin)\s*=|<\s*(?:svg|math)\b[^>]{0,200}(?:\bon\w+|\bxlink:href|\bhref)\s*=|<\s*(?:use|image|feimage|a)\b[^>]{0,200}\bxlink:href\s*=\s*['"`]?\s*(?:data|javascript|//|\#)|\b(?:form)?action\s*=\s*['"`]?\s*(?:javascript|data)\s*:|\b(?:background|dynsrc|lowsrc)\s*=\s*['"`]?\s*(?:javascript|vbscript|data)\s*:|\bsrcdoc\s*=\s*['"`]?\s*(?:<|&)|<\s*input\b[^>]{0,200}\b(?:autofocus|formaction|type\s*=\s*['"`]?image[^>]{0,80}\bsrc)\b|<\s*(?:x|xss|test|any|custom-\w+|\w{1,3})\b[^>]{0,100}\b(?:contenteditable|tabindex\s*=\s*['"`]?\d)[^>]{0,100}\bon|<\s*form\b[^>]{0,120}><\s*(?:button|input)\b|<\s*(?:noembed|noframes|noscript|plaintext|xmp|listing|frameset)\b[^>]{0,40}>\s*<"#,
    ),
    // (941190, 941200)
    rule(
        "xss-style",
        CRITICAL,
        &[
            "<style",
            "<?",
            "datasrc",
            "style",
            "<xss",
            "<listener",
            "expression",
            "-moz-binding",
            "behavior",
            "behaviour",
            "@import",
            "url(",
            "\\",
        ],
        r#"[:;=\s]\s*(?:e|\\65)[\s\\/*x\d]*xpression\s*\(|-moz-binding\s*:|\bbehaviou?r\s*:\s*url|@import\s*(?:url\s*\(|['"])[^;]{0,120}(?:javascript|//|data:|\.css)|\burl\s*\(\s*['"]?\s*(?:javascript|vbscript|data:text)|<\s*style\b[^>]{0,60}>[^<]{0,200}(?:url\s*\(|@import|@font-face|\{)|<\?(?:import|xml-stylesheet|xml:namespace)\b|\bdatasrc\s*=|\bstyle\s*=\s*['"`]?[^'"`>]{0,200}(?:\\[\dA-F]{2}|[{}]|binding\s*:)|<\s*/?(?:xss|listener\b[^>]{1,100}handler)\b"#,
    ),
    // A script that goes on behind the text it was put into (941180, 941390).
    rule(
        "xss-call",
        CRITICAL,
        &[
            "alert",
            "confirm",
            "prompt",
            "eval",
            "document",
            "settimeout",
            "setinterval",
            "fromcharcode",
            "constructor",
            "reflect",
            "serviceworker",
            "worker",
            "\"](",
            "'](",
            "`](",
            "import(",
            "fetch(",
            "atob",
            "window",
            "location",
            "expression",
        ],
        r#"(?:['"`\\)}\]>/;=&|+*:-]|^[\s(]*|\bvoid|\bnew|\btypeof|\bin)[\s({\[!~+-]*\b(?:alert|confirm|prompt)[\s)]*(?:\?\.|\.(?:call|apply|bind|source|name|valueof)\b|\(\s*(?:\)|\d|document|window|this|self|top|location|origin|parent|string\.|['"`/\\]?\s*(?:xss|x|hi|hacked|pwn\w*|test|\d+|h)['"`/]?\s*[),])|\s*\()|(?:^|[^\w`])(?:alert|confirm|prompt|settimeout|setinterval)\\?`[^`\s]|\b(?:alert|confirm|prompt)\s*(?:\(\s*(?:\d+|document\.\w+|/\w*/|['"`]?xss\b|window\.\w+|location\b|origin\b|this\b|self\b))|\beval\s*(?:\(\s*(?:atob|unescape|string|location|name\b|window|document|this|url|decodeuri|\w+\s*\+|['"`]|\w+\.\w+\()|`)|\bdocument\s*(?:\.|\[\s*['"`])\s*(?:cookie|domain|write(?:ln)?\s*[(`]|location\s*[=.])|\b(?:window|self|top|parent|this|frames|globalthis|document)\s*\[\s*(?:['"`/\\(]|\w+\s*\+|\d)|\bset(?:timeout|interval)\s*(?:\(\s*(?:['"`]|location|\w+\.search))|string\s*\.\s*fromcharcode\s*\(|\[\s*['"`]?constructor['"`]?\s*\]|\bconstructor\s*(?:\.\s*constructor\b|\(\s*['"`])|\bimport\s*\(\s*['"`]?\s*(?:https?:|//|data:|\\)|\bfetch\s*\(\s*['"`]?\s*(?:https?:)?//[^)]{0,200}\+\s*(?:document|btoa)|\b(?:window|self|top|parent|this)?\.?location\s*(?:\.href\s*)?=\s*['"`]?\s*(?:javascript|name\b|document|location|['"`]\s*\+|//)|\bonerror\s*=\s*(?:alert|eval|confirm|prompt)\b|\bthrow\s+(?:onerror|\d+|document)|\breflect\s*\.\s*apply\s*\(|\bserviceworker\s*\.\s*register\s*\(|\bnew\s+(?:shared)?worker\s*\(\s*['"`]?(?:https?:|//|data:|blob:)|\w['"`]\s*\]\s*\(\s*(?:\d|document|['"`])"#,
    ),
    rule(
        "xss-call-weak",
        WARNING,
        &[
            "alert",
            "confirm",
            "prompt",
            "eval",
            "function",
            "innerhtml",
            "javascript:",
            "<",
        ],
        r#"\b(?:alert|confirm|prompt|eval)\s*\(|\bfunction\s*\(\s*['"`]|\.(?:inner|outer)html\s*=|^\s*javascript:|<[a-z/!?][^>]{0,100}$"#,
    ),
    // Scripts without a letter (941360).
    rule(
        "xss-obfuscated",
        CRITICAL,
        &[
            "[]", "+!", "!+", "![", "(!", "\\x", "adw-", "ad4-", "\\1", "/al/", "'al'", "\"al\"",
            "ale'", "'ert", "rt'", "`al", "ale\"",
        ],
        r#"(?:[\[\](){}!+]\s*){20,}|\[\s*\]\s*\[\s*(?:['"(!]|\+)|\$?=\s*~\[\]|(?:^|\W)\+?adw-.{0,300}(?:\+?ad4-|adsa)|\[\s*['"`/]a?l?e?r?t?[`'"/]?[\w.]*\s*\+\s*['"`/]|\[['"`]\w*\\\d+\w*['"`]\]|(?:^|['"`\[(])(?:al|ale|aler)['"`]\s*\+\s*['"`](?:e?r?t)\b|(?:'ale'|'con'|'prom'|'fet')\s*\+\s*'|/al/\s*\.source"#,
    ),
    // Frameworks that read pages (941380).
    rule(
        "xss-framework",
        CRITICAL,
        &[
            "ng-",
            "v-",
            "x-",
            "{{",
            "on:",
            "@click",
            "data-bind",
            "hx-",
            "srcset",
            "_c.",
        ],
        r#"<[^>]{0,200}[\s/"'](?:ng-(?:app|csp|init|on-\w+|focus|click|mouse\w+)|v-(?:html|on|show|bind|if)|x-(?:init|data|on|html)|data-(?:bind|ng-\w+)|hx-on\S*|@\w+)\s*=\s*['"]?[^'">]{0,80}[($`=.]|\{\{.{0,120}(?:\$on|\$eval|\$event|constructor|tostring\s*\(|charat|\balert\s*\(|prototype|\$\w+\.)|\b_c\.constructor\s*\("#,
    ),
];

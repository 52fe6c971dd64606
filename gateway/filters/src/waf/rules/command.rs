//! Commands of a shell.

use super::{CRITICAL, Class, Places, Rule, WARNING};

const fn rule(
    id: &'static str,
    score: u32,
    words: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        id,
        class: Class::Rce,
        score,
        places: Places::ANY,
        words,
        pattern,
    }
}

/// Nothing but a flag or a folder behind a command.
macro_rules! alone {
    () => {
        r#"\s*(?:$|[;&)#'"\n]|\|\s*$|\|{2}|-[a-z]{1,8}\b[^\n]{0,40}$|/(?:etc|var|home|tmp|usr|bin|root|opt)\S{0,60}$)"#
    };
}

pub(super) const RULES: &[Rule] = &[
    // (932100, 932105, 932150) A separator, a command that is used alone, and no more text behind it.
    rule(
        "rce-unix",
        CRITICAL,
        &[
            "id", "whoami", "pwd", "ls", "ifconfig", "uname", "ps", "netstat", "env", "hostname",
            "w", "cat", "ping", "dir", "df", "mount",
        ],
        concat!(
            // By names that are no words.
            r#"(?:;|\|{1,2}|\$\(|&&|^[^\n]{0,60}\n)\s*(?:sudo\s+|/(?:usr/)?s?bin/)?(?:whoami|ifconfig|uname|netstat|printenv|ipconfig|systeminfo|tasklist|lsof|sysinfo)"#,
            alone!(),
            r#"|(?:;|\|{2}|\$\(|&&)\s*id"#,
            alone!(),
            // By others: with a path, behind what is no word (`cats;dir`, `ID | Name`), or with something behind them.
            r#"|(?:(?:;|\|{1,2}|\$\(|&&|^[^\n]{0,60}\n)\s*(?:sudo\s+|/(?:usr/)?s?bin/)|(?:^|[^a-z\s])\s*(?:;|\|{1,2}|&&)\s*|\$\(\s*|^[^a-z\n]{0,60}\n\s*)(?:id|pwd|ls|ps|env|hostname|who|w|dir|df|mount|set|history|last|ver|reboot|halt|date|uptime)"#,
            alone!(),
            r#"|(?:;|\|{1,2}|&&)\s*(?:id|pwd|ls|ps|env|hostname|who|w|dir|df|mount|set|history|last|ver|reboot|halt|date|uptime)\s*(?:[;&)#'"]|\|{2}|-[a-z]{1,8}\b[^\n]{0,40}$|/(?:etc|var|home|tmp|usr|bin|root|opt)\S{0,60}$)|(?:^|[^&])&\s*(?:id|whoami|pwd|ls|ifconfig|uname|netstat|ipconfig|dir|systeminfo|tasklist)(?:\s+-\w{1,8})?\s*(?:$|[;&#])|(?:\\n|%0a)\s*(?:/usr/bin/|/bin/)?(?:id|whoami|ls|uname|cat|ping|sleep|wget|curl)\b|^\s*(?:uname\s+-\w+|netstat\s+-\w+|ipconfig\s*/all|ls\s+-\w+\s+/\S*|cat\s+/\S+|dir\s+[a-z]:\\\S*)\s*$"#
        ),
    ),
    // A separator, a command, and what it works on.
    rule(
        "rce-unix-arguments",
        CRITICAL,
        &[
            "cat", "curl", "wget", "ping", "sleep", "echo", "nc", "ncat", "netcat", "bash", "sh",
            "python", "perl", "ruby", "php", "nslookup", "dig", "rm", "cp", "mv", "chmod", "touch",
            "ls", "uname", "type", "head", "tail", "more", "less", "tac", "nl", "od", "xxd",
            "base64", "grep", "find", "awk", "sed", "telnet", "ssh", "kill", "mail", "host",
            "printf", "tee", "su", "id", "net", "ps", "lynx", "busybox", "node", "java", "gcc",
            "mkfifo", "useradd", "adduser", "crontab", "set", "vi", "export", "socat", "certutil",
            "strings",
        ],
        r#"(?:;|&{1,2}|\|{1,2}|\$\(|[<>]\(|^[^\n]{0,60}\n)\s*(?:sudo\s+|/(?:usr/)?(?:local/)?s?bin/)?(?:(?:cat|tac|head|tail|more|less|nl|od|xxd|strings|rm|cp|mv|ls|chmod|chown|touch|find|vi|tee|grep|egrep|sed|awk)\s*(?:(?:\s-\w+)*\s+(?:[/$.~*\\'"]|\w+\.(?:php|conf|txt|sh|py|log|cfg|ini|key|pem|js|html)\b|\w*passwd)|<|\$\{?ifs|\{|%09)|(?:curl|wget|lynx|fetch)\s+(?:-{1,2}\S+\s+)*(?:['"]?(?:https?|ftp)://|\S+\.\w+(?:/|:\d|$|\s)|\$|`|\d{1,3}\.)|(?:ping6?|nslookup|dig|host|traceroute)\s+(?:-\w+\s+(?:\d+\s+)?)*(?:['"$`]|\w[\w-]*\.[\w.-]+|localhost|::1)|sleep\s*(?:\d|\$|\{)|echo\s+(?:-\w\s+)?(?:['"$`]|\w+\s*(?:$|[;|&>)])|\d)|printf\s+['"]|(?:nc|ncat|netcat|telnet|socat)\s+(?:-\w+\s+)*(?:\S+\s+\d{2,5}|-\w*e|tcp)|(?:ba|da|z|k|c|tc)?sh\s+(?:-[ic]\b|['"</$])|(?:python[\d.]*|perl|ruby|php|node|lua)\s+-(?:c|e|r|n|i)\b|base64\s+(?:-d|--decode)|(?:uname|id|ps|ls|netstat|df)\s+-\w+|kill(?:all)?\s+-?\d|mail\s+\S+@|crontab\s+-|useradd\s|adduser\s|mkfifo\s|busybox\s|ssh\s+\S+@|tftp\s|net\s+user\b|su\s+-|export\s+\w+=|type\s+(?:%|[a-z]:|\S+\.(?:ini|txt|conf)))"#,
    ),
    // (932130) Expressions of a shell, also as the whole of a value.
    rule(
        "rce-substitution",
        CRITICAL,
        &["$(", "`", "${", "$ifs", "<(", ">("],
        r#"\$\(\s*(?:cat|id|whoami|ls|uname|pwd|curl|wget|ping|sleep|echo|nc|bash|sh|nslookup|dig|printf|python\d?|perl|php|rm|env|ifconfig|hostname|which|expr|touch|head|tail|type|<)\b|^[^\s`]{0,80}`\s*(?:/(?:usr/)?bin/)?(?:cat|id|whoami|ls|uname|pwd|curl|wget|ping|sleep|echo|nc|bash|sh|nslookup|dig|python\d?|perl|env|ifconfig|hostname|touch)\b[^`\n]{0,200}(?:`\S{0,20})?$|[\w;|&"'=)]`\s*(?:cat|id|whoami|ls|uname|pwd|curl|wget|ping|sleep|nc|bash|nslookup)\b[^`\n]{0,100}`|\$\{?ifs\b|\$\(\(\s*\d+\s*[-+*]|[;|&\s]\$\{[\w@]+:\d+:\d+\}|\$\{path:|[<>]\(\s*(?:cat|curl|wget|bash|sh|echo|id|ls|nc)\b"#,
    ),
    rule(
        "rce-path",
        CRITICAL,
        &[
            "/bin/", "/dev/tcp", "/dev/udp", "/???", "/?i?", "/b?n", "-i >&", "/bin",
        ],
        r#"(?:^|[;|&`(<=,{]|\$\(|-e|-c)\s*/(?:usr/)?(?:local/)?s?bin/(?:\w*sh|cat|ls|id|wget|curl|nc|netcat|python\d?|perl|uname|whoami|ping|env|echo|sleep|rm|nslookup|php|ps|\?)\b|/dev/(?:tcp|udp)/|/[\w?*]*\?[\w?*]*/[\w?*]*\?[\w?*]*\s+/|\bba?sh\s+-i\b"#,
    ),
    // Letters with quotes, backslashes or nothing between them (932220).
    rule(
        "rce-obfuscated",
        CRITICAL,
        &[
            "''", "\"\"", "\\", "$@", "$*", "$u", "$1", "$9", "{cat,", "{ls,", ",/etc", "{curl,",
            "{wget,", "{ping,", "{echo,", "{nc,",
        ],
        r#"(?:[;|&`]|\$\(|^)\s*(?:/?\w*/)*(?:[wlcupn]['"\\$@*]{1,4}[a-z]['"\\$@*a-z]{0,12})\s+[/'"-]|(?:[;|&`]|\$\()\s*(?:w['"\\$@*]+h|i['"\\$@*]+d\b|c['"\\$@*]+a|l['"\\$@*]+s|u['"\\$@*]+n|n['"\\$@*]+c|p['"\\$@*]+[iw]|wh['"\\$@*]+o|ca['"\\$@*]+t|b['"\\$@*]+a)|\{(?:cat|ls|curl|wget|ping|echo|nc|id|bash|rm|head|tail|nslookup),[^}]{1,80}\}"#,
    ),
    // (932170)
    rule(
        "rce-shellshock",
        CRITICAL,
        &["()"],
        r#"^\s*\(\s*\)\s*\{|\(\)\s*\{\s*(?::|_|\[|\w+\s*=>)\s*;?\s*\}\s*;"#,
    ),
    // (932110, 932115, 932120)
    rule(
        "rce-windows",
        CRITICAL,
        &[
            "cmd",
            "powershell",
            "iex",
            "invoke-",
            "downloadstring",
            "net user",
            "net+user",
            "comspec",
            "certutil",
            "rundll32",
            "wmic",
            "bitsadmin",
            "mshta",
            "cscript",
            "regsvr32",
            "type ",
            "ipconfig",
            "systeminfo",
            "tasklist",
            "dir ",
            "net view",
            "net localgroup",
            "start ",
        ],
        r#"\bcmd(?:\.exe)?\s*["']?\s*/[ckr]\b|\bpowershell(?:\.exe)?\s+(?:-\w|["'&(]|iex|invoke)|\b(?:iex|invoke-expression)\s*[("$'&]|\binvoke-(?:webrequest|restmethod|command|mimikatz|shellcode)\b|\.downloadstring\s*\(|(?:[;|&`]|^)\s*net1?\s+(?:user|view|localgroup|start|share|use|group)\b|%comspec%|\bcertutil(?:\.exe)?\s+-|\brundll32(?:\.exe)?\s+\w|\bwmic\s+(?:process|os|/node)|\bbitsadmin\s+/|\bmshta(?:\.exe)?\s+(?:https?|vbscript|javascript)|\bregsvr32(?:\.exe)?\s+/|(?:[;|&`]|^)\s*type\s+(?:[a-z]:[\\/]|%\w+%)|(?:[;|&`])\s*(?:dir|ipconfig|systeminfo|tasklist|ver|whoami)\s*(?:/\w+|[a-z]:\\|\\|$)|%(?:systemroot|windir|programfiles)\w*%[\\/]|[a-z]:[\\/]+windows[\\/]+system32"#,
    ),
    rule(
        "rce-function",
        CRITICAL,
        &[
            "child_process",
            "os.system",
            "os.popen",
            "subprocess",
            "__import__",
            "execsync",
            "spawnsync",
            "runtime.exec",
            "process.mainmodule",
            "kernel.",
            "io.popen",
            "process.binding",
            "popen",
            "process.env",
            "global.process",
            "system(",
        ],
        r#"\brequire\s*\(\s*\\?['"`]child_process|\bos\s*\.\s*(?:system|popen|exec\w*)\s*\(|\bsubprocess\s*\.\s*(?:popen|call|check_output|run)\s*\(\s*[\[('"]|__import__\s*\(|\b(?:exec|spawn|fork)(?:file)?sync\s*\(|process\s*\.\s*(?:mainmodule|binding)\b|\bio\.popen\s*\(|\bkernel\.(?:exec|system)|\bpopen\s*\(\s*['"][^'"]{1,60}['"]\s*\)\s*\.\s*read"#,
    ),
    rule(
        "rce-weak",
        WARNING,
        &[";", "|", "&&"],
        r#"^\s*(?:;|\|{1,2}|&{1,2})\s*/?[a-z][\w/.-]{1,20}(?:\s|$)"#,
    ),
];

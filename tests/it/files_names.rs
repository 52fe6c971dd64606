//! Ten thousand files with hostile names, and hostile spellings of names: each is served or refused as its kind
//! must be, and never a byte of what lies outside.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use edgeway_tests::{Answer, Broken, Connection, Gateway, Setup};

const CANARY: &str = "nobody may see this";
const HIDDEN: &str = "few may see this";
const FILES: usize = 10_000;

/// What becomes of a request for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    /// There is nothing, for all that a client can tell.
    Missing,
    /// No path can have this.
    Malformed,
}

use Fate::{Malformed, Missing, Served};

/// Names of which there are many: the number stands for `#`.
const KINDS: &[(&[u8], Fate)] = &[
    (b"plain-#.txt", Served),
    (b"sp ace #.txt", Served),
    (b" # leading", Served),
    (b"trailing # ", Served),
    (b"percent%#", Served),
    (b"%2e%2e-#", Served),
    (b"%2e%2e%2f#", Served),
    (b"%252e#", Served),
    (b"%#%00", Served),
    (b"%u002e#", Served),
    (b"+plus+#", Served),
    (b"quote\"#", Served),
    (b"apos'#", Served),
    (b"<script>#<b>", Served),
    (b"amp&#;amp=1", Served),
    (b"query?#", Served),
    (b"hash\x23#", Served),
    (b"semi;#", Served),
    (b"semi;..#", Served),
    (b"colon:#", Served),
    (b"http:#", Served),
    (b"star*#", Served),
    (b"brackets[#]{}", Served),
    (b"pipe|caret^tick`#", Served),
    (b"tilde~#", Served),
    (b"-#", Served),
    (b"--help=#", Served),
    (b"$HOME#", Served),
    (b"$(id)#", Served),
    (b"#.", Served),
    (b"#...", Served),
    (b"#..", Served),
    (b"back\\slash#", Served),
    (b"\\#", Served),
    (b"a\\..b#", Served),
    (b"C:\\#", Served),
    // In both normal forms of Unicode: two names.
    ("caf\u{e9}-#".as_bytes(), Served),
    ("cafe\u{301}-#".as_bytes(), Served),
    ("\u{202e}gpj.exe#".as_bytes(), Served),
    ("\u{feff}#".as_bytes(), Served),
    ("\u{2215}\u{ff0f}\u{ff0e}\u{ff0e}#".as_bytes(), Served),
    ("\u{1f600}#".as_bytes(), Served),
    ("\u{85}#".as_bytes(), Served),
    // No UTF-8: a lone byte, an overlong slash and dot, half a character, a surrogate.
    (b"\xff#", Served),
    (b"\xc0\xaf#", Served),
    (b"\xc0\xae\xc0\xae#", Served),
    (b"#\xe2\x82", Served),
    (b"\xed\xa0\x80#", Served),
    // Hidden.
    (b".#", Missing),
    (b"..#", Missing),
    (b"...#", Missing),
    (b".%2e#", Missing),
    (b".\xff#", Missing),
    // What no path may have: controls.
    (b"new\nline#", Malformed),
    (b"\r\nSet-Cookie: #", Malformed),
    (b"tab\t#", Malformed),
    (b"\x1b[31m#", Malformed),
    (b"del\x7f#", Malformed),
    (b"\x01#", Malformed),
    // What others would take for the folder above.
    (b"..\\#", Malformed),
    (b"#\\..", Malformed),
    (b"..;#", Malformed),
    (b"..\\..\\#", Malformed),
    (b"#\\..\\x", Malformed),
];

/// Single files.
fn single() -> Vec<(Vec<u8>, Fate)> {
    vec![
        (b"...".to_vec(), Missing),
        (b"....".to_vec(), Missing),
        (b".htaccess".to_vec(), Missing),
        (b"-".to_vec(), Served),
        (b"~".to_vec(), Served),
        (b"%".to_vec(), Served),
        (b"%2e".to_vec(), Served),
        (b"%2e%2e".to_vec(), Served),
        (b"%2f".to_vec(), Served),
        (b"%00".to_vec(), Served),
        (b" ".to_vec(), Served),
        (b"\\".to_vec(), Served),
        (b"?".to_vec(), Served),
        (b"\x23".to_vec(), Served),
        (b"*".to_vec(), Served),
        (b"long-".repeat(51), Served),
        ("\u{e9}".repeat(127).into_bytes(), Served),
        (b"con".to_vec(), Served),
        (b"nul.txt".to_vec(), Served),
        // The coded form of nothing, which is a file like others.
        (b"orphan.css.gz".to_vec(), Served),
        (b"orphan.css".to_vec(), Missing),
    ]
}

/// All names, with what becomes of them. What is served holds its own name.
fn names() -> BTreeMap<Vec<u8>, Fate> {
    let mut names: BTreeMap<_, _> = single().into_iter().collect();
    let mut number = 0;
    while names.len() < FILES {
        let (kind, fate) = KINDS[number % KINDS.len()];
        let mark = kind.iter().position(|byte| *byte == b'#').unwrap();
        let (before, after) = kind.split_at(mark);
        let digits = number.to_string();
        names.insert([before, digits.as_bytes(), &after[1..]].concat(), fate);
        number += 1;
    }
    names
}

/// A folder `site` with all of them, and links.
fn site(names: &BTreeMap<Vec<u8>, Fate>, routes: &str) -> Setup {
    let setup = Gateway::setup(routes);
    let setup = setup
        .file("canary.txt", CANARY)
        .file("outside/secret.txt", CANARY);
    let setup = setup.file("site-beside/secret.txt", CANARY);
    let setup = setup
        .file("site/inner/file.txt", "inner")
        .file("site/.git/config", HIDDEN);
    let site = setup.folder().join("site");
    for (name, _) in names.iter().filter(|(name, _)| *name != b"orphan.css") {
        fs::write(site.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (target, link) in [
        ("inner/file.txt", "in"),
        ("inner", "in-folder"),
        ("../site/inner/file.txt", "around"),
        ("../canary.txt", "out"),
        ("..", "up"),
        ("/etc/passwd", "absolute"),
        ("/", "top"),
        ("/proc/self/root", "magic"),
        ("circle-b", "circle-a"),
        ("circle-a", "circle-b"),
        ("self", "self"),
        ("nowhere", "broken"),
        (".git/config", "git"),
        ("out", "twice-out"),
    ] {
        symlink(target, site.join(link)).unwrap();
    }
    setup
}

const ROUTES: &str = "
    routes:
      - match: { path: /any/ }
        files: { alias: site, listing: true }
      - files: { root: site, precompressed: [br, zstd, gzip] }
    ";

/// All but what may stand in a path of every kind, as escapes.
fn encoded(name: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => {
            char::from(*byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    name.iter().map(escape).collect()
}

#[test]
fn each_of_ten_thousand_hostile_names_is_served_or_refused_as_its_kind() {
    let names = names();
    assert_eq!(names.len(), FILES);
    let gateway = site(&names, ROUTES).start();
    for prefix in ["/", "/any/"] {
        let mut connection = gateway.connect();
        for (name, fate) in &names {
            let path = format!("{prefix}{}", encoded(name));
            let request = connection.request("GET", &path);
            let answer = request.header("Accept-Encoding", "br, gzip, zstd").send();
            let expected = match fate {
                Served => 200,
                Missing => 404,
                Malformed => 400,
            };
            assert_eq!(answer.status, expected, "{path}");
            if *fate == Served {
                assert!(answer.body == *name, "{path}");
                assert_eq!(answer.header("content-encoding"), None, "{path}");
            } else {
                assert!(answer.header("etag").is_none(), "{path}");
            }
            if !answer.reusable {
                connection = gateway.connect();
            }
        }
    }
}

#[test]
fn links_are_followed_as_far_as_the_folder_goes() {
    let gateway = site(&BTreeMap::new(), ROUTES).start();
    for (path, body) in [
        ("/in", Some("inner")),
        ("/in-folder/file.txt", Some("inner")),
        // Somebody has given it a name that is not hidden.
        ("/git", Some(HIDDEN)),
        ("/.git/config", None),
        // By way of what lies outside.
        ("/around", None),
        ("/out", None),
        ("/twice-out", None),
        ("/up/canary.txt", None),
        ("/up/site/inner/file.txt", None),
        ("/absolute", None),
        ("/top/etc/passwd", None),
        ("/magic/etc/passwd", None),
        ("/circle-a", None),
        ("/self", None),
        ("/self/self", None),
        ("/broken", None),
        ("/in/x", None),
    ] {
        let answer = gateway.get(path);
        match body {
            Some(body) => assert_eq!((answer.status, answer.text()), (200, body), "{path}"),
            None => assert_eq!(answer.status, 404, "{path}"),
        }
    }
}

/// Spellings that have led out of folders somewhere, or would lead past a name that is refused. Each is tried with
/// names behind it that are there.
const SPELLINGS: &[&str] = &[
    "/..",
    "/../..",
    "/../../../../../../..",
    "/./..",
    "/inner/../..",
    "/inner/../../",
    "//..",
    "/..//",
    "/.//..",
    "/%2e%2e",
    "/%2E%2E",
    "/%2e%2E",
    "/.%2e",
    "/%2e.",
    "/inner/%2e%2e/%2e%2e",
    "/..%2f",
    "/..%2F",
    "/%2e%2e%2f",
    "/%2e%2e%2F..%2f",
    "/..%5c",
    "/..%5C",
    "/%2e%2e%5c",
    "/..\\",
    "/inner\\..\\..",
    "/inner%5c..%5c..",
    "/inner%2f..%2f..",
    "/inner/..%2f..",
    "/%252e%252e",
    "/%252e%252e%252f",
    "/%25%32%65%25%32%65",
    "/..%252f",
    "/%c0%ae%c0%ae",
    "/%c0%ae%c0%ae%c0%af",
    "/..%c0%af",
    "/%e0%80%ae%e0%80%ae",
    "/..%e0%80%af",
    "/%f0%80%80%ae",
    "/%uff0e%uff0e",
    "/%u002e%u002e",
    "/%ef%bc%8e%ef%bc%8e",
    "/..%ef%bc%8f",
    "/..%00",
    "/%00..",
    "/..%00/",
    "/%00",
    "/..;",
    "/..;/",
    "/;/..",
    "/..;x=1",
    "/%2e%2e;",
    "/.;/..",
    "/...",
    "/....",
    "/.../...",
    "/.. ",
    "/..%20",
    "/..%09",
    "/..%0a",
    "/..%0d%0a",
    "/.%0a.",
    "/..?",
    "/..#",
    "/*/..",
    "/~",
    "/~root",
    "/C:",
    "/C:\\",
    "/file:",
    "/%2f",
    "/%2f%2f",
    "//",
    "///",
    "//etc",
    "/%5c",
    "/%5c%5c",
    "/inner/file.txt/..",
    "/inner/file.txt/../..",
    "/nothing/../..",
    "/up",
    "/up/",
    "/top",
    "/top/etc/..",
    "/magic",
    "/in-folder/..",
    "/in-folder/../..",
    "/any/..",
    "/any/../..",
    "/any%2f..",
    "/any/%2e%2e/%2e%2e",
    "/any../",
    "/any..",
    "/any/..%2f",
    "/any//..",
    "/any/.",
    "/-beside",
    "/site-beside",
    "/any-beside",
];

#[test]
fn no_spelling_leads_out() {
    let gateway = site(&BTreeMap::new(), ROUTES).start();
    let mut connection = gateway.connect();
    for spelling in SPELLINGS {
        for target in [
            "canary.txt",
            "outside/secret.txt",
            "etc/passwd",
            ".git/config",
            "site-beside/secret.txt",
            "secret.txt",
            "",
        ] {
            for between in ["", "/"] {
                let path = format!("{spelling}{between}{target}");
                let answer = match attempt(&mut connection, &path) {
                    Ok(answer) if answer.reusable => answer,
                    Ok(answer) => {
                        connection = gateway.connect();
                        answer
                    }
                    Err(_) => {
                        connection = gateway.connect();
                        continue;
                    }
                };
                assert!(
                    shows_nothing(&answer),
                    "{path}: {}",
                    String::from_utf8_lossy(&answer.body)
                );
            }
        }
    }
    // And it is still there for everybody else.
    assert_eq!(gateway.get("/inner/file.txt").text(), "inner");
}

fn attempt(connection: &mut Connection, path: &str) -> Result<Answer, Broken> {
    connection.request("GET", path).attempt()
}

/// Whether an answer has nothing of what lies outside, nor of what is hidden.
fn shows_nothing(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body);
    let seen = [CANARY, HIDDEN, "root:", "site-beside", "outside", "canary"];
    !seen.iter().any(|part| body.contains(part)) && matches!(answer.status, 200 | 301 | 400 | 404)
}

#[test]
fn a_listing_has_what_can_be_asked_for_and_nothing_else() {
    let names = names();
    let gateway = site(&names, ROUTES).start();
    let ask = |path: &str| {
        gateway
            .request("GET", path)
            .header("Accept", "application/json")
            .send()
    };
    let answer = ask("/any/");
    let items = answer.json();
    let items = items.as_array().unwrap();
    let total: usize = answer.header("x-total-count").unwrap().parse().unwrap();
    assert_eq!(total, items.len());
    let served = |name: &Vec<u8>| names.get(name) == Some(&Served);
    // Three of the links lead to something inside, and there is one folder.
    assert_eq!(total, names.keys().filter(|name| served(name)).count() + 4);
    let hrefs: Vec<_> = items
        .iter()
        .map(|item| item["href"].as_str().unwrap())
        .collect();
    for (name, _) in names.iter().filter(|(name, _)| served(name)) {
        assert!(hrefs.contains(&&*encoded(name)), "{}", encoded(name));
    }
    for (href, there) in [
        ("inner/", true),
        ("in", true),
        ("in-folder/", true),
        ("git", true),
        ("out", false),
        ("around", false),
        ("up/", false),
        ("top/", false),
        ("magic/", false),
        ("circle-a", false),
        ("broken", false),
        (".git/", false),
        ("../", false),
    ] {
        assert_eq!(hrefs.contains(&href), there, "{href}");
    }
    let mut connection = gateway.connect();
    for href in hrefs.iter().step_by(7) {
        let answer = connection.request("GET", &format!("/any/{href}")).send();
        assert_eq!(answer.status, 200, "{href}");
    }
}

/// Walks a folder as plainly as can be, for what a random path must lead to.
fn walk(root: &Path, path: &str) -> Option<Vec<u8>> {
    let mut place = root.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let mut decoded = Vec::new();
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
            decoded.push(match byte {
                b'%' => u8::try_from(hex(bytes.next())? * 16 + hex(bytes.next())?).ok()?,
                byte => byte,
            });
        }
        match &*decoded {
            b"." => continue,
            b".." if place == root => return None,
            b".." => {
                place.pop();
                continue;
            }
            name if name.starts_with(b".") || name.contains(&b'/') || name.contains(&0) => {
                return None;
            }
            name => place.push(OsStr::from_bytes(name)),
        }
    }
    let inside = fs::canonicalize(&place)
        .ok()?
        .starts_with(fs::canonicalize(root).ok()?);
    (inside && place.is_file() && !path.ends_with('/')).then(|| fs::read(place).unwrap())
}

/// Paths of pieces that mean something, put together at random: what is served is what the walk finds, and what is
/// refused may be, but never is anything else served.
#[test]
fn random_paths_lead_where_a_plain_walk_leads() {
    let gateway = site(&BTreeMap::new(), ROUTES).start();
    let root = gateway.folder().join("site");
    let pieces = [
        "/",
        "/",
        "/",
        ".",
        "..",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        ";",
        "inner",
        "file.txt",
        "in",
        "in-folder",
        "out",
        "up",
        "%69nner",
        "file%2etxt",
        "canary.txt",
        ".git",
        "config",
        "%00",
        "%c0%ae",
        "%25",
        "a",
        "site",
        "%20",
    ];
    let mut seed = 42_u64;
    let mut random = |limit: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % limit
    };
    let mut connection = gateway.connect();
    let mut served = 0;
    for _ in 0..5000 {
        let mut path = String::from("/");
        for _ in 0..random(8) {
            path.push_str(pieces[random(pieces.len())]);
        }
        let Ok(answer) = attempt(&mut connection, &path) else {
            panic!("{path}");
        };
        if !answer.reusable {
            connection = gateway.connect();
        }
        assert!(shows_nothing(&answer), "{path}");
        if answer.status == 200 {
            assert_eq!(Some(answer.body), walk(&root, &path), "{path}");
            served += 1;
        }
    }
    assert!(served > 20, "{served}");
}

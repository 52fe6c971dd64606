//! Which file answers a path.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    os::unix::net::UnixListener,
    thread,
    time::Duration,
};

use edgeway_tests::{Echo, Gateway};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{CANARY, outcome, site, told};

/// #20.
#[test]
fn a_folder_is_served_with_its_index_and_the_types_of_its_files() {
    let gateway = site("routes: [{ files: site }]").start();
    for (path, body, content_type) in [
        ("/", "home", "text/html; charset=utf-8"),
        ("/index.html", "home", "text/html; charset=utf-8"),
        ("/docs/", "docs", "text/html; charset=utf-8"),
        ("/style.css", "a{}", "text/css; charset=utf-8"),
        ("/style.css?v=7", "a{}", "text/css; charset=utf-8"),
    ] {
        let answer = gateway.get(path);
        assert_eq!(told(&answer), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
    }
    for path in [
        "/other.css",
        "/style.css/",
        "/style.css/x",
        "/empty/",
        "/empty",
        "/docs/x",
    ] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_folder_without_its_slash_is_somewhere_else() {
    let gateway = site(
        "
        routes:
          - match: { path: /app/ }
            files: { alias: site }
          - match: { path: /bare }
            files: { alias: site }
          - files: site
        ",
    )
    .start();
    for (path, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=b&c", "/docs/?a=b&c"),
        ("//docs", "/docs/"),
        ("/app/docs?q", "/app/docs/?q"),
        ("/bare", "/bare/"),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 301, "{path}");
        assert_eq!(answer.header("location"), Some(location), "{path}");
    }
    assert_eq!(told(&gateway.get("/bare/")), (200, "home"));
    assert_eq!(gateway.get("/empty").status, 404, "it has no index");
}

/// #21.
#[test]
fn an_alias_stands_for_the_path_of_the_route_and_nothing_else() {
    let gateway = site(
        "
        routes:
          - match: { path: /static/ }
            files: { alias: site }
          - match: { path: { exact: /icon } }
            files: { alias: site/style.css }
          - match: { path: { exact: /only/ } }
            files: { alias: site/docs }
          - match: { path: /my files/ }
            files: { alias: site }
        ",
    )
    .start();
    for (path, expected) in [
        ("/static/style.css", (200, "a{}")),
        ("/%73tatic/style.css", (200, "a{}")),
        ("/static/", (200, "home")),
        ("/static/docs/guide.html", (200, "guide")),
        ("/icon", (200, "a{}")),
        ("/only/", (200, "docs")),
        ("/only/guide.html", (404, "")),
        ("/icon/x", (404, "")),
        ("/my%20files/style.css", (200, "a{}")),
        ("/static../canary.txt", (404, "")),
        ("/static/../canary.txt", (404, "")),
        ("/static/..%2fcanary.txt", (400, "")),
        ("/static/%2e%2e/canary.txt", (404, "")),
        ("/static/docs/%2e%2e/%2e%2e/canary.txt", (404, "")),
        ("/static/..;/canary.txt", (400, "")),
        ("/static/docs%2fguide.html", (404, "")),
        ("/static/style.css%00", (400, "")),
        ("/static/style.css%00.html", (400, "")),
    ] {
        let answer = gateway.get(path);
        assert_eq!(outcome(&answer), expected, "{path}");
        assert!(!answer.text().contains(CANARY), "{path}");
    }
}

#[test]
fn what_becomes_of_the_path_on_the_route_holds_before_the_folder() {
    let gateway = site(
        r"
        routes:
          - match: { path: /old/ }
            strip_prefix: /old
            files: site
          - match: { path: /guide }
            add_prefix: /docs
            rewrite: { pattern: '$', to: '.html' }
            files: { root: site }
          - match: { path: { regex: ^/v\d+/ } }
            rewrite: { pattern: '^/v\d+/', to: '/' }
            files: site
          - match: { path: /evil }
            rewrite: { pattern: '^.*$', to: '/docs/../../canary.txt' }
            files: site
          - match: { path: /query }
            rewrite: { pattern: '^.*$', to: '/style.css?x=1' }
            files: site
        ",
    )
    .start();
    for (path, expected) in [
        ("/old/style.css", (200, "a{}")),
        ("/old/", (200, "home")),
        ("/guide", (200, "guide")),
        ("/v12/style.css", (200, "a{}")),
        ("/v/style.css", (404, "")),
        ("/evil", (404, "")),
        ("/query", (200, "a{}")),
    ] {
        assert_eq!(outcome(&gateway.get(path)), expected, "{path}");
    }
    let folder = gateway.get("/old/docs?a");
    assert_eq!(folder.header("location"), Some("/old/docs/?a"));
}

/// #24.
#[test]
fn routes_by_regex_have_their_files_below_a_root() {
    let echo = Echo::start();
    let gateway = Gateway::setup(&format!(
        r"
        upstreams: {{ php: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: {{ regex: '\.php$', ignore_case: true }} }}
            upstream: php
          - match: {{ path: {{ regex: '\.(jpg|png)$', ignore_case: true }} }}
            files: {{ root: site, default_type: image/x-any }}
        "
    ))
    .file("site/a/PHOTO.JPG", "photo")
    .file("site/code.PHP", "<?php secret")
    .start();
    assert_eq!(told(&gateway.get("/a/PHOTO.JPG")), (200, "photo"));
    assert_eq!(gateway.get("/a/photo.jpg").status, 404, "names have a case");
    assert_eq!(gateway.get("/code.PHP").json()["path"], "/code.PHP");
    assert_eq!(gateway.get("/code.txt").status, 404);
}

#[test]
fn what_is_looked_for_and_what_stands_for_a_folder_can_be_said() {
    let gateway = site(
        "
        routes:
          - match: { path: /pages/ }
            strip_prefix: /pages
            files: { root: site, try_files: ['{path}', '{path}.html', '/style.css'] }
          - match: { path: /hosts/ }
            strip_prefix: /hosts
            files: { root: site, try_files: ['/{host}{path}', '/{host}{path}/'] }
          - match: { path: /header }
            files: { root: site, try_files: ['/docs/{header.x-page}.html'] }
          - match: { path: /index/ }
            files: { alias: site, index: [nothing.html, guide.html, index.html] }
          - match: { path: /none/ }
            files: { alias: site, index: [] }
        ",
    )
    .file("site/a.test/index.html", "a's")
    .file("site/b.test/sub/index.html", "b's")
    .start();
    let get = |path: &str| gateway.get(path);
    assert_eq!(told(&get("/pages/docs/guide")), (200, "guide"));
    assert_eq!(told(&get("/pages/docs/guide.html")), (200, "guide"));
    assert_eq!(told(&get("/pages/nothing")), (200, "a{}"), "the last one");
    let at = |host: &str, path: &str| gateway.request("GET", path).host(host).send();
    assert_eq!(told(&at("a.test", "/hosts/")), (200, "a's"));
    assert_eq!(told(&at("b.test", "/hosts/sub/")), (200, "b's"));
    assert_eq!(
        at("b.test", "/hosts/sub").header("location"),
        Some("/hosts/sub/")
    );
    assert_eq!(at("c.test", "/hosts/").status, 404);
    for (page, expected) in [
        ("guide", (200, "guide")),
        ("../../canary.txt", (404, "")),
        ("%2e%2e/%2e%2e/canary", (404, "")),
        ("../index", (404, "")),
        ("a%00", (404, "")),
        ("\u{e9}", (404, "")),
    ] {
        let answer = gateway.request("GET", "/header").header("X-Page", page);
        assert_eq!(outcome(&answer.send()), expected, "{page}");
    }
    assert_eq!(told(&get("/index/docs/")), (200, "guide"));
    assert_eq!(told(&get("/index/")), (200, "home"));
    assert_eq!(get("/none/").status, 404);
    assert_eq!(told(&get("/none/index.html")), (200, "home"));
}

#[test]
fn hidden_names_are_served_to_nobody_unless_it_is_said() {
    let gateway = site(
        "
        routes:
          - match: { path: /all/ }
            files: { alias: site, hidden: true }
          - files: site
        ",
    )
    .file("site/.git/config", CANARY)
    .file("site/.well-known/security.txt", "contact")
    .file("site/.well-known/.secret", CANARY)
    .start();
    assert_eq!(told(&gateway.get("/all/.env")), (200, CANARY));
    assert_eq!(told(&gateway.get("/all/.git/config")), (200, CANARY));
    assert_eq!(
        told(&gateway.get("/.well-known/security.txt")),
        (200, "contact")
    );
    for path in [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.git/",
        "/empty/.keep",
        "/.well-known/.secret",
    ] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
}

#[test]
fn links_are_followed_as_far_as_is_said() {
    let setup = site(
        "
        routes:
          - match: { path: /inside/ }
            files: { alias: site }
          - match: { path: /any/ }
            files: { alias: site, symlinks: any }
          - match: { path: /none/ }
            files: { alias: site, symlinks: none }
        ",
    )
    .file("elsewhere/x.txt", "elsewhere");
    let folder = setup.folder().join("site");
    symlink("style.css", folder.join("in.css")).unwrap();
    symlink("../canary.txt", folder.join("out.txt")).unwrap();
    symlink("../elsewhere", folder.join("folder")).unwrap();
    symlink("docs", folder.join("inner")).unwrap();
    symlink("circle", folder.join("circle")).unwrap();
    symlink("../site/style.css", folder.join("around.css")).unwrap();
    symlink("/proc/self/environ", folder.join("environ")).unwrap();
    let gateway = setup.start();
    for (name, inside, any, none) in [
        ("style.css", 200, 200, 200),
        ("in.css", 200, 200, 404),
        ("inner/guide.html", 200, 200, 404),
        ("out.txt", 404, 200, 404),
        ("folder/x.txt", 404, 200, 404),
        ("around.css", 404, 200, 404),
        ("circle", 404, 404, 404),
    ] {
        for (route, status) in [("inside", inside), ("any", any), ("none", none)] {
            let answer = gateway.get(&format!("/{route}/{name}"));
            assert_eq!(answer.status, status, "{route} {name}");
        }
    }
    assert_eq!(gateway.get("/inside/environ").status, 404);
    assert_eq!(gateway.get("/none/environ").status, 404);
}

#[test]
fn only_files_and_folders_are_opened() {
    let setup = site("routes: [{ files: { root: site, symlinks: any } }]");
    let folder = setup.folder().join("site");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, folder.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    symlink("/dev/zero", folder.join("zero")).unwrap();
    // A regular file that nobody may read, not even who may do everything.
    symlink("/proc/sys/net/ipv4/route/flush", folder.join("locked")).unwrap();
    let gateway = setup.start();
    for name in ["pipe", "socket", "zero", "pipe/", "pipe/x"] {
        assert_eq!(gateway.get(&format!("/{name}")).status, 404, "{name}");
    }
    let locked = fs::read("/proc/sys/net/ipv4/route/flush");
    let denied = locked.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    assert!(denied, "this test needs another file that nobody may read");
    assert_eq!(gateway.get("/locked").status, 403);
}

/// Who writes into a pipe waits for one who reads, and whoever has asked for it is none.
#[test]
fn a_pipe_is_not_even_opened() {
    let setup = site("routes: [{ files: site }]");
    let pipe = setup.folder().join("site/pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let gateway = setup.start();
    thread::scope(|scope| {
        let writer = scope.spawn(|| File::options().write(true).open(&pipe).unwrap());
        for _ in 0..50 {
            assert_eq!(gateway.get("/pipe").status, 404);
            thread::sleep(Duration::from_millis(10));
        }
        let waits = !writer.is_finished();
        // Lets it go, also if it does not wait.
        let both = File::options().read(true).write(true).open(&pipe).unwrap();
        writer.join().unwrap();
        drop(both);
        assert!(waits, "the writer has met a reader");
    });
}

#[test]
fn what_is_said_of_files_is_what_is_sent() {
    let gateway = site(
        "
        routes:
          - match: { path: /own/ }
            files:
              alias: site
              types: { css: text/x-own, tar.gz: application/x-both }
              default_type: text/x-unknown
              charset: none
              etag: weak
          - match: { path: /latin/ }
            files: { alias: site, charset: iso-8859-1, etag: none }
          - files: { root: site }
        ",
    )
    .file("site/thing", "?")
    .file("site/a.tar.gz", "?")
    .start();
    let of = |path: &str| {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        answer.header("content-type").unwrap().to_owned()
    };
    assert_eq!(of("/own/style.css"), "text/x-own");
    assert_eq!(of("/own/index.html"), "text/html");
    assert_eq!(of("/own/thing"), "text/x-unknown");
    assert_eq!(of("/own/a.tar.gz"), "application/x-both");
    assert_eq!(of("/latin/index.html"), "text/html; charset=iso-8859-1");
    assert_eq!(of("/thing"), "application/octet-stream");
    assert_eq!(of("/style.css"), "text/css; charset=utf-8");
    let tag = |path: &str| gateway.get(path).header("etag").map(str::to_owned);
    assert!(tag("/own/thing").unwrap().starts_with("W/\""));
    assert_eq!(tag("/latin/thing"), None);
    assert!(tag("/thing").is_some());
}

#[test]
fn siblings_that_were_compressed_before_are_sent_to_who_takes_them() {
    let setup = site(
        "
        routes:
          - match: { path: /other/ }
            files: { alias: site, precompressed: [gzip, br] }
          - match: { path: /plain/ }
            files: { alias: site }
          - files: { root: site, precompressed: [br, zstd, gzip] }
        ",
    )
    .file("site/style.css.gz", "gzip")
    .file("site/style.css.br", "br")
    .file("site/index.html.zst", "zstd")
    .file("site/docs/guide.html.gz/x", "no file")
    .file("site/alone.js.gz", "no original");
    let out = setup.folder().join("site/docs/index.html.br");
    symlink("../../canary.txt", out).unwrap();
    let gateway = setup.start();
    let all = "gzip, br, zstd";
    for (path, accepted, body, coding) in [
        ("/style.css", all, "br", Some("br")),
        ("/style.css", "gzip", "gzip", Some("gzip")),
        ("/style.css", "br;q=0.5, gzip", "gzip", Some("gzip")),
        ("/style.css", "br;q=0, identity", "a{}", None),
        ("/style.css", "zstd", "a{}", None),
        ("/", all, "zstd", Some("zstd")),
        ("/docs/guide.html", all, "guide", None),
        ("/docs/", all, "docs", None),
        ("/other/style.css", all, "gzip", Some("gzip")),
        ("/plain/style.css", all, "a{}", None),
    ] {
        let answer = gateway
            .request("GET", path)
            .header("Accept-Encoding", accepted);
        let answer = answer.send();
        assert_eq!(told(&answer), (200, body), "{path} {accepted}");
        assert_eq!(
            answer.header("content-encoding"),
            coding,
            "{path} {accepted}"
        );
        let varies = answer.header("vary").is_some();
        assert_eq!(varies, !path.starts_with("/plain"), "{path} {accepted}");
        let kind = answer.header("content-type").unwrap().to_owned();
        assert!(kind.starts_with("text/"), "{path} {accepted}: {kind}");
    }
    assert_eq!(told(&gateway.get("/style.css")), (200, "a{}"));
    let alone = gateway
        .request("GET", "/alone.js")
        .header("Accept-Encoding", all);
    assert_eq!(alone.send().status, 404);
    // By itself it is a file like others.
    assert_eq!(
        gateway.get("/style.css.gz").header("content-encoding"),
        None
    );
}

#[test]
fn the_folder_of_a_route_whose_prefix_is_taken_off_has_its_slash() {
    let gateway = site(
        "
        routes:
          - match: { path: /strip }
            strip_prefix: /strip
            files: site
        ",
    )
    .start();
    for (path, location) in [
        ("/strip?a=b", "/strip/?a=b"),
        ("/strip/docs", "/strip/docs/"),
    ] {
        let answer = gateway.get(path);
        assert_eq!(
            (answer.status, answer.header("location")),
            (301, Some(location))
        );
    }
    assert_eq!(told(&gateway.get("/strip/")), (200, "home"));
    assert_eq!(told(&gateway.get("/strip/style.css")), (200, "a{}"));
}

//! Files that change while they are served.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{Gateway, PATIENCE, eventually};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{content, replace, site, told};

/// Asks for a file as long as something is done to it, and tells how often it came.
fn while_changed(
    gateway: &Gateway,
    target: &str,
    is_right: impl Fn(u16, &[u8]) -> bool + Sync,
    change: impl Fn(usize),
) -> usize {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ask = || {
            let (mut connection, mut answered) = (gateway.connect(), 0);
            while !over.load(Ordering::Relaxed) {
                match connection.request("GET", target).attempt() {
                    Ok(answer) => {
                        assert!(
                            is_right(answer.status, &answer.body),
                            "{}",
                            answer.body.len()
                        );
                        answered += 1;
                    }
                    // It was promised to be longer than it is now.
                    Err(_) => connection = gateway.connect(),
                }
            }
            answered
        };
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let start = Instant::now();
        for round in 0.. {
            change(round);
            if start.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        askers.into_iter().map(|asker| asker.join().unwrap()).sum()
    })
}

#[test]
fn a_file_that_another_takes_the_place_of_is_always_one_of_the_two() {
    for [one, other] in [[3_000, 5_000], [120_000, 140_000], [900_000, 1_100_000]] {
        let gateway = site("routes: [{ files: site }]")
            .file("site/file", content(one, 1))
            .start();
        let both = [content(one, 1), content(other, 2)];
        let path = gateway.folder().join("site/file");
        let is_one = |status, body: &[u8]| status == 200 && both.iter().any(|whole| whole == body);
        let came = while_changed(&gateway, "/file", is_one, |round| {
            replace(&path, &both[round % 2]);
        });
        assert!(came > 20, "only {came} answers");
    }
}

#[test]
fn a_file_that_is_written_while_it_is_sent_never_has_a_wrong_length() {
    for [long, short] in [[5_000, 100], [140_000, 10], [2_000_000, 150_000]] {
        let gateway = site("routes: [{ files: site }]")
            .file("site/file", content(long, 1))
            .start();
        let path = gateway.folder().join("site/file");
        // The strict client has compared the length with what came.
        let right = |status, body: &[u8]| status == 200 && body.len() <= long;
        let came = while_changed(&gateway, "/file", right, |round| {
            let length = if round % 2 == 0 { short } else { long };
            fs::write(&path, content(length, 3)).unwrap();
        });
        assert!(came > 10, "only {came} answers");
        fs::write(&path, content(long, 4)).unwrap();
        assert!(gateway.get("/file").body == content(long, 4), "{long}");
    }
}

#[test]
fn a_file_that_shrinks_ends_the_connection_and_one_that_grows_is_sent_as_long_as_promised() {
    const WHOLE: usize = 40_000_000;
    let gateway = site("routes: [{ files: site }]")
        .file("site/shrinks", content(WHOLE, 1))
        .file("site/grows", content(WHOLE, 1))
        .start();
    let folder = gateway.folder().join("site");
    let mut connection = gateway.connect();
    connection.send("GET /shrinks HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    let shrinking = File::options()
        .write(true)
        .open(folder.join("shrinks"))
        .unwrap();
    shrinking.set_len(1_000).unwrap();
    let rest = connection.rest();
    let broken = match &rest {
        Ok(bytes) => bytes.len() < WHOLE,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    assert!(broken);
    let mut connection = gateway.connect();
    connection
        .send("GET /grows HTTP/1.1\r\nHost: a\r\n\r\nGET /style.css HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    let growing = File::options()
        .write(true)
        .open(folder.join("grows"))
        .unwrap();
    growing.set_len(WHOLE as u64 * 2).unwrap();
    assert!(connection.read(WHOLE).unwrap() == content(WHOLE, 1));
    assert_eq!(
        told(&connection.answer()),
        (200, "a{}"),
        "and then the next"
    );
}

#[test]
fn what_is_new_is_seen_at_once() {
    let gateway = site("routes: [{ files: { root: site, precompressed: [gzip] } }]").start();
    let folder = gateway.folder().join("site");
    let coded = || {
        let request = gateway.request("GET", "/style.css");
        request.header("Accept-Encoding", "gzip").send()
    };
    for round in 0..30 {
        let body = format!("round {round}");
        match round % 3 {
            0 => fs::write(folder.join("style.css"), &body).unwrap(),
            1 => replace(&folder.join("style.css"), body.as_bytes()),
            _ => {
                fs::remove_file(folder.join("style.css")).unwrap();
                assert_eq!(gateway.get("/style.css").status, 404);
                fs::write(folder.join("style.css"), &body).unwrap();
            }
        }
        assert_eq!(told(&gateway.get("/style.css")), (200, &*body));
        assert_eq!(told(&coded()), (200, &*body));
        fs::write(folder.join("style.css.gz"), "packed").unwrap();
        assert_eq!(told(&coded()), (200, "packed"));
        fs::remove_file(folder.join("style.css.gz")).unwrap();
    }
}

/// What is done to a large file of a folder that has another one, and what of that is its content then: so many bytes
/// of a kind, or none.
type Change = (&'static str, fn(&Path), Option<(usize, u8)>);

const LARGE: usize = 300_000;

const CHANGES: [Change; 9] = [
    (
        "replaced",
        |path| replace(path, &content(LARGE, 2)),
        Some((LARGE, 2)),
    ),
    (
        "written",
        |path| fs::write(path, content(LARGE, 3)).unwrap(),
        Some((LARGE, 3)),
    ),
    (
        "small",
        |path| replace(path, &content(10, 4)),
        Some((10, 4)),
    ),
    (
        "longer",
        |path| replace(path, &content(LARGE + 1, 5)),
        Some((LARGE + 1, 5)),
    ),
    ("link", |path| link("other", path), Some((LARGE, 6))),
    ("link-out", |path| link("../outside", path), None),
    ("gone", |path| fs::remove_file(path).unwrap(), None),
    (
        "folder",
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        None,
    ),
    (
        "pipe",
        |path| {
            fs::remove_file(path).unwrap();
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        },
        None,
    ),
];

/// Puts a link in the place of something, at once.
fn link(target: &str, path: &Path) {
    let beside = path.with_extension("new");
    symlink(target, &beside).unwrap();
    fs::rename(beside, path).unwrap();
}

/// It was found, and asked for, a moment before.
#[test]
fn what_takes_the_place_of_a_large_file_is_seen_at_once() {
    let mut setup = site("routes: [{ files: { root: site, precompressed: [gzip] } }]")
        .file("site/other", content(LARGE, 6))
        .file("outside", content(LARGE, 7));
    for (name, ..) in CHANGES {
        setup = setup.file(&format!("site/{name}"), content(LARGE, 1));
    }
    let gateway = setup.start();
    let folder = gateway.folder().join("site");
    settle(&folder);
    for (name, change, becomes) in CHANGES {
        let ask = || {
            let target = format!("/{name}");
            let request = gateway.request("GET", &target);
            let answer = request.header("Accept-Encoding", "gzip").send();
            (answer.status == 200).then_some(answer.body)
        };
        for _ in 0..3 {
            assert!(ask() == Some(content(LARGE, 1)), "{name}");
        }
        change(&folder.join(name));
        let becomes = becomes.map(|(length, kind)| content(length, kind));
        assert!(ask() == becomes, "{name}");
    }
}

/// Nobody has to open the file to send its sibling.
#[test]
fn a_sibling_is_not_sent_any_more_once_its_large_file_is_gone() {
    let gateway = site("routes: [{ files: { root: site, precompressed: [gzip] } }]")
        .file("site/large", content(LARGE, 1))
        .file("site/large.gz", "packed")
        .start();
    let folder = gateway.folder().join("site");
    settle(&folder);
    let coded = || {
        let request = gateway.request("GET", "/large");
        request.header("Accept-Encoding", "gzip").send()
    };
    for _ in 0..3 {
        assert_eq!(told(&coded()), (200, "packed"));
    }
    fs::remove_file(folder.join("large")).unwrap();
    assert_eq!(coded().status, 404);
}

#[test]
fn a_link_to_a_large_file_that_leads_to_another_one_is_always_one_of_the_two() {
    let setup = site("routes: [{ files: site }]")
        .file("site/1", content(LARGE, 1))
        .file("site/2", content(LARGE + 1, 2));
    let folder = setup.folder().join("site");
    symlink("1", folder.join("file")).unwrap();
    let gateway = setup.start();
    // Neither of them is changed any more.
    settle(&folder);
    let both = [content(LARGE, 1), content(LARGE + 1, 2)];
    let is_one = |status, body: &[u8]| status == 200 && both.iter().any(|whole| whole == body);
    let came = while_changed(&gateway, "/file", is_one, |round| {
        link(["1", "2"][round % 2], &folder.join("file"));
    });
    assert!(came > 20, "only {came} answers");
}

#[test]
fn a_folder_that_another_takes_the_place_of_is_left_at_once() {
    let setup = site("routes: [{ files: current }]")
        .file("releases/1/page.html", "first")
        .file("releases/1/only-first.html", "first")
        .file("releases/2/page.html", "second");
    let folder = setup.folder().to_owned();
    symlink("releases/1", folder.join("current")).unwrap();
    let gateway = setup.start();
    let point = |release: &str| {
        symlink(release, folder.join("next")).unwrap();
        fs::rename(folder.join("next"), folder.join("current")).unwrap();
    };
    for _ in 0..20 {
        assert_eq!(told(&gateway.get("/page.html")), (200, "first"));
        assert_eq!(gateway.get("/only-first.html").status, 200);
        point("releases/2");
        assert_eq!(told(&gateway.get("/page.html")), (200, "second"));
        assert_eq!(gateway.get("/only-first.html").status, 404);
        point("releases/1");
    }
    let either = |status, body: &[u8]| status == 200 && [&b"first"[..], b"second"].contains(&body);
    let came = while_changed(&gateway, "/page.html", either, |round| {
        point(["releases/2", "releases/1"][round % 2]);
    });
    assert!(came > 20, "only {came} answers");
}

/// Also if it is asked for all the time, and neither it nor its name has changed.
#[test]
fn a_file_that_was_moved_out_of_the_folder_is_served_for_a_second_at_most() {
    let gateway = site(
        "
        routes:
          - match: { path: /inside/ }
            files: { alias: site }
          - match: { path: /none/ }
            files: { alias: site, symlinks: none }
          - match: { path: /any/ }
            files: { alias: site, symlinks: any }
        ",
    )
    .file("site/moved/page.html", "page")
    .start();
    let folder = gateway.folder().join("site");
    settle(&folder.join("moved"));
    let of = |route: &str| gateway.get(&format!("/{route}/moved/page.html")).status;
    for route in ["inside", "none", "any"] {
        assert_eq!((of(route), of(route)), (200, 200), "{route}");
    }
    fs::rename(folder.join("moved"), gateway.folder().join("outside")).unwrap();
    symlink("../outside", folder.join("moved")).unwrap();
    let moved = Instant::now();
    while moved.elapsed() < Duration::from_secs(2) {
        for route in ["inside", "none"] {
            // Before it is asked for: an answer that takes its time is none of the next second.
            let late = moved.elapsed() > Duration::from_secs(1);
            let status = of(route);
            assert!(status == 404 || (status == 200 && !late), "{route}");
        }
        assert_eq!(of("any"), 200);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_folder_that_is_not_there_has_no_files_until_it_is() {
    let gateway = site("routes: [{ files: { root: site, fallback: 503 } }]").start();
    let folder = gateway.folder().to_owned();
    let aside = folder.join("aside");
    for _ in 0..3 {
        assert_eq!(told(&gateway.get("/style.css")), (200, "a{}"));
        fs::rename(folder.join("site"), &aside).unwrap();
        assert_eq!(gateway.get("/style.css").status, 503);
        fs::rename(&aside, folder.join("site")).unwrap();
    }
    fs::remove_dir_all(folder.join("site")).unwrap();
    assert_eq!(gateway.get("/").status, 503);
    fs::write(folder.join("site"), "no folder").unwrap();
    assert_eq!(gateway.get("/").status, 503);
}

#[test]
fn a_reload_changes_what_is_said_of_files() {
    let gateway = site("routes: [{ files: site }]").start();
    settle(&gateway.folder().join("site"));
    let kind = || {
        let answer = gateway.get("/style.css");
        assert_eq!(told(&answer), (200, "a{}"));
        answer.header("content-type").unwrap().to_owned()
    };
    assert_eq!(kind(), "text/css; charset=utf-8");
    assert!(gateway.reload("routes: [{ files: { root: site, types: { css: text/x-new } } }]"));
    assert_eq!(kind(), "text/x-new; charset=utf-8");
    assert!(gateway.reload("routes: [{ files: { root: site, charset: none } }]"));
    assert_eq!(kind(), "text/css");
}

/// Waits until the files of a folder were changed so long ago that they may be kept.
pub(super) fn settle(folder: &Path) {
    let entries = fs::read_dir(folder).unwrap();
    let changed = entries.map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap());
    let last = changed.max().unwrap();
    eventually(PATIENCE, || {
        last.elapsed().is_ok_and(|age| age > Duration::from_secs(2))
    });
}

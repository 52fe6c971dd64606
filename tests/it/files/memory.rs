//! What is kept of small files.

use std::{fs, mem::MaybeUninit, path::Path, time::Instant};

use edgeway_tests::Gateway;
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::{changing::settle, content, replace, site};

/// How many bytes the gateway has had from files and sockets, in all.
fn read(gateway: &Gateway) -> usize {
    let told = fs::read_to_string(format!("/proc/{}/io", gateway.pid())).unwrap();
    let line = told.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

const SIZE: usize = 50_000;
const TIMES: usize = 20;

/// A gateway with some files that were not changed for some time.
fn with(memory: &str) -> Gateway {
    let mut setup = site(&format!(
        "routes: [{{ files: {{ root: site, memory: {memory} }} }}]"
    ));
    for name in 0..4 {
        setup = setup.file(&format!("site/{name}"), content(SIZE, name));
    }
    let gateway = setup.start();
    settle(&gateway.folder().join("site"));
    gateway
}

/// How many bytes are read while these files are asked for again and again.
fn read_for(gateway: &Gateway, names: &[u8]) -> usize {
    let ask = |name: &u8| {
        let answer = gateway.get(&format!("/{name}"));
        assert!(answer.status == 200 && answer.body == content(SIZE, *name));
    };
    names.iter().for_each(ask);
    let before = read(gateway);
    for _ in 0..TIMES {
        names.iter().for_each(ask);
    }
    read(gateway) - before
}

#[test]
fn small_files_are_read_once() {
    let gateway = with("{}");
    let read = read_for(&gateway, &[0, 1, 2, 3]);
    assert!(read < SIZE, "{read} bytes were read again");
    // Until they change.
    replace(&gateway.folder().join("site/1"), &content(SIZE, 9));
    assert!(gateway.get("/1").body == content(SIZE, 9));
    assert!(gateway.get("/0").body == content(SIZE, 0));
}

#[test]
fn nothing_is_kept_if_nothing_is_to_be() {
    let read = read_for(&with("off"), &[0]);
    assert!(read >= SIZE * TIMES, "only {read} bytes were read");
}

#[test]
fn no_file_is_kept_that_is_larger_than_is_said() {
    let gateway = with(&format!("{{ max_file: {} }}", SIZE - 1));
    let read = read_for(&gateway, &[0]);
    assert!(read >= SIZE * TIMES, "only {read} bytes were read");
    let gateway = with(&format!("{{ max_file: {SIZE} }}"));
    assert!(read_for(&gateway, &[0]) < SIZE);
}

#[test]
fn no_more_is_kept_than_is_said() {
    let gateway = with("{ size: 120kB, max_file: 60kB }");
    assert!(read_for(&gateway, &[0, 1]) < SIZE);
    let read = read_for(&gateway, &[0, 1, 2, 3]);
    assert!(read >= SIZE * TIMES, "only {read} bytes were read");
}

#[test]
fn what_is_kept_outlives_a_reload() {
    let gateway = with("{}");
    read_for(&gateway, &[0]);
    let before = read(&gateway);
    assert!(gateway.reload(
        "routes: [{ files: { root: site } }, { match: { path: /new }, respond: { text: new } }]"
    ));
    assert!(gateway.get("/0").body == content(SIZE, 0));
    assert!(read(&gateway) - before < SIZE, "it was read again");
}

/// How often anybody opens a file to read it, while something is done.
fn opened(path: &Path, act: impl FnOnce()) -> usize {
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    // Without the second one, what happens twice in a row is told once.
    let events = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&watch, path, events).unwrap();
    act();
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&watch, &mut room);
    let mut opened = 0;
    loop {
        match events.next() {
            Ok(event) if event.events().contains(ReadFlags::OPEN) => opened += 1,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                return opened;
            }
        }
    }
}

#[test]
fn a_large_file_is_not_opened_for_each_request_that_its_sibling_answers() {
    const REQUESTS: usize = 100;
    let gateway = site("routes: [{ files: { root: site, precompressed: [gzip] } }]")
        .file("site/large", content(300_000, 1))
        .file("site/large.gz", "packed")
        .start();
    let folder = gateway.folder().join("site");
    settle(&folder);
    let ask = |coding| {
        let request = gateway.request("GET", "/large");
        request.header("Accept-Encoding", coding).send().body
    };
    let begin = Instant::now();
    let opens = opened(&folder.join("large"), || {
        for _ in 0..REQUESTS {
            assert_eq!(ask("gzip"), b"packed");
        }
    });
    // Once in each second in which it was asked for.
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap() + 2;
    assert!(opens <= seconds, "{opens} in {seconds}");
    let opens = opened(&folder.join("large"), || {
        for _ in 0..REQUESTS {
            assert!(ask("identity") == content(300_000, 1));
        }
    });
    assert_eq!(opens, REQUESTS, "now it is sent");
}

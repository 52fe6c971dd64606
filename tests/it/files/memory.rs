//! What is kept of small files.

use std::fs;

use edgeway_tests::Gateway;

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

//! What the gateway tells about itself on standard error.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::{Child, Command},
};

use edgeway_tests::{Gateway, PATIENCE, eventually, program};
use rustix::process::{Pid, Signal, kill_process};

/// Runs the gateway with its standard error in a file until it has said something there.
fn said(stream: impl Fn(&File) -> String) -> String {
    let setup = Gateway::setup("routes: [{ respond: { text: hello } }]");
    let path = setup.folder().join("stderr");
    let file = File::create(&path).unwrap();
    let mut child = Command::new(program("edgeway"))
        .args(["run", "-c"])
        .arg(setup.folder().join("edgeway.yaml"))
        .env_clear()
        .env("JOURNAL_STREAM", stream(&file))
        .stderr(file.as_fd().try_clone_to_owned().unwrap())
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(&path).unwrap();
    eventually(PATIENCE, || read().contains('\n'));
    end(&mut child);
    read()
}

fn end(child: &mut Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::TERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn the_journal_is_told_the_level_of_each_line_and_no_time() {
    let said = said(|file| {
        let data = file.metadata().unwrap();
        format!("{}:{}", data.dev(), data.ino())
    });
    for line in said.lines() {
        assert!(line.starts_with("<6>") || line.starts_with("<4>"), "{line}");
    }
}

#[test]
fn who_is_not_the_journal_is_told_the_time_and_the_level_as_words() {
    let said = said(|_| "1:2".to_owned());
    let line = said.lines().next().unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == 24, "{line}");
    assert!(rest.starts_with("info  "), "{line}");
}

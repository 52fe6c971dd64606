//! A Python with the packages that some tests need, which `make python` installs.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, thread};

/// A Python that can import this package: the one in `target/python`, or else the machine's. If
/// neither can, the test is to pass without doing more; that it was skipped is said on standard
/// error even when the output of tests is not shown.
pub fn python(package: &str) -> Option<PathBuf> {
    let found = candidates()
        .into_iter()
        .find_map(|python| with(&python, package));
    if found.is_none() {
        tell_skipped(&format!("Python with {package} (`make python`)"));
    }
    found
}

/// Says that the running test passes without doing more, for want of something.
pub fn tell_skipped(needs: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not `eprintln`, which the harness of Rust keeps to itself when a test passes.
    writeln!(stderr(), "skipped: {test} needs {needs}").ok();
}

/// The target folder is the usual one, or the one that the running test is in.
fn candidates() -> Vec<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let test = env::current_exe().ok();
    let own = test.as_deref().into_iter().flat_map(Path::ancestors);
    let targets = own.skip(1).take(3).map(Path::to_owned).chain([usual]);
    let installed = targets.map(|target| target.join("python/bin/python3"));
    let installed = installed.filter(|python| python.is_file());
    installed.chain([PathBuf::from("python3")]).collect()
}

/// The whole path of this Python if it can import the package.
fn with(python: &Path, package: &str) -> Option<PathBuf> {
    let mut command = Command::new(python);
    command
        .arg("-c")
        .arg(format!("import sys, {package}; print(sys.executable)"));
    let said = command.stdin(Stdio::null()).output().ok()?;
    let path = String::from_utf8(said.stdout).ok()?;
    said.status.success().then(|| PathBuf::from(path.trim()))
}

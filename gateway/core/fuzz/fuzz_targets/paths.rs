//! Any path leads where a plain walk leads, and never out of the folder: `cargo +nightly fuzz run paths`.

#![no_main]

use std::sync::LazyLock;

use edgeway::fuzzing::Paths;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static PATHS: LazyLock<(TempDir, Paths)> = LazyLock::new(|| {
    let folder = TempDir::new().expect("there is room for a folder");
    let paths = Paths::plant(folder.path()).expect("the folder can be filled");
    (folder, paths)
});

fuzz_target!(|data: &[u8]| {
    PATHS.1.check(data);
});

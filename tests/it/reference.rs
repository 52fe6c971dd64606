//! The pages in `gateway/core/reference`.

use std::{env, fs, path::Path, process::Command};

use edgeway_tests::program;

/// `UPDATE_GOLDENS=1` writes them anew.
#[test]
fn the_pages_of_the_reference_are_those_that_the_program_makes() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/core/reference");
    let folder = tempfile::tempdir().unwrap();
    let made = if env::var_os("UPDATE_GOLDENS").is_some() {
        kept.as_path()
    } else {
        folder.path()
    };
    let output = Command::new(program("edgeway"))
        .arg("reference")
        .arg(made)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for page in ["configuration.md", "filters.md", "cli.md", "api.md"] {
        let (made, kept) = (
            fs::read_to_string(made.join(page)),
            fs::read_to_string(kept.join(page)),
        );
        let (made, kept) = (made.unwrap(), kept.unwrap_or_default());
        assert!(made.len() > 1_000, "{page}");
        assert!(
            made == kept,
            "{page} is not what the program makes: UPDATE_GOLDENS=1 writes it"
        );
    }
}

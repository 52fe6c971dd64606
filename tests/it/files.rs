//! Files as targets of routes: which one answers, what becomes of requests that none answers.

mod changing;
mod fallback;
mod lookup;
mod memory;
mod sending;

use std::{fs, path::Path};

use edgeway_tests::{Answer, Gateway, Setup};

/// A folder `site` beside the configuration, and a file beside the folder that nobody may see.
fn site(routes: &str) -> Setup {
    Gateway::setup(routes)
        .file("site/index.html", "home")
        .file("site/style.css", "a{}")
        .file("site/docs/index.html", "docs")
        .file("site/docs/guide.html", "guide")
        .file("site/empty/.keep", "kept")
        .file("site/.env", CANARY)
        .file("canary.txt", CANARY)
}

const CANARY: &str = "nobody may see this";

/// The status and the body.
fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text())
}

/// The same where only the status of a refusal matters.
fn outcome(answer: &Answer) -> (u16, &str) {
    match answer.status {
        200 => told(answer),
        status => (status, ""),
    }
}

/// A content that tells each of its parts from all others.
fn content(length: usize, seed: u8) -> Vec<u8> {
    let byte = |place: usize| (place / 251 + place * 7 + usize::from(seed)) as u8;
    (0..length).map(byte).collect()
}

/// Puts a file in the place of another one, as those do who want nobody to see half of it.
fn replace(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

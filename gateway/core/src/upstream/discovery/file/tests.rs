use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;

fn folder(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoints.yaml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn file(path: &Path) -> File {
    File::new("app", path.to_owned(), Duration::from_millis(250))
}

async fn names(file: &File) -> Result<Vec<String>, String> {
    let look = file.look().await?;
    Ok(look.endpoints.into_iter().map(|found| found.name).collect())
}

#[tokio::test]
async fn endpoints_are_read_as_an_upstream_has_them() {
    let text = "
endpoints:
  - app-1:8080
  - { address: 10.0.0.2:8080, weight: 5, backup: true }
  - unix:/run/app.sock
";
    let (_folder, path) = folder(text);
    let look = file(&path).look().await.unwrap();
    assert_eq!(look.fresh_for, Duration::from_millis(250));
    let shown: Vec<_> = look
        .endpoints
        .iter()
        .map(|found| (found.name.as_str(), found.weight.get(), found.backup))
        .collect();
    assert_eq!(
        shown,
        [
            ("app-1:8080", 1, false),
            ("10.0.0.2:8080", 5, true),
            ("unix:/run/app.sock", 1, false)
        ]
    );
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_read_anew() {
    let (_folder, path) = folder("endpoints: [a:1]");
    let file = file(&path);
    assert_eq!(names(&file).await.unwrap(), ["a:1"]);
    // Of the same length, and within one tick of most clocks.
    fs::write(&path, "endpoints: [b:1]").unwrap();
    assert_eq!(names(&file).await.unwrap(), ["b:1"]);
}

#[tokio::test]
async fn a_rename_over_the_file_is_seen() {
    let (folder, path) = folder("endpoints: [a:1]");
    let file = file(&path);
    assert_eq!(names(&file).await.unwrap(), ["a:1"]);
    let next = folder.path().join("next");
    fs::write(&next, "endpoints: [b:1]").unwrap();
    fs::rename(&next, &path).unwrap();
    assert_eq!(names(&file).await.unwrap(), ["b:1"]);
}

#[tokio::test]
async fn another_target_of_a_link_on_the_way_is_seen() {
    // As Kubernetes mounts a map: `endpoints.yaml -> ..data/endpoints.yaml`, `..data -> ..1`.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, text) in [("..1", "endpoints: [a:1]"), ("..2", "endpoints: [b:1]")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("endpoints.yaml"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/endpoints.yaml", at("endpoints.yaml")).unwrap();
    let file = file(&at("endpoints.yaml"));
    assert_eq!(names(&file).await.unwrap(), ["a:1"]);
    symlink("..2", at("..next")).unwrap();
    fs::rename(at("..next"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    assert_eq!(names(&file).await.unwrap(), ["b:1"]);
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_read_again() {
    let (_folder, path) = folder("endpoints: [a:1]");
    let file = file(&path);
    names(&file).await.unwrap();
    let old = Stamp::of(&path).unwrap().aged();
    file.watched.last.lock().unwrap().as_mut().unwrap().read = Ok(Vec::new());
    assert_eq!(names(&file).await.unwrap(), ["a:1"], "it is too young");
    assert!(!old.is_young());
    let sentinel = Err("what was read before".to_owned());
    let last = Last {
        stamp: old,
        read: sentinel.clone().map(|()| Vec::new()),
    };
    assert_eq!(
        last.unless_changed(Some(old)),
        Some(Err("what was read before".to_owned()))
    );
    assert_eq!(last.unless_changed(None), None);
    assert_eq!(last.unless_changed(Stamp::of(&path)), None);
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place() {
    let (_folder, path) =
        folder("endpoints:\n  - app-1:8080\n  - { address: app-2:8080, wieght: 2 }\n");
    let error = names(&file(&path)).await.unwrap_err();
    let place = format!("{}:3:28", path.display());
    assert!(error.contains(&place), "{error}");
    assert!(error.contains("did you mean `weight`?"), "{error}");
    assert!(!error.contains('\u{1b}'), "no colours in a log: {error}");
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused() {
    for (text, says) in [
        ("", "endpoints"),
        ("endpoints: [a:1, b:1", "endpoints.yaml:1"),
        ("endpoints: [a:1, b:1, a:1]", "written twice"),
        (
            "endpoints: [{ address: a:1, backup: true }]",
            "all endpoints are backups",
        ),
        ("endpoints: [a]", "a host and a port"),
        ("endpoints: { a: 1 }", "endpoints.yaml:1"),
        ("- a:1", "endpoints.yaml:1"),
        ("endpoint: [a:1]", "did you mean `endpoints`?"),
    ] {
        let (_folder, path) = folder(text);
        let error = names(&file(&path)).await.expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[tokio::test]
async fn an_empty_list_is_meant() {
    let (_folder, path) = folder("endpoints: []");
    assert!(names(&file(&path)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_an_error_until_it_is() {
    let (folder, path) = folder("endpoints: [a:1]");
    let later = folder.path().join("later.yaml");
    let file = file(&later);
    let error = names(&file).await.unwrap_err();
    assert!(error.contains("later.yaml` can't be read"), "{error}");
    fs::rename(path, &later).unwrap();
    assert_eq!(names(&file).await.unwrap(), ["a:1"]);
}

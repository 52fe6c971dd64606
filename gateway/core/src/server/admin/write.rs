//! Writing a change back to the file that an upstream's endpoints are discovered in.
//!
//! The file is changed where the endpoint stands in it, and its comments stay. It is replaced by a
//! rename, so that nobody reads half of it, and never by one that the gateway could not read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    num::NonZeroU32,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use super::edit::{Edit, Layout, anew, document};
use crate::upstream::{
    Change,
    discovery::{Found, read},
};

/// A change of one endpoint.
#[derive(Clone, Debug)]
pub(super) enum Writing {
    Add(Found),
    Change(String, Change),
    Remove(String),
}

/// Why nothing was written. The text is for the operator.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// As the file is, it can't be.
    Conflict(String),
    /// The system has refused.
    Failed(String),
}

/// Changes the file. Call it where blocking is allowed, and one at a time for each file.
///
/// # Errors
///
/// The file is as it was then.
pub(super) fn write(path: &Path, writing: &Writing) -> Result<(), Unwritten> {
    let failed = |what| move |error: io::Error| failed(path, what, &error);
    // A link stays a link.
    let real = fs::canonicalize(path).map_err(failed("read"))?;
    let before = fs::read_to_string(&real).map_err(failed("read"))?;
    let endpoints = endpoints(&real).map_err(|report| {
        Unwritten::Conflict(format!(
            "`{}` can't be read as it is:\n{report}",
            path.display()
        ))
    })?;
    let (wanted, edit) = planned(path, endpoints, writing)?;
    let mut new = Replacement::beside(&real).map_err(failed("written"))?;
    let texts = texts(&real, &before, &wanted, &edit);
    new.fill(&texts, &wanted).map_err(|reason| match reason {
        Unfilled::System(error) => failed("written")(error),
        Unfilled::Content(report) => Unwritten::Conflict(format!(
            "with this change `{}` could not be read:\n{}",
            path.display(),
            report.replace(&*new.path.to_string_lossy(), &path.to_string_lossy())
        )),
    })?;
    if fs::read(&real).map_err(failed("read"))? != before.as_bytes() {
        let message = format!("`{}` has been changed meanwhile: try again", path.display());
        return Err(Unwritten::Conflict(message));
    }
    new.put(&real).map_err(failed("written"))
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Unwritten {
    Unwritten::Failed(format!("`{}` can't be {what}: {error}", path.display()))
}

fn endpoints(path: &Path) -> Result<Vec<Found>, String> {
    Ok(read(path)?.into_iter().map(Found::from).collect())
}

/// The endpoints as they shall be, and how to get there.
fn planned(
    path: &Path,
    mut endpoints: Vec<Found>,
    writing: &Writing,
) -> Result<(Vec<Found>, Edit), Unwritten> {
    let place = |name: &str| endpoints.iter().position(|endpoint| endpoint.name == name);
    let absent = |name: &str| {
        let message = format!("the endpoint `{name}` is not in `{}`", path.display());
        Unwritten::Conflict(message)
    };
    let edit = match writing {
        Writing::Add(endpoint) => match place(&endpoint.name) {
            Some(number) => Edit::Replace(number, endpoint.clone()),
            None => Edit::Add(endpoint.clone()),
        },
        Writing::Change(name, change) => {
            let number = place(name).ok_or_else(|| absent(name))?;
            Edit::Replace(number, changed(&endpoints[number], *change))
        }
        Writing::Remove(name) => Edit::Remove(place(name).ok_or_else(|| absent(name))?),
    };
    match &edit {
        Edit::Add(endpoint) => endpoints.push(endpoint.clone()),
        Edit::Replace(number, endpoint) => endpoints[*number] = endpoint.clone(),
        Edit::Remove(number) => drop(endpoints.remove(*number)),
    }
    Ok((endpoints, edit))
}

fn changed(endpoint: &Found, change: Change) -> Found {
    let most = change.max_connections.map(NonZeroU32::new);
    Found {
        weight: change.weight.unwrap_or(endpoint.weight),
        mode: change.state.unwrap_or(endpoint.mode),
        max_connections: most.unwrap_or(endpoint.max_connections),
        ..endpoint.clone()
    }
}

/// What the file may hold, the best first.
fn texts(path: &Path, before: &str, wanted: &[Found], edit: &Edit) -> Vec<String> {
    const MARK: &str = "\u{feff}";
    let (mark, text) = match before.strip_prefix(MARK) {
        Some(text) => (MARK, text),
        None => ("", before),
    };
    let edited = document(path)
        .and_then(|document| Layout::of(&document, text)?.with(edit))
        .map(|text| format!("{mark}{text}"));
    edited.into_iter().chain([anew(wanted)]).collect()
}

/// A file that is to take the place of another. Removed when it has not.
struct Replacement {
    path: PathBuf,
    file: File,
}

/// Why a replacement does not hold what it should.
enum Unfilled {
    System(io::Error),
    /// What is wrong with it, as a person reads it.
    Content(String),
}

impl Replacement {
    fn beside(real: &Path) -> io::Result<Self> {
        let name = real.file_name().unwrap_or_default().to_string_lossy();
        let path = real.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
        let like = fs::metadata(real)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let new = Self { path, file };
        // Only the superuser may give files away; for others they are the gateway's from now on. The
        // mode comes after: whoever gives a file away takes some bits of it.
        drop(fchown(&new.file, Some(like.uid()), Some(like.gid())));
        new.file.set_permissions(like.permissions())?;
        Ok(new)
    }

    /// Fills it with the first text that says what is wanted.
    fn fill(&mut self, texts: &[String], wanted: &[Found]) -> Result<(), Unfilled> {
        let mut report = String::new();
        for text in texts {
            self.hold(text).map_err(Unfilled::System)?;
            match endpoints(&self.path) {
                Ok(endpoints) if endpoints == wanted => return Ok(()),
                Ok(_) => "its endpoints would be others".clone_into(&mut report),
                Err(wrong) => report = wrong,
            }
        }
        Err(Unfilled::Content(report))
    }

    fn hold(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }

    /// Puts it in its place, so that it survives a loss of power.
    fn put(&self, place: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, place)?;
        if let Some(folder) = place.parent() {
            // By now it is there; that it stays can only be hoped for where folders can't be synced.
            drop(File::open(folder).and_then(|folder| folder.sync_all()));
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // It is gone if it is where it belongs.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroU16,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Endpoint, Mode};

    fn file(text: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.yaml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn add(name: &str) -> Writing {
        Writing::Add(Endpoint::at(name.parse().unwrap()).into())
    }

    fn remove(name: &str) -> Writing {
        Writing::Remove(name.to_owned())
    }

    fn names(path: &Path) -> Vec<String> {
        let endpoints = endpoints(path).unwrap();
        endpoints
            .into_iter()
            .map(|endpoint| endpoint.name)
            .collect()
    }

    #[test]
    fn a_change_leaves_comments_mode_and_no_other_file() {
        let (folder, path) = file("# ours\nendpoints:\n  - a:1 # first\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, &add("b:1")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# ours\nendpoints:\n  - a:1 # first\n  - b:1\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_given_stays_and_zero_lifts_a_limit() {
        let (_folder, path) = file(
            "endpoints: [{ address: a:1, weight: 2, backup: true, max_connections: 3 }, b:1]\n",
        );
        let change = Change {
            weight: NonZeroU16::new(7),
            state: Some(Mode::Drain),
            max_connections: Some(0),
        };
        write(&path, &Writing::Change("a:1".to_owned(), change)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "endpoints: [{ address: a:1, weight: 7, backup: true, state: drain }, b:1]\n"
        );
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, path) = file("endpoints: [a:1]\n");
        let link = folder.path().join("link.yaml");
        symlink(&path, &link).unwrap();
        write(&link, &add("b:1")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&path), ["a:1", "b:1"]);
    }

    #[test]
    fn where_no_single_line_can_be_changed_the_file_is_written_anew_and_says_so() {
        let text = "endpoints:\n  - &first { address: a:1 }\n  - { <<: *first, address: b:1 }\n";
        let (_folder, path) = file(text);
        write(&path, &remove("a:1")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# Written by the gateway: its comments were lost"),
            "{text}"
        );
        assert_eq!(names(&path), ["b:1"]);
        write(&path, &add("c:1")).unwrap();
        assert_eq!(names(&path), ["b:1", "c:1"]);
    }

    #[test]
    fn a_change_that_would_make_the_file_wrong_is_refused_and_leaves_it() {
        let text = "endpoints: [a:1, { address: b:1, backup: true }]\n";
        let (folder, path) = file(text);
        let Err(Unwritten::Conflict(reason)) = write(&path, &remove("a:1")) else {
            panic!("it was written");
        };
        assert!(reason.contains("all endpoints are backups"), "{reason}");
        assert!(
            reason.contains("endpoints.yaml:") && !reason.contains("/.endpoints"),
            "{reason}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_wrong_already_is_not_touched() {
        let (_folder, path) = file("endpoints: [a]\n");
        let Err(Unwritten::Conflict(reason)) = write(&path, &add("b:1")) else {
            panic!("it was written");
        };
        assert!(reason.contains("can't be read as it is"), "{reason}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "endpoints: [a]\n");
    }

    #[test]
    fn an_endpoint_that_is_not_in_the_file_is_told() {
        let (_folder, path) = file("endpoints: [a:1]\n");
        let Err(Unwritten::Conflict(reason)) = write(&path, &remove("b:1")) else {
            panic!("it was written");
        };
        assert!(reason.contains("`b:1` is not in"), "{reason}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_failure() {
        let (folder, path) = file("");
        fs::remove_file(&path).unwrap();
        let Err(Unwritten::Failed(reason)) = write(&path, &add("a:1")) else {
            panic!("it was written");
        };
        assert!(reason.contains("can't be read: No such file"), "{reason}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

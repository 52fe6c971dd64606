//! The file that says which process serves.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// A file with the number of this process, as long as no other process has written its own there.
#[derive(Clone, Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Of this process's folder: that may be another one later.
    pub(super) fn at(path: &Path) -> Self {
        Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }

    /// Writes the number of this process, whatever was there before. Nobody reads half of it.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub(super) fn write(&self) -> Result<(), String> {
        let mut draft = self.0.clone().into_os_string();
        draft.push(format!(".{}", process::id()));
        let written = fs::write(&draft, format!("{}\n", process::id()))
            .and_then(|()| fs::rename(&draft, &self.0));
        written.map_err(|error| {
            drop(fs::remove_file(&draft));
            format!("the file `{}` can't be written: {error}", self.0.display())
        })
    }

    /// Removes it, if it is this process's still.
    pub(super) fn remove(&self) {
        if self.read().is_ok_and(|pid| pid == process::id()) {
            // Who reads it later finds a process that is not there.
            drop(fs::remove_file(&self.0));
        }
    }

    fn read(&self) -> io::Result<u32> {
        let text = fs::read_to_string(&self.0)?;
        text.trim().parse().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_unless_another_process_has_written_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgeway.pid");
        fs::write(&path, "something else").unwrap();
        let file = PidFile::at(&path);
        file.write().unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, format!("{}\n", process::id()));
        file.remove();
        assert!(!path.exists());
        fs::write(&path, "1\n").unwrap();
        file.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/edgeway.pid");
        let told = PidFile::at(&path).write().unwrap_err();
        assert!(told.contains(&path.display().to_string()), "{told}");
    }
}

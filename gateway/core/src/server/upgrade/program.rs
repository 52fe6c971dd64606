//! The program that takes the place of this process.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

/// What this process was started as: the file at this path may be another one by now.
#[derive(Clone, Debug)]
pub(in crate::server) struct Program {
    pub(super) path: PathBuf,
    /// How it was called.
    name: OsString,
    arguments: Vec<OsString>,
}

/// What was meant for this process, and no other.
const OURS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

impl Program {
    /// That of this process. To be called at its start: later there may be another folder or file.
    pub(in crate::server) fn of_this_process() -> Option<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next();
        let running = env::current_exe().ok();
        // By the name it was called by: that may be a link, which will lead to another program.
        let named = name.as_deref().and_then(find);
        let path = match (named, running) {
            (Some(named), Some(running)) if is_same(&named, &running) => named,
            (named, running) => running.or(named)?,
        };
        Some(Self {
            name: name.unwrap_or_else(|| path.clone().into()),
            path,
            arguments: arguments.collect(),
        })
    }

    /// Starts it with the arguments and the environment of this process.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.arguments);
        for name in OURS {
            command.env_remove(name);
        }
        command
    }
}

/// The file that a shell would have started.
fn find(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().nth(1).is_some() || path.has_root() {
        return std::path::absolute(path).ok();
    }
    let folders = env::var_os("PATH")?;
    let found = env::split_paths(&folders).map(|folder| folder.join(path));
    let runs = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    std::path::absolute(found.into_iter().find(runs)?).ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_as_a_shell_finds_it() {
        let shell = find("sh".as_ref()).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"), "{shell:?}");
        assert!(find("no-such-program-anywhere".as_ref()).is_none());
        let here = env::current_dir().unwrap();
        assert_eq!(find("./a".as_ref()).unwrap(), here.join("a"));
        assert_eq!(find("/x/../y".as_ref()).unwrap(), Path::new("/x/../y"));
    }

    #[test]
    fn this_process_is_found_with_its_arguments() {
        let program = Program::of_this_process().unwrap();
        assert!(is_same(&program.path, &env::current_exe().unwrap()));
        let arguments: Vec<_> = env::args_os().skip(1).collect();
        assert_eq!(program.arguments, arguments);
    }
}

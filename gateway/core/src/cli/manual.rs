//! `edgeway man` and `edgeway completions`: what a package puts beside the program, made from the command line itself.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Line;

#[derive(Args)]
pub(super) struct Manual {
    /// Writes a page for each command into this folder, instead of the first page to standard output
    folder: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Completions {
    /// Whose completions
    shell: Shell,
}

/// Writes the manual, in the form that `man` reads.
pub(super) fn manual(options: &Manual, out: &mut impl Write) -> io::Result<ExitCode> {
    let command = Line::command();
    match &options.folder {
        Some(folder) => pages(&command, "edgeway", folder)?,
        None => Man::new(command).render(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A page for a command, and one for each below it: `edgeway-check.1`.
fn pages(command: &clap::Command, name: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut page = Vec::new();
    Man::new(command.clone().display_name(name))
        .title(name)
        .render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    let shown = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    for below in shown {
        pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}

/// Writes what a shell needs to complete our command line.
pub(super) fn completions(options: &Completions, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Line::command(), "edgeway", &mut text);
    out.write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

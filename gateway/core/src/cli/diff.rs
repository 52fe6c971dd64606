//! `edgeway diff`: what a reload would change.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use edgeway_sdk::{Filters, Resources};
use serde::{Deserialize, Serialize};

use super::{
    exit,
    remote::{Failure, Remote},
    tell,
};
use crate::{
    config::{
        diagnostic::Look,
        diff::{Change, ChangeKind, Thing, diff, summary},
        document::Tree,
    },
    snapshot::load,
};

#[derive(Args)]
pub(super) struct Diff {
    #[command(flatten)]
    remote: Remote,
    /// Compare with this configuration, and not with the one that the running gateway has
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write the changes as JSON
    #[arg(long)]
    json: bool,
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  nothing would change
  1  something would
  2  a configuration is wrong, or the gateway can't be asked";

/// What is compared of a configuration.
struct Side {
    tree: Tree,
    /// The same for the same secrets.
    secrets: Option<String>,
}

/// The configuration that a gateway has.
#[derive(Deserialize)]
struct Running {
    secrets: Option<String>,
    config: Tree,
}

#[derive(Serialize)]
struct Shown<'a> {
    equal: bool,
    changes: &'a [Change],
}

/// Writes what would change.
pub(super) fn show(
    options: &Diff,
    filters: &Filters,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let Some(new) = read(&options.remote.config.config, filters) else {
        return Ok(exit::configuration());
    };
    let old = match &options.against {
        Some(path) => read(path, filters),
        // What it comes to is the same as for a wrong file.
        None => running(&options.remote)
            .map_err(|failure| failure.tell())
            .ok(),
    };
    let Some(old) = old else {
        return Ok(exit::configuration());
    };
    let changes = between(&old, &new);
    if options.json {
        let equal = changes.is_empty();
        let shown = Shown {
            equal,
            changes: &changes,
        };
        serde_json::to_writer_pretty(&mut *out, &shown)?;
        writeln!(out)?;
    } else {
        listed(out, &changes, Palette::of(Look::of_stdout()))?;
        writeln!(out, "{}", conclusion(&changes))?;
    }
    Ok(ExitCode::from(u8::from(!changes.is_empty())))
}

fn conclusion(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing would change".to_owned();
    }
    format!("a reload would change this: {}", summary(changes))
}

/// Reads a configuration, which has to be right, and tells what is wrong with it.
fn read(path: &Path, filters: &Filters) -> Option<Side> {
    let loaded = load(path, filters, &Resources::default());
    tell(&loaded.report(Look::of_stderr()));
    let Some((gateway, _)) = &loaded.gateway else {
        tell(&format!("{} in {}\n", loaded.counts(), path.display()));
        return None;
    };
    Some(Side {
        tree: gateway.written.tree.clone(),
        secrets: gateway.written.secrets.clone(),
    })
}

fn running(remote: &Remote) -> Result<Side, Failure> {
    let answer = remote.client()?.get("/v1/config")?.accepted()?;
    let Running { secrets, config } = answer.json()?;
    Ok(Side {
        tree: config,
        secrets,
    })
}

/// What differs. Which secrets have changed, who has only seen `***` can't tell, but that one has.
fn between(old: &Side, new: &Side) -> Vec<Change> {
    let mut changes = diff(&old.tree, &new.tree);
    let told = changes.iter().any(|change| {
        let masked = |side: &Option<Tree>| {
            let mut found = false;
            if let Some(tree) = side {
                tree.visit(&mut |scalar| found |= matches!(scalar, Tree::Masked(..)));
            }
            found
        };
        masked(&change.before) || masked(&change.after)
    });
    if old.secrets != new.secrets && !told {
        changes.push(Change {
            kind: ChangeKind::Changed,
            path: "(secrets)".to_owned(),
            what: Thing::Setting,
            name: None,
            key: Some("a secret that is written out".to_owned()),
            before: None,
            after: None,
        });
    }
    changes
}

/// What is written before and after a text to colour it.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    green: &'static str,
    red: &'static str,
    yellow: &'static str,
    bold: &'static str,
    dim: &'static str,
    plain: &'static str,
}

impl Palette {
    pub(super) fn of(look: Look) -> Self {
        match look {
            Look::Plain => Self {
                green: "",
                red: "",
                yellow: "",
                bold: "",
                dim: "",
                plain: "",
            },
            Look::Coloured => Self {
                green: "\u{1b}[32m",
                red: "\u{1b}[31m",
                yellow: "\u{1b}[33m",
                bold: "\u{1b}[1m",
                dim: "\u{1b}[2m",
                plain: "\u{1b}[0m",
            },
        }
    }

    fn of_kind(self, kind: ChangeKind) -> (&'static str, char) {
        match kind {
            ChangeKind::Added => (self.green, '+'),
            ChangeKind::Removed => (self.red, '-'),
            ChangeKind::Changed => (self.yellow, '~'),
            ChangeKind::Moved => (self.yellow, '>'),
        }
    }
}

/// Writes changes for people, those of a thing together, below its name.
pub(super) fn listed(out: &mut impl Write, changes: &[Change], palette: Palette) -> io::Result<()> {
    let Palette { bold, plain, .. } = palette;
    let mut last = None;
    for change in changes {
        let thing = (change.what, change.name.as_deref());
        let whole = change.key.is_none();
        let (colour, sign) = palette.of_kind(change.kind);
        if whole {
            write!(out, "{colour}{sign} {bold}{}{plain}", title(change))?;
            detail(out, change, palette)?;
        } else {
            if last != Some(thing) {
                let (colour, _) = palette.of_kind(ChangeKind::Changed);
                writeln!(out, "{colour}~ {bold}{}{plain}", title(change))?;
            }
            let key = change.key.as_deref().unwrap_or_default();
            write!(out, "    {colour}{sign} {key}{plain}")?;
            detail(out, change, palette)?;
        }
        last = Some(thing);
    }
    Ok(())
}

fn title(change: &Change) -> String {
    match &change.name {
        Some(name) => format!("{} {name}", change.what),
        None => "settings".to_owned(),
    }
}

/// The rest of a line: from what to what.
fn detail(out: &mut impl Write, change: &Change, palette: Palette) -> io::Result<()> {
    let Palette { dim, plain, .. } = palette;
    let short = |side: &Option<Tree>| side.as_ref().map(shortened);
    match (short(&change.before), short(&change.after)) {
        (Some(before), Some(after)) if before == after => {
            writeln!(out, "  {before} {dim}->{plain} another one")
        }
        (Some(before), Some(after)) => writeln!(out, "  {before} {dim}->{plain} {after}"),
        (Some(only), None) | (None, Some(only)) => writeln!(out, "  {dim}{only}{plain}"),
        (None, None) => writeln!(out, "  has changed"),
    }
}

/// How many characters of a value are shown on a line.
const LONGEST: usize = 70;

fn shortened(tree: &Tree) -> String {
    // Control characters would do something to the terminal.
    let text = tree.to_string().replace(char::is_control, "?");
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => {
            let mut text = text;
            text.truncate(end);
            text + "..."
        }
    }
}

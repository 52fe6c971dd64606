//! The commands that make hashes of passwords, and keys.

use std::{
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use edgeway_filters::credentials::{key, password};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::cli::{exit, tell};

/// What `edgeway hash-password` takes.
#[derive(Args)]
pub(crate) struct HashPassword {
    /// How the hash is made
    #[arg(short, long, value_enum, default_value_t = Algorithm::Argon2id)]
    algorithm: Algorithm,
    /// How much work it is: the passes of argon2id (2 by default), the power of two of bcrypt's rounds
    /// (12), the rounds of SHA-crypt (500000)
    #[arg(long, value_name = "NUMBER")]
    cost: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    /// The best of them
    Argon2id,
    /// Known to most other programs
    Bcrypt,
    /// As in /etc/shadow
    #[value(name = "sha512-crypt")]
    Sha512Crypt,
}

impl From<Algorithm> for password::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Argon2id => Self::Argon2id,
            Algorithm::Bcrypt => Self::Bcrypt,
            Algorithm::Sha512Crypt => Self::Sha512Crypt,
        }
    }
}

/// What `edgeway api-key` takes.
#[derive(Args)]
pub(crate) struct ApiKey {
    /// Make no new key: ask for one that there is, and show its hash alone
    #[arg(long)]
    existing: bool,
}

/// Writes the hash of a password that is asked for.
pub(crate) fn hash_password(options: &HashPassword, out: &mut impl Write) -> io::Result<ExitCode> {
    let algorithm = password::Algorithm::from(options.algorithm);
    let cost = options.cost.unwrap_or_else(|| algorithm.usual_cost());
    let costs = algorithm.costs();
    if !costs.contains(&cost) {
        let (least, most) = costs.into_inner();
        tell(&format!(
            "error: the cost is from {least} to {most}, not {cost}\n"
        ));
        return Ok(exit::configuration());
    }
    let hash = ask("Password").and_then(|password| algorithm.hash(&password, cost));
    match hash {
        Ok(hash) => writeln!(out, "{hash}").map(|()| ExitCode::SUCCESS),
        Err(error) => Ok(failure(&error)),
    }
}

/// Writes a new key and its hash, or the hash of a key that is asked for.
pub(crate) fn api_key(options: &ApiKey, out: &mut impl Write) -> io::Result<ExitCode> {
    if !options.existing {
        let key = key::generate();
        writeln!(out, "{key}\n{}", key::Hash::of(key.as_bytes()))?;
        tell(
            "The first line is the key: give it to whoever will use it, it is shown only now.\n\
            The second is its `hash` in `keys` or `keys_file` of `api_key`.\n",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let key = match ask("Key") {
        Ok(key) => key,
        Err(error) => return Ok(failure(&error)),
    };
    if key.len() < SHORT {
        tell("warning: a key as short as this can be guessed from its hash\n");
    }
    writeln!(out, "{}", key::Hash::of(&key)).map(|()| ExitCode::SUCCESS)
}

fn failure(error: &str) -> ExitCode {
    tell(&format!("error: {error}\n"));
    ExitCode::FAILURE
}

/// Asks for a secret twice at a terminal, which does not show it; else reads the one line that standard input
/// has.
fn ask(what: &str) -> Result<Vec<u8>, String> {
    let secret = if io::stdin().is_terminal() {
        let secret = ask_unseen(what).map_err(unread)?;
        if ask_unseen("Once more").map_err(unread)? != secret {
            return Err("these are not the same".to_owned());
        }
        secret
    } else {
        let mut text = Vec::new();
        let mut input = io::stdin().lock().take(LONGEST);
        input.read_to_end(&mut text).map_err(unread)?;
        without_end(text)
    };
    if secret.is_empty() {
        return Err("there is nothing to hash".to_owned());
    }
    if secret.contains(&b'\n') || secret.len() + 2 > LONGEST as usize {
        return Err("standard input has more than a line".to_owned());
    }
    Ok(secret)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
fn unread(error: io::Error) -> String {
    format!("standard input can't be read: {error}")
}

fn ask_unseen(what: &str) -> io::Result<Vec<u8>> {
    // In this order: what was typed before is thrown away.
    let _unseen = Unseen::begin()?;
    tell(&format!("{what}: "));
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(without_end(line.into_bytes()))
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    line
}

/// A terminal that does not show what is typed, until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

/// What standard input has beyond this is no secret that anybody types.
const LONGEST: u64 = 64 << 10;
/// In bytes. The keys that are made here have more than twice as many.
const SHORT: usize = 20;

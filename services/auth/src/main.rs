//! Logs users in and gives them tokens that the gateway checks by itself.
//!
//! | request | answer |
//! |---|---|
//! | `POST /auth/login`, HTTP Basic | a token for one hour |
//! | `POST /auth/logout`, Bearer | the token is revoked |
//! | `GET /auth/token/info?access_token=…` | the claims of a valid token |
//! | `GET /auth/permissions?role=…` | what a role may do |
//! | `GET /auth/jwks.json` | the public key, when tokens are signed with a key pair |
//! | `GET /auth/revocations` | the `jti` of every token that was revoked and has not expired |
//! | `GET /healthz` | 200 when the database answers |

mod api;
mod password;
mod store;
mod tokens;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use edgeway_service::{Failure, Listen};
use log::warn;

use crate::password::Passwords;
use crate::store::Store;
use crate::tokens::{Key, Tokens};

/// Logs users in and gives them tokens
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    listen: Listen,

    /// SQLite file, created when it is missing; `:memory:` ends with the program
    #[arg(
        long,
        env = "DATABASE",
        value_name = "FILE",
        default_value = ":memory:"
    )]
    database: PathBuf,

    #[command(flatten)]
    signing: Signing,

    /// The `iss` claim of every token
    #[arg(
        long,
        env = "ISSUER",
        value_name = "NAME",
        default_value = "edgeway-auth"
    )]
    issuer: String,
}

/// One of the two must be given; with both, the private key signs.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Signing {
    /// Sign with HS256 and this secret; better set as a variable, because arguments are visible to
    /// every user of the machine
    #[arg(
        long,
        env = "EDGEWAY_JWT_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    secret: Option<String>,

    /// Sign with this private key (PEM: EC P-256 or P-384, RSA, Ed25519) instead of a secret
    #[arg(long, env = "SIGNING_KEY", value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

impl Signing {
    /// Shorter secrets than the hash can be guessed offline from a single token (RFC 7518, 3.2).
    const SHORTEST_SECRET: usize = 32;

    fn key(self) -> Result<Key, Failure> {
        if let Some(path) = self.signing_key {
            let pem = std::fs::read(&path).map_err(|error| {
                format!("cannot read the signing key `{}`: {error}", path.display())
            })?;
            return Ok(Key::from_pem(&pem).map_err(|error| {
                format!("cannot use the signing key `{}`: {error}", path.display())
            })?);
        }
        let secret = self.secret.expect("clap demands the secret or the key");
        if secret.len() < Self::SHORTEST_SECRET {
            warn!(
                "weak secret bytes={} wanted={}",
                secret.len(),
                Self::SHORTEST_SECRET
            );
        }
        Ok(Key::from_secret(secret.as_bytes()))
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let tokens = Tokens::new(options.signing.key()?, options.issuer);
    let store = Store::open(&options.database).map_err(|error| {
        format!(
            "cannot open the database `{}`: {error}",
            options.database.display()
        )
    })?;
    let routes = api::routes(store, Passwords::new(), tokens);
    edgeway_service::serve(options.listen, routes).await
}

fn main() -> ExitCode {
    edgeway_service::main(run)
}

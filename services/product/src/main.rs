//! Products: a public list, and details for those who may see them.
//!
//! | request | needs | answer |
//! |---|---|---|
//! | `GET /product/all` | | every product |
//! | `GET /product/{id}` | `product:view` | one product |
//! | `POST /product` | `product:add` | 201 and the new product |
//! | `DELETE /product/{id}` | `product:delete` | 204 |
//! | `GET /requests` | | how many requests have come, but for this and the next |
//! | `GET /healthz` | | 200 when the database answers |
//!
//! **Only the gateway may reach this service.** It knows who asks from the headers `X-Auth-User`
//! and `X-Auth-Role`, and believes them: the gateway sets them from a token that it has verified,
//! and removes those that a client sends. Whoever can connect to this service directly can be
//! anybody. Listen on loopback, or on a network that only the gateway is part of.

mod api;
mod identity;
mod product;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use edgeway_service::{Failure, Listen, Source};

use crate::store::Store;

/// Lists products, and shows them to those who may see them
///
/// Only the gateway may reach this service: it believes the identity headers of every request.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    listen: Listen,

    #[command(flatten)]
    source: Source,

    /// SQLite file, created when it is missing; `:memory:` ends with the program
    #[arg(
        long,
        env = "DATABASE",
        value_name = "FILE",
        default_value = ":memory:"
    )]
    database: PathBuf,
}

async fn run(options: Options) -> Result<(), Failure> {
    let store = Store::open(&options.database).map_err(|error| {
        format!(
            "cannot open the database `{}`: {error}",
            options.database.display()
        )
    })?;
    let routes = api::routes(store, &options.source);
    edgeway_service::serve(options.listen, routes).await
}

fn main() -> ExitCode {
    edgeway_service::main(run)
}

//! A gateway with a filter of its own: only tenants that are on a list may enter.
//!
//! This is the whole program. It has the command line of `edgeway` and all its filters, and in its
//! configuration `tenants` is a filter like any other:
//!
//! ```yaml
//! routes:
//!   - match: { path: /shop/ }
//!     filters:
//!       - tenants: { allow: [acme, globex] }
//!     respond: { text: welcome }
//! ```
//!
//! A misspelt key or a value of the wrong type is refused with its place in the file; nothing here
//! had to be written for that.

use std::collections::HashSet;

use edgeway::prelude::*;

#[derive(Deserialize)]
struct Tenants {
    allow: HashSet<String>,
}

#[async_trait]
impl Filter for Tenants {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let tenant = request.header("x-tenant");
        if tenant.is_some_and(|name| self.allow.contains(name)) {
            return Ok(Flow::Continue);
        }
        Ok(Reply::new(403).into())
    }
}

fn main() -> ExitCode {
    edgeway::main(edgeway::standard().add("tenants", |config: Tenants, _| Ok(config)))
}

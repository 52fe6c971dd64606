//! `edgeway schema`: the JSON schema of the configuration.

use std::io::{self, Write};

use edgeway_sdk::Filters;

use super::explain::write_json;
use crate::config::schema::schema;

/// Writes it.
pub(super) fn show(out: &mut impl Write, filters: &Filters) -> io::Result<()> {
    write_json(out, &schema(filters))
}

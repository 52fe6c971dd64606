//! Passwords and keys as they are kept: as hashes from which they can't be had back.
//!
//! The command line makes them, `basic_auth` and `api_key` compare with them.

pub mod key;
pub mod password;

//! The filters that come with Edgeway, in alphabetical order.
//!
//! They use nothing that a stranger's filter could not use: only `edgeway-sdk`.

mod access_log;
mod basic_auth;
mod cors;
mod criteria;
mod expires;
mod headers;
mod jwt;
mod request_id;
mod slots;

use edgeway_sdk::Filters;

/// All of them, under the names that they have in a configuration file.
pub fn standard() -> Filters {
    Filters::new()
        .add_documented("access_log", access_log::DOC, access_log::build)
        .add_documented("basic_auth", basic_auth::DOC, basic_auth::build)
        .add_documented("cors", cors::DOC, cors::build)
        .add_documented("expires", expires::DOC, expires::build)
        .add_documented("headers", headers::DOC, headers::build)
        .add_documented("jwt", jwt::DOC, jwt::build)
        .add_documented("request_id", request_id::DOC, request_id::build)
}

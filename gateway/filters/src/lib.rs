//! The filters that come with Edgeway, in alphabetical order.
//!
//! They use nothing that a stranger's filter could not use: only `edgeway-sdk`.

use edgeway_sdk::Filters;

/// All of them, under the names that they have in a configuration file.
pub fn standard() -> Filters {
    Filters::new()
}

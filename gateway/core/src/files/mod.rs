//! Files of a folder, which routes answer with.
//!
//! A path becomes a [`Name`] below the [`Root`], which is looked up by [`Files::find`]. What is found is kept in
//! [`Memory`] if it is small, and is [read](pieces) piece by piece if it is not: then it is only noted for a
//! [moment](recent) that it is there. What is said of it is its [`entity`].

pub(crate) mod disk;
pub(crate) mod entity;
pub(crate) mod listing;
mod lookup;
mod memory;
pub(crate) mod mime;
mod name;
mod open;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod paths;
mod pieces;
pub(crate) mod range;
mod recent;

pub(crate) use self::{
    lookup::{Candidate, File, Files, Form, Found, Large, Look},
    memory::Memory,
    name::{Name, Rules},
    open::{Failure, Root, is_supported},
    pieces::{LARGEST, blank, is_blank},
};

//! Edits of bodies, asked for on demand.

use bytes::Bytes;

use crate::Result;

/// Changes a body as it passes.
///
/// A filter that wants to see a body hands one of these to
/// [`Request::edit_body`](crate::Request::edit_body) or
/// [`Response::edit_body`](crate::Response::edit_body); requests whose filters don't ask pay
/// nothing. The gateway drops `Content-Length` from an edited message, since the length may change.
pub trait BodyEdit: Send + Sync {
    /// Called with each piece as it arrives, and at last with `end`, perhaps with an empty piece.
    ///
    /// What is returned goes on at once; to hold data back return nothing and keep it until later.
    /// An error ends the message: before the head was sent with the status of the error, after that
    /// by closing the connection, so that a cut body never looks complete.
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes>;
}

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

    /// Whether what comes out is, byte by byte, what went in. If all edits of a request say so, the endpoint
    /// is told the length of the body as the client has told it.
    fn keeps_length(&self) -> bool {
        false
    }

    /// How long what comes out will be in all, in bytes, if that is known before the first piece has come. Asked once,
    /// of edits of requests: the endpoint is told it, where it would else get a body in chunks. What comes out must
    /// have this length, or the request fails.
    fn length(&self) -> Option<u64> {
        None
    }

    /// What was held back, with the piece that [`edit`](Self::edit) has failed at.
    ///
    /// Called after an error of a filter that only reports (`mode: report`): this goes on, and so does the
    /// rest of the body, which the edit is not shown any more. An edit that may refuse a body gives back
    /// what it took.
    fn held(&mut self) -> Bytes {
        Bytes::new()
    }
}

/// An edit, and the filter that has asked for it.
pub struct Edit {
    /// What changes the body.
    pub edit: Box<dyn BodyEdit>,
    /// Whose it is.
    pub caller: Caller,
}

/// The filter whose hook is being called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its place in the chain.
    pub place: usize,
    /// Whether it only reports what it would refuse.
    pub reports: bool,
}

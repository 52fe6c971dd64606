//! An HTTP/1.1 client that believes nothing: what is not framed as RFC 9112 demands is an error.
//! [`Http2`] is another client, which leaves HTTP/2 to a library, and [`Frames`] one that does not.

mod answer;
mod connection;
mod frames;
mod http2;
mod message;
mod request;
mod streaming;

pub use answer::{Answer, Broken, Framing};
pub use connection::{Address, Connection};
pub use frames::{Frame, Frames, asking, block, frame};
pub use http2::{Http2, Trailed};
pub use request::Request;
pub use streaming::Streaming;

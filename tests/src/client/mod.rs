//! An HTTP/1.1 client that believes nothing: what is not framed as RFC 9112 demands is an error.

mod answer;
mod connection;
mod message;
mod request;

pub use answer::{Answer, Broken, Framing};
pub use connection::Connection;
pub use request::Request;

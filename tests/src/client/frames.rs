//! HTTP/2 frame by frame, for clients that no library would be.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection of HTTP/2 on which a test says every frame by itself.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    told: Option<Frame>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is: [`Frames::DATA`] and so on.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream it belongs to; 0 for the connection.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Why a stream was reset, or the connection is closed. None for other frames.
    pub fn code(&self) -> Option<u32> {
        let code = match self.kind {
            Frames::RESET => self.payload.get(..4)?,
            Frames::GOAWAY => self.payload.get(4..8)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// The value of a setting, if this is where it is told.
    pub fn setting(&self, number: u16) -> Option<u32> {
        let settings = (self.kind == Frames::SETTINGS).then(|| self.payload.chunks_exact(6))?;
        let mut values = settings.filter(|setting| setting[..2] == number.to_be_bytes());
        let value = values.next()?;
        Some(u32::from_be_bytes(value[2..].try_into().ok()?))
    }

    /// Whether it is the last of its stream.
    pub fn ends(&self) -> bool {
        let may = [Frames::DATA, Frames::HEADERS].contains(&self.kind);
        may && self.flags & Frames::END_STREAM != 0
    }
}

impl Frames {
    /// Data of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// The end of a stream before its time.
    pub const RESET: u8 = 3;
    /// What each side can take.
    pub const SETTINGS: u8 = 4;
    /// Whether anybody is there.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Room for more data.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
    /// On DATA and HEADERS: the last of the stream.
    pub const END_STREAM: u8 = 1;
    /// On PING and SETTINGS: an answer.
    pub const ACK: u8 = 1;
    /// On HEADERS and CONTINUATION: the head is whole.
    pub const END_HEADERS: u8 = 4;
    /// What a client says first.
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// Connects, says the preface and that there are no settings, and takes those of the other side.
    ///
    /// # Panics
    ///
    /// When HTTP/2 is not spoken there.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let mut frames = Self::bare(address);
        frames.write(Self::PREFACE);
        frames.send(Self::SETTINGS, 0, 0, &[]);
        frames.told = Some(frames.until(|frame| frame.kind == Self::SETTINGS && frame.flags == 0));
        frames.send(Self::SETTINGS, Self::ACK, 0, &[]);
        frames
    }

    /// The settings of the other side.
    ///
    /// # Panics
    ///
    /// When they were not asked for.
    #[track_caller]
    pub fn told(&self) -> &Frame {
        self.told.as_ref().expect("the connection was opened")
    }

    /// Connects, and says nothing.
    ///
    /// # Panics
    ///
    /// When nobody listens.
    #[track_caller]
    pub fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        let set = stream.set_read_timeout(Some(SILENCE));
        set.and_then(|()| stream.set_write_timeout(Some(SILENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("a socket takes its options");
        Self { stream, told: None }
    }

    /// Sends bytes, whatever they are. That the other side has gone is for [`next`](Self::frame) to tell.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let bytes = frame(kind, flags, stream, payload);
        self.write(&bytes);
    }

    /// Sends the head of a request: `:method` and the like, then others.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) {
        let block = block(fields);
        self.send(Self::HEADERS, flags | Self::END_HEADERS, stream, &block);
    }

    /// Sends the head of a request for a path, `GET` if it has no body, `POST` if one will follow.
    pub fn ask(&mut self, stream: u32, path: &str, flags: u8) {
        let method = if flags & Self::END_STREAM == 0 {
            "POST"
        } else {
            "GET"
        };
        self.head(stream, &asking(method, path), flags);
    }

    /// Sends a part of a body.
    pub fn data(&mut self, stream: u32, bytes: impl AsRef<[u8]>, flags: u8) {
        self.send(Self::DATA, flags, stream, bytes.as_ref());
    }

    /// Ends a stream before its time.
    pub fn reset(&mut self, stream: u32) {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        self.send(Self::RESET, 0, stream, &CANCEL);
    }

    /// Gives room for so many bytes more.
    pub fn widen(&mut self, stream: u32, bytes: u32) {
        self.send(Self::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// The next frame; none if the connection has ended.
    ///
    /// # Panics
    ///
    /// When nothing comes.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.read(&mut payload)?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads up to the first frame that is wanted.
    ///
    /// # Panics
    ///
    /// When the connection ends before.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut others = Vec::new();
        while let Some(frame) = self.frame() {
            if wanted(&frame) {
                return frame;
            }
            others.push(frame);
        }
        panic!("the connection has ended after {others:?}");
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame() {
            frames.push(frame);
        }
        frames
    }

    #[track_caller]
    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
            Err(_) => None,
        }
    }
}

/// The fields that every request has.
pub fn asking<'f>(method: &'f str, path: &'f str) -> [(&'f str, &'f str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":authority", "frames.example"),
        (":path", path),
    ]
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame of a test is small");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK has them when it compresses nothing.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.bytes());
        }
    }
    block
}

/// A number with seven bits in its first byte (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let byte = |number: usize| u8::try_from(number).expect("less than a byte holds");
    if length < 127 {
        return block.push(byte(length));
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    block.push(byte(rest));
}

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(20);

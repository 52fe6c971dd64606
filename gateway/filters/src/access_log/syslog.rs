//! Syslog: over a network as RFC 5424 has it, over the socket of this machine as the C library does.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process,
    time::{Duration, SystemTime},
};

use edgeway_sdk::prelude::*;

use super::{line::push, sink::first_line, time::Moment};

/// `syslog: { address: 'udp:logs.internal:514', facility: local7, tag: edgeway }`
#[derive(Clone, Deserialize)]
pub(super) struct Syslog {
    #[serde(default)]
    pub(super) address: Address,
    #[serde(default)]
    pub(super) facility: Facility,
    #[serde(default)]
    pub(super) tag: Tag,
}

/// Who takes the lines.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) enum Address {
    Unix(PathBuf),
    /// Host and port.
    Udp(String),
    Tcp(String),
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix("/dev/log".into())
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!("expected `unix:/dev/log`, `udp:host:514` or `tcp:host:514`, found `{text}`")
        };
        let (kind, place) = text.split_once(':').ok_or_else(wrong)?;
        let port = place
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then_some(port.parse::<u16>().ok()?));
        match (kind, port) {
            ("unix", _) if place.starts_with('/') => Ok(Self::Unix(place.into())),
            ("udp", Some(_)) => Ok(Self::Udp(place.to_owned())),
            ("tcp", Some(_)) => Ok(Self::Tcp(place.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Tcp(place) => write!(f, "tcp:{place}"),
        }
    }
}

/// What kind of program sends the lines, by its number.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Facility(pub(super) u8);

impl Default for Facility {
    /// `local7`, as nginx has it.
    fn default() -> Self {
        Self(23)
    }
}

impl TryFrom<String> for Facility {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = FACILITIES.iter().position(|known| *known == text);
        let number = number.and_then(|number| u8::try_from(number).ok());
        number.map(Self).ok_or_else(|| {
            format!("expected a facility such as `local7` or `daemon`, found `{text}`")
        })
    }
}

/// By their numbers (RFC 5424, 6.2.1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// What the program is called there.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Tag(pub(super) String);

impl Default for Tag {
    fn default() -> Self {
        Self("edgeway".to_owned())
    }
}

impl TryFrom<String> for Tag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // What would end it for some reader of the C library's format is not in it.
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let fits = (1..=48).contains(&text.len()) && text.bytes().all(letter);
        fits.then_some(Self(text.clone()))
            .ok_or_else(|| format!("expected 1 to 48 letters, digits or `-_./`, found `{text}`"))
    }
}

/// Lines as messages of syslog.
pub(super) struct Sender {
    way: Way,
    /// `<190>1 ` and what else stands before the time.
    before: String,
    /// What stands behind it, up to the message.
    after: String,
    frame: Vec<u8>,
    message: Vec<u8>,
}

enum Way {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// Opens the way to where lines are taken.
pub(super) fn open(syslog: &Syslog) -> io::Result<Sender> {
    let Syslog {
        address,
        facility,
        tag,
    } = syslog;
    let priority = u16::from(facility.0) * 8 + INFORMATIONAL;
    let (tag, id) = (&tag.0, process::id());
    let way = connect(address)?;
    let (before, after) = match way {
        Way::Unix(_) => (format!("<{priority}>"), format!(" {tag}[{id}]: ")),
        Way::Udp(_) | Way::Tcp(_) => {
            let host = hostname();
            (
                format!("<{priority}>1 "),
                format!(" {host} {tag} {id} - - "),
            )
        }
    };
    Ok(Sender {
        way,
        before,
        after,
        frame: Vec::new(),
        message: Vec::new(),
    })
}

fn connect(address: &Address) -> io::Result<Way> {
    match address {
        Address::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Way::Unix(socket))
        }
        Address::Udp(place) => {
            let to = found(place)?;
            let any = match to {
                std::net::SocketAddr::V4(_) => "0.0.0.0:0",
                std::net::SocketAddr::V6(_) => "[::]:0",
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok(Way::Udp(socket))
        }
        Address::Tcp(place) => {
            let stream = TcpStream::connect_timeout(&found(place)?, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(Way::Tcp(stream))
        }
    }
}

fn found(place: &str) -> io::Result<std::net::SocketAddr> {
    let mut addresses = place.to_socket_addrs()?;
    addresses.next().ok_or_else(|| ErrorKind::NotFound.into())
}

/// The name of this machine, as far as a message may have it.
fn hostname() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if name.is_empty() {
        "-".to_owned()
    } else {
        name
    }
}

impl Sender {
    fn send(&mut self, text: &[u8], now: SystemTime) -> io::Result<()> {
        let moment = Moment::new(now);
        self.message.clear();
        self.message.extend_from_slice(self.before.as_bytes());
        match self.way {
            // In UTC: who listens there goes by the time at which the message comes.
            Way::Unix(_) => moment.write_bsd(&mut self.message),
            Way::Udp(_) | Way::Tcp(_) => moment.write_rfc3339(&mut self.message),
        }
        self.message.extend_from_slice(self.after.as_bytes());
        self.message.extend_from_slice(text);
        match &mut self.way {
            Way::Unix(socket) => socket.send(datagram(&self.message)).map(drop),
            Way::Udp(socket) => socket.send(datagram(&self.message)).map(drop),
            Way::Tcp(stream) => {
                // The length tells where it ends (RFC 6587, 3.4.1).
                self.frame.clear();
                push(&mut self.frame, format_args!("{} ", self.message.len()));
                self.frame.extend_from_slice(&self.message);
                stream.write_all(&self.frame)
            }
        }
    }
}

impl Write for Sender {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let line = first_line(lines);
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        self.send(text, SystemTime::now())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As much of a message as a datagram can hold everywhere.
fn datagram(message: &[u8]) -> &[u8] {
    message.get(..MOST).unwrap_or(message)
}

/// In bytes.
const MOST: usize = 60_000;
/// The severity of a line.
const INFORMATIONAL: u16 = 6;
/// How long a connection, or one message over it, may take.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    fn syslog(address: String) -> Syslog {
        Syslog {
            address: address.try_into().unwrap(),
            facility: Facility::default(),
            tag: Tag("gate".to_owned()),
        }
    }

    /// A message without what differs: the time, this machine, this process.
    fn plain(message: &str) -> String {
        let (before, rest) = message.split_once(' ').unwrap();
        let (time, rest) = rest.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{message}");
        let (host, rest) = rest.split_once(' ').unwrap();
        assert_eq!(host, hostname());
        let id = format!(" {} ", process::id());
        format!("{before} {}", rest.replacen(&id, " PID ", 1))
    }

    #[test]
    fn each_line_is_a_datagram_over_udp() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = syslog(format!("udp:{}", there.local_addr().unwrap()));
        open(&to).unwrap().write_all(b"a b\nc\n").unwrap();
        let next = || {
            let mut buffer = [0; 1_000];
            let length = there.recv(&mut buffer).unwrap();
            plain(str::from_utf8(&buffer[..length]).unwrap())
        };
        assert_eq!(next(), "<190>1 gate PID - - a b");
        assert_eq!(next(), "<190>1 gate PID - - c");
    }

    #[test]
    fn each_line_has_its_length_before_it_over_tcp() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = syslog(format!("tcp:{}", there.local_addr().unwrap()));
        let mut sender = open(&to).unwrap();
        let (mut stream, _) = there.accept().unwrap();
        sender.write_all(b"a b\nlonger\n").unwrap();
        drop(sender);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let mut messages = Vec::new();
        let mut rest = text.as_str();
        while let Some((length, after)) = rest.split_once(' ') {
            let (message, after) = after.split_at(length.parse().unwrap());
            messages.push(plain(message));
            rest = after;
        }
        assert_eq!(
            messages,
            ["<190>1 gate PID - - a b", "<190>1 gate PID - - longer"]
        );
    }

    #[test]
    fn the_socket_of_this_machine_is_told_as_the_c_library_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let there = UnixDatagram::bind(&path).unwrap();
        let to = Syslog {
            facility: Facility::try_from("daemon".to_owned()).unwrap(),
            ..syslog(format!("unix:{}", path.display()))
        };
        open(&to).unwrap().write_all(b"a b\n").unwrap();
        let mut buffer = [0; 1_000];
        let length = there.recv(&mut buffer).unwrap();
        let text = str::from_utf8(&buffer[..length]).unwrap();
        let (head, tail) = text.split_at("<30>Jan  1 00:00:00".len());
        assert!(head.starts_with("<30>"), "{text}");
        assert_eq!(tail, format!(" gate[{}]: a b", process::id()));
    }

    #[test]
    fn what_is_no_address_no_facility_and_no_tag_is_refused() {
        for address in ["unix:/dev/log", "udp:localhost:514", "tcp:[::1]:601"] {
            let read = Address::try_from(address.to_owned()).unwrap();
            assert_eq!(read.to_string(), address);
        }
        for address in [
            "", "/dev/log", "unix:log", "udp:host", "tcp::514", "http:a:1", "udp:a:x",
        ] {
            assert!(Address::try_from(address.to_owned()).is_err(), "{address}");
        }
        assert_eq!(Facility::try_from("local0".to_owned()), Ok(Facility(16)));
        assert!(Facility::try_from("local8".to_owned()).is_err());
        for tag in ["", "a b", "a:", "a[", &"a".repeat(49)] {
            assert!(Tag::try_from(tag.to_owned()).is_err(), "{tag}");
        }
    }
}

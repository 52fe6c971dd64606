//! Where a listener waits and how its socket is made, as it is written.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use edgeway_sdk::{Period, types::resolve};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::scalar::{from_text, from_text_or_number, socket_path};

/// Where a listener waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListenAddress {
    /// `0.0.0.0:80`, `[::]:80`, or `:80` for every address of both families.
    Tcp(SocketAddr),
    /// A socket in the file system: `unix:/run/edgeway.sock`.
    Unix(PathBuf),
    /// A socket that systemd has opened for us, by its name: `systemd:https`.
    Systemd(String),
}

impl ListenAddress {
    /// Whether two listeners can't both have it: not if the system chooses the port.
    pub(crate) fn is_one(&self) -> bool {
        !matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = resolve(text)?;
        if let Some(path) = address.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix);
        }
        if let Some(name) = address.strip_prefix("systemd:") {
            return socket_name(name).map(Self::Systemd);
        }
        if address.starts_with('/') {
            return Err(format!("a socket is written `unix:{address}`"));
        }
        port(&address).map(Self::Tcp).ok_or_else(|| {
            format!("expected an address and a port such as `0.0.0.0:80`, `[::]:80` or `:80`, `unix:/path` or `systemd:NAME`, found `{text}`")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

from_text!(
    ListenAddress,
    "an address and a port such as `0.0.0.0:80`, `unix:/path` or `systemd:NAME`"
);

/// Where the admin listener waits: no other process opens a socket for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress(pub(crate) ListenAddress);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = resolve(text)?;
        if address.starts_with("unix:") || address.starts_with('/') {
            return address.parse().map(Self);
        }
        let address = port(&address).map(ListenAddress::Tcp).map(Self);
        address.ok_or_else(|| {
            format!("expected an address and a port such as `127.0.0.1:9901`, or `unix:/path`, found `{text}`")
        })
    }
}

from_text!(
    AdminAddress,
    "an address and a port such as `127.0.0.1:9901`, or `unix:/path`"
);

fn port(address: &str) -> Option<SocketAddr> {
    if address.starts_with(':') {
        return format!("[::]{address}").parse().ok();
    }
    address.parse().ok()
}

/// As systemd has it (`FileDescriptorName=`): characters that can be seen, without colons.
fn socket_name(name: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(format!(
            "expected the name of a socket such as `systemd:https`, found `systemd:{name}`"
        ));
    }
    Ok(name.to_owned())
}

/// How the socket of a listener is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// Who may connect to a unix socket.
    pub(crate) mode: FileMode,
    /// How many connections may wait to be accepted.
    pub(crate) backlog: Backlog,
    /// Whether other sockets may have the same address, and the kernel shares connections out.
    pub(crate) reuse_port: bool,
    /// Whether clients that were here before may send with their first packet.
    pub(crate) fast_open: bool,
    /// When clients that are silent are asked whether they are still there.
    pub(crate) tcp_keepalive: TcpKeepalive,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            mode: FileMode(0o600),
            backlog: Backlog::DEFAULT,
            reuse_port: false,
            fast_open: false,
            tcp_keepalive: TcpKeepalive(Some(Duration::from_secs(60))),
        }
    }
}

/// Who may read and write a file, in octal digits: `0660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected permissions such as `0660`, found `{text}`");
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let digits = match digits.len() {
            3 => digits,
            4 => digits.strip_prefix('0').ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        let octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok();
        mode.filter(|_| octal).map(Self).ok_or_else(wrong)
    }
}

from_text!(FileMode, "permissions such as `0660`");

/// From 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog(pub(crate) u16);

impl Backlog {
    /// What kernels permit by themselves, too.
    pub(crate) const DEFAULT: Self = Self(4096);
}

impl FromStr for Backlog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number != 0);
        number
            .map(Self)
            .ok_or_else(|| format!("expected a number from 1 to 65535, found `{text}`"))
    }
}

from_text_or_number!(Backlog, "a number from 1 to 65535");

/// How long a client may be silent before it is asked; never if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpKeepalive(pub(crate) Option<Duration>);

impl TcpKeepalive {
    const SHORTEST: Duration = Duration::from_secs(1);
    /// The kernel counts up to 32767 seconds.
    const LONGEST: Duration = Duration::from_secs(9 * 3600);
}

impl<'de> Deserialize<'de> for TcpKeepalive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = TcpKeepalive;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as `60s`, or `false`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<TcpKeepalive, E> {
                if on {
                    return Ok(SocketOptions::default().tcp_keepalive);
                }
                Ok(TcpKeepalive(None))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TcpKeepalive, E> {
                let Period(period) = text.parse().map_err(E::custom)?;
                let permitted = TcpKeepalive::SHORTEST..=TcpKeepalive::LONGEST;
                if !permitted.contains(&period) {
                    return Err(E::custom(format!(
                        "expected a length of time from `1s` to `9h`, or `false`, found `{text}`"
                    )));
                }
                Ok(TcpKeepalive(Some(period)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ListenAddress, String> {
        text.parse()
    }

    #[test]
    fn a_listener_waits_at_a_port_a_path_or_where_systemd_says() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().unwrap());
        for (text, address) in [
            ("0.0.0.0:80", tcp("0.0.0.0:80")),
            ("[::1]:8080", tcp("[::1]:8080")),
            (":80", tcp("[::]:80")),
            (
                "unix:/run/a b.sock",
                ListenAddress::Unix("/run/a b.sock".into()),
            ),
            ("systemd:https", ListenAddress::Systemd("https".to_owned())),
            (
                "systemd:edgeway.socket",
                ListenAddress::Systemd("edgeway.socket".to_owned()),
            ),
        ] {
            assert_eq!(read(text).as_ref(), Ok(&address), "{text}");
            assert_eq!(read(&address.to_string()), Ok(address), "{text}");
        }
    }

    #[test]
    fn anything_else_is_told_what_it_should_be() {
        for (text, wrong) in [
            ("localhost:80", "expected an address and a port"),
            ("0.0.0.0", "expected an address and a port"),
            ("", "expected an address and a port"),
            ("/run/a.sock", "a socket is written `unix:/run/a.sock`"),
            ("unix:run/a.sock", "expected the whole path of a socket"),
            ("unix:", "expected the whole path of a socket"),
            ("unix:/run/", "the path of a folder"),
            ("systemd:", "expected the name of a socket"),
            ("systemd:a:b", "expected the name of a socket"),
            ("systemd:a b", "expected the name of a socket"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(wrong), "{text}: {said}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(read(&long).unwrap_err().contains("at most 107 bytes"));
    }

    #[test]
    fn permissions_are_octal_and_nothing_but_permissions() {
        for (text, mode) in [
            ("0660", 0o660),
            ("600", 0o600),
            ("0o666", 0o666),
            ("0000", 0),
        ] {
            assert_eq!(text.parse(), Ok(FileMode(mode)), "{text}");
        }
        for text in [
            "", "66", "0680", "4755", "1777", "rw-", "+60", "0x1b", "00660",
        ] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
        let world = SocketOptions::default().mode.0 & 0o007;
        assert_eq!(world, 0);
    }

    #[test]
    fn a_backlog_is_neither_nothing_nor_more_than_can_be() {
        assert_eq!("65535".parse(), Ok(Backlog(65_535)));
        for text in ["0", "65536", "-1", "many"] {
            assert!(text.parse::<Backlog>().is_err(), "{text}");
        }
    }
}

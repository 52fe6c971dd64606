//! How commands ask a running gateway: through its admin listener.

use std::{
    fmt,
    io::{self},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use edgeway_sdk::{Secret, types::resolve};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::Runtime,
    time::timeout,
};

use super::{Config, exit, tell};
use crate::config::{
    ListenAddress,
    deserialize::salvage,
    diagnostic::Problems,
    document::{Document, Kind},
};

/// Which gateway is meant.
#[derive(Args)]
pub(super) struct Remote {
    #[command(flatten)]
    pub(super) config: Config,
    /// Where the gateway is asked, if not where the `admin` of the configuration says: `unix:/path` or
    /// `http://host:port`
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    /// The token of the admin listener, or `env:NAME` or `file:/path`; that of the configuration, or
    /// $EDGEWAY_ADMIN_TOKEN, if not given
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Where a gateway is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected `unix:/path` or `http://host:port`, found `{text}`");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return path
                .is_absolute()
                .then_some(Self::Unix(path))
                .ok_or_else(wrong);
        }
        let host = text.strip_prefix("http://").unwrap_or(text);
        let host = host.strip_suffix('/').unwrap_or(host);
        let authority: http::uri::Authority = host.parse().map_err(|_| wrong())?;
        let plain = !host.contains('@') && authority.port_u16().is_some();
        plain.then(|| Self::Tcp(host.to_owned())).ok_or_else(wrong)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
        }
    }
}

/// Why a gateway could not be asked, or has not done what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration or the command line is wrong.
    Wrong { said: String, help: String },
    /// There is nobody, or not one who answers.
    Absent { said: String, help: String },
    /// It has said no.
    Refused(Answer),
}

impl Failure {
    /// Tells of it on standard error; gives what the command comes to.
    pub(super) fn tell(&self) -> ExitCode {
        tell(&self.to_string());
        match self {
            Self::Wrong { .. } => exit::configuration(),
            Self::Absent { .. } | Self::Refused(_) => ExitCode::FAILURE,
        }
    }

    fn absent(said: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Absent {
            said: said.into(),
            help: help.into(),
        }
    }

    fn wrong(said: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Wrong {
            said: said.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong { said, help } | Self::Absent { said, help } => {
                writeln!(f, "error: {said}\n  = help: {help}")
            }
            Self::Refused(answer) => {
                writeln!(f, "error: {}", answer.detail())?;
                if answer.status == StatusCode::UNAUTHORIZED {
                    writeln!(f, "  = help: give `--token`, or set EDGEWAY_ADMIN_TOKEN")?;
                }
                Ok(())
            }
        }
    }
}

/// What a gateway has answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// # Errors
    ///
    /// It is not what this version of the program expects.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::absent(
                format!("the answer of the gateway is not understood: {error}"),
                format!(
                    "this is `edgeway` {}: does the gateway have the same version?",
                    env!("CARGO_PKG_VERSION")
                ),
            )
        })
    }

    /// # Errors
    ///
    /// It is a refusal.
    pub(super) fn accepted(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(Failure::Refused(self))
        }
    }

    /// What a refusal says, in one sentence.
    pub(super) fn detail(&self) -> String {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }

        let problem = serde_json::from_slice::<Problem>(&self.body);
        problem.map_or_else(
            |_| format!("the gateway has answered {}", self.status),
            |problem| problem.detail,
        )
    }
}

/// A gateway that can be asked.
pub(super) struct Client {
    address: Address,
    token: Option<Secret>,
    runtime: Runtime,
}

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take: a little longer than calls may take there.
const ANSWER: Duration = Duration::from_secs(90);

/// How large an answer may be, in bytes.
const LARGEST: usize = 256 << 20;

impl Remote {
    /// The same for a command whose `--token` is another one.
    pub(super) fn of(config: Config, admin: Option<Address>, token: Option<String>) -> Self {
        Self {
            config,
            admin,
            token,
        }
    }

    /// The gateway that is meant. Nobody is asked yet.
    ///
    /// # Errors
    ///
    /// It is not said which.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let written = Written::read(&self.config);
        let address = match &self.admin {
            Some(address) => address.clone(),
            None => written.address(&self.config)?,
        };
        let token = match (&self.token, written.token) {
            (Some(token), _) => Some(resolve(token).map_err(|reason| {
                Failure::wrong(format!("`--token`: {reason}"), "give the token itself")
            })?),
            (None, _) if std::env::var_os(TOKEN).is_some() => {
                std::env::var(TOKEN).ok().map(Into::into)
            }
            // What the gateway may read, who asks perhaps may not.
            (None, Some(token)) => resolve(&token).ok().map(|token| token.into_owned().into()),
            (None, None) => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::absent(error.to_string(), "is there any descriptor left?"))?;
        Ok(Client {
            address,
            token: token.map(Secret::new),
            runtime,
        })
    }
}

/// Where the token is that nobody has given.
const TOKEN: &str = "EDGEWAY_ADMIN_TOKEN";

/// What a configuration says of its admin listener, whatever else may be wrong with it.
#[derive(Default)]
struct Written {
    readable: bool,
    /// Whether there is none.
    off: bool,
    bind: Option<ListenAddress>,
    token: Option<String>,
}

impl Written {
    fn read(config: &Config) -> Self {
        let problems = &mut Problems::default();
        let document = Document::load(&config.config, problems);
        let mut written = Self {
            readable: document.is_readable(),
            ..Self::default()
        };
        let Some((_, admin)) = document.entry(document.root(), "admin") else {
            return written;
        };
        written.off = matches!(document.kind(admin), Kind::Scalar(_));
        if let Some((_, bind)) = document.entry(admin, "bind") {
            written.bind = salvage::<ListenAddress>(&document, bind, problems);
        }
        let token = document.entry(admin, "token");
        let token = token.and_then(|(_, token)| document.text(token));
        written.token = token.map(str::to_owned);
        written
    }

    fn address(&self, config: &Config) -> Result<Address, Failure> {
        let file = config.config.display();
        if !self.readable {
            return Err(Failure::wrong(
                format!("`{file}` can't be read, so nobody knows where the gateway is asked"),
                "give the file that it runs with, `-c FILE`, or where it is asked, `--admin ADDRESS`",
            ));
        }
        let address = match &self.bind {
            Some(ListenAddress::Tcp(address)) if address.port() != 0 => {
                return Ok(Address::Tcp(reachable(*address).to_string()));
            }
            Some(ListenAddress::Unix(path)) => Some(path.clone()),
            Some(ListenAddress::Tcp(_) | ListenAddress::Systemd(_)) => None,
            None if self.off => None,
            None => usual_socket(),
        };
        address.map(Address::Unix).ok_or_else(|| {
            Failure::wrong(
                format!("`{file}` does not say where the running gateway is asked"),
                "write `admin: { bind: 127.0.0.1:9901 }` and start it again, or give `--admin ADDRESS`; to have it \
                 read its configuration again, `kill -HUP PID` does as well",
            )
        })
    }
}

/// An address that one can connect to, if the gateway listens at this one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Where a gateway is asked that systemd runs, if it says nothing else.
fn usual_socket() -> Option<PathBuf> {
    const NAME: &str = "admin.sock";
    let own = std::env::var_os("RUNTIME_DIRECTORY").map(|folder| PathBuf::from(folder).join(NAME));
    let packaged = PathBuf::from("/run/edgeway").join(NAME);
    own.or_else(|| packaged.exists().then_some(packaged))
}

impl Client {
    /// # Errors
    ///
    /// Nobody answers. A refusal is an answer: see [`Answer::accepted`].
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// A call with a body of JSON; an empty one is none.
    ///
    /// # Errors
    ///
    /// As those of [`get`](Self::get).
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path, body.into())?;
        self.runtime.block_on(async {
            let answer = async {
                let (head, body) = self.send(request).await?.into_parts();
                let body = Limited::new(body, LARGEST).collect().await;
                let body = body.map_err(|error| self.broken(&*error))?.to_bytes();
                Ok(Answer {
                    status: head.status,
                    body,
                })
            };
            timeout(ANSWER, answer).await.unwrap_or_else(|_| {
                let silent = io::Error::from(io::ErrorKind::TimedOut);
                Err(self.broken(&silent))
            })
        })
    }

    /// Gets what comes line by line, such as events, until the gateway or `see` ends it.
    ///
    /// # Errors
    ///
    /// As those of [`get`](Self::get), and refusals.
    pub(super) fn stream(
        &self,
        path: &str,
        mut see: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        self.runtime.block_on(async {
            let (head, mut body) = self.send(request).await?.into_parts();
            if !head.status.is_success() {
                let body = Limited::new(body, LARGEST).collect().await;
                return Err(Failure::Refused(Answer {
                    status: head.status,
                    body: body.map(|body| body.to_bytes()).unwrap_or_default(),
                }));
            }
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                while let Some(end) = memchr::memchr(b'\n', &rest) {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if see(line.trim_end_matches(['\n', '\r'])).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match &self.address {
            Address::Unix(_) => "localhost",
            Address::Tcp(host) => host,
        };
        let mut request = Request::builder().uri(path).header(HOST, host);
        if !method.is_safe() && method != Method::DELETE {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let shown = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut shown = shown.map_err(|_| {
                Failure::wrong(
                    "the token is no text that can be sent",
                    "look for line breaks in it",
                )
            })?;
            shown.set_sensitive(true);
            request = request.header(AUTHORIZATION, shown);
        }
        let request = request
            .method(method)
            .header(ACCEPT, "application/json, text/event-stream");
        request.body(Full::new(body)).map_err(|error| {
            Failure::wrong(error.to_string(), "percent-encode what is in the path")
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let connected = async {
            match &self.address {
                Address::Unix(path) => UnixStream::connect(path).await.map(Stream::boxed),
                Address::Tcp(host) => TcpStream::connect(host).await.map(Stream::boxed),
            }
        };
        let late = || Err(io::ErrorKind::TimedOut.into());
        let stream = timeout(CONNECT, connected).await.unwrap_or_else(|_| late());
        let stream = stream.map_err(|error| self.nobody(&error))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.broken(&error))?;
        // What goes wrong with it is seen where the answer is waited for.
        tokio::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await;
        response.map_err(|error| self.broken(&error))
    }

    fn nobody(&self, error: &io::Error) -> Failure {
        let address = &self.address;
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::absent(
                format!("edgeway is not running: nobody listens at {address}"),
                "start it with `edgeway run -c FILE` (or `systemctl start edgeway`). If it runs: was it started with \
                 another configuration, or without `admin`?",
            ),
            io::ErrorKind::PermissionDenied => Failure::absent(
                format!("{address} can't be opened: {error}"),
                "ask as the user that the gateway runs as, or as root",
            ),
            _ => Failure::absent(
                format!("{address} can't be reached: {error}"),
                "see whether the gateway runs, and where its `admin` listens",
            ),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> Failure {
        Failure::absent(
            format!("{} has not answered: {error}", self.address),
            "see its log; is it the admin listener of a gateway?",
        )
    }
}

/// What carries a call.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn boxed(self) -> Box<dyn Stream>
    where
        Self: Sized + 'static,
    {
        Box::new(self)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A name as a part of a path.
pub(super) fn segment(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, SEGMENT)
}

const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, String> {
        text.parse()
    }

    #[test]
    fn an_address_is_a_socket_or_a_host_with_its_port() {
        assert_eq!(
            address("unix:/run/a.sock").unwrap().to_string(),
            "unix:/run/a.sock"
        );
        for text in ["http://127.0.0.1:9901", "127.0.0.1:9901", "http://gw:9901/"] {
            assert!(matches!(address(text), Ok(Address::Tcp(_))), "{text}");
        }
        for wrong in [
            "unix:a.sock",
            "127.0.0.1",
            "http://a@b:1",
            "https://",
            "",
            "http://gw:9901/x",
        ] {
            let told = address(wrong).unwrap_err();
            assert!(told.contains("http://host:port"), "{told}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (bind, asked) in [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("10.0.0.1:9901", "10.0.0.1:9901"),
        ] {
            assert_eq!(reachable(bind.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn names_are_parts_of_a_path() {
        assert_eq!(segment("unix:/run/a b").to_string(), "unix:%2Frun%2Fa%20b");
    }
}

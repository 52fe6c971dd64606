//! Gives every request an id that the upstream, the client and the log share.
//!
//! The id is 128 random bits in hexadecimal, or what the client sent, if it may choose and what it
//! sent can stand in a log: 1 to 128 letters, digits or `-_.=+/:@`. Anything else is replaced.
//!
//! Name this filter first: an id that was asked for before stays as it is.

use edgeway_sdk::{Exchange, prelude::*, types::Header};

use crate::headers;

pub(crate) const DOC: &str = "\
gives every request an id that the upstream, the client and the log share

request_id:
  header: X-Request-Id     # where it is read and written
  trust: trusted_proxy     # whose id is kept: never, always, or trusted_proxy: when the request
                           # comes by a trusted proxy that has named its client
  respond: true            # whether the client is told
";

/// `request_id: { header: X-Request-Id, trust: always }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default = "Config::header")]
    header: Header,
    #[serde(default)]
    trust: Trust,
    #[serde(default = "Config::respond")]
    respond: bool,
}

/// Whose ids are kept.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trust {
    Never,
    Always,
    /// Those that come by a trusted proxy which has named its client. That is seen by the client's
    /// address not being the connection's: only a trusted proxy can bring that about.
    #[default]
    TrustedProxy,
}

impl Config {
    fn header() -> Header {
        Header(HeaderName::from_static("x-request-id"))
    }

    fn respond() -> bool {
        true
    }
}

/// Gives every request an id.
pub(crate) struct RequestId {
    header: HeaderName,
    trust: Trust,
    respond: bool,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<RequestId, BuildError> {
    headers::changeable(&config.header.0, "header")?;
    Ok(RequestId {
        header: config.header.0,
        trust: config.trust,
        respond: config.respond,
    })
}

#[async_trait]
impl Filter for RequestId {
    fn refuses(&self) -> bool {
        false
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let given = request.header(&self.header).filter(|id| is_valid(id));
        if let Some(id) = given.filter(|_| self.trust.covers(request.exchange())) {
            request.exchange().set_id(id);
        }
        let value = header_value(request.exchange());
        request.set_header(self.header.clone(), value);
        Ok(Flow::Continue)
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if self.respond {
            let value = header_value(response.exchange());
            response.set_header(self.header.clone(), value);
        }
        Ok(())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

impl Trust {
    pub(crate) fn covers(self, exchange: &Exchange) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            // An IPv4 address may come in the clothes of IPv6, on a socket that takes both.
            Self::TrustedProxy => {
                exchange.client.to_canonical() != exchange.peer.ip().to_canonical()
            }
        }
    }
}

fn is_valid(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/:@".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed)
}

fn header_value(exchange: &Exchange) -> HeaderValue {
    // A filter before this one may have set an id of any form.
    HeaderValue::from_str(exchange.id()).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::{self, Outcome, Trial};

    use super::*;

    async fn run(json: &str, trial: Trial) -> Outcome {
        let filter = test::build(json, build).unwrap();
        trial.run(&filter).await
    }

    fn by_proxy() -> Trial {
        Trial::get("/").peer(([10, 0, 0, 1], 1))
    }

    #[tokio::test]
    async fn upstream_client_and_log_see_the_same_id() {
        let outcome = run("{}", Trial::get("/")).await;
        let id = outcome.exchange.id();
        assert_eq!(id.len(), 32);
        assert_eq!(outcome.sent_header("x-request-id"), Some(id));
        assert_eq!(outcome.header("x-request-id"), Some(id));
    }

    #[tokio::test]
    async fn a_given_id_is_kept_only_from_who_is_trusted() {
        let cases = [
            (r#"{"trust": "never"}"#, false, false),
            (r#"{"trust": "trusted_proxy"}"#, false, true),
            ("{}", false, true),
            (r#"{"trust": "always"}"#, true, true),
        ];
        for (json, direct, proxied) in cases {
            for (trial, kept) in [(Trial::get("/"), direct), (by_proxy(), proxied)] {
                let outcome = run(json, trial.header("x-request-id", "abc-1")).await;
                assert_eq!(outcome.exchange.id() == "abc-1", kept, "{json}");
                assert_eq!(
                    outcome.sent_header("x-request-id"),
                    Some(outcome.exchange.id())
                );
            }
        }
    }

    #[tokio::test]
    async fn an_address_in_the_clothes_of_ipv6_is_no_proxy() {
        let mapped: std::net::SocketAddr = "[::ffff:192.0.2.1]:1".parse().unwrap();
        let trial = Trial::get("/").peer(mapped).header("x-request-id", "abc-1");
        assert_ne!(run("{}", trial).await.exchange.id(), "abc-1");
    }

    #[tokio::test]
    async fn an_id_that_could_forge_a_line_is_replaced() {
        let long = "a".repeat(129);
        for id in ["", "a b", "a\"b", "a\tb", "{}", long.as_str()] {
            let trial = Trial::get("/").header("x-request-id", id);
            let outcome = run(r#"{"trust": "always"}"#, trial).await;
            assert_eq!(outcome.exchange.id().len(), 32, "{id}");
            assert_eq!(
                outcome.sent_header("x-request-id"),
                Some(outcome.exchange.id())
            );
        }
        let trial = Trial::get("/").header("x-request-id", &"a".repeat(128));
        let outcome = run(r#"{"trust": "always"}"#, trial).await;
        assert_eq!(outcome.exchange.id().len(), 128);
    }

    #[tokio::test]
    async fn another_header_and_a_silent_response() {
        let json = r#"{"header": "X-Trace", "trust": "always", "respond": false}"#;
        let outcome = run(json, Trial::get("/").header("x-trace", "t:1")).await;
        assert_eq!(outcome.sent_header("x-trace"), Some("t:1"));
        assert_eq!(outcome.header("x-trace"), None);
    }

    #[test]
    fn a_header_of_the_connection_can_not_carry_it() {
        for name in ["Host", "Connection"] {
            let json = format!(r#"{{"header": "{name}"}}"#);
            let error = test::build(&json, build).err().unwrap();
            assert_eq!(error.key.as_deref(), Some("header"));
        }
    }
}

//! Limits how fast the body of each response goes out.
//!
//! The limit is for one response: a client with two connections is served twice as fast (`concurrency` limits
//! how many there are). The first bytes may go out as fast as they can, so that small responses and the
//! beginnings of videos are not slowed down. WebSockets are not limited.

use std::{borrow::Cow, num::NonZeroU64};

use edgeway_sdk::prelude::*;

pub(crate) const DOC: &str = "\
limits how fast the body of each response goes out

bandwidth:
  rate: 1MiB/s       # an amount and a time: 500kB/s, 10MiB/min
  after: 10MiB       # this much goes out as fast as it can before; 0 if not given
";

/// `bandwidth: { rate: 1MiB/s, after: 10MiB }`
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Config {
    rate: Throughput,
    #[serde(default = "Config::after")]
    after: Size,
}

impl Config {
    fn after() -> Size {
        Size(0)
    }
}

/// Limits how fast the body of each response goes out.
pub(crate) struct Bandwidth {
    rate: NonZeroU64,
    after: u64,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Bandwidth, BuildError> {
    Ok(Bandwidth {
        rate: config.rate.0,
        after: config.after.0,
    })
}

#[async_trait]
impl Filter for Bandwidth {
    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.limit_rate(self.rate, self.after);
        }
        Ok(())
    }

    fn refuses(&self) -> bool {
        false
    }

    fn hooks(&self) -> Hooks {
        Hooks::RESPONSE
    }
}

/// A number of bytes in a length of time, kept as bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Throughput(NonZeroU64);

impl TryFrom<Cow<'_, str>> for Throughput {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let wrong = || format!("expected an amount and a time such as `1MiB/s`, found `{text}`");
        let (size, period) = text.split_once('/').ok_or_else(wrong)?;
        let Size(bytes) = size.parse().map_err(|_| wrong())?;
        let period = match period.trim() {
            unit @ ("s" | "m" | "min" | "h" | "d") => format!("1{unit}"),
            period => period.to_owned(),
        };
        let Period(period) = period.parse().map_err(|_| wrong())?;
        let rate = bytes as f64 / period.as_secs_f64();
        if !rate.is_finite() {
            return Err(wrong());
        }
        // As near as whole bytes allow; a float that is too large becomes the largest number.
        NonZeroU64::new(rate.round() as u64)
            .map(Self)
            .ok_or_else(|| format!("expected at least one byte in a second, found `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::{
        exchange::Speed,
        test::{self, Trial},
    };

    use super::*;

    #[test]
    fn an_amount_and_a_time_make_a_rate() {
        for (text, rate) in [
            ("1MiB/s", 1 << 20),
            ("500kB/s", 500_000),
            ("60MB/min", 1_000_000),
            ("10KiB/10s", 1024),
            ("100/s", 100),
            ("1KiB/500ms", 2048),
            ("86400B/d", 1),
        ] {
            let wanted = NonZeroU64::new(rate).map(Throughput);
            assert_eq!(Throughput::try_from(Cow::from(text)).ok(), wanted, "{text}");
        }
        for text in [
            "", "1MiB", "MiB/s", "1MiB/", "1MiB/0s", "0/0s", "0/s", "1/h", "-1/s", "1MiB/x",
            "10r/s",
        ] {
            assert!(Throughput::try_from(Cow::from(text)).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_websocket_is_given_none() {
        let filter = test::build(r#"{"rate": "1KiB/s"}"#, build).unwrap();
        let trial = Trial::get("/").answer(StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(trial.run(&filter).await.exchange.speed, None);
        assert!(!filter.refuses());
    }

    #[tokio::test]
    async fn every_response_is_given_the_rate() {
        for (json, after) in [
            (r#"{"rate": "1KiB/s", "after": "2KiB"}"#, 2048),
            (r#"{"rate": "1KiB/s"}"#, 0),
        ] {
            let filter = test::build(json, build).unwrap();
            let outcome = Trial::get("/").run(&filter).await;
            let rate = NonZeroU64::new(1024).unwrap();
            assert_eq!(outcome.exchange.speed, Some(Speed { rate, after }));
        }
    }
}

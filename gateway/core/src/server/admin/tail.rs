//! The call that shows requests as they end.

use std::{fmt, str::FromStr, time::Duration};

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described, Parameter},
    events::{Events, Left},
    problem::Problem,
};
use crate::{
    config::{Network, diagnostic::nearest, scalar::Span},
    telemetry::tail::{Glob, Statuses, Watching, Wish},
};

/// Adds the call of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(TAIL, tail)
}

const TAIL: Described = Described::get(
    "/v1/tail",
    "Shows requests as they end, as server-sent events: each is what an access log has of it as JSON.",
)
.with(&[
    Parameter {
        name: "route",
        about: "Requests of this route.",
        example: "shop",
    },
    Parameter {
        name: "method",
        about: "Requests with this method.",
        example: "POST",
    },
    Parameter {
        name: "status",
        about: "Those that ended so: `5xx`, `404`, `400-499`, several with commas. 499: the client left before.",
        example: "5xx",
    },
    Parameter {
        name: "path",
        about: "Those of this path; a `*` stands for any letters.",
        example: "/api/*",
    },
    Parameter {
        name: "client",
        about: "Those of this client, or of this network.",
        example: "10.0.0.0/8",
    },
    Parameter {
        name: "slower_than",
        about: "Those that took so long at least.",
        example: "200ms",
    },
    Parameter {
        name: "rate",
        about: "How many a second at most, from 1 to 1000; 10 if not given. An event `missed` tells each second how many there were besides.",
        example: "100",
    },
])
.streams::<Shown>(
    r#"{ "time": "2026-11-22T04:00:00.000Z", "request_id": "0f3b", "client": "192.0.2.7", "method": "GET",
         "host": "example.com", "target": "/api/7", "status": 502, "duration_ms": 12.5, "route": "shop",
         "upstream": "shop", "endpoint": "10.0.0.7:8080", "error": "ConnectRefused" }"#,
);

/// A request, as an access log has it. There is more than this.
#[derive(JsonSchema)]
#[schemars(rename = "Request")]
#[expect(
    dead_code,
    reason = "it is written by the access log; this only says what that looks like"
)]
struct Shown {
    time: String,
    request_id: String,
    client: String,
    method: String,
    target: String,
    /// Absent if the client left before there was one.
    #[schemars(default)]
    status: Option<u16>,
    duration_ms: f64,
}

/// `?status=5xx&path=/api/*`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    route: Option<String>,
    method: Option<Named<http::Method>>,
    status: Option<Named<Several>>,
    path: Option<String>,
    client: Option<Network>,
    slower_than: Option<Span>,
    #[serde(default)]
    rate: Rate,
}

/// How many a second.
struct Rate(u32);

impl Default for Rate {
    fn default() -> Self {
        Self(10)
    }
}

/// The most that are shown in a second.
const FASTEST: u32 = 1000;

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rate = u32::deserialize(deserializer)?;
        if !(1..=FASTEST).contains(&rate) {
            let message = format!("a rate is from 1 to {FASTEST}, found {rate}");
            return Err(de::Error::custom(message));
        }
        Ok(Self(rate))
    }
}

/// A text that is read by its type.
struct Named<T>(T);

impl<'de, T> Deserialize<'de> for Named<T>
where
    T: FromStr<Err: fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// `5xx,404,400-499`
struct Several(Vec<Statuses>);

impl FromStr for Several {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!("expected a status such as `5xx`, `404` or `400-499`, found `{part}`")
        };
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u16>().ok();
            number.filter(|number| digits && (100..=599).contains(number))
        };
        let part = |part: &str| {
            if let Some(class) = part.strip_suffix("xx") {
                let class = class.parse::<u16>().ok();
                let class = class.filter(|class| (1..=5).contains(class));
                return class.map(|class| Statuses(class * 100, class * 100 + 99));
            }
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let statuses = Statuses(status(from)?, status(to)?);
            (statuses.0 <= statuses.1).then_some(statuses)
        };
        let parts = text.split(',').map(str::trim);
        let statuses = parts.map(|text| part(text).ok_or_else(|| wrong(text)));
        statuses.collect::<Result<_, _>>().map(Self)
    }
}

/// How many were too many.
#[derive(Serialize)]
struct Missed {
    missed: u64,
}

async fn tail(State(desk): State<Shared>, call: Call<()>) -> Answer {
    let asked: Asked = call.asked()?;
    call.no_body()?;
    let gateway = desk.gateway();
    if let Some(route) = &asked.route {
        let mut names = super::status::routes(&gateway).map(|route| &*route.name);
        if !names.any(|name| name == route) {
            let names = super::status::routes(&gateway).map(|route| &*route.name);
            let near = nearest(route, names);
            return Err(Problem::absent(
                format!("there is no route `{route}`"),
                near,
            ));
        }
    }
    let wish = Wish {
        route: asked.route,
        method: asked.method.map(|method| method.0),
        statuses: asked.status.map(|status| status.0.0),
        path: asked.path.map(Glob),
        client: asked.client.map(|client| client.0),
        slower_than: asked.slower_than.map(|time| time.0),
        rate: asked.rate.0,
    };
    let watching = gateway.tail.watch(wish, &desk.resources);
    call.events(|events| async {
        // It ends when nobody reads any more.
        drop(show(watching, events).await);
    })
}

async fn show(mut watching: Watching, events: Events) -> Result<(), Left> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            line = watching.next() => match line {
                Some(line) => events.send_text(None, &line).await?,
                None => return Ok(()),
            },
            _ = seconds.tick() => {
                let missed = watching.missed();
                if missed > 0 {
                    let json = serde_json::json!(Missed { missed }).to_string();
                    events.send_text(Some("missed"), &json).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_classes_numbers_and_ranges() {
        let read = |text: &str| text.parse::<Several>().map(|several| several.0);
        assert_eq!(
            read("5xx, 404,400-402"),
            Ok(vec![
                Statuses(500, 599),
                Statuses(404, 404),
                Statuses(400, 402)
            ])
        );
        for wrong in [
            "", "6xx", "xx", "40", "404-", "405-404", "+40", "5XX", "404,,500", "0xx",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

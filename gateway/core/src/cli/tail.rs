//! `edgeway tail`: requests as they end, in the terminal.

use std::{
    fmt,
    io::{self, Write},
    ops::ControlFlow,
    process::ExitCode,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{remote::Remote, tell};
use crate::config::diagnostic::Look;

#[derive(Args)]
pub(super) struct Tail {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    wish: Wish,
    /// Write each request as JSON, as an access log has it
    #[arg(long)]
    json: bool,
}

/// Which requests.
#[derive(Args, Serialize)]
struct Wish {
    /// Of this route
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    /// With this method
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// That ended so: `5xx`, `404`, `400-499`, several with commas
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Of this path; a `*` stands for any letters
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Of this client, or of this network
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// That took so long at least: `200ms`
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slower_than: Option<String>,
    /// How many a second at most; 10 if not given
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
}

/// What is shown of a request.
#[derive(Deserialize)]
struct Request {
    time: String,
    client: String,
    method: String,
    #[serde(default)]
    host: String,
    target: String,
    status: Option<u16>,
    duration_ms: f64,
    route: Option<String>,
    endpoint: Option<String>,
    cache: Option<String>,
    filter: Option<String>,
    reason: Option<String>,
    error: Option<String>,
}

/// Writes requests until the gateway ends, or whoever reads them has seen enough.
pub(super) fn tail(options: &Tail, out: &mut impl Write) -> io::Result<ExitCode> {
    let query = serde_urlencoded::to_string(&options.wish).unwrap_or_default();
    let client = match options.remote.client() {
        Ok(client) => client,
        Err(failure) => return Ok(failure.tell()),
    };
    let mut lines = Lines {
        coloured: matches!(Look::of_stdout(), Look::Coloured),
        json: options.json,
        missed: false,
    };
    let mut written = Ok(());
    let seen = client.stream(&format!("/v1/tail?{query}"), |line| {
        match lines.write(out, line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                written = Err(error);
                ControlFlow::Break(())
            }
        }
    });
    written?;
    if let Err(failure) = seen {
        return Ok(failure.tell());
    }
    tell("the gateway has ended, or its admin listener has\n");
    Ok(ExitCode::FAILURE)
}

/// Events, line by line.
struct Lines {
    coloured: bool,
    json: bool,
    /// Whether the event is about requests that were too many.
    missed: bool,
}

impl Lines {
    fn write(&mut self, out: &mut impl Write, line: &str) -> io::Result<()> {
        if let Some(event) = line.strip_prefix("event: ") {
            self.missed = event == "missed";
        }
        if line.is_empty() {
            self.missed = false;
        }
        let Some(data) = line.strip_prefix("data: ") else {
            return Ok(());
        };
        if self.missed {
            return self.tell_of_missed(out, data);
        }
        match serde_json::from_str::<Request>(data) {
            Ok(request) if !self.json => writeln!(out, "{}", self.shown(&request))?,
            _ => writeln!(out, "{data}")?,
        }
        out.flush()
    }

    /// JSON is for programs, which are told on the other stream.
    fn tell_of_missed(&self, out: &mut impl Write, data: &str) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Missed {
            missed: u64,
        }
        let Ok(Missed { missed }) = serde_json::from_str(data) else {
            return Ok(());
        };
        let said = format!("... and {missed} more in this second: see `--rate`, or ask for fewer");
        if self.json {
            tell(&format!("{said}\n"));
            return Ok(());
        }
        writeln!(out, "{}", self.painted(DIM, &said))?;
        out.flush()
    }

    fn shown(&self, request: &Request) -> String {
        let time = request.time.split('T').nth(1).unwrap_or(&request.time);
        let time = time.trim_end_matches('Z');
        let status = request
            .status
            .map_or_else(|| "---".to_owned(), |status| status.to_string());
        let colour = match request.status {
            Some(100..=299) => GREEN,
            Some(300..=399) => DIM,
            Some(400..=499) => YELLOW,
            _ => RED,
        };
        let url = format!("{}{}", request.host, request.target);
        let mut line = format!(
            "{} {} {:>9.1} ms  {:<15} {} {}",
            self.painted(DIM, time),
            self.painted(colour, &status),
            request.duration_ms,
            request.client,
            request.method,
            escaped(&url)
        );
        let more = [
            ("route", &request.route),
            ("endpoint", &request.endpoint),
            ("cache", &request.cache),
            ("filter", &request.filter),
            ("reason", &request.reason),
            ("error", &request.error),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                let value = format!("{name}={}", escaped(value));
                line = format!("{line} {}", self.painted(DIM, &value));
            }
        }
        line
    }

    fn painted<'a>(&self, colour: &'a str, text: &'a str) -> Painted<'a> {
        let colour = self.coloured.then_some(colour);
        Painted { colour, text }
    }
}

struct Painted<'a> {
    colour: Option<&'a str>,
    text: &'a str,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.colour {
            Some(colour) => write!(f, "{colour}{}\u{1b}[0m", self.text),
            None => f.write_str(self.text),
        }
    }
}

/// What clients have sent, so that no terminal obeys it.
fn escaped(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

const DIM: &str = "\u{1b}[2m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"data: {"time":"2026-11-22T04:00:01.250Z","client":"192.0.2.7","method":"GET","host":"a.example","target":"/x\u001b[2J","status":502,"duration_ms":12.34,"route":"shop","error":"ConnectRefused"}"#;

    fn written(json: bool, coloured: bool, lines: &[&str]) -> String {
        let mut out = Vec::new();
        let mut writer = Lines {
            coloured,
            json,
            missed: false,
        };
        for line in lines {
            writer.write(&mut out, line).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_a_line_that_no_terminal_obeys() {
        assert_eq!(
            written(false, false, &[": ", LINE, ""]),
            "04:00:01.250 502      12.3 ms  192.0.2.7       GET a.example/x\u{fffd}[2J route=shop error=ConnectRefused\n"
        );
        assert!(written(false, true, &[LINE]).contains("\u{1b}[31m502\u{1b}[0m"));
    }

    #[test]
    fn json_is_what_the_gateway_has_sent() {
        let data = LINE.strip_prefix("data: ").unwrap();
        let lines = ["event: missed", r#"data: {"missed":7}"#, "", LINE, ""];
        assert_eq!(written(true, true, &lines), format!("{data}\n"));
    }

    #[test]
    fn requests_that_were_too_many_are_told() {
        let lines = ["event: missed", r#"data: {"missed":7}"#, "", LINE];
        let text = written(false, false, &lines);
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("... and 7 more"));
        assert!(lines.next().unwrap().contains("GET"));
    }
}

//! `edgeway explain`: what becomes of a request, and why.

mod live;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::IpAddr,
    process::ExitCode,
};

use bytes::Bytes;
use clap::Args;
use edgeway_sdk::{Filters, Resources};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use super::{
    Config, exit,
    remote::{Address, Remote},
    tell,
};
use crate::{
    config::diagnostic::Look,
    explain::{
        Explanation,
        rehearsal::{Made, Question},
        text::Shown,
    },
    server::rehearsal::{Rehearsed, Rehearser},
    snapshot::{Gateway, load},
};

/// The options of the command.
#[derive(Args)]
pub(super) struct Explain {
    /// The method and the URL; a URL alone is asked for with GET
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    request: Vec<String>,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    sends: Sends,
    /// The answer of the upstream, by its status; 200 if not given
    #[arg(long, value_name = "STATUS")]
    answer: Option<u16>,
    /// A header of that answer: 'Cache-Control: max-age=60'
    #[arg(long, value_name = "HEADER")]
    answer_header: Vec<String>,
    /// Make the request, and have the running gateway tell what has become of it: signed with the key of `explain` in
    /// the configuration
    #[arg(long, conflicts_with_all = ["answer", "answer_header", "client", "listener"])]
    live: bool,
    /// With `--live`: where the gateway is asked, if not where the `admin` of the configuration says
    #[arg(long, value_name = "ADDRESS", requires = "live")]
    admin: Option<Address>,
    /// With `--live`: the token of the admin listener, or `env:NAME` or `file:/path`
    #[arg(long, value_name = "TOKEN", requires = "live")]
    admin_token: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is sent besides method and URL.
#[derive(Args)]
struct Sends {
    /// A header: 'Name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A bearer token
    #[arg(long)]
    token: Option<String>,
    /// A body, or with `@` the file that it is in
    #[arg(short, long)]
    data: Option<String>,
    /// The address of the client; 127.0.0.1 if not given
    #[arg(long)]
    client: Option<IpAddr>,
    /// The listener; the one for the URL if not given
    #[arg(long)]
    listener: Option<String>,
}

impl Explain {
    fn question(&self) -> Result<Question, String> {
        let (method, url) = match self.request.as_slice() {
            [url] => (None, url),
            [method, url, ..] => (Some(method), url),
            [] => return Err("there is no URL".to_owned()),
        };
        let sends = &self.sends;
        let body = sends.data.as_deref().map(data).transpose()?;
        let usual = if body.is_some() { "POST" } else { "GET" };
        let method = method.map_or(usual, |method| method.as_str());
        let method = crate::route::method(method).map_err(|error| error.to_string())?;
        let mut question = Question::of_url(method, url)?;
        for line in &sends.headers {
            question.headers.push(header_of(line)?);
        }
        if let Some(token) = &sends.token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let value = value.map_err(|_| "the token can't stand in a header".to_owned())?;
            question.headers.push((header::AUTHORIZATION, value));
        }
        question.body = body.unwrap_or_default();
        question.client = sends.client.unwrap_or(question.client);
        question.listener.clone_from(&sends.listener);
        Ok(question)
    }

    fn answer(&self) -> Result<Made, String> {
        let mut made = Made::default();
        if let Some(status) = self.answer {
            let status = http::StatusCode::from_u16(status);
            made.status = status.map_err(|_| "the status of an answer is 100 to 999".to_owned())?;
        }
        for line in &self.answer_header {
            made.headers.push(header_of(line)?);
        }
        Ok(made)
    }
}

/// Reads `Name: value`.
pub(super) fn header_of(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("`{line}` is no header; write 'Name: value'");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

/// A body, or that of a file.
fn data(text: &str) -> Result<Bytes, String> {
    match text.strip_prefix('@') {
        Some(path) => fs::read(path)
            .map(Bytes::from)
            .map_err(|error| format!("{path}: {error}")),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// Runs the command.
pub(super) fn explain(options: &Explain, filters: &Filters) -> io::Result<ExitCode> {
    let asked = options
        .question()
        .and_then(|question| Ok((question, options.answer()?)));
    let (question, answer) = match asked {
        Ok(asked) => asked,
        Err(message) => {
            tell(&format!("error: {message}\n"));
            return Ok(exit::configuration());
        }
    };
    let loaded = load(&options.config.config, filters, &Resources::default());
    tell(&loaded.report(Look::of_stderr()));
    let Some((gateway, _)) = loaded.gateway else {
        return Ok(exit::configuration());
    };
    if options.live {
        return ask_running(options, &question, &gateway);
    }
    let rehearsed = runtime()?.block_on(async {
        let rehearser = Rehearser::new(gateway).await;
        rehearser.ask(&question, &answer).await
    });
    match rehearsed {
        Ok(rehearsed) => {
            show(&mut io::stdout(), &rehearsed, options.json).map(|()| ExitCode::SUCCESS)
        }
        Err(message) => {
            tell(&format!("error: {message}\n"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Makes the request, and asks the running gateway what has become of it.
fn ask_running(options: &Explain, question: &Question, gateway: &Gateway) -> io::Result<ExitCode> {
    let Some(key) = &gateway.explained.key else {
        tell(
            "error: the configuration has no key to sign with\n  = help: write `explain: { key: env:EDGEWAY_EXPLAIN_KEY }`\n",
        );
        return Ok(exit::configuration());
    };
    let remote = Remote::of(
        Config {
            config: options.config.config.clone(),
        },
        options.admin.clone(),
        options.admin_token.clone(),
    );
    let client = match remote.client() {
        Ok(client) => client,
        Err(failure) => return Ok(failure.tell()),
    };
    let runtime = runtime()?;
    let id = match runtime.block_on(live::send(question, key)) {
        Ok(id) => id,
        Err(message) => {
            tell(&format!("error: {message}\n"));
            return Ok(ExitCode::FAILURE);
        }
    };
    match live::fetch(&client, &id, &runtime) {
        Ok(explanation) => {
            let out = &mut io::stdout();
            match options.json {
                true => write_json(out, &explanation)?,
                false => write!(out, "{}", shown(&explanation, true))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Ok(failure.tell()),
    }
}

fn shown(explanation: &Explanation, times: bool) -> Shown<'_> {
    Shown {
        explanation,
        colours: colours(),
        times,
    }
}

/// What runs requests that nobody has made.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn show(out: &mut impl Write, rehearsed: &Rehearsed, json: bool) -> io::Result<()> {
    let response = &rehearsed.response;
    let mut refused = Explanation::default();
    // What is refused before anybody has understood it has a response, and that is all.
    refused.response.status = Some(response.status.as_u16());
    refused.response.from = "reply".into();
    refused.response.reason = Some("the request can't be read".to_owned());
    let explanation = rehearsed.explanation.as_deref().unwrap_or(&refused);
    if json {
        return write_json(out, explanation);
    }
    write!(out, "{}", shown(explanation, false))?;
    let body = String::from_utf8_lossy(&response.body);
    if explanation.response.from == "reply" && !body.is_empty() {
        let first: String = body.chars().take(BODY).collect();
        writeln!(out, "\n{}", first.trim_end())?;
    }
    Ok(())
}

/// So much of a body is shown.
const BODY: usize = 1_000;

pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Whether standard output takes colours.
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|wish| wish.is_empty()) && io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_a_value() {
        let (name, value) = header_of("X-Tier:  gold: really").unwrap();
        assert_eq!(
            (name.as_str(), value.to_str().unwrap()),
            ("x-tier", "gold: really")
        );
        assert!(header_of("X-Tier").is_err());
        assert!(header_of("X Tier: a").is_err());
    }
}

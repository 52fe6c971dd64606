//! `edgeway top`: what a running gateway is doing, in the terminal.
//!
//! * [`live`]: what the gateway tells; [`plain`]: that as tables, for scripts.
//! * [`view`]: what is shown, and what keys do; [`screen`]: how it is drawn; [`words`]: how figures are written.

mod live;
mod plain;
mod screen;
mod view;
mod words;

use std::{
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    process::ExitCode,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use clap::Args;
use http::Method;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use self::{
    live::Live,
    view::{Act, View},
};
use super::{
    remote::{Client, Failure, Remote, segment},
    tell,
};

pub(super) const AFTER_HELP: &str = "\
Keys:
  1 2 3, Tab     routes, endpoints, failures
  up down, j k   go to a line
  s, r           sort by the next column; the other way round
  /              show only lines with these words; Esc shows all
  d m u          drain an endpoint, take it out for maintenance, take it back
  space          hold still
  q, Ctrl-C      quit";

#[derive(Args)]
pub(super) struct Top {
    #[command(flatten)]
    remote: Remote,
    /// Write what is going on as tables, after a second, and end
    #[arg(long)]
    once: bool,
    /// Write what the gateway tells, as JSON: an object each second, or one with `--once`
    #[arg(long)]
    json: bool,
}

/// How long is waited for a key before it is looked whether there are new figures.
const BREATH: Duration = Duration::from_millis(100);

pub(super) fn top(options: &Top, out: &mut impl Write) -> io::Result<ExitCode> {
    if !options.once && !options.json && !io::stdout().is_terminal() {
        tell(
            "error: standard output is no terminal\n  = help: `--once` writes tables, `--json` JSON\n",
        );
        return Ok(ExitCode::FAILURE);
    }
    let client = match options.remote.client() {
        Ok(client) => client,
        Err(failure) => return Ok(failure.tell()),
    };
    if options.once {
        return once(&client, options.json, out);
    }
    if options.json {
        return lines(&client, out);
    }
    // One to follow, and one to change something meanwhile.
    match options.remote.client() {
        Ok(actor) => interactive(client, &actor),
        Err(failure) => Ok(failure.tell()),
    }
}

fn once(client: &Client, json: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    let answer = client
        .get("/v1/live?once=true")
        .and_then(super::remote::Answer::accepted);
    let told = answer.and_then(|answer| Ok((answer.json::<Live>()?, answer)));
    match told {
        Ok((_, answer)) if json => {
            out.write_all(&answer.body)?;
            writeln!(out)?;
        }
        Ok((live, _)) => plain::write(out, &live)?,
        Err(failure) => return Ok(failure.tell()),
    }
    Ok(ExitCode::SUCCESS)
}

/// An object in each line.
fn lines(client: &Client, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut written = Ok(());
    let ended = client.stream("/v1/live", |line| {
        let Some(data) = line.strip_prefix("data: ") else {
            return ControlFlow::Continue(());
        };
        written = writeln!(out, "{data}").and_then(|()| out.flush());
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    written?;
    Ok(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    })
}

/// What comes from the gateway.
enum News {
    Live(Box<Live>),
    Over(Failure),
}

fn interactive(client: Client, actor: &Client) -> io::Result<ExitCode> {
    let (sender, news) = mpsc::channel();
    thread::spawn(move || {
        let ended = client.stream("/v1/live", |line| {
            let live = line
                .strip_prefix("data: ")
                .and_then(|data| serde_json::from_str(data).ok());
            let Some(live) = live else {
                return ControlFlow::Continue(());
            };
            match sender.send(News::Live(live)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        if let Err(failure) = ended {
            // Nobody wants to know when the screen is gone.
            drop(sender.send(News::Over(failure)));
        }
    });
    // The terminal is as before after a panic as well.
    let mut terminal = ratatui::try_init()?;
    let ended = run(&mut terminal, &news, actor);
    ratatui::try_restore()?;
    Ok(ended?.map_or(ExitCode::SUCCESS, |failure| failure.tell()))
}

/// Shows what comes and does what keys say, until one says to quit, or the gateway is gone.
fn run(
    terminal: &mut DefaultTerminal,
    news: &Receiver<News>,
    actor: &Client,
) -> io::Result<Option<Failure>> {
    let mut view = View::default();
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut view))?;
        if event::poll(BREATH)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match pressed(&mut view, key) {
                Act::Nothing => {}
                Act::Quit => return Ok(None),
                Act::Turn {
                    upstream,
                    endpoint,
                    state,
                } => {
                    let said = turn(actor, &upstream, &endpoint, state);
                    view.say(said);
                }
            }
        }
        loop {
            match news.try_recv() {
                Ok(News::Live(live)) => view.take(*live),
                Ok(News::Over(failure)) => return Ok(Some(failure)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Ok(Some(Failure::Absent {
                        said: "the gateway has closed the stream".to_owned(),
                        help: "it has been stopped, or its admin listener was".to_owned(),
                    }));
                }
            }
        }
    }
}

fn pressed(view: &mut View, key: KeyEvent) -> Act {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Act::Quit,
            _ => Act::Nothing,
        };
    }
    view.key(key.code)
}

/// Has an endpoint taken out or back; what has come of it.
fn turn(actor: &Client, upstream: &str, endpoint: &str, state: &str) -> String {
    let path = format!(
        "/v1/upstreams/{}/endpoints/{}",
        segment(upstream),
        segment(endpoint)
    );
    let body = serde_json::json!({ "state": state }).to_string();
    let done = actor
        .call(Method::PATCH, &path, body)
        .and_then(super::remote::Answer::accepted);
    match done {
        Ok(_) => format!("{endpoint}: {state}"),
        Err(Failure::Refused(answer)) => format!("not done: {}", answer.detail()),
        Err(failure) => format!("not done: {}", failure.to_string().replace('\n', " ")),
    }
}

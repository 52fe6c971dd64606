//! What is shown, and what keys do.

use std::{cmp::Ordering, collections::VecDeque};

use ratatui::{crossterm::event::KeyCode, widgets::TableState};

use super::{
    live::Live,
    words::{bytes, clean, millis, rate, span},
};

/// What a key asks for that the screen can't do by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Quit,
    /// An endpoint is to be taken out or back.
    Turn {
        upstream: String,
        endpoint: String,
        state: &'static str,
    },
}

/// The tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    #[default]
    Routes,
    Endpoints,
    Failures,
}

impl Page {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Routes, "Routes"),
        (Self::Endpoints, "Endpoints"),
        (Self::Failures, "Failures"),
    ];

    pub(super) fn heads(self) -> &'static [&'static str] {
        match self {
            Self::Routes => &ROUTES,
            Self::Endpoints => &ENDPOINTS,
            Self::Failures => &FAILURES,
        }
    }
}

pub(super) const ROUTES: [&str; 9] = [
    "ROUTE", "REQ/S", "4XX/S", "5XX/S", "P50", "P95", "P99", "ACTIVE", "TARGET",
];
pub(super) const ENDPOINTS: [&str; 9] = [
    "UPSTREAM", "ENDPOINT", "STATE", "REQ/S", "FAIL/S", "P50", "P95", "ACTIVE", "WEIGHT",
];
pub(super) const FAILURES: [&str; 6] = ["AGO", "STATUS", "ROUTE", "ENDPOINT", "REASON", "REQUEST"];

/// A line of a table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// What numbers are sorted by, and texts are not.
    keys: Vec<Option<f64>>,
    pub(super) look: Look,
    /// The upstream and the endpoint that it is of.
    pub(super) of: Option<(String, String)>,
}

/// How a line looks; its words say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Out,
    Bad,
}

impl Row {
    fn new(look: Look) -> Self {
        Self {
            cells: Vec::new(),
            keys: Vec::new(),
            look,
            of: None,
        }
    }

    fn text(mut self, text: &str) -> Self {
        self.cells.push(clean(text));
        self.keys.push(None);
        self
    }

    fn number(mut self, number: f64, shown: String) -> Self {
        self.cells.push(shown);
        self.keys.push(Some(number));
        self
    }

    fn rate(self, value: f64) -> Self {
        self.number(value, rate(value))
    }

    fn millis(self, value: Option<f64>) -> Self {
        self.number(value.unwrap_or(-1.0), millis(value))
    }
}

pub(super) fn routes(live: &Live) -> Vec<Row> {
    let row = |route: &super::live::Route| {
        let figures = &route.figures;
        let look = match (route.closed, figures.classes.server_error > 0.0) {
            (true, _) => Look::Out,
            (false, true) => Look::Bad,
            (false, false) => Look::Plain,
        };
        let target = if route.closed {
            "closed for maintenance"
        } else {
            &route.target
        };
        Row::new(look)
            .text(&route.name)
            .rate(figures.requests_per_s)
            .rate(figures.classes.client_error)
            .rate(figures.classes.server_error)
            .millis(figures.p50_ms)
            .millis(figures.p95_ms)
            .millis(figures.p99_ms)
            .number(figures.in_flight as f64, figures.in_flight.to_string())
            .text(target)
    };
    live.routes.iter().map(row).collect()
}

pub(super) fn endpoints(live: &Live) -> Vec<Row> {
    let of = |upstream: &super::live::Upstream| {
        let name = upstream.name.clone();
        let row = move |endpoint: &super::live::Endpoint| {
            let look = match (endpoint.serves(), &*endpoint.state) {
                (true, _) => Look::Plain,
                (false, "up") => Look::Bad,
                (false, _) => Look::Out,
            };
            let state = match endpoint.why() {
                "" => endpoint.status.clone(),
                why => format!("{}: {why}", endpoint.status),
            };
            let mut row = Row::new(look)
                .text(&name)
                .text(&endpoint.name)
                .text(&state)
                .rate(endpoint.requests_per_s)
                .rate(endpoint.failures_per_s)
                .millis(endpoint.p50_ms)
                .millis(endpoint.p95_ms)
                .number(endpoint.active.into(), endpoint.active.to_string())
                .number(endpoint.weight.into(), endpoint.weight.to_string());
            row.of = Some((name.clone(), endpoint.name.clone()));
            row
        };
        upstream.endpoints.iter().map(row).collect::<Vec<_>>()
    };
    live.upstreams.iter().flat_map(of).collect()
}

pub(super) fn failures(live: &Live) -> Vec<Row> {
    let row = |failed: &super::live::Failed| {
        let ago = live.at_ms.saturating_sub(failed.at_ms) / 1000;
        let status = failed
            .status
            .map_or_else(|| "try".to_owned(), |status| status.to_string());
        let look = if failed.status.is_some() {
            Look::Bad
        } else {
            Look::Plain
        };
        let place = failed.endpoint.as_deref().or(failed.upstream.as_deref());
        Row::new(look)
            .number(ago as f64, span(ago))
            .text(&status)
            .text(&failed.route)
            .text(place.unwrap_or("-"))
            .text(&failed.reason)
            .text(&failed.request_id)
    };
    live.failures.iter().map(row).collect()
}

/// The process, and all requests, in a line each.
pub(super) fn summary(live: &Live) -> (String, String) {
    let (process, total) = (&live.process, &live.total);
    let figures = &total.figures;
    let serving = if live.maintenance.all.on {
        "closed for maintenance"
    } else {
        &live.serving
    };
    (
        format!(
            "edgeway {}  {serving}  up {}  revision {}  cpu {:.0}%  memory {}",
            process.version,
            span(process.uptime_s),
            live.configuration.revision,
            process.cpu * 1e2,
            bytes(process.rss_bytes as f64),
        ),
        format!(
            "req/s {}  5xx/s {}  p50 {}  p95 {}  p99 {}  active {}  connections {}  sent/s {}",
            rate(figures.requests_per_s),
            rate(figures.classes.server_error),
            millis(figures.p50_ms),
            millis(figures.p95_ms),
            millis(figures.p99_ms),
            figures.in_flight,
            total.connections,
            bytes(figures.sent_bytes_per_s),
        ),
    )
}

/// All that the screen shows.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) live: Option<Live>,
    pub(super) page: Page,
    pub(super) selected: TableState,
    /// The column that lines are sorted by; none leaves them as they are told.
    pub(super) sorted: Option<usize>,
    backwards: bool,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    /// An endpoint that is taken out when it is confirmed.
    pub(super) asked: Option<(String, String, &'static str)>,
    /// What has come of the last thing that was done.
    pub(super) said: String,
    /// Requests per second so far.
    pub(super) past: VecDeque<u64>,
}

/// How many figures of the past are kept.
const PAST: usize = 240;

impl View {
    /// Takes new figures.
    pub(super) fn take(&mut self, live: Live) {
        if self.paused {
            return;
        }
        self.past.truncate(PAST - 1);
        self.past
            .push_front(live.total.figures.requests_per_s.round() as u64);
        self.live = Some(live);
    }

    pub(super) fn say(&mut self, said: String) {
        self.said = said;
    }

    /// The lines of this page, those that fit the filter, in their order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(live) = &self.live else {
            return Vec::new();
        };
        let mut rows = match self.page {
            Page::Routes => routes(live),
            Page::Endpoints => endpoints(live),
            Page::Failures => failures(live),
        };
        let words: Vec<_> = self
            .filter
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        rows.retain(|row| {
            let text = row.cells.join(" ").to_lowercase();
            words.iter().all(|word| text.contains(word))
        });
        if let Some(column) = self.sorted {
            rows.sort_by(|a, b| in_order(a, b, column));
            if self.backwards {
                rows.reverse();
            }
        }
        rows
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyCode) -> Act {
        if let Some((upstream, endpoint, state)) = self.asked.take() {
            return match key {
                KeyCode::Char('y') => Act::Turn {
                    upstream,
                    endpoint,
                    state,
                },
                _ => Act::Nothing,
            };
        }
        if self.typing {
            self.typed(key);
            return Act::Nothing;
        }
        self.said.clear();
        match key {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('1') => self.open(Page::Routes),
            KeyCode::Char('2') => self.open(Page::Endpoints),
            KeyCode::Char('3') => self.open(Page::Failures),
            KeyCode::Tab => self.open(match self.page {
                Page::Routes => Page::Endpoints,
                Page::Endpoints => Page::Failures,
                Page::Failures => Page::Routes,
            }),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Char('s') => {
                let next = self.sorted.map_or(0, |column| column + 1);
                self.sorted = (next < self.page.heads().len()).then_some(next);
            }
            KeyCode::Char('r') => self.backwards = !self.backwards,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('d') => self.ask("drain"),
            KeyCode::Char('m') => self.ask("maintenance"),
            KeyCode::Char('u') => return self.up(),
            _ => {}
        }
        Act::Nothing
    }

    fn typed(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn open(&mut self, page: Page) {
        self.page = page;
        self.sorted = None;
        self.selected = TableState::default();
    }

    fn go(&mut self, lines: isize) {
        let last = self.rows().len().saturating_sub(1);
        let now = self.selected.selected();
        let next = now.map_or(0, |now| now.saturating_add_signed(lines).min(last));
        self.selected.select(Some(next));
    }

    /// The endpoint of the line that is selected.
    fn endpoint(&self) -> Option<(String, String)> {
        let row = self.rows().into_iter().nth(self.selected.selected()?)?;
        row.of
    }

    /// Asks first: it takes an endpoint out.
    fn ask(&mut self, state: &'static str) {
        match self.endpoint() {
            Some((upstream, endpoint)) => self.asked = Some((upstream, endpoint, state)),
            None => NO_ENDPOINT.clone_into(&mut self.said),
        }
    }

    fn up(&mut self) -> Act {
        match self.endpoint() {
            Some((upstream, endpoint)) => Act::Turn {
                upstream,
                endpoint,
                state: "up",
            },
            None => {
                NO_ENDPOINT.clone_into(&mut self.said);
                Act::Nothing
            }
        }
    }
}

const NO_ENDPOINT: &str = "go to an endpoint first: 2, then the arrows";

/// Large numbers first, texts by the alphabet.
fn in_order(a: &Row, b: &Row, column: usize) -> Ordering {
    match (a.keys[column], b.keys[column]) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        _ => a.cells[column].cmp(&b.cells[column]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(rate: f64) -> serde_json::Value {
        json!({ "requests_per_s": rate, "classes": { "4xx": 0.0, "5xx": 0.0 }, "in_flight": 0,
                "p50_ms": null, "p95_ms": null, "p99_ms": null, "sent_bytes_per_s": 0.0 })
    }

    fn route(name: &str, rate: f64) -> serde_json::Value {
        let mut route = figures(rate);
        route["name"] = name.into();
        route["target"] = "upstream shop".into();
        route["closed"] = false.into();
        route
    }

    fn view() -> View {
        let mut total = figures(12.0);
        total["connections"] = 1.into();
        let endpoint = |name: &str, status: &str| {
            json!({ "name": name, "state": "up", "status": status, "weight": 1, "active": 0, "requests_per_s": 1.0,
                    "failures_per_s": 0.0, "p50_ms": 1.0, "p95_ms": 2.0, "check": { "reason": "refused" } })
        };
        let live = json!({
            "process": { "version": "1", "uptime_s": 61, "cpu": 0.5, "rss_bytes": 1024 }, "serving": "serving", "total": total,
            "routes": [route("b", 2.0), route("a", 10.0)], "failures": [], "at_ms": 0,
            "upstreams": [{ "name": "shop", "endpoints": [endpoint("one:1", "up"), endpoint("two:1", "unhealthy")] }],
            "configuration": { "revision": 3 }, "maintenance": { "all": { "on": false } },
        });
        let mut view = View::default();
        view.take(serde_json::from_value(live).unwrap());
        view
    }

    fn names(view: &View, column: usize) -> Vec<String> {
        let rows = view.rows().into_iter();
        rows.map(|row| row.cells[column].clone()).collect()
    }

    fn press(view: &mut View, keys: &str) -> Act {
        let mut last = Act::Nothing;
        for key in keys.chars() {
            last = view.key(KeyCode::Char(key));
        }
        last
    }

    #[test]
    fn lines_are_as_told_until_they_are_sorted() {
        let mut view = view();
        assert_eq!(names(&view, 0), ["b", "a"]);
        press(&mut view, "s");
        assert_eq!(names(&view, 0), ["a", "b"]);
        press(&mut view, "s");
        assert_eq!(names(&view, 1), ["10", "2.0"]);
        press(&mut view, "r");
        assert_eq!(names(&view, 1), ["2.0", "10"]);
        press(&mut view, "sssssss");
        assert_eq!(
            (names(&view, 0), view.sorted),
            (vec!["a".to_owned(), "b".to_owned()], Some(8))
        );
        press(&mut view, "s");
        assert_eq!(view.sorted, None);
    }

    #[test]
    fn a_filter_takes_keys_until_it_is_done() {
        let mut view = view();
        press(&mut view, "2/TWO q");
        assert_eq!(names(&view, 1), [""; 0]);
        view.key(KeyCode::Backspace);
        view.key(KeyCode::Enter);
        assert_eq!(names(&view, 1), ["two:1"]);
        view.key(KeyCode::Esc);
        assert_eq!(names(&view, 1), ["one:1", "two:1"]);
    }

    #[test]
    fn an_endpoint_is_taken_out_only_when_it_is_confirmed() {
        let mut view = view();
        assert_eq!(press(&mut view, "2d"), Act::Nothing);
        assert_eq!(view.said, NO_ENDPOINT);
        press(&mut view, "jjd");
        let asked = Some(("shop".to_owned(), "two:1".to_owned(), "drain"));
        assert_eq!(view.asked, asked);
        assert_eq!(press(&mut view, "n"), Act::Nothing);
        assert_eq!(view.asked, None);
        let turn = |state| Act::Turn {
            upstream: "shop".to_owned(),
            endpoint: "two:1".to_owned(),
            state,
        };
        assert_eq!(press(&mut view, "my"), turn("maintenance"));
        assert_eq!(press(&mut view, "u"), turn("up"));
        assert_eq!(press(&mut view, "q"), Act::Quit);
    }

    #[test]
    fn why_an_endpoint_does_not_serve_is_beside_its_state() {
        let mut view = view();
        press(&mut view, "2");
        assert_eq!(names(&view, 2)[1], "unhealthy: refused");
    }

    #[test]
    fn nothing_moves_while_it_is_held() {
        let (mut view, other) = (view(), view());
        press(&mut view, " ");
        view.take(other.live.unwrap());
        assert_eq!(view.past.len(), 1);
    }
}

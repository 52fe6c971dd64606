//! What the filter `waf` finds in requests that are known to be attacks, and in others: `make waf`.
//!
//! Reads `tests/waf/corpus/*.jsonl` (see `README.md` there), one request in each line, or one value, which is then
//! sent in a query, in a form and in JSON. Files whose names end in `tune` were looked at while the rules were
//! written; those in `held` were measured first. Prints what was refused by class, and ends with an error if, of either kind, it
//! is too little of SQL injections and scripts, or anything of what is harmless.
//!
//! `EDGEWAY_WAF_CORPUS` names a further folder of such files, which is only measured. `EDGEWAY_WAF_SHOW=sqli` prints
//! what was not refused of a class; `benign`, what was.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use edgeway_sdk::{Build, Exchange, Filter, Flow, Request, Resources};
use serde_json::{Value, json};

/// Of these classes, this share has to be refused.
const MUST: [(&str, f64); 2] = [("sqli", 0.95), ("xss", 0.95)];

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    let filter = filter();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("waf/corpus");
    let mut totals: BTreeMap<Part, Counts> = BTreeMap::new();
    for path in files(&own) {
        let counts = runtime.block_on(measure(&*filter, &path));
        totals.entry(Part::of(&path)).or_default().add(&counts);
    }
    let mut failed = false;
    for (part, counts) in &totals {
        println!("{part:?}, together");
        counts.print();
        failed |= !counts.is_enough(*part);
    }
    if let Some(folder) = env::var_os("EDGEWAY_WAF_CORPUS") {
        for path in files(Path::new(&folder)) {
            runtime.block_on(measure(&*filter, &path));
        }
    }
    if failed {
        println!("too little was refused, or too much");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn filter() -> Arc<dyn Filter> {
    let filters = edgeway_filters::standard();
    let entry = filters.get("waf").expect("the filter is in the list");
    let config = entry.read(&mut <dyn erased_serde::Deserializer<'_>>::erase(json!({})));
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    let filter = entry.build(config.expect("all of it can be left out"), &mut stage);
    filter.expect("all of it can be left out")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    paths.sort();
    paths
}

/// How many requests of a class there were, and how many of them were refused.
#[derive(Default)]
struct Counts(BTreeMap<String, (u32, u32)>);

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Its misses were looked at while the rules were written.
    Tuned,
    HeldOut,
    /// Pieces of attacks that are none by themselves, and harmless values that somebody has collected because they
    /// look like attacks: measured, without a limit.
    Odd,
}

impl Part {
    fn of(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        match name.rsplit('-').next() {
            Some("tune") => Self::Tuned,
            Some("held") => Self::HeldOut,
            _ => Self::Odd,
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        for (class, (all, refused)) in &other.0 {
            let entry = self.0.entry(class.clone()).or_default();
            entry.0 += all;
            entry.1 += refused;
        }
    }

    fn is_enough(&self, part: Part) -> bool {
        part == Part::Odd
            || self.0.iter().all(|(class, (all, refused))| {
                let share = f64::from(*refused) / f64::from(*all);
                let must = MUST.iter().find(|(known, _)| known == class);
                must.is_none_or(|(_, must)| share >= *must) && (class != "benign" || *refused == 0)
            })
    }

    #[expect(clippy::print_stdout, reason = "the figures are for people")]
    fn print(&self) {
        for (class, (all, refused)) in &self.0 {
            let share = 100.0 * f64::from(*refused) / f64::from(*all);
            println!("    {class:12} {refused:>6} of {all:>6} refused  {share:>6.2} %");
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are for people")]
async fn measure(filter: &dyn Filter, path: &Path) -> Counts {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shown = env::var("EDGEWAY_WAF_SHOW").unwrap_or_default();
    let mut counts = Counts::default();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).expect("each line is JSON");
        let class = entry["class"].as_str().expect("each entry has a class");
        for attempt in attempts(&entry) {
            let why = refusal(filter, &attempt).await;
            let (all, refused) = counts.0.entry(class.to_owned()).or_default();
            *all += 1;
            *refused += u32::from(why.is_some());
            if class == shown && why.is_some() == (class == "benign") {
                let body = String::from_utf8_lossy(&attempt.body);
                println!(
                    "{} {}\n    {}",
                    attempt.target,
                    body,
                    why.unwrap_or_default()
                );
            }
        }
    }
    println!("{}", path.file_stem().unwrap_or_default().to_string_lossy());
    counts.print();
    counts
}

/// A request to try.
struct Attempt {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Attempt {
    fn of(entry: &Value) -> Self {
        let headers = entry["headers"].as_object().into_iter().flatten();
        let headers =
            headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        Self {
            method: text("method"),
            target: text("target"),
            headers: headers.collect(),
            body: text("body").into(),
        }
    }

    fn post(content_type: &str, body: String) -> Self {
        Self {
            method: "POST".to_owned(),
            target: "/api/items".to_owned(),
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }
}

/// The request of a line, or those that its value is sent in.
fn attempts(entry: &Value) -> Vec<Attempt> {
    let Some(value) = entry["value"].as_str() else {
        return vec![Attempt::of(entry)];
    };
    let encoded = encoded(value);
    let query = Attempt {
        method: "GET".to_owned(),
        target: format!("/search?page=1&q={encoded}"),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let form = format!("id=7&text={encoded}");
    let json = json!({ "id": 7, "text": value }).to_string();
    vec![
        query,
        Attempt::post("application/x-www-form-urlencoded", form),
        Attempt::post("application/json", json),
    ]
}

fn encoded(value: &str) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(*byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    value.as_bytes().iter().map(byte).collect()
}

/// Why the filter refuses a request; nothing if it lets it pass.
async fn refusal(filter: &dyn Filter, attempt: &Attempt) -> Option<String> {
    // What is no target needs no filter to be refused.
    let built = http::Request::builder()
        .method(&*attempt.method)
        .uri(target(&attempt.target));
    let built = attempt
        .headers
        .iter()
        .fold(built, |built, (name, value)| built.header(name, value));
    let length = attempt.body.len();
    let built = built.header("content-length", length).body(());
    let Ok(request) = built else {
        return Some("it is no request".to_owned());
    };
    let (mut head, ()) = request.into_parts();
    let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
    match filter
        .request(&mut Request::new(&mut head, &mut exchange))
        .await
    {
        Ok(Flow::Respond(reply)) => return Some(reply.reason().unwrap_or_default().to_owned()),
        Err(error) => return Some(error.reason().to_owned()),
        Ok(_) => {}
    }
    let edit = &mut exchange.request_edits.first_mut()?.edit;
    let out = edit.edit(attempt.body.clone(), true);
    match out {
        Ok(passed) => {
            assert_eq!(passed, attempt.body, "what passes is as it was");
            None
        }
        Err(error) => Some(error.reason().to_owned()),
    }
}

/// As a client writes it.
fn target(written: &str) -> String {
    let path = written.strip_prefix("http://").map_or(written, |rest| {
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
    });
    let path = path.split('#').next().unwrap_or_default();
    path.chars()
        .map(|c| {
            if c.is_ascii_graphic() {
                c.to_string()
            } else {
                encoded(&c.to_string())
            }
        })
        .collect()
}

//! Compressing while answering, beside nginx and Caddy: the processor time of a page, and what is left of it.
//!
//! Everybody has the page as a file and compresses it for each request. Less work is easily had by compressing less, so
//! edgeway's gzip is compared with that level of nginx which costs least of those that leave no more.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::client::Client;
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result, Trouble};
use crate::http;
use crate::scenario::{After, Figure, Finding, Scenario, Stop, Upstream};
use crate::scenarios::median;
use crate::text;

/// Starts everyone.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let site = bench.folder("site")?;
    let page = text::orders(PAGE);
    bench.file("site/page.json", &page)?;
    let folder = site.display().to_string();
    let mut entrants = Vec::new();
    for (name, level) in NGINX {
        entrants.push(Entrant::new(nginx(bench, name, level, &folder)?, "gzip"));
    }
    for (name, coding) in [("caddy, gzip", "gzip"), ("caddy, zstd", "zstd")] {
        let site = format!("    root * {folder}\n    encode {coding}\n    file_server");
        entrants.push(Entrant::new(bench.caddy(name, &site)?, coding));
    }
    if bench.has_edgeway() {
        for (name, coding) in [
            (GZIP, "gzip"),
            ("edgeway, zstd", "zstd"),
            ("edgeway, br", "br"),
        ] {
            let contestant = bench.edgeway(name, &routes(&folder, coding))?;
            entrants.push(Entrant::new(contestant, coding));
        }
    }
    let after: After = Box::new(move |_, stop| {
        for round in 0..ROUNDS {
            for turn in 0..entrants.len() {
                // Nobody always comes after the same one.
                let who = (turn + round) % entrants.len();
                entrants[who].compress(&page, stop)?;
            }
        }
        Ok(findings(&entrants))
    });
    Ok(Scenario {
        versions: vec![bench.caddy_version()?],
        after: Some(after),
        ..Scenario::new(Figure::Cpu, Vec::new(), Vec::new(), Upstream::Nobody)
    })
}

fn nginx(bench: &Bench, name: &'static str, level: u32, folder: &str) -> Result<Contestant> {
    bench.nginx(name, "", |address| {
        format!(
            "    sendfile on;
    types {{ application/json json; }}
    gzip on;
    gzip_types application/json;
    gzip_comp_level {level};
    server {{
        listen {address};
        location / {{ root \"{folder}\"; }}
    }}"
        )
    })
}

fn routes(folder: &str, coding: &str) -> String {
    format!(
        "routes:
  - match: {{ path: / }}
    filters: [compress: {{ codings: [{coding}] }}]
    files: {{ root: \"{folder}\" }}
"
    )
}

/// Who compresses, and how it goes.
struct Entrant {
    contestant: Contestant,
    coding: &'static str,
    /// Microseconds of processor time for a page, in each round.
    spent: Vec<f64>,
    /// Bytes that are left.
    left: usize,
}

impl Entrant {
    fn new(contestant: Contestant, coding: &'static str) -> Self {
        Self {
            contestant,
            coding,
            spent: Vec::new(),
            left: 0,
        }
    }

    fn compress(&mut self, page: &[u8], stop: &Stop) -> Result<()> {
        let (name, coding) = (self.contestant.name, self.coding);
        let accepted = format!("Accept-Encoding: {coding}");
        let request = http::get("/page.json", &[&accepted]);
        let mut client = Client::connect(self.contestant.address, None)
            .trouble(|| format!("cannot connect to {name}"))?;
        let mut once = || {
            stop.check()?;
            let mut body = Vec::new();
            let coded = client.download(name, &request, |piece| body.extend(piece))?;
            match coded.as_deref() == Some(coding) {
                true => Ok(body),
                false => Err(Fault::Answer(format!("{name}: not compressed by {coding}"))),
            }
        };
        let body = once()?;
        if coding == "gzip" {
            unpacks_to(page, &body).map_err(|what| Fault::Answer(format!("{name}: {what}")))?;
        }
        let before = self.contestant.process.cpu()?;
        for _ in 0..PAGES {
            // It may be cut elsewhere, but not be another.
            let again = once()?;
            if again.len().abs_diff(body.len()) > body.len() / 50 {
                return Err(Fault::Answer(format!("{name}: another length")));
            }
        }
        let spent = self.contestant.process.cpu()?.saturating_sub(before);
        self.spent
            .push(spent.as_secs_f64() * 1e6 / f64::from(PAGES));
        self.left = body.len();
        Ok(())
    }
}

fn unpacks_to(page: &[u8], body: &[u8]) -> std::result::Result<(), String> {
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(body).read_to_end(&mut unpacked);
    read.map_err(|error| error.to_string())?;
    match unpacked == page {
        true => Ok(()),
        false => Err("another page".to_owned()),
    }
}

fn findings(entrants: &[Entrant]) -> Vec<Finding> {
    let finding = |what: String, measured: f64, at_most| Finding {
        what,
        measured,
        at_most,
    };
    let mut findings = Vec::new();
    for entrant in entrants {
        let name = entrant.contestant.name;
        let spent = median(&entrant.spent).round();
        findings.push(finding(
            format!("{name}: us of processor time"),
            spent,
            None,
        ));
        let left = entrant.left as f64;
        findings.push(finding(format!("{name}: bytes left of {PAGE}"), left, None));
    }
    let named = |name: &str| {
        entrants
            .iter()
            .find(|entrant| entrant.contestant.name == name)
    };
    let Some(ours) = named(GZIP) else {
        return findings;
    };
    let of_nginx = NGINX.iter().filter_map(|(name, _)| named(name));
    // A hundredth more is no more.
    let rivals = of_nginx.filter(|nginx| nginx.left as f64 <= ours.left as f64 * 1.01);
    let rival = rivals.min_by(|one, other| median(&one.spent).total_cmp(&median(&other.spent)));
    if let Some(rival) = rival {
        let pairs = ours.spent.iter().zip(&rival.spent);
        let ratios: Vec<_> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        let name = rival.contestant.name;
        let ratio = (median(&ratios) * 100.0).round() / 100.0;
        findings.push(finding(format!("{GZIP} to {name}"), ratio, Some(1.0)));
    }
    findings
}

const GZIP: &str = "edgeway, gzip";
const NGINX: [(&str, u32); 6] = [
    ("nginx, level 1", 1),
    ("nginx, level 2", 2),
    ("nginx, level 3", 3),
    ("nginx, level 4", 4),
    ("nginx, level 5", 5),
    ("nginx, level 6", 6),
];
const PAGE: usize = 100 << 10;
const ROUNDS: usize = 5;
const PAGES: u32 = 200;

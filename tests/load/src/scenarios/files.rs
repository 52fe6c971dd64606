//! Files, beside nginx and Caddy: small ones, a large one, and such as were compressed beforehand.
//!
//! Small files are asked for over many connections, in rounds. Those of 100 MiB are asked for over one, again and again, and
//! compared byte by byte as they come; of that there are findings.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};

use crate::arrivals::Arrivals;
use crate::client::Client;
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result, Trouble};
use crate::http;
use crate::load::{Answers, Plan};
use crate::scenario::{After, Figure, Finding, Job, Scenario, Stop, Upstream};
use crate::scenarios::median;
use crate::text;

/// Starts everyone.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let site = bench.folder("site")?;
    let mut jobs = Vec::new();
    for (title, name, size) in SMALL {
        let (plain, packed) = write(&site, name, &text::orders(size))?;
        jobs.push((title[0], false, plan(name, false, plain)));
        jobs.push((title[1], true, plan(name, true, packed)));
    }
    let large = text::orders(LARGE_BLOCK).repeat(LARGE / LARGE_BLOCK);
    let (plain, packed) = write(&site, LARGE_NAME, &large)?;
    let contestants = contestants(bench, &site)?;
    let everyone: Vec<usize> = (0..contestants.len()).collect();
    // Caddy does not say how long it is.
    let packs = everyone.iter().copied();
    let packs: Vec<usize> = packs.filter(|at| contestants[*at].name != CADDY).collect();
    let jobs = jobs.into_iter().map(|(title, packed, plan)| Job {
        title,
        contestants: if packed { &packs } else { &everyone }.clone(),
        plan,
        at_most: vec![(EDGEWAY, 1.2)],
    });
    let jobs = jobs.collect();
    let after: After = Box::new(move |contestants, stop| {
        let mut findings = downloads(contestants, &plain, false, stop)?;
        findings.extend(downloads(contestants, &packed, true, stop)?);
        Ok(findings)
    });
    Ok(Scenario {
        versions: vec![bench.caddy_version()?],
        after: Some(after),
        ..Scenario::new(Figure::Cpu, contestants, jobs, Upstream::Nobody)
    })
}

/// Writes a file, and what gzip makes of it beside it.
fn write(site: &Path, name: &str, content: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let put = |path: PathBuf, content: &[u8]| {
        fs::write(&path, content).trouble(|| format!("cannot write `{}`", path.display()))
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let packed = encoder.write_all(content).and_then(|()| encoder.finish());
    let packed = packed.trouble(|| "cannot compress a file".to_owned())?;
    put(site.join(name), content)?;
    put(site.join(format!("{name}.gz")), &packed)?;
    Ok((content.to_vec(), packed))
}

fn contestants(bench: &Bench, site: &Path) -> Result<Vec<Contestant>> {
    let folder = site.display();
    let mut contestants = vec![
        nginx(bench, NGINX, "", site)?,
        nginx(bench, OPEN, OPEN_FILES, site)?,
        bench.caddy(
            CADDY,
            &format!("    root * {folder}\n    file_server {{\n        precompressed gzip\n    }}"),
        )?,
    ];
    if bench.has_edgeway() {
        let routes = format!(
            "routes:
  - match: {{ path: / }}
    files: {{ root: \"{folder}\", precompressed: [gzip] }}
"
        );
        contestants.push(bench.edgeway(EDGEWAY, &routes)?);
    }
    Ok(contestants)
}

fn nginx(bench: &Bench, name: &'static str, extra: &str, site: &Path) -> Result<Contestant> {
    let folder = site.display();
    bench.nginx(name, "", |address| {
        format!(
            "    sendfile on;
    tcp_nopush on;{extra}
    types {{ application/json json; }}
    server {{
        listen {address};
        location / {{
            root \"{folder}\";
            gzip_static on;
        }}
    }}"
        )
    })
}

fn plan(name: &str, packed: bool, body: Vec<u8>) -> Plan {
    Plan {
        arrivals: Arrivals::WhenAnswered,
        requests: vec![request(name, packed)],
        answers: Answers::AnyOf(vec![body]),
        watched: None,
    }
}

fn request(name: &str, packed: bool) -> Vec<u8> {
    let accepted: &[&str] = match packed {
        true => &["Accept-Encoding: gzip"],
        false => &[],
    };
    http::get(&format!("/{name}"), accepted)
}

/// What each spends on the large file.
fn downloads(
    contestants: &[Contestant],
    body: &[u8],
    packed: bool,
    stop: &Stop,
) -> Result<Vec<Finding>> {
    let mut spent = vec![Vec::new(); contestants.len()];
    for round in 0..ROUNDS {
        for turn in 0..contestants.len() {
            // Nobody always comes after the same one.
            let who = (turn + round) % contestants.len();
            spent[who].push(download(&contestants[who], body, packed, stop)?);
        }
    }
    let what = match packed {
        true => "100 MiB, gzip made before",
        false => "100 MiB",
    };
    let mut findings = Vec::new();
    for (contestant, spent) in contestants.iter().zip(&spent) {
        findings.push(Finding {
            what: format!("{}: ms of processor time for {what}", contestant.name),
            measured: (median(spent) * 100.0).round() / 100.0,
            at_most: None,
        });
    }
    if let ([nginx, .., ours], true) = (&*spent, contestants.len() == EVERYONE) {
        let ratios = nginx.iter().zip(ours).map(|(nginx, ours)| ours / nginx);
        let ratios: Vec<_> = ratios.collect();
        findings.push(Finding {
            what: format!("edgeway to nginx, {what}"),
            measured: (median(&ratios) * 100.0).round() / 100.0,
            at_most: Some(1.5),
        });
    }
    Ok(findings)
}

/// In milliseconds of processor time, for each of several downloads.
fn download(contestant: &Contestant, body: &[u8], packed: bool, stop: &Stop) -> Result<f64> {
    let name = contestant.name;
    let mut client = Client::connect(contestant.address, None)
        .trouble(|| format!("cannot connect to {name}"))?;
    let request = request(LARGE_NAME, packed);
    let mut once = || {
        stop.check()?;
        let (mut rest, mut right) = (body, true);
        client.download(name, &request, |piece| {
            match rest.split_at_checked(piece.len()) {
                Some((expected, after)) if expected == piece => rest = after,
                _ => right = false,
            }
        })?;
        match right && rest.is_empty() {
            true => Ok(()),
            false => Err(Fault::Answer(format!("{name}: another file"))),
        }
    };
    once()?;
    // The clock of processes ticks every 10 ms: one tick may not decide.
    let downloads = u32::try_from(DOWNLOADED / body.len().max(1))
        .unwrap_or(1)
        .max(1);
    let before = contestant.process.cpu()?;
    for _ in 0..downloads {
        once()?;
    }
    let spent = contestant.process.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e3 / f64::from(downloads))
}

const EDGEWAY: &str = "edgeway";
const CADDY: &str = "caddy";
const NGINX: &str = "nginx";
/// With what spares it opening files, and looking at them for a minute.
const OPEN: &str = "nginx, open files";
const OPEN_FILES: &str = "
    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 60s;";
/// With edgeway.
const EVERYONE: usize = 4;

/// Titles plain and packed, name and size.
const SMALL: [([&str; 2], &str, usize); 2] = [
    (["4 KiB", "4 KiB, gzip made before"], "small.json", 4 << 10),
    (
        ["100 KiB", "100 KiB, gzip made before"],
        "page.json",
        100 << 10,
    ),
];
const LARGE_NAME: &str = "large.json";
const LARGE: usize = 100 << 20;
const LARGE_BLOCK: usize = 10 << 20;
const ROUNDS: usize = 5;
/// Bytes of all downloads between two looks at the clock.
const DOWNLOADED: usize = 1000 << 20;

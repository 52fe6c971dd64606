//! What a cache keeps on a disk: it is there after a restart, also a sudden one, within its limits, and never
//! anything else than what an endpoint has sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use edgeway_tests::{Answer, Endpoint, Gateway, PATIENCE, Reaction, Request, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cache_surge::{ms, pages, told};

/// A gateway whose only route keeps pages for an hour, in this folder as well.
fn gateway(endpoint: &Endpoint, folder: &Path) -> Gateway {
    with(endpoint, folder, "memory: 4MiB", "max_size: 64MiB")
}

fn with(endpoint: &Endpoint, folder: &Path, memory: &str, disk: &str) -> Gateway {
    Gateway::start(&configuration(endpoint, folder, memory, disk))
}

fn configuration(endpoint: &Endpoint, folder: &Path, memory: &str, disk: &str) -> String {
    let folder = folder.display();
    format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        caches: {{ default: {{ {memory}, disk: {{ path: {folder}, {disk} }} }} }}
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes: [{{ upstream: pool, cache: {{ ttl: 1h }} }}]
        "
    )
}

fn folder() -> TempDir {
    TempDir::new().unwrap()
}

/// What the admin listener tells of the disk.
fn disk(gateway: &Gateway) -> Value {
    zone(gateway)["disk"].clone()
}

fn zone(gateway: &Gateway) -> Value {
    let view = Request::to(gateway.address_of("admin"), "GET", "/v1/caches/default").send();
    assert_eq!(view.status, 200, "{}", view.text());
    view.json()
}

fn number(view: &Value, key: &str) -> u64 {
    view[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {view}"))
}

/// Waits until so many objects have been written.
#[track_caller]
fn are_written(gateway: &Gateway, objects: u64) {
    eventually(PATIENCE, || number(&disk(gateway), "written") >= objects);
}

#[track_caller]
fn is_ready(gateway: &Gateway) {
    eventually(PATIENCE, || disk(gateway)["state"] == json!("working"));
}

/// All files below a folder, hidden ones as well.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Of all files that are there, in bytes. They come and go meanwhile.
fn size(folder: &Path) -> u64 {
    let sizes = files(folder)
        .into_iter()
        .filter_map(|file| fs::metadata(file).ok());
    sizes.map(|file| file.len()).sum()
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 64);
    files(folder).into_iter().filter(large).collect()
}

/// The same host at each start, though its port is another one.
fn ask(gateway: &Gateway, method: &str, target: &str) -> Request<'static> {
    gateway.request(method, target).host("a.test")
}

#[track_caller]
fn get(gateway: &Gateway, target: &str) -> Answer {
    ask(gateway, "GET", target).send()
}

#[track_caller]
fn is_hit(answer: &Answer) {
    assert!(told(answer).contains("hit"), "{answer:?}");
}

#[test]
fn a_page_is_there_after_a_restart_as_it_was() {
    let endpoint = pages(|_, page| {
        page.header("ETag", "\"v1\"")
            .header("Content-Type", "text/x-page")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
    });
    let folder = folder();
    let mut first = gateway(&endpoint, folder.path());
    assert_eq!(get(&first, "/a?b=c").text(), "page 1");
    assert!(first.stop().success());
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    let answer = get(&second, "/a?b=c");
    is_hit(&answer);
    assert_eq!((answer.status, answer.text()), (200, "page 1"));
    assert_eq!(answer.header("content-type"), Some("text/x-page"));
    assert_eq!(answer.header_all("x-twice"), ["one", "two"]);
    let same = ask(&second, "GET", "/a?b=c");
    assert_eq!(same.header("If-None-Match", "\"v1\"").send().status, 304);
    let head = ask(&second, "HEAD", "/a?b=c").send();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("6"))
    );
    let part = ask(&second, "GET", "/a?b=c").header("Range", "bytes=-1");
    assert_eq!(part.send().text(), "1");
    assert_eq!(endpoint.requests(), 1);
    let (zone, disk) = (zone(&second), disk(&second));
    assert_eq!(
        (number(&disk, "hits"), number(&disk, "reads")),
        (1, 1),
        "{disk}"
    );
    assert_eq!(number(&zone, "objects"), 1, "{zone}");
    assert_eq!(zone["requests"]["miss"], json!(0));
}

#[test]
fn its_age_goes_on_while_nothing_runs() {
    let endpoint = pages(|_, page| page.header("Cache-Control", "max-age=6"));
    let folder = folder();
    let mut first = gateway(&endpoint, folder.path());
    get(&first, "/");
    are_written(&first, 1);
    first.stop();
    thread::sleep(ms(2100));
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    let answer = get(&second, "/");
    is_hit(&answer);
    let age: u64 = answer.header("age").unwrap().parse().unwrap();
    assert!((2..=5).contains(&age), "{age}");
    eventually(PATIENCE, || get(&second, "/").text() == "page 2");
}

#[test]
fn variants_are_kept_apart_over_a_restart() {
    let endpoint = Endpoint::setup("pages")
        .answers(|request| {
            let language = request.header_all("accept-language").join(",");
            let page = Reaction::status(200).header("Vary", "Accept-Language");
            page.body(format!("in {language}"))
        })
        .start();
    let folder = folder();
    let ask = |gateway: &Gateway, language: &str| {
        let request = ask(gateway, "GET", "/");
        request.header("Accept-Language", language).send()
    };
    let first = gateway(&endpoint, folder.path());
    for language in ["de", "fr", "it"] {
        assert_eq!(ask(&first, language).text(), format!("in {language}"));
    }
    are_written(&first, 3);
    drop(first);
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    for language in ["it", "de", "fr"] {
        let answer = ask(&second, language);
        is_hit(&answer);
        assert_eq!(answer.text(), format!("in {language}"));
    }
    assert_eq!(ask(&second, "en").text(), "in en");
    assert_eq!(endpoint.requests(), 4);
}

#[test]
fn what_had_to_leave_memory_is_served_from_the_disk() {
    let endpoint = bodies();
    let folder = folder();
    let gateway = with(&endpoint, folder.path(), "memory: 1MiB", "max_size: 64MiB");
    is_ready(&gateway);
    for page in 0..100 {
        check(&gateway, page);
    }
    are_written(&gateway, 100);
    for page in (0..100).rev() {
        check(&gateway, page);
    }
    assert_eq!(endpoint.requests(), 100);
    let (zone, disk) = (zone(&gateway), disk(&gateway));
    assert!(number(&zone, "bytes") <= 1 << 20, "{zone}");
    assert_eq!(number(&disk, "objects"), 100, "{disk}");
    // No more than 32 of them fit into memory.
    assert!(number(&disk, "hits") >= 68, "{disk}");
}

/// Pages of 30 000 bytes and more, each of which tells by itself whether it is whole and where it belongs.
fn bodies() -> Endpoint {
    Endpoint::setup("pages")
        .answers(|request| Reaction::status(200).body(body(&request.target)))
        .start()
}

fn body(target: &str) -> Vec<u8> {
    let number: usize = target.trim_start_matches('/').parse().unwrap();
    let line = format!("{target} is here, ");
    let mut body = line.repeat((30_000 + number * 10) / line.len());
    body.push_str("and ends.");
    body.into_bytes()
}

#[track_caller]
fn check(gateway: &Gateway, page: usize) {
    let target = format!("/{page}");
    let answer = get(gateway, &target);
    assert_eq!(answer.status, 200);
    assert!(
        answer.body == body(&target),
        "{target}: {} bytes",
        answer.body.len()
    );
}

#[test]
fn killed_twenty_times_while_it_writes_it_starts_again_and_serves_nothing_broken() {
    let endpoint = bodies();
    let folder = folder();
    let mut kept = 0;
    for round in 0..20 {
        let gateway = with(&endpoint, folder.path(), "memory: 1MiB", "max_size: 8MiB");
        is_ready(&gateway);
        kept += number(&disk(&gateway), "objects");
        let killed = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in 0..4 {
                let (gateway, killed) = (&gateway, &killed);
                scope.spawn(move || {
                    for step in 0.. {
                        let page = (round * 13 + client * 50 + step * 7) % 300;
                        let target = format!("/{page}");
                        match ask(gateway, "GET", &target).attempt() {
                            Ok(answer) => {
                                assert!(answer.body == body(&target), "round {round}, {target}");
                            }
                            Err(_) => assert!(killed.load(Ordering::SeqCst), "round {round}"),
                        }
                        if killed.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                });
            }
            // Some are killed in the first writes, some in the midst of evictions.
            eventually(PATIENCE, || number(&disk(&gateway), "written") > round * 3);
            killed.store(true, Ordering::SeqCst);
            kill(&gateway);
        });
    }
    assert!(kept > 0, "nothing was kept");
    let gateway = with(&endpoint, folder.path(), "memory: 1MiB", "max_size: 8MiB");
    is_ready(&gateway);
    for page in 0..300 {
        check(&gateway, page);
    }
    let disk = disk(&gateway);
    assert!(number(&disk, "hits") > 0, "{disk}");
}

fn kill(gateway: &Gateway) {
    let pid = rustix::process::Pid::from_raw(gateway.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn files_that_were_cut_or_changed_are_fetched_anew() {
    let endpoint = bodies();
    let folder = folder();
    let first = gateway(&endpoint, folder.path());
    for page in 0..9 {
        check(&first, page);
    }
    are_written(&first, 9);
    drop(first);
    let files = objects(folder.path());
    assert_eq!(files.len(), 9, "{files:?}");
    for (place, file) in files.iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        match place % 3 {
            0 => bytes.truncate(middle),
            1 => bytes[middle] ^= 1,
            _ => bytes[9] ^= 1,
        }
        fs::write(file, bytes).unwrap();
    }
    fs::write(folder.path().join("README"), "not an object").unwrap();
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    for page in 0..9 {
        check(&second, page);
    }
    assert_eq!(endpoint.requests(), 18);
    let disk = disk(&second);
    assert_eq!(number(&disk, "discarded"), 9, "{disk}");
}

#[test]
fn the_folder_never_takes_more_than_its_size() {
    let endpoint = bodies();
    let folder = folder();
    let limit: u64 = 1 << 20;
    let gateway = with(&endpoint, folder.path(), "memory: 1MiB", "max_size: 1MiB");
    is_ready(&gateway);
    for page in 0..120 {
        check(&gateway, page);
        assert!(size(folder.path()) <= limit, "{}", size(folder.path()));
    }
    eventually(PATIENCE, || {
        number(&disk(&gateway), "written") + number(&disk(&gateway), "dropped") == 120
    });
    assert!(size(folder.path()) <= limit, "{}", size(folder.path()));
    let disk = disk(&gateway);
    assert!(number(&disk, "objects") > 10, "{disk}");
    assert!(number(&disk, "evictions") > 0, "{disk}");
}

#[test]
fn what_nobody_asks_for_is_removed() {
    let endpoint = pages(|_, page| page);
    let folder = folder();
    let gateway = with(
        &endpoint,
        folder.path(),
        "memory: 4MiB, inactive: 1s",
        "max_size: 64MiB, inactive: 1s",
    );
    is_ready(&gateway);
    get(&gateway, "/");
    are_written(&gateway, 1);
    assert_eq!(objects(folder.path()).len(), 1);
    eventually(4 * PATIENCE, || number(&disk(&gateway), "objects") == 0);
    eventually(PATIENCE, || objects(folder.path()).is_empty());
    eventually(PATIENCE, || number(&zone(&gateway), "objects") == 0);
    assert_eq!(get(&gateway, "/").text(), "page 2");
}

#[test]
fn what_is_replaced_in_seconds_is_not_written_and_what_was_before_is_forgotten() {
    let endpoint = pages(|request, page| match request.number {
        1 => page.header("Cache-Control", "max-age=3600"),
        _ => page.header("Cache-Control", "max-age=2"),
    });
    let folder = folder();
    let mut first = gateway(&endpoint, folder.path());
    is_ready(&first);
    assert_eq!(get(&first, "/").text(), "page 1");
    are_written(&first, 1);
    let anew = ask(&first, "GET", "/").header("Cache-Control", "no-cache");
    assert_eq!(anew.send().text(), "page 2");
    eventually(PATIENCE, || number(&disk(&first), "objects") == 0);
    assert!(first.stop().success());
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    assert_eq!(get(&second, "/").text(), "page 3");
}

#[test]
fn what_is_found_to_be_still_good_is_so_after_a_restart() {
    let endpoint = pages(|request, page| {
        let known = request.header_all("if-none-match") == ["\"v1\""];
        let page = if known { Reaction::status(304) } else { page };
        page.header("ETag", "\"v1\"")
            .header("X-Asked", request.number.to_string())
    });
    let folder = folder();
    let first = gateway(&endpoint, folder.path());
    get(&first, "/");
    are_written(&first, 1);
    let anew = ask(&first, "GET", "/").header("Cache-Control", "no-cache");
    assert_eq!(anew.send().text(), "page 1");
    are_written(&first, 2);
    drop(first);
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    let answer = get(&second, "/");
    is_hit(&answer);
    assert_eq!(
        (answer.text(), answer.header("x-asked")),
        ("page 1", Some("2"))
    );
    assert_eq!(endpoint.requests(), 2);
}

/// Served while a newer one is fetched.
#[track_caller]
fn is_stale(gateway: &Gateway, target: &str) {
    let answer = get(gateway, target);
    assert!(told(&answer).contains("hit; ttl=-"), "{answer:?}");
    eventually(PATIENCE, || {
        told(&get(gateway, target)).contains("hit; ttl=3")
    });
}

fn purge(gateway: &Gateway, wish: &Value) -> Value {
    let request = Request::to(
        gateway.address_of("admin"),
        "POST",
        "/v1/caches/default/purge",
    );
    let request = request.header("Content-Type", "application/json");
    let answer = request.body(wish.to_string()).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_purge_means_what_only_the_disk_has_and_holds_after_a_restart() {
    let endpoint = pages(|_, page| page.header("ETag", "\"v1\""));
    let folder = folder();
    let first = gateway(&endpoint, folder.path());
    for page in ["/a/1", "/a/2", "/b/1", "/b/2", "/c"] {
        get(&first, page);
    }
    are_written(&first, 5);
    drop(first);
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    let host = "a.test";
    let hard = purge(&second, &json!({ "prefix": format!("http://{host}/a/") }));
    assert_eq!(hard["purged"], json!(2), "{hard}");
    let soft = purge(
        &second,
        &json!({ "prefix": format!("http://{host}/b/"), "soft": true }),
    );
    assert_eq!(soft["purged"], json!(2), "{soft}");
    let asked = endpoint.requests();
    assert!(told(&get(&second, "/a/1")).contains("fwd=uri-miss"));
    is_stale(&second, "/b/1");
    drop(second);
    let third = gateway(&endpoint, folder.path());
    is_ready(&third);
    assert!(told(&get(&third, "/a/2")).contains("fwd=uri-miss"));
    is_stale(&third, "/b/2");
    is_hit(&get(&third, "/c"));
    eventually(PATIENCE, || endpoint.requests() == asked + 4);
    purge(&third, &json!({ "all": true }));
    assert_eq!(number(&disk(&third), "objects"), 0);
    assert!(told(&get(&third, "/c")).contains("fwd=uri-miss"));
}

#[test]
fn a_change_through_the_gateway_forgets_what_only_the_disk_has() {
    let endpoint = pages(|_, page| page);
    let folder = folder();
    let first = gateway(&endpoint, folder.path());
    get(&first, "/");
    are_written(&first, 1);
    drop(first);
    let second = gateway(&endpoint, folder.path());
    is_ready(&second);
    assert_eq!(ask(&second, "POST", "/").send().status, 200);
    assert_eq!(get(&second, "/").text(), "page 3");
}

#[test]
fn a_folder_may_come_and_go_with_a_reload() {
    let endpoint = pages(|_, page| page);
    let (folder, other) = (folder(), folder());
    let on = |path: &Path, size: &str| configuration(&endpoint, path, "memory: 4MiB", size);
    let kept = format!(
        ", disk: {{ path: {}, max_size: 64MiB }}",
        folder.path().display()
    );
    let plain = on(folder.path(), "max_size: 64MiB").replace(&kept, "");
    let gateway = Gateway::start(&plain);
    get(&gateway, "/0");
    assert_eq!(disk(&gateway), Value::Null);
    assert!(gateway.reload(&on(folder.path(), "max_size: 64MiB")));
    is_ready(&gateway);
    is_hit(&get(&gateway, "/0"));
    get(&gateway, "/1");
    are_written(&gateway, 1);
    assert!(gateway.reload(&on(folder.path(), "max_size: 32MiB")));
    let view = disk(&gateway);
    assert_eq!(
        (number(&view, "limit"), number(&view, "objects")),
        (32 << 20, 1),
        "{view}"
    );
    assert!(gateway.reload(&on(other.path(), "max_size: 64MiB")));
    is_ready(&gateway);
    assert_eq!(number(&disk(&gateway), "objects"), 0);
    get(&gateway, "/2");
    are_written(&gateway, 1);
    assert!(gateway.reload(&plain));
    assert_eq!(disk(&gateway), Value::Null);
    for page in ["/0", "/1", "/2"] {
        is_hit(&get(&gateway, page));
    }
    assert_eq!(
        (objects(folder.path()).len(), objects(other.path()).len()),
        (1, 1)
    );
}

#[test]
fn without_a_folder_that_can_be_used_it_serves_all_the_same_and_says_so_once() {
    let endpoint = pages(|_, page| page);
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let gateway = gateway(&endpoint, &file.join("cache"));
    gateway.wait_for_log("cache");
    assert_eq!(get(&gateway, "/").text(), "page 1");
    is_hit(&get(&gateway, "/"));
    assert_eq!(disk(&gateway)["state"], json!("failing"));
    thread::sleep(ms(1500));
    let warnings = gateway.log().matches("Z warn ").count();
    assert_eq!(warnings, 1, "{}", gateway.log());
}

#[test]
fn a_second_gateway_does_without_a_folder_that_is_in_use_until_it_is_free() {
    let endpoint = pages(|_, page| page);
    let folder = folder();
    let mut first = gateway(&endpoint, folder.path());
    is_ready(&first);
    get(&first, "/");
    are_written(&first, 1);
    let second = gateway(&endpoint, folder.path());
    eventually(PATIENCE, || disk(&second)["state"] == json!("occupied"));
    assert_eq!(get(&second, "/").text(), "page 2");
    is_hit(&get(&first, "/"));
    first.stop();
    is_ready(&second);
    assert_eq!(number(&disk(&second), "discarded"), 0);
    is_hit(&get(&second, "/"));
}

//! Another program in the place of the running gateway.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Answer, Connection, Echo, Finished, Gateway, Http2, PATIENCE, Request, Upstream, eventually,
    load_during, program,
};
use rustix::process::Signal;
use tempfile::TempDir;

/// A folder with a link to the program, which can be turned to another one.
struct Installed {
    folder: TempDir,
}

impl Installed {
    fn new() -> Self {
        let this = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        this.is(&program("edgeway"));
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("edgeway")
    }

    /// Puts a program at the path, as a package does: never half of it.
    fn is(&self, program: &Path) {
        let draft = self.folder.path().join("draft");
        symlink(program, &draft).unwrap();
        fs::rename(draft, self.path()).unwrap();
    }

    /// Puts a script there.
    fn is_script(&self, script: &str) {
        let draft = self.folder.path().join("script");
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(draft, self.path()).unwrap();
    }

    fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Starts it, with this configuration and an admin listener.
    fn start(&self, yaml: &str) -> Gateway {
        let setup = Gateway::setup(&format!(
            "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\nadmin: {{ bind: 'unix:{}' }}\n{yaml}",
            self.admin().display()
        ));
        setup.program(self.path().to_str().unwrap()).start()
    }

    /// Has it upgraded by a call, and gives the answer of the call.
    fn upgrade(&self, gateway: &Gateway, query: &str) -> (Result<u32, String>, Answer) {
        let mut answer = None;
        let done = gateway.upgrade_by(|| answer = Some(self.ask(query)));
        (done, answer.unwrap())
    }

    fn ask(&self, query: &str) -> Answer {
        let target = format!("/v1/upgrade{query}");
        let request = Request::to(&*self.admin(), "POST", &target).host("localhost");
        request.header("Content-Type", "application/json").send()
    }

    /// Runs a command of the command line.
    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program("edgeway"));
        let output = command.args(arguments).output().unwrap();
        Finished {
            code: output.status.code(),
            output: String::from_utf8(output.stdout).unwrap(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn to(endpoint: impl std::fmt::Display, rest: &str) -> String {
    format!(
        "{rest}\nupstreams: {{ app: {{ endpoints: [{endpoint}] }} }}\nroutes: [{{ upstream: app }}]"
    )
}

const GREETING: &str = "routes: [{ respond: { text: hello } }]";

/// Whether a process has ended, also if nobody has asked for its end yet.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.contains(") Z ")) || !Path::new(&format!("/proc/{pid}")).exists()
}

fn expect_end(pid: u32) {
    eventually(Duration::from_secs(40), || has_ended(pid));
}

/// What the descriptors of a process are.
fn open(pid: u32) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

// ---- connections ------------------------------------------------------------------------------

/// Upgrades again and again while requests come over connections that are kept, over connections of one request
/// each, and over HTTP/2.
fn upgrades_under_load(times: usize) {
    let (installed, echo) = (Installed::new(), Echo::start());
    let gateway = installed.start(&to(&echo, ""));
    let address = gateway.address();
    let over = AtomicBool::new(false);
    let (kept, single, multiplexed) = thread::scope(|scope| {
        let single = scope.spawn(|| {
            let mut outcomes: Vec<Result<u16, String>> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let answer = Request::to(address, "GET", "/").attempt();
                outcomes.push(answer.map(|it| it.status).map_err(|it| it.to_string()));
            }
            outcomes
        });
        let multiplexed = scope.spawn(|| {
            let mut outcomes = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // Each ends before a goodbye could be missed: this client does not look for one.
                let connection = Http2::open(address);
                let delayed = connection.request("GET", "/?delay=50ms", "");
                outcomes.push(connection.send(delayed).map(|answer| answer.status));
            }
            outcomes
        });
        let kept = load_during(
            address,
            8,
            |connection| connection.request("GET", "/"),
            || {
                for time in 0..times {
                    let before = gateway.pid();
                    let pid = gateway.upgrade().unwrap();
                    assert_ne!(pid, before);
                    expect_end(before);
                    assert!(!has_ended(pid), "{time}");
                }
            },
        );
        over.store(true, Ordering::Relaxed);
        (kept, single.join().unwrap(), multiplexed.join().unwrap())
    });
    kept.expect_all(200);
    let lost = |outcomes: &[Result<u16, String>]| {
        let lost = outcomes.iter().filter(|outcome| **outcome != Ok(200));
        lost.cloned().collect::<Vec<_>>()
    };
    assert_eq!(lost(&single), []);
    assert_eq!(multiplexed.iter().filter(|it| **it != Ok(200)).count(), 0);
    assert!(single.len() > 10 * times && multiplexed.len() > times);
}

#[test]
fn no_request_is_lost_while_the_program_is_replaced() {
    upgrades_under_load(3);
}

#[test]
#[ignore = "takes long"]
fn no_request_is_lost_while_the_program_is_replaced_twenty_times() {
    upgrades_under_load(20);
}

#[test]
fn connections_end_when_they_are_idle_and_a_request_that_comes_in_time_is_answered() {
    let installed = Installed::new();
    let gateway = installed.start(GREETING);
    let [mut talking, mut silent] = [gateway.connect(), gateway.connect()];
    let mut fresh = gateway.connect();
    for connection in [&mut talking, &mut silent] {
        assert!(connection.get("/").reusable);
    }
    let old = gateway.pid();
    let begun = Instant::now();
    gateway.upgrade().unwrap();
    gateway.wait_for_log("stopping: ");
    let answer = talking.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(fresh.get("/").header("connection"), Some("close"));
    silent.expect_close();
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    expect_end(old);
}

#[test]
fn requests_that_run_and_streams_of_http2_end_in_the_old_process() {
    let (installed, echo) = (Installed::new(), Echo::start());
    let gateway = installed.start(&to(&echo, ""));
    let (address, old) = (gateway.address(), gateway.pid());
    let http2 = Http2::open(address);
    thread::scope(|scope| {
        let slow = scope.spawn(|| gateway.get("/?delay=3s").status);
        let stream = scope.spawn(|| http2.send(http2.request("GET", "/?delay=3s", "")));
        eventually(PATIENCE, || echo.stats().requests == 2);
        gateway.upgrade().unwrap();
        assert!(!has_ended(old));
        assert_eq!(gateway.get("/").status, 200);
        assert!(!slow.is_finished() && !stream.is_finished());
        assert_eq!(slow.join().unwrap(), 200);
        assert_eq!(stream.join().unwrap().unwrap().status, 200);
    });
    expect_end(old);
}

#[test]
fn a_websocket_of_the_old_process_lives_until_the_shutdown_timeout() {
    const ASKED: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    const AGREED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let endpoint = Upstream::raw(|mut caller| {
        caller.head();
        caller.send(AGREED);
        while let Some(bytes) = caller.body(1) {
            caller.send(bytes);
        }
    });
    let installed = Installed::new();
    let gateway = installed.start(&to(&endpoint, "shutdown_timeout: 3s"));
    let mut socket = gateway.connect();
    socket.send(ASKED);
    assert_eq!(socket.head().status, 101);
    let old = gateway.pid();
    gateway.upgrade().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        socket.send("x");
        assert_eq!(socket.read(1).unwrap(), b"x");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!has_ended(old));
    socket.expect_close();
    expect_end(old);
}

// ---- a program that won't do ------------------------------------------------------------------

/// Each is tried while requests come, none of which may notice.
#[test]
fn a_program_that_does_not_come_to_serve_leaves_the_old_one_serving() {
    let (installed, echo) = (Installed::new(), Echo::start());
    let gateway = installed.start(&to(&echo, ""));
    let old = gateway.pid();
    let outcomes = load_during(
        gateway.address(),
        4,
        |connection| connection.request("GET", "/"),
        || {
            let marker = installed.folder.path().join("started");
            for (script, told) in [
                ("exit 1", "exit status: 1"),
                ("kill -SEGV $$", "signal: 11"),
                ("exec 0<&-; exec sleep 60", "closed its standard input"),
                ("echo $$ > MARKER; exec sleep 60", "does not serve after 3s"),
            ] {
                installed.is_script(&script.replace("MARKER", marker.to_str().unwrap()));
                let (done, answer) = installed.upgrade(&gateway, "?timeout=3s");
                assert!(done.unwrap_err().contains(told), "{script}");
                assert_eq!(answer.status, 409, "{}", answer.text());
                let detail = answer.json()["detail"].to_string();
                assert!(detail.contains(told), "{detail}");
            }
            let hung = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
            assert!(has_ended(hung), "it was killed");
            fs::remove_file(installed.path()).unwrap();
            assert!(gateway.upgrade().unwrap_err().contains("can't be started"));
            fs::write(installed.path(), "no program").unwrap();
            assert!(gateway.upgrade().unwrap_err().contains("can't be started"));
        },
    );
    outcomes.expect_all(200);
    assert_eq!(outcomes.count(|answer| !answer.reusable), 0);
    assert_eq!(gateway.pid(), old);
    fs::remove_file(installed.path()).unwrap();
    installed.is(&program("edgeway"));
    assert_ne!(gateway.upgrade().unwrap(), old);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_wrong_configuration_is_told_to_whoever_asked_and_the_old_process_goes_on() {
    let installed = Installed::new();
    let gateway = installed.start(GREETING);
    let right = fs::read_to_string(gateway.folder().join("edgeway.yaml")).unwrap();
    gateway.write("edgeway.yaml", right.replace("respond", "repsond"));
    let (_, answer) = installed.upgrade(&gateway, "");
    assert_eq!(answer.status, 409);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("edgeway.yaml:") && detail.contains("`repsond`"),
        "{detail}"
    );
    assert!(detail.contains("1 error in"), "{detail}");
    // A port that somebody else has is told as well.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let also = format!(
        "listeners: {{ other: {{ bind: '{}' }}, ",
        taken.local_addr().unwrap()
    );
    gateway.write("edgeway.yaml", right.replace("listeners: {", &also));
    let (_, answer) = installed.upgrade(&gateway, "");
    assert!(
        answer.text().contains("is listening there already"),
        "{}",
        answer.text()
    );
    assert_eq!(gateway.get("/").text(), "hello");
    gateway.write("edgeway.yaml", right.replace("hello", "welcome"));
    gateway.upgrade().unwrap();
    eventually(PATIENCE, || gateway.get("/").text() == "welcome");
}

#[test]
fn who_is_told_to_stop_meanwhile_stops_and_nobody_is_left() {
    let installed = Installed::new();
    let mut gateway = installed.start(GREETING);
    let marker = installed.folder.path().join("started");
    installed.is_script(&format!("echo $$ > {}; exec sleep 60", marker.display()));
    gateway.signal(Signal::USR2);
    let started = || fs::read_to_string(&marker).ok()?.trim().parse().ok();
    eventually(PATIENCE, || started().is_some());
    // It may say so after it has ended.
    gateway.ask_to_stop();
    assert_eq!(gateway.wait().code(), Some(0));
    expect_end(started().unwrap());
}

#[test]
fn what_is_asked_twice_is_done_once() {
    let (installed, echo) = (Installed::new(), Echo::start());
    let gateway = installed.start(&to(&echo, ""));
    let old = gateway.pid();
    thread::scope(|scope| {
        let slow = scope.spawn(|| gateway.get("/?delay=2s").status);
        eventually(PATIENCE, || echo.stats().requests == 1);
        let first = gateway.upgrade().unwrap();
        let again = i32::try_from(old).unwrap();
        let again = rustix::process::Pid::from_raw(again).unwrap();
        rustix::process::kill_process(again, Signal::USR2).unwrap();
        let told = gateway.wait_for_log("upgrade failed");
        assert!(
            told.contains(&format!(
                "process {first} has taken the place of this one already"
            )),
            "{told}"
        );
        rustix::process::kill_process(again, Signal::HUP).unwrap();
        let told = gateway.wait_for_log("configuration kept");
        assert!(told.contains(&format!("process {first}")), "{told}");
        assert_eq!(slow.join().unwrap(), 200);
    });
}

// ---- sockets ----------------------------------------------------------------------------------

#[test]
fn sockets_of_all_kinds_go_over_and_what_is_not_wanted_is_closed() {
    let installed = Installed::new();
    let at = |name: &str| installed.folder.path().join(name);
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let listeners = |middle: &str| {
        format!(
            "admin: {{ bind: 'unix:{}' }}\nlisteners: {{ port: {{ bind: '127.0.0.1:0' }}, kept: {{ bind: 'unix:{}', \
             mode: 0666 }}, {middle} }}\n{GREETING}\n",
            installed.admin().display(),
            at("kept.sock").display(),
        )
    };
    let unwanted = format!(
        "gone: {{ bind: 'unix:{}' }}, web: {{ bind: 'systemd:web' }}, other: {{ bind: '127.0.0.1:0' }}",
        at("gone.sock").display()
    );
    let setup = Gateway::setup(&listeners(&unwanted)).passed("web:later", passed);
    let gateway = setup.program(installed.path().to_str().unwrap()).start();
    let (port, other) = (gateway.address_of("port"), gateway.address_of("other"));
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::symlink_metadata(at(name)).unwrap().ino()
    };
    let before = (inode("kept.sock"), inode("admin.sock"));
    let later = "web: { bind: 'systemd:later' }, new: { bind: '127.0.0.1:0' }";
    gateway.write("edgeway.yaml", listeners(later));
    for _ in 0..2 {
        let old = gateway.pid();
        gateway.upgrade().unwrap();
        expect_end(old);
        for to in [port, address] {
            assert_eq!(Request::to(to, "GET", "/").send().text(), "hello");
        }
        let kept = Request::to(&*at("kept.sock"), "GET", "/").send();
        assert_eq!(kept.text(), "hello");
        assert_eq!((inode("kept.sock"), inode("admin.sock")), before);
        assert!(!at("gone.sock").exists());
        assert!(Connection::try_open(other).is_err());
    }
    let last = gateway.pid();
    assert!(
        fs::symlink_metadata(at("kept.sock"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    gateway.ask_to_stop();
    expect_end(last);
    assert!(!at("kept.sock").exists() && !at("admin.sock").exists());
}

#[test]
fn the_new_process_has_nothing_of_the_old_one_but_its_sockets() {
    let (installed, echo) = (Installed::new(), Echo::start());
    let gateway = installed.start(&to(&echo, ""));
    let mut connection = gateway.connect();
    connection.get("/");
    let old = gateway.pid();
    let sockets = |pid| {
        let sockets = open(pid).into_iter();
        sockets
            .filter(|target| target.starts_with("socket:"))
            .collect::<BTreeSet<_>>()
    };
    let (before, listens) = (sockets(old), listening(old));
    let arguments = fs::read(format!("/proc/{old}/cmdline")).unwrap();
    let environment = fs::read(format!("/proc/{old}/environ")).unwrap();
    let new = gateway.upgrade().unwrap();
    let shared: BTreeSet<_> = before.intersection(&sockets(new)).cloned().collect();
    assert_eq!(shared, listens);
    assert_eq!(listens.len(), 2, "one is that of the admin listener");
    assert_eq!(
        fs::read_link(format!("/proc/{new}/fd/0")).unwrap(),
        Path::new("/dev/null")
    );
    assert_eq!(fs::read(format!("/proc/{new}/cmdline")).unwrap(), arguments);
    assert_eq!(
        fs::read(format!("/proc/{new}/environ")).unwrap(),
        environment
    );
    expect_end(old);
}

/// The sockets of a process that listen, by what its descriptors are.
fn listening(pid: u32) -> BTreeSet<String> {
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap();
    let ports = table("tcp");
    let ports = ports.lines().map(str::split_ascii_whitespace);
    let ports = ports.filter_map(|fields| {
        let fields: Vec<_> = fields.collect();
        (fields.get(3) == Some(&"0A")).then(|| fields[9].to_owned())
    });
    let files = table("unix");
    let files = files.lines().map(str::split_ascii_whitespace);
    let files = files.filter_map(|fields| {
        let fields: Vec<_> = fields.collect();
        (fields.get(3) == Some(&"00010000")).then(|| fields[6].to_owned())
    });
    let listening: BTreeSet<_> = ports
        .chain(files)
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    open(pid).intersection(&listening).cloned().collect()
}

// ---- beside it --------------------------------------------------------------------------------

#[test]
fn the_file_with_the_number_of_the_process_is_that_of_who_serves() {
    let installed = Installed::new();
    let file = installed.folder.path().join("edgeway.pid");
    // The harness has no arguments of its own.
    installed.is_script(&format!(
        "exec {} \"$@\" --pid-file {}",
        program("edgeway").display(),
        file.display()
    ));
    let gateway = installed.start(GREETING);
    let written = || fs::read_to_string(&file).unwrap();
    assert_eq!(written(), format!("{}\n", gateway.first_pid()));
    let new = gateway.upgrade().unwrap();
    expect_end(gateway.first_pid());
    eventually(PATIENCE, || written() == format!("{new}\n"));
    gateway.ask_to_stop();
    expect_end(new);
    assert!(!file.exists());
}

#[test]
fn a_pid_file_that_can_not_be_written_is_told_at_the_start() {
    let installed = Installed::new();
    let finished = installed.run(&["run", "-c", "/dev/null", "--pid-file", "/no/folder/a.pid"]);
    assert_ne!(finished.code, Some(0));
    let setup = Gateway::setup(GREETING);
    let config = setup.folder().join("edgeway.yaml");
    let config = config.to_str().unwrap();
    let finished = installed.run(&["run", "-c", config, "--pid-file", "/no/folder/a.pid"]);
    assert_eq!(finished.code, Some(1), "{}", finished.log);
    assert!(
        finished.log.contains("`/no/folder/a.pid` can't be written"),
        "{}",
        finished.log
    );
}

#[test]
fn the_command_says_which_process_serves_or_why_none_does() {
    let installed = Installed::new();
    let gateway = installed.start(GREETING);
    let config = gateway.folder().join("edgeway.yaml");
    let config = config.to_str().unwrap();
    let mut finished = None;
    let new = gateway.upgrade_by(|| finished = Some(installed.run(&["upgrade", "-c", config])));
    let finished = finished.unwrap();
    assert_eq!(finished.code, Some(0), "{}", finished.log);
    let said = format!("process {} serves: edgeway ", new.unwrap());
    assert!(finished.output.starts_with(&said), "{}", finished.output);
    installed.is_script("exit 3");
    let finished = installed.run(&["upgrade", "-c", config, "--timeout", "5s"]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.log.contains("exit status: 3"), "{}", finished.log);
    let finished = installed.run(&["upgrade", "-c", config, "--timeout", "2m"]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.log.contains("at most 60s"), "{}", finished.log);
}

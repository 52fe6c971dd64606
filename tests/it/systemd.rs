//! What systemd is told of the gateway.

use std::{
    collections::HashMap,
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{Echo, Gateway, PATIENCE, Setup, Upstream, eventually};
use rustix::{
    net::sockopt::set_socket_passcred,
    time::{ClockId, clock_gettime},
};
use tempfile::TempDir;

/// A service manager that reads what it is told, and who has told it.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: TempDir,
}

/// One message: assignments, by name.
type Said = HashMap<String, String>;

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::with(socket, path.to_str().unwrap().to_owned(), folder)
    }

    /// One whose socket has no file.
    fn without_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("edgeway{}", folder.path().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::with(
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
            folder,
        )
    }

    fn with(socket: UnixDatagram, name: String, folder: TempDir) -> Self {
        set_socket_passcred(&socket, true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            name,
            _folder: folder,
        }
    }

    fn setup(&self, yaml: &str) -> Setup {
        Gateway::setup(yaml).env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message, with who has sent it.
    #[track_caller]
    fn hear(&self) -> Said {
        self.try_hear().expect("systemd is told something")
    }

    fn try_hear(&self) -> Option<Said> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        let assignments = text.lines().map(|line| line.split_once('=').unwrap());
        Some(
            assignments
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// The next message that says this.
    #[track_caller]
    fn wait_for(&self, name: &str) -> Said {
        let begun = Instant::now();
        loop {
            let said = self.hear();
            if said.contains_key(name) {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "no {name}");
        }
    }

    /// The next status that this is said of.
    #[track_caller]
    fn wait_for_status(&self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            let status = self.wait_for("STATUS")["STATUS"].clone();
            if status.contains(wanted) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "`{status}`, not `{wanted}`");
        }
    }
}

const GREETING: &str = "routes: [{ respond: { text: hello } }]";

fn microseconds() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    u128::try_from(now.tv_sec).unwrap() * 1_000_000 + u128::try_from(now.tv_nsec).unwrap() / 1_000
}

#[test]
fn it_is_told_of_the_start_a_reload_and_the_end_in_this_order() {
    for manager in [Manager::new(), Manager::without_file()] {
        let mut gateway = manager.setup(GREETING).start();
        assert_eq!(manager.hear()["READY"], "1", "nothing comes before it");
        assert_eq!(gateway.get("/").text(), "hello");
        let status = manager.wait_for_status("serving");
        assert_eq!(status, "serving 1 route, 0 upstreams, revision 1");
        let before = microseconds();
        assert!(gateway.reload(
            "routes: [{ respond: { text: hello } }, { match: { path: /a }, respond: { status: 404 } }]"
        ));
        let reloading = manager.wait_for("RELOADING");
        let at: u128 = reloading["MONOTONIC_USEC"].parse().unwrap();
        assert!((before..=microseconds()).contains(&at), "{before} {at}");
        assert_eq!(manager.hear()["READY"], "1", "it follows at once");
        manager.wait_for_status("serving 2 routes, 0 upstreams, revision 2");
        let begun = Instant::now();
        gateway.ask_to_stop();
        manager.wait_for("STOPPING");
        assert!(gateway.wait().success());
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn the_status_says_what_is_down_what_was_refused_and_what_is_waited_for() {
    let (manager, echo) = (Manager::new(), Echo::start());
    let silent = Upstream::silent();
    let yaml = format!(
        "
        upstreams:
          shop: {{ endpoints: [{echo}] }}
          users: {{ endpoints: ['127.0.0.1:1'], health: {{ path: /, interval: 100ms }} }}
          slow: {{ endpoints: [{silent}] }}
        routes: [{{ match: {{ path: /users }}, upstream: users }}, {{ match: {{ path: /slow }}, upstream: slow }}, {{ upstream: shop }}]"
    );
    let mut gateway = manager.setup(&yaml).start();
    manager.wait_for_status("serving 3 routes, 3 upstreams (down: users), revision 1");
    assert!(!gateway.reload("routes: [{ respond: { text: a }, upstraem: x }]"));
    assert!(manager.wait_for("RELOADING").contains_key("MONOTONIC_USEC"));
    assert_eq!(manager.hear()["READY"], "1", "also of one that was refused");
    let status = manager.wait_for_status("refused");
    assert!(
        status.contains("revision 1; the last configuration was refused: "),
        "{status}"
    );
    assert!(
        status.contains("edgeway.yaml:") && status.contains("upstraem"),
        "{status}"
    );
    let request = gateway.request("GET", "/slow");
    let hanging = thread::spawn(move || request.attempt());
    eventually(PATIENCE, || silent.connections() == 1);
    gateway.ask_to_stop();
    manager.wait_for("STOPPING");
    manager.wait_for_status("draining 1 connection");
    let extension: u64 = manager.wait_for("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]
        .parse()
        .unwrap();
    assert!(extension >= 5_000_000, "{extension}");
    gateway.ask_to_stop();
    gateway.wait();
    drop(hanging.join());
}

#[test]
fn at_an_upgrade_the_new_process_speaks_and_the_old_one_says_no_more() {
    let (manager, echo) = (Manager::new(), Echo::start());
    let yaml =
        format!("upstreams: {{ app: {{ endpoints: [{echo}] }} }}\nroutes: [{{ upstream: app }}]");
    let gateway = manager.setup(&yaml).start();
    manager.wait_for("READY");
    thread::scope(|scope| {
        // The old process has something to wait for.
        let slow = scope.spawn(|| gateway.get("/?delay=4s").status);
        eventually(PATIENCE, || echo.stats().requests == 1);
        let new = gateway.upgrade().unwrap();
        assert_eq!(manager.wait_for("MAINPID")["MAINPID"], new.to_string());
        assert_eq!(manager.hear()["READY"], "1");
        manager.wait_for_status("serving");
        manager
            .socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        assert_eq!(manager.try_hear(), None, "nobody stops");
        assert_eq!(slow.join().unwrap(), 200);
    });
}

// ---- the watchdog -----------------------------------------------------------------------------

/// A gateway whose workers wait as long as a file is there, for requests to `/stuck`.
fn sticky(manager: &Manager, threads: usize) -> (Gateway, PathBuf) {
    let yaml = format!(
        "
        threads: {threads}
        routes:
          - match: {{ path: /stuck }}
            filters: [{{ stuck: {{ file: FILE }} }}]
            respond: {{ text: late }}
          - respond: {{ text: hello }}"
    );
    let setup = manager.setup(&yaml);
    let file = setup.folder().join("wait");
    let yaml = fs::read_to_string(setup.folder().join("edgeway.yaml")).unwrap();
    let setup = setup
        .file("edgeway.yaml", yaml.replace("FILE", file.to_str().unwrap()))
        .program("examples/stuck")
        .env("WATCHDOG_USEC", "1000000");
    (setup.start(), file)
}

/// How often it is told that all is well, in so many seconds.
fn alive(manager: &Manager, seconds: u64) -> usize {
    let timeout = Duration::from_millis(50);
    manager.socket.set_read_timeout(Some(timeout)).unwrap();
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let said = manager.try_hear().unwrap_or_default();
        times += usize::from(said.contains_key("WATCHDOG"));
    }
    times
}

#[test]
fn the_watchdog_is_quiet_while_one_of_the_threads_is_stuck() {
    for threads in [1, 3] {
        let manager = Manager::new();
        let (gateway, file) = sticky(&manager, threads);
        manager.wait_for("READY");
        assert!(alive(&manager, 3) >= 3, "threads: {threads}");
        fs::write(&file, "").unwrap();
        let request = gateway.request("GET", "/stuck");
        let stuck = thread::spawn(move || request.attempt());
        let line = gateway.wait_for_log("a thread makes no progress");
        assert!(line.contains("runtime=edge"), "{line}");
        alive(&manager, 1);
        assert_eq!(alive(&manager, 3), 0, "threads: {threads}");
        fs::remove_file(&file).unwrap();
        assert_eq!(stuck.join().unwrap().unwrap().text(), "late");
        alive(&manager, 2);
        assert!(alive(&manager, 3) >= 3, "threads: {threads}");
    }
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_told() {
    let manager = Manager::new();
    let setup = manager.setup(GREETING).env("WATCHDOG_USEC", "200000");
    let _gateway = setup.env("WATCHDOG_PID", "1").start();
    manager.wait_for("READY");
    assert_eq!(alive(&manager, 2), 0);
}

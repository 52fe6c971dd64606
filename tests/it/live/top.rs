//! `edgeway top`: as tables, as JSON, and in a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use edgeway_tests::{Echo, Gateway, eventually, program};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;

use super::{admin, configuration, named, wait_for_health};
use crate::cli::edgeway;

fn address(gateway: &Gateway) -> String {
    format!("http://{}", gateway.address_of("admin"))
}

#[test]
fn once_it_writes_tables() {
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    gateway.get("/hello");
    let told = edgeway(&["top", "--once", "--admin", &address(&gateway)]);
    assert_eq!(told.code, Some(0), "{}", told.log);
    let lines: Vec<_> = told.output.lines().collect();
    assert!(
        lines[0].starts_with("edgeway 0.1.0  serving  up "),
        "{}",
        lines[0]
    );
    assert!(lines[1].starts_with("req/s "), "{}", lines[1]);
    let line = |start: &str| {
        let found = lines.iter().find(|line| line.starts_with(start));
        *found.unwrap_or_else(|| panic!("no line `{start}` in\n{}", told.output))
    };
    assert!(line("ROUTE").contains("REQ/S"));
    line("<i>hello</i>");
    let down = lines
        .iter()
        .find(|line| line.contains("127.0.0.1:1 "))
        .unwrap();
    assert!(
        down.contains("unhealthy: ") && down.contains("refused"),
        "{down}"
    );
    assert!(!told.output.contains('\u{1b}'));
    let json = edgeway(&["top", "--once", "--json", "--admin", &address(&gateway)]);
    let json: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(
        named(&json["upstreams"], "shop")["endpoints"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn without_a_terminal_or_a_gateway_it_says_what_to_do() {
    let gateway = Gateway::start(&configuration(&Echo::start()));
    let told = edgeway(&["top", "--admin", &address(&gateway)]);
    assert_eq!(told.code, Some(1));
    assert!(told.log.contains("`--once` writes tables"), "{}", told.log);
    drop(gateway);
    let told = edgeway(&["top", "--once", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(told.code, Some(1));
    assert!(told.log.contains("edgeway is not running"), "{}", told.log);
}

/// A terminal of 80 columns and 24 lines, and the program in it.
struct Terminal {
    keys: File,
    /// Keeps the other end open, so that the terminal can be asked how it was left.
    end: File,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&host).unwrap();
        unlockpt(&host).unwrap();
        let name = ptsname(&host, Vec::new()).unwrap().into_string().unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&host, size).unwrap();
        let end = File::options().read(true).write(true).open(name).unwrap();
        let stdio = || Stdio::from(end.try_clone().unwrap());
        // It is to be the terminal of the program, and not that of who runs the tests.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(program("edgeway"))
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let size = |number| NonZero::new(number).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(24), size(80), 0)));
        let (mut said, shown) = (File::from(host), Arc::clone(&screen));
        let keys = said.try_clone().unwrap();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(size @ 1..) = said.read(&mut piece) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .process(&piece[..size]);
            }
        });
        Self {
            keys,
            end,
            screen,
            child,
        }
    }

    fn text(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.screen().contents()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let start = std::time::Instant::now();
        while !self.text().contains(text) {
            assert!(
                start.elapsed() < Duration::from_secs(15),
                "no `{text}` on\n{}",
                self.text()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end; the terminal has to be as before then.
    #[track_caller]
    fn ends(&mut self) {
        assert!(self.child.wait().unwrap().success(), "{}", self.text());
        let modes = tcgetattr(&self.end).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        // The other screen is gone, and what it has shown.
        eventually(Duration::from_secs(5), || {
            let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
            !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both do nothing when it has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn in_a_terminal_keys_go_through_it_and_take_an_endpoint_out() {
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    gateway.get("/hello");
    let mut terminal = Terminal::start(&["top", "--admin", &address(&gateway)]);
    terminal.shows("req/s ");
    terminal.shows("<i>hello</i>");
    terminal.press("2");
    terminal.shows("unhealthy");
    terminal.press("jd");
    terminal.shows(&format!("drain shop / {echo}? y: yes"));
    terminal.press("y");
    eventually(Duration::from_secs(10), || {
        let shop = admin(&gateway, "/v1/upstreams/shop").json();
        named(&shop["endpoints"], &echo.to_string())["status"] == "draining"
    });
    terminal.shows("draining");
    terminal.press("/127.0.0.1:1 \r");
    terminal.shows("/127.0.0.1:1");
    eventually(Duration::from_secs(10), || {
        !terminal.text().contains("draining")
    });
    terminal.press("q");
    terminal.ends();
}

#[test]
fn ctrl_c_leaves_the_terminal_as_it_was() {
    let gateway = Gateway::start(&configuration(&Echo::start()));
    let mut terminal = Terminal::start(&["top", "--admin", &address(&gateway)]);
    terminal.shows("Routes");
    terminal.press("\u{3}");
    terminal.ends();
}

//! The command line, and what a process shows of itself.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{self, Command, Output, Stdio},
};

use edgeway_tests::{Finished, Gateway, PATIENCE, eventually, program};

const HELLO: &str = "routes: [{ respond: { text: hello } }]";

pub(crate) fn edgeway(arguments: &[&str]) -> Finished {
    finished(
        Command::new(program("edgeway"))
            .args(arguments)
            .env_clear()
            .output()
            .unwrap(),
    )
}

/// As [`edgeway`], with something on standard input.
pub(crate) fn edgeway_with(arguments: &[&str], input: &str) -> Finished {
    let mut child = Command::new(program("edgeway"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that has ended takes none.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    finished(child.wait_with_output().unwrap())
}

fn finished(output: Output) -> Finished {
    Finished {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).unwrap(),
        log: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn check_sums_up_a_configuration_that_is_right() {
    let setup = Gateway::setup(
        "
        upstreams:
          app: { endpoints: [app-1:80, app-2:80] }
        routes:
          - upstream: app
        ",
    );
    let checked = setup.run("check");
    assert_eq!((checked.code, &*checked.log), (Some(0), ""));
    let summary = "is valid: 1 route on 1 listener, 1 upstream with 2 endpoints, in 1 file";
    assert!(
        checked.output.trim_end().ends_with(summary),
        "{}",
        checked.output
    );
}

#[test]
fn check_and_run_say_the_same_of_a_wrong_configuration() {
    let setup = Gateway::setup(
        "
        thread: 2
        routes:
          - upstream: app
          - filters: [access_logs]
            respond: { text: hello }
        ",
    );
    let (checked, ran) = (setup.run("check"), setup.run("run"));
    assert_eq!((checked.code, ran.code), (Some(2), Some(2)));
    assert_eq!(checked.output, "");
    let (_, count) = checked.log.trim_end().rsplit_once("\n\n").unwrap();
    assert!(count.starts_with("3 errors in /"), "{count}");
    assert_eq!(ran.log, checked.log);
}

#[test]
fn a_warning_does_not_keep_the_gateway_from_starting() {
    let yaml = format!("upstreams: {{ spare: {{ endpoints: [spare:80] }} }}\n{HELLO}");
    let checked = Gateway::setup(&yaml).run("check");
    assert_eq!(checked.code, Some(0));
    assert!(
        checked.output.trim_end().ends_with("(1 warning)"),
        "{}",
        checked.output
    );
    let gateway = Gateway::start(&yaml);
    assert!(
        gateway
            .log()
            .contains("warning: no route leads to the upstream `spare`"),
        "{}",
        gateway.log()
    );
}

/// #5
#[test]
fn a_required_section_that_is_missing_is_named() {
    let refused = Gateway::refused("upstreams: { app: { endpoints: [app:80] } }");
    assert!(refused.contains("error: missing key `routes`"), "{refused}");
}

#[test]
fn routes_shows_what_matches_where_it_goes_and_through_what() {
    let setup = Gateway::setup(
        "
        listeners: { web: { bind: 127.0.0.1:8080 } }
        upstreams:
          app: { endpoints: [app:80] }
        filters: [request_id]
        routes:
          - name: shop
            match: { host: shop.example.com, path: /api/, method: GET }
            filters: [cors: { origins: [https://shop.example.com] }]
            upstream: app
          - match: { path: { exact: /old } }
            redirect: { status: 308, path: /new }
          - respond: { status: 503, text: closed }
        ",
    );
    let shown = setup.run("routes");
    assert_eq!((shown.code, &*shown.log), (Some(0), ""));
    let lines: Vec<Vec<_>> = shown
        .output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let has = |line: &[&str]| {
        assert!(
            lines.iter().any(|shown| shown == line),
            "{line:?} in\n{}",
            shown.output
        )
    };
    has(&["listener", "web", "127.0.0.1:8080"]);
    has(&["ROUTE", "MATCH", "FILTERS", "TARGET"]);
    has(&[
        "shop",
        "shop.example.com/api/*",
        "GET,HEAD",
        "request_id",
        ">",
        "cors",
        "upstream",
        "app",
    ]);
    has(&["-", "/old", "request_id", "redirect", "308"]);
    has(&["-", "/*", "request_id", "respond", "503"]);
    has(&[
        "(no",
        "route)",
        "everything",
        "else",
        "request_id",
        "respond",
        "404",
    ]);
}

#[test]
fn filters_lists_all_of_them_with_what_they_are_for() {
    let shown = edgeway(&["filters"]);
    assert_eq!(shown.code, Some(0));
    for name in [
        "access_log",
        "basic_auth",
        "cors",
        "headers",
        "jwt",
        "request_id",
    ] {
        let line = shown
            .output
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("`{name}` is not in\n{}", shown.output));
        assert!(line.split_whitespace().count() > 4, "{line}");
    }
}

#[test]
fn filters_with_a_name_shows_the_yaml_that_it_takes() {
    let shown = edgeway(&["filters", "jwt"]);
    assert_eq!(shown.code, Some(0));
    for key in [
        "\njwt:\n",
        "\n  algorithms: ",
        "\n  secret: ",
        "\n  forward: ",
        "\n  revocations:",
    ] {
        assert!(shown.output.contains(key), "{key} in\n{}", shown.output);
    }
    let unknown = edgeway(&["filters", "jtw"]);
    assert_eq!((unknown.code, &*unknown.output), (Some(2), ""));
    assert_eq!(
        unknown.log,
        "error: unknown filter `jtw`\n  = help: did you mean `jwt`?\n"
    );
}

#[test]
fn version_and_help_are_there() {
    for arguments in [["version"], ["--version"], ["-V"]] {
        let shown = edgeway(&arguments);
        assert_eq!(
            (shown.code, &*shown.output),
            (
                Some(0),
                concat!("edgeway ", env!("CARGO_PKG_VERSION"), "\n")
            )
        );
    }
    let help = edgeway(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "run",
        "check",
        "routes",
        "filters",
        "hash-password",
        "api-key",
        "version",
        "Exit codes:",
        "SIGHUP",
        "RUST_LOG",
    ] {
        assert!(help.output.contains(word), "{word} in\n{}", help.output);
    }
    assert!(
        help.output.lines().all(|line| line.len() <= 100),
        "{}",
        help.output
    );
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_was_meant() {
    for (arguments, part) in [
        (&["start"][..], "unrecognized subcommand 'start'"),
        (&["chek"], "'check'"),
        (
            &["check", "--confg", "x"],
            "a similar argument exists: '--config'",
        ),
        (
            &["check", "-c"],
            "a value is required for '--config <FILE>'",
        ),
        (&[], "Usage: "),
    ] {
        let refused = edgeway(arguments);
        assert_eq!(
            (refused.code, &*refused.output),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(refused.log.contains(part), "{arguments:?}: {}", refused.log);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named_and_nothing_else_is_said() {
    for command in ["check", "run", "routes"] {
        let refused = edgeway(&[command, "-c", "no/such/edgeway.yaml"]);
        assert_eq!((refused.code, &*refused.output), (Some(2), ""));
        let problem =
            "error: `no/such/edgeway.yaml` can't be read: No such file or directory (os error 2)";
        assert_eq!(refused.log.lines().next(), Some(problem));
        assert_eq!(refused.log.matches("error: ").count(), 1, "{}", refused.log);
    }
}

/// T15
#[test]
fn a_port_that_is_taken_names_the_process_that_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Gateway::setup(&format!(
        "listeners: {{ web: {{ bind: \"{address}\" }} }}\n{HELLO}"
    ));
    let failed = setup.run("run");
    assert_eq!(failed.code, Some(1), "{}", failed.log);
    let owner = format!(
        "error: the listener `web` can't have {address}: process {} (",
        process::id()
    );
    assert!(failed.log.contains(&owner), "{}", failed.log);
    assert!(
        failed.log.contains(") is listening there already"),
        "{}",
        failed.log
    );
}

/// T15
#[test]
fn a_privileged_port_tells_which_privilege_is_missing() {
    let first =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim().parse().is_ok_and(|first: u16| first <= 1023) {
        eprintln!("skipped: this system lets everybody listen on port 1023");
        return;
    }
    let setup = Gateway::setup(&format!(
        "listeners: {{ web: {{ bind: 127.0.0.1:1023 }} }}\n{HELLO}"
    ));
    fs::set_permissions(setup.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = setup.folder().join("edgeway.yaml");
    let nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
    ];
    // A copy, since nobody else may be able to enter the folder of the program.
    let copy = setup.folder().join("edgeway");
    fs::copy(program("edgeway"), &copy).unwrap();
    let mut command = Command::new("setpriv");
    if !rustix::process::geteuid().is_root() {
        command.arg("--ambient-caps=-all");
    } else {
        command.args(nobody);
    }
    let Ok(output) = command.arg(&copy).args(["run", "-c"]).arg(&file).output() else {
        eprintln!("skipped: there is no `setpriv` to give up privileges with");
        return;
    };
    let failed = finished(output);
    assert_eq!(failed.code, Some(1), "{}", failed.log);
    assert_eq!(
        failed.log,
        "error: the listener `web` can't have 127.0.0.1:1023: ports below 1024 need a privilege\n  \
           = help: give the process CAP_NET_BIND_SERVICE (in a systemd unit: \
           `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose a port from 1024 on\n"
    );
}

/// #111
#[test]
fn there_are_as_many_threads_that_serve_requests_as_configured() {
    for threads in [1, 3] {
        let gateway = Gateway::start(&format!("threads: {threads}\n{HELLO}"));
        assert_eq!(gateway.get("/").text(), "hello");
        let named = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid()))
                .unwrap()
                .flatten();
            let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.trim() == "edge").count()
        };
        eventually(PATIENCE, || named() == threads);
    }
}

/// #113
#[test]
fn the_program_needs_nothing_but_the_c_library() {
    let gateway = Gateway::start(HELLO);
    let maps = fs::read_to_string(format!("/proc/{}/maps", gateway.pid())).unwrap();
    let libraries = maps
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .filter(|name| name.contains(".so"));
    let usual = [
        "libc.so",
        "libm.so",
        "libgcc_s.so",
        "libdl.so",
        "libpthread.so",
        "librt.so",
        "ld-linux",
    ];
    for library in libraries {
        assert!(
            usual.iter().any(|name| library.starts_with(name)),
            "{library}"
        );
    }
}

#[test]
fn a_wrong_configuration_is_wrong_even_if_nobody_can_be_told() {
    let setup = Gateway::setup("routes: [{ upstream: app }]");
    let file = setup.folder().join("edgeway.yaml");
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for command in ["check", "routes", "run"] {
        let mut edgeway = Command::new(program("edgeway"));
        edgeway.args([command, "--config"]).arg(&file).env_clear();
        let status = edgeway.stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{command}");
    }
    let mut filters = Command::new(program("edgeway"));
    filters.arg("filters").env_clear();
    let told = filters.stdout(full()).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
}

#[test]
fn a_password_becomes_a_hash_and_nothing_else_is_printed() {
    for (arguments, begin) in [
        (&["hash-password"][..], "$argon2id$v=19$m=19456,t=2,p=1$"),
        (
            &["hash-password", "--cost", "3"],
            "$argon2id$v=19$m=19456,t=3,p=1$",
        ),
        (&["hash-password", "-a", "bcrypt", "--cost", "4"], "$2b$04$"),
        (
            &["hash-password", "-a", "sha512-crypt", "--cost", "1000"],
            "$6$rounds=1000$",
        ),
    ] {
        let made = edgeway_with(arguments, "hunter2\n");
        assert_eq!((made.code, &*made.log), (Some(0), ""), "{arguments:?}");
        assert!(made.output.starts_with(begin), "{}", made.output);
        assert_eq!(made.output.lines().count(), 1);
        let again = edgeway_with(arguments, "hunter2\n");
        assert_ne!(made.output, again.output, "the salt is another each time");
    }
}

#[test]
fn a_hash_that_can_not_be_made_ends_with_the_right_code() {
    let long = "x".repeat(100);
    for (arguments, input, code, text) in [
        (
            &["hash-password", "--cost", "0"][..],
            "x",
            2,
            "the cost is from 1 to 1000, not 0",
        ),
        (
            &["hash-password", "-a", "bcrypt", "--cost", "99"],
            "x",
            2,
            "from 4 to 31",
        ),
        (
            &["hash-password", "-a", "md5"],
            "x",
            2,
            "invalid value 'md5'",
        ),
        (&["hash-password"], "", 1, "there is nothing to hash"),
        (&["hash-password"], "\n", 1, "there is nothing to hash"),
        (&["hash-password"], "a\nb\n", 1, "more than a line"),
        (
            &["hash-password", "-a", "bcrypt", "--cost", "4"],
            &long,
            1,
            "more than 71 bytes",
        ),
    ] {
        let refused = edgeway_with(arguments, input);
        assert_eq!(
            (refused.code, &*refused.output),
            (Some(code), ""),
            "{arguments:?}"
        );
        assert!(refused.log.contains(text), "{arguments:?}: {}", refused.log);
    }
}

/// As a shell of a user does it: a terminal that shows what is typed unless it is told not to.
#[test]
fn a_terminal_is_asked_twice_and_shows_nothing() {
    const TYPES: &str = "
import os, pty, sys
def ask(first, second):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    said = b''
    for answer, question in ((first, b'Password: '), (second, b'Once more: ')):
        while not said.endswith(question):
            said += os.read(terminal, 1000)
        os.write(terminal, answer + b'\\n')
    try:
        while piece := os.read(terminal, 1000):
            said += piece
    except OSError:
        pass
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said)
ask(b'hunter2', b'hunter2')
ask(b'hunter2', b'hunter3')
";
    let asked = Command::new("python3")
        .args(["-c", TYPES])
        .arg(program("edgeway"))
        .args(["hash-password", "-a", "bcrypt", "--cost", "4"])
        .output()
        .unwrap();
    let said = String::from_utf8(asked.stdout).unwrap();
    let [same, other] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}{}", String::from_utf8_lossy(&asked.stderr))
    };
    assert!(same.starts_with("0 ") && same.contains("$2b$04$"), "{said}");
    assert!(
        other.starts_with("1 ") && other.contains("not the same"),
        "{said}"
    );
    assert!(!said.contains("hunter"), "{said}");
}

#[test]
fn a_key_is_made_with_its_hash_and_an_old_one_has_its_hash() {
    let made = edgeway(&["api-key"]);
    assert_eq!(made.code, Some(0));
    let [key, hash] = made.output.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", made.output)
    };
    assert!(key.starts_with("edgeway_") && key.len() > 40, "{key}");
    let again = edgeway_with(&["api-key", "--existing"], &format!("{key}\n"));
    assert_eq!((again.code, again.output.trim_end()), (Some(0), hash));
    assert_eq!(again.log, "");
    assert!(made.log.contains("shown only now"), "{}", made.log);
    let short = edgeway_with(&["api-key", "--existing"], "abc");
    assert!(short.log.contains("can be guessed"), "{}", short.log);
    let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(short.output.trim_end(), abc);
    assert_eq!(edgeway_with(&["api-key", "--existing"], "").code, Some(1));
}

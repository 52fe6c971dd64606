//! Endpoints that are sockets in the file system.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Authority, Break, Echo, Endpoint, Gateway, Health, PATIENCE, Upstream, eventually, load, python,
};
use tempfile::TempDir;

/// A gateway with one upstream, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!("upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

fn socket(name: &str) -> Endpoint {
    Endpoint::setup(name).unix().start()
}

/// The path of an endpoint's socket.
fn path(endpoint: &Endpoint) -> PathBuf {
    let address = endpoint.to_string();
    PathBuf::from(address.strip_prefix("unix:").unwrap())
}

#[test]
fn the_host_is_kept_unless_the_upstream_says_otherwise() {
    let endpoint = socket("a");
    for (host, seen) in [
        ("", "shop.example.com"),
        ("host: api.test, ", "api.test"),
        // A path is no host.
        ("host: endpoint, ", "localhost"),
    ] {
        let gateway = gateway(&format!("{host}endpoints: ['{endpoint}']"));
        let request = gateway.request("POST", "/a?b=c").host("shop.example.com");
        let answer = request.body("hello").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["host"], seen);
        assert_eq!(
            (&said["target"], &said["body"]),
            (&"/a?b=c".into(), &"hello".into())
        );
    }
}

#[test]
fn many_requests_share_few_connections() {
    let endpoint = socket("a");
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], timeouts: {{ idle: 500ms }}"
    ));
    load(gateway.address(), 4, 200, |connection| {
        connection.request("GET", "/")
    })
    .expect_all(200);
    assert!(endpoint.connections() <= 8, "{}", endpoint.connections());
    eventually(PATIENCE, || endpoint.open_connections() == 0);
}

#[test]
fn sockets_and_ports_share_the_work() {
    let (one, two) = (socket("one"), Endpoint::start("two"));
    let gateway = gateway(&format!("endpoints: ['{one}', '{two}']"));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!((one.requests(), two.requests()), (5, 5));
}

/// As it is while an application starts.
#[test]
fn a_socket_that_is_not_there_yet_is_asked_as_soon_as_it_is() {
    let mut endpoint = socket("a");
    endpoint.down();
    fs::remove_file(path(&endpoint)).unwrap();
    let gateway = gateway(&format!("endpoints: ['{endpoint}'], fail_timeout: 1h"));
    for _ in 0..3 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 502, "{}", answer.text());
        let said = format!("{:?} {}", answer.headers, answer.text());
        assert!(!said.contains("endpoint.sock"), "{said}");
    }
    let line = gateway.wait_for_log("endpoint is left out");
    assert!(line.contains(&endpoint.to_string()), "{line}");
    endpoint.up();
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 200);
    }
}

#[test]
fn a_socket_that_is_dead_costs_no_request_while_there_is_another() {
    let (mut dead, good) = (socket("dead"), socket("good"));
    // The file stays, and nobody listens.
    dead.down();
    assert!(fs::metadata(path(&dead)).unwrap().file_type().is_socket());
    let gateway = gateway(&format!("endpoints: ['{dead}', '{good}'], max_fails: 0"));
    for _ in 0..6 {
        let answer = gateway.request("POST", "/").body("order").send();
        assert_eq!(answer.json()["endpoint"], "good");
    }
    dead.up();
    eventually(PATIENCE, || gateway.get("/").json()["endpoint"] == "dead");
}

#[test]
fn what_is_no_socket_is_502() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no socket").unwrap();
    let below = file.join("app.sock");
    for path in [folder.path(), &*file, &*below] {
        let gateway = gateway(&format!("endpoints: ['unix:{}']", path.display()));
        assert_eq!(gateway.get("/").status, 502, "{}", path.display());
    }
}

#[test]
fn a_path_may_have_spaces_and_be_as_long_as_the_system_permits() {
    let folder = tempfile::tempdir().unwrap();
    let mut path = folder.path().join("a b, c");
    fs::create_dir(&path).unwrap();
    let rest = 107 - path.as_os_str().len() - 1;
    path.push("x".repeat(rest));
    assert_eq!(path.as_os_str().len(), 107);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).is_ok() {
                let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).ok();
            }
        }
    });
    let gateway = gateway(&format!(
        "endpoints: [{:?}]",
        format!("unix:{}", path.display())
    ));
    assert_eq!(gateway.get("/").status, 204);
}

#[test]
fn a_silent_socket_is_504_after_its_time() {
    let endpoint = socket("a");
    endpoint.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], timeouts: {{ first_byte: 300ms }}"
    ));
    let start = Instant::now();
    assert_eq!(gateway.get("/").status, 504);
    let taken = start.elapsed();
    assert!(taken >= Duration::from_millis(290), "{taken:?}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    eventually(PATIENCE, || endpoint.in_flight() == 0);
}

#[test]
fn the_health_of_a_socket_is_checked() {
    let (one, two) = (socket("one"), socket("two"));
    let gateway = gateway(&format!(
        "endpoints: ['{one}', '{two}'], \
         health: {{ path: /healthz, interval: 50ms, healthy_after: 1, unhealthy_after: 1 }}"
    ));
    let asked = || {
        gateway.get("/").json()["endpoint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    eventually(PATIENCE, || one.requests_to("/healthz") > 2);
    one.health(Health::Down);
    eventually(PATIENCE, || (0..6).all(|_| asked() == "two"));
    one.health(Health::Up);
    eventually(PATIENCE, || asked() == "one");
}

#[test]
fn a_process_on_a_socket_may_be_killed_and_started_again() {
    let mut echo = Echo::start_unix();
    let socket = format!("{}", echo);
    let gateway = gateway(&format!("endpoints: ['{socket}'], fail_timeout: 1h"));
    assert_eq!(gateway.get("/").status, 200);
    echo.kill();
    assert_eq!(gateway.get("/").status, 502);
    echo.restart();
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn every_protocol_is_spoken_over_a_socket() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["app.test"]);
    let tls = format!(
        "tls: {{ ca: {}, name: app.test }}",
        authority.ca().display()
    );
    let clear = Endpoint::setup("clear").unix().h2c().start();
    let secure = Endpoint::setup("secure").unix().tls(&certificate).start();
    for (endpoint, upstream, version, sni) in [
        (&clear, "protocol: http2".to_owned(), "HTTP/2.0", None),
        (&secure, tls.clone(), "HTTP/1.1", Some("app.test")),
        (
            &secure,
            format!("protocol: auto, {tls}"),
            "HTTP/2.0",
            Some("app.test"),
        ),
    ] {
        let gateway = gateway(&format!("{upstream}, endpoints: ['{endpoint}']"));
        for _ in 0..3 {
            let said = gateway.get("/").json();
            assert_eq!(said["version"], version, "{upstream}");
            assert_eq!(said["sni"].as_str(), sni, "{upstream}");
        }
    }
}

/// Two sockets are two addresses, whatever is the same about them.
#[test]
fn sockets_do_not_share_connections() {
    let (one, two) = (socket("one"), socket("two"));
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          one: {{ endpoints: ['{one}'] }}
          two: {{ endpoints: ['{two}'] }}
        routes:
          - {{ match: {{ path: /one }}, upstream: one }}
          - {{ match: {{ path: /two }}, upstream: two }}
        "
    ));
    for _ in 0..5 {
        assert_eq!(gateway.get("/one").json()["endpoint"], "one");
        assert_eq!(gateway.get("/two").json()["endpoint"], "two");
    }
}

#[test]
fn a_path_that_can_not_be_is_refused_with_its_place() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (address, says) in [
        ("unix:app.sock", "expected the whole path of a socket"),
        ("unix:./app.sock", "expected the whole path of a socket"),
        ("unix:", "expected the whole path of a socket"),
        ("unix://run/app.sock", ""),
        ("/run/app.sock", "unix:/run/app.sock"),
        (&*long, "at most 107 bytes"),
    ] {
        let yaml = configuration(&format!("endpoints: ['{address}']"));
        if says.is_empty() {
            // Two slashes are one to the file system.
            assert_eq!(
                Gateway::setup(&yaml).run("check").code,
                Some(0),
                "{address}"
            );
            continue;
        }
        let said = Gateway::refused(&yaml);
        assert!(said.contains(says), "{address}: `{says}` is not in\n{said}");
        assert!(said.contains("edgeway.yaml:1:34\n"), "{said}");
    }
    let twice = configuration("endpoints: ['unix:/run/a.sock', 'unix:/run/a.sock']");
    let said = Gateway::refused(&twice);
    assert!(said.contains("written twice"), "{said}");
}

#[test]
fn an_application_of_gunicorn_is_served_and_may_restart() {
    let Some(mut gunicorn) = Gunicorn::start() else {
        return;
    };
    let gateway = gateway(&format!(
        "endpoints: ['unix:{}'], fail_timeout: 1h",
        gunicorn.path.display()
    ));
    let answer = gateway
        .request("POST", "/a%20b?c=d")
        .host("shop.test")
        .body("hello")
        .send();
    assert_eq!(answer.text(), "POST /a b c=d shop.test hello");
    load(gateway.address(), 4, 100, |connection| {
        connection.request("GET", "/")
    })
    .expect_all(200);
    gunicorn.stop();
    assert_eq!(gateway.get("/").status, 502);
    gunicorn.run();
    eventually(PATIENCE, || gateway.get("/").status == 200);
}

/// Gunicorn with a small application on a socket. Dropping it kills it.
struct Gunicorn {
    python: PathBuf,
    folder: TempDir,
    path: PathBuf,
    process: Option<Child>,
}

impl Gunicorn {
    fn start() -> Option<Self> {
        const APP: &str = "
def app(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0)).decode()
    words = ['REQUEST_METHOD', 'PATH_INFO', 'QUERY_STRING', 'HTTP_HOST']
    text = ' '.join([environ[word] for word in words] + [body]).encode()
    start_response('200 OK', [('Content-Length', str(len(text)))])
    return [text]
";
        let python = python("gunicorn")?;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("small.py"), APP).unwrap();
        let path = folder.path().join("app.sock");
        let mut gunicorn = Self {
            python,
            folder,
            path,
            process: None,
        };
        gunicorn.run();
        Some(gunicorn)
    }

    fn run(&mut self) {
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "gunicorn", "--workers", "2", "--bind"])
            .arg(format!("unix:{}", self.path.display()))
            .arg("small:app")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        eventually(PATIENCE, || listens(&self.path));
    }

    /// By SIGTERM, so that its workers end with it.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().to_string();
            Command::new("kill").arg(id).status().ok();
            process.wait().ok();
        }
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listens(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Nobody is blamed for what the endpoint of another kind does.
#[test]
fn a_port_that_refuses_leaves_the_socket_in_service() {
    let good = socket("good");
    let gateway = gateway(&format!(
        "endpoints: ['{good}', '{}']",
        Upstream::refusing()
    ));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").json()["endpoint"], "good");
    }
}

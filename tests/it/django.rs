//! A Django application behind the gateway as `conf/examples/django.yaml` has it: pages by the application under
//! gunicorn, what `collectstatic` has collected by the gateway (#27).

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use edgeway_tests::{Answer, Gateway, PATIENCE, eventually, python};
use flate2::read::GzDecoder;
use tempfile::TempDir;

/// The application with its files. Dropping it ends it.
struct Shop {
    python: PathBuf,
    folder: TempDir,
    process: Option<Child>,
}

impl Shop {
    /// None if this machine has no Django, which is told.
    fn start() -> Option<Self> {
        let python = python("django, gunicorn")?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["assets", "media"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut shop = Self {
            python,
            folder,
            process: None,
        };
        shop.write("assets/shop.css", "p { color: red }\n");
        shop.write("media/logo.html", "<script>alert(1)</script>");
        shop.collect();
        shop.run();
        Some(shop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"))
            .env("SHOP_FOLDER", self.folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn collect(&self) {
        let said = self
            .command()
            .args(["django_app.py", "collect"])
            .output()
            .unwrap();
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }

    fn run(&mut self) {
        let socket = self.path("gunicorn.sock");
        let mut command = self.command();
        command
            .args([
                "-m",
                "gunicorn",
                "django_app:application",
                "--workers",
                "1",
                "--bind",
            ])
            .arg(format!("unix:{}", socket.display()))
            .arg("--access-logfile")
            .arg(self.path("requests.log"))
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        eventually(PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    /// By SIGTERM, so that its worker ends with it.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            Command::new("kill")
                .arg(process.id().to_string())
                .status()
                .ok();
            process.wait().ok();
        }
    }

    /// The requests that it has seen.
    fn log(&self) -> String {
        fs::read_to_string(self.path("requests.log")).unwrap_or_default()
    }

    /// The example, for this folder and a free port.
    fn gateway(&self) -> Gateway {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/examples/django.yaml");
        let folder = self.folder.path().display().to_string();
        let yaml = fs::read_to_string(example).unwrap();
        let yaml = yaml
            .replace("/run/shop", &folder)
            .replace("root: shop", &format!("root: {folder}"));
        Gateway::start(&yaml.replace("0.0.0.0:8080", "127.0.0.1:0"))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop();
    }
}

fn get(gateway: &Gateway, target: &str) -> Answer {
    gateway.request("GET", target).host("shop.test").send()
}

/// The assets that a page names.
fn assets(page: &str) -> Vec<String> {
    let named = page.split('"').filter(|text| text.starts_with("/static/"));
    named.map(str::to_owned).collect()
}

/// #21, #25, #27
#[test]
fn pages_come_from_the_application_and_assets_from_the_gateway() {
    let Some(shop) = Shop::start() else { return };
    let gateway = shop.gateway();
    let page = get(&gateway, "/");
    assert_eq!(page.status, 200, "{page:?}");
    let login = get(&gateway, "/admin/login/");
    assert_eq!(login.status, 200, "{login:?}");
    let named: Vec<_> = [&page, &login]
        .into_iter()
        .flat_map(|page| assets(page.text()))
        .collect();
    assert!(named.len() > 3, "{named:?}");
    for target in &named {
        let plain = get(&gateway, target);
        assert_eq!(plain.status, 200, "{target}");
        let content_type = plain.header("content-type").unwrap();
        let is_known =
            ["text/css; charset=utf-8", "text/javascript; charset=utf-8"].contains(&content_type);
        assert!(is_known, "{target}: {content_type}");
        assert_eq!(
            plain.header("cache-control"),
            Some("max-age=315360000, immutable"),
            "{target}"
        );
        let packed = gateway
            .request("GET", target)
            .header("Accept-Encoding", "gzip")
            .send();
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("content-type"), Some(content_type));
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed.body)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain.body);
    }
    let missing = get(&gateway, "/static/missing.css");
    assert_eq!(missing.status, 404);
    let upload = get(&gateway, "/media/logo.html");
    assert_eq!(
        (upload.status, upload.header("content-disposition")),
        (200, Some("attachment"))
    );

    eventually(PATIENCE, || shop.log().contains("GET /admin/login/"));
    let seen = shop.log();
    assert!(seen.contains("GET / "), "{seen}");
    assert!(
        !seen.contains("/static/") && !seen.contains("/media/"),
        "{seen}"
    );
    gateway.wait_for_output("/static/missing.css");
    let lines = gateway.output();
    assert!(!lines.contains(&named[0]), "{lines}");
}

#[test]
fn the_application_is_told_how_its_client_has_come_by_the_gateway_alone() {
    let Some(shop) = Shop::start() else { return };
    let gateway = shop.gateway();
    let request = gateway.request("GET", "/").host("shop.test");
    let page = request
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.test");
    let page = page.send();
    assert!(page.text().contains("<p>http shop.test</p>"), "{page:?}");
}

#[test]
fn an_asset_that_was_changed_is_seen_at_once() {
    let Some(mut shop) = Shop::start() else {
        return;
    };
    let gateway = shop.gateway();
    let before = get(&gateway, "/static/shop.css");
    let tag = before.header("etag").unwrap();
    assert_eq!(before.header("cache-control"), Some("no-cache"));
    let asked = || {
        gateway
            .request("GET", "/static/shop.css")
            .header("If-None-Match", tag)
            .send()
    };
    assert_eq!(asked().status, 304);
    let old_page = get(&gateway, "/");

    shop.write("assets/shop.css", "p { color: green }\n");
    shop.collect();
    let after = asked();
    assert_eq!((after.status, after.text()), (200, "p { color: green }\n"));
    assert_ne!(after.header("etag"), Some(tag));
    // What old pages name is still there.
    let [old] = &assets(old_page.text())[..] else {
        panic!("{old_page:?}")
    };
    assert_eq!(get(&gateway, old).text(), "p { color: red }\n");
    shop.stop();
    shop.run();
    let new_page = get(&gateway, "/");
    let [new] = &assets(new_page.text())[..] else {
        panic!("{new_page:?}")
    };
    assert_ne!(old, new);
    assert_eq!(get(&gateway, new).text(), "p { color: green }\n");
}

//! A real Chromium, driven by WebDriver.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edgeway_tests::tell_skipped;
use fantoccini::{
    Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::Url;

/// Debian's `chromium-driver` brings it.
const DRIVER: &str = "/usr/bin/chromedriver";

/// One at a time: each takes a core, and what is timed should not wait for others.
static ONE: Mutex<()> = Mutex::new(());

/// How long is waited for what the page should show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with one page.
pub(super) struct Browser {
    driver: Child,
    runtime: Runtime,
    client: Client,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts one of this size; nothing, with a word of it, where there is none.
    pub(super) fn start(width: u32, height: u32) -> Option<Self> {
        if !std::path::Path::new(DRIVER).exists() {
            tell_skipped(DRIVER);
            return None;
        }
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new(DRIVER)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let said = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, behind) = line.split_once("successfully on port ")?;
            behind.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver tells its port");
        let runtime = Runtime::new().expect("a runtime can be made");
        let client = runtime.block_on(connect(port, width, height));
        Some(Self {
            driver,
            runtime,
            client,
            _turn: turn,
        })
    }

    /// Opens a page.
    pub(super) fn open(&self, url: &str) {
        self.runtime.block_on(self.client.goto(url)).unwrap();
    }

    /// Waits until there is an element.
    #[track_caller]
    pub(super) fn find(&self, css: &str) -> Element {
        let found = self.runtime.block_on(async {
            self.client
                .wait()
                .at_most(PATIENCE)
                .for_element(Locator::Css(css))
                .await
        });
        found.unwrap_or_else(|error| panic!("no `{css}`: {error}; the page says\n{}", self.text()))
    }

    /// Clicks on an element, which may be one that comes soon.
    #[track_caller]
    pub(super) fn click(&self, css: &str) {
        self.find(css);
        self.run(
            "arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })",
            css,
        );
        self.runtime.block_on(self.find(css).click()).unwrap();
    }

    /// Presses keys, wherever the focus is.
    pub(super) fn press(&self, keys: &str) {
        let focused = self.runtime.block_on(self.client.active_element()).unwrap();
        self.runtime.block_on(focused.send_keys(keys)).unwrap();
    }

    /// What a script returns.
    pub(super) fn script(&self, script: &str) -> Value {
        self.runtime
            .block_on(self.client.execute(script, Vec::new()))
            .unwrap()
    }

    fn run(&self, script: &str, css: &str) {
        let script = format!(
            "(function() {{ {script} }})(document.querySelector({}))",
            json!(css)
        );
        self.script(&script);
    }

    /// All text of the page.
    pub(super) fn text(&self) -> String {
        let text = self.script("return document.body ? document.body.innerText : ''");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a script returns true.
    #[track_caller]
    pub(super) fn until(&self, condition: &str) {
        let start = std::time::Instant::now();
        while self.script(&format!("return Boolean({condition})")) != true {
            assert!(
                start.elapsed() < PATIENCE,
                "never `{condition}`; the page says\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of the DevTools protocol.
    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.vendor(
            "goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Makes it one that prefers dark or light pages.
    pub(super) fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// What the console has said of errors since it was asked last.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.vendor("se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let text = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries.iter().map(text).collect()
    }

    /// Whom it has asked for something since it was asked last.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        let log = self.vendor("se/log", &json!({ "type": "performance" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let asked = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            let url = message["params"]["request"]["url"]
                .as_str()
                .filter(|_| sent)?;
            Some(Url::parse(url).ok()?.origin().ascii_serialization())
        };
        entries.iter().filter_map(asked).collect()
    }

    /// Keeps a picture of the page in the folder that `EDGEWAY_SHOTS` names, if it does.
    pub(super) fn picture(&self, name: &str) {
        let Some(folder) = env::var_os("EDGEWAY_SHOTS") else {
            return;
        };
        let size = self.script("return [innerWidth, document.documentElement.scrollHeight]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let taken = self.devtools(
            "Page.captureScreenshot",
            &json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }),
        );
        use base64::Engine as _;
        let data = taken["data"].as_str().expect("it is a text");
        let data = base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap();
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.png")),
            data,
        )
        .unwrap();
    }

    fn vendor(&self, path: &'static str, body: &Value) -> Value {
        let command = Vendor {
            path,
            body: body.to_string(),
        };
        self.runtime
            .block_on(self.client.issue_cmd(command))
            .unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both do nothing when it has ended by itself.
        self.runtime.block_on(self.client.clone().close()).ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

async fn connect(port: u16, width: u32, height: u32) -> Client {
    let size = format!("--window-size={width},{height}");
    let wanted = json!({
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", size],
        },
    });
    let Value::Object(wanted) = wanted else {
        unreachable!("it is an object");
    };
    let url = format!("http://127.0.0.1:{port}");
    let mut builder = ClientBuilder::new(HttpConnector::new());
    let client = builder.capabilities(wanted).connect(&url).await;
    let client = client.expect("Chromium starts");
    let command = Vendor {
        path: "goog/cdp/execute",
        body: json!({ "cmd": "Emulation.setDeviceMetricsOverride",
                      "params": { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 } })
        .to_string(),
    };
    client.issue_cmd(command).await.expect("it takes any size");
    client
}

/// A command that only this browser knows.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: String,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.clone()))
    }
}

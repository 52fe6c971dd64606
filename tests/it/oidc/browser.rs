//! A browser with its cookies.

use std::collections::BTreeMap;

use edgeway_tests::{Address, Answer, Gateway, Provider, Request};

/// It keeps the cookies of one gateway, and goes where it is sent when it is told to.
#[derive(Clone)]
pub(super) struct Browser {
    gateway: Address,
    provider: Address,
    pub(super) jar: BTreeMap<String, String>,
    /// Sent with every request to the gateway.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Browser {
    pub(super) fn new(gateway: &Gateway, provider: &Provider) -> Self {
        Self {
            gateway: gateway.address().into(),
            provider: provider.address().into(),
            jar: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    /// Another tab, or another browser that has copied all cookies.
    pub(super) fn copy(&self) -> Self {
        self.clone()
    }

    /// Opens a page, and goes nowhere else.
    #[track_caller]
    pub(super) fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, &[("Accept", "text/html,*/*;q=0.8")])
    }

    /// What a script of a page asks for.
    #[track_caller]
    pub(super) fn fetch(&mut self, target: &str) -> Answer {
        self.ask(
            "GET",
            target,
            &[("Accept", "*/*"), ("Sec-Fetch-Mode", "cors")],
        )
    }

    #[track_caller]
    pub(super) fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::to(self.gateway.clone(), method, target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.jar.is_empty() {
            request = request.header("Cookie", self.cookies());
        }
        let answer = request.send();
        for line in answer.header_all("Set-Cookie") {
            self.keep(line);
        }
        answer
    }

    /// Opens a page, logs in at the provider, and comes back to the page.
    #[track_caller]
    pub(super) fn log_in(&mut self, target: &str) -> Answer {
        let back = self.begin(target);
        self.come_back(&back)
    }

    /// Opens a page, and logs in at the provider: the path and query that it sends the browser back to.
    #[track_caller]
    pub(super) fn begin(&mut self, target: &str) -> String {
        let sent = self.get(target);
        assert_eq!(sent.status, 302, "{}", sent.text());
        self.at_provider(location(&sent))
    }

    /// Goes to the provider, and tells where it sends the browser back to.
    #[track_caller]
    pub(super) fn at_provider(&self, url: &str) -> String {
        let target = path_of(url);
        let answer = Request::to(self.provider.clone(), "GET", target).send();
        assert_eq!(answer.status, 302, "{}", answer.text());
        path_of(location(&answer)).to_owned()
    }

    /// Comes back from the provider, and goes on to the page if it is let.
    #[track_caller]
    pub(super) fn come_back(&mut self, back: &str) -> Answer {
        let answer = self.get(back);
        if answer.status != 302 {
            return answer;
        }
        let target = path_of(location(&answer)).to_owned();
        self.get(&target)
    }

    pub(super) fn cookies(&self) -> String {
        let pairs: Vec<_> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    /// The names of the cookies of logins under way.
    pub(super) fn logins(&self) -> Vec<String> {
        let names = self.jar.keys();
        names
            .filter(|name| name.contains("_login_"))
            .cloned()
            .collect()
    }

    fn keep(&mut self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        assert!(line.len() < 4096, "no browser keeps it: {line}");
        if attributes.contains("Max-Age=0") {
            self.jar.remove(name);
        } else {
            self.jar.insert(name.to_owned(), value.to_owned());
        }
    }
}

#[track_caller]
pub(super) fn location(answer: &Answer) -> &str {
    answer.header("Location").expect("a redirect")
}

/// Path and query of a URL.
pub(super) fn path_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let (_, path) = rest.split_at(rest.find('/').unwrap());
    path
}

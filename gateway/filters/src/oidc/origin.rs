//! The origin that a browser talks to, and whether a request comes from a page of it.

use edgeway_sdk::{Request, exchange::Scheme};
use http::{HeaderMap, header};

/// A scheme, a host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    authority: String,
}

impl Origin {
    /// The one that a text such as `https://app.example.com` tells.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        let port = url.port().map(|port| format!(":{port}"));
        let authority = format!("{}{}", url.host_str()?, port.unwrap_or_default());
        let origin = Self { scheme, authority };
        // With a path, a query or a user name it would be something else.
        (text.trim_end_matches('/') == origin.to_string()).then_some(origin)
    }

    /// The one that a request was sent to.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let authority = request.parts().uri.authority();
        let authority = authority.map(|authority| authority.as_str());
        let host = authority.or_else(|| request.header(header::HOST));
        Self {
            scheme: request.scheme(),
            authority: host.unwrap_or_else(|| request.host()).to_ascii_lowercase(),
        }
    }

    /// The URL of a path here. Whatever the path is, it leads nowhere else.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// Whether a request comes from a page of this origin, or from the user alone. Browsers tell, and pages
    /// can't have them tell otherwise.
    pub(super) fn is_home_of(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        if text("sec-purpose").is_some() {
            // Fetched in advance, before anybody has clicked.
            return false;
        }
        if let Some(site) = text("sec-fetch-site") {
            return matches!(site, "same-origin" | "none");
        }
        let own = self.to_string();
        if let Some(origin) = text("origin") {
            return origin == own;
        }
        let referer = text("referer").and_then(|referer| referer.strip_prefix(&*own));
        referer.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Whether a browser wants to show the answer as a page: then a login page will do.
pub(super) fn is_navigation(request: &Request<'_>) -> bool {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return false;
    }
    if let Some(mode) = request.header("sec-fetch-mode") {
        return mode == "navigate";
    }
    let script = request.header("x-requested-with").is_some();
    let accept = request.header(header::ACCEPT).unwrap_or_default();
    !script && accept.contains("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path() {
        for (text, known) in [
            ("https://app.example.com", true),
            ("https://app.example.com/", true),
            ("http://127.0.0.1:8080", true),
            ("https://app.example.com/x", false),
            ("https://app.example.com?x", false),
            ("https://ann@app.example.com", false),
            ("ftp://app.example.com", false),
            ("app.example.com", false),
        ] {
            assert_eq!(Origin::parse(text).is_some(), known, "{text}");
        }
    }

    #[test]
    fn only_a_page_of_ours_or_the_user_may_log_out() {
        let origin = Origin::parse("https://app.example.com").unwrap();
        for (name, value, home) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-purpose", "prefetch", false),
            ("origin", "https://app.example.com", true),
            ("origin", "https://evil.example", false),
            ("origin", "null", false),
            ("referer", "https://app.example.com/a", true),
            ("referer", "https://app.example.com.evil.example/", false),
            ("x-other", "1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(origin.is_home_of(&headers), home, "{name}: {value}");
        }
    }
}

//! All that a route says about the requests it is for.

use std::fmt;

use http::Method;

use super::{HostPattern, MatchError, PathPattern, Predicate, RouteRequest};

/// Hosts, path, methods and predicates of a route. A request must satisfy them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    hosts: Vec<HostPattern>,
    path: PathPattern,
    methods: Vec<Method>,
    predicates: Vec<Predicate>,
}

impl Match {
    /// Matches a path on every host, with every method. The rest is added by the calls that follow.
    pub fn new(path: PathPattern) -> Self {
        Self {
            hosts: Vec::new(),
            path,
            methods: Vec::new(),
            predicates: Vec::new(),
        }
    }

    /// Only on these hosts. None at all means every host.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = HostPattern>) -> Self {
        add_new(&mut self.hosts, hosts);
        self
    }

    /// Only with these methods. `GET` brings `HEAD` with it, since both ask for the same thing.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        add_new(&mut self.methods, methods);
        if self.methods.contains(&Method::GET) {
            add_new(&mut self.methods, [Method::HEAD]);
        }
        self
    }

    /// Only if these hold as well.
    #[must_use]
    pub fn predicates(mut self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        add_new(&mut self.predicates, predicates);
        self
    }

    /// The path of the route.
    pub fn path(&self) -> &PathPattern {
        &self.path
    }

    pub(super) fn host_patterns(&self) -> &[HostPattern] {
        &self.hosts
    }

    pub(super) fn asked(&self) -> &[Predicate] {
        &self.predicates
    }

    pub(super) fn allowed(&self) -> &[Method] {
        &self.methods
    }

    /// How many conditions there are besides host and path: more beat fewer.
    pub(super) fn weight(&self) -> usize {
        self.predicates.len() + usize::from(!self.methods.is_empty())
    }

    /// Whether requests with this method match, as far as it is for the method.
    pub(crate) fn allows(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(super) fn predicates_hold(&self, request: &RouteRequest<'_>) -> bool {
        self.predicates
            .iter()
            .all(|predicate| predicate.holds(request))
    }

    /// Whether the conditions besides host and path surely hold here if they hold in `other`.
    pub(super) fn is_implied_by(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other.methods.iter().all(|method| self.allows(method)));
        let implied =
            |wanted: &Predicate| other.predicates.iter().any(|given| given.implies(wanted));
        methods && self.predicates.iter().all(implied)
    }
}

/// One line for a table: `api.example.com/protected/*  GET,HEAD  header x-tier=gold`.
///
/// `/a/*` is what is below `/a`, `/a[/*]` is `/a` too, `^~` marks a prefix that is asked before regexes.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        let place = format!("{}{}", hosts.join(","), self.path);
        f.write_str(place.trim_start())?;
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        if !methods.is_empty() {
            write!(f, "  {}", methods.join(","))?;
        }
        self.predicates
            .iter()
            .try_for_each(|predicate| write!(f, "  {predicate}"))
    }
}

/// Reads a method as it is sent: in upper case, or whatever a client of one's own sends.
pub fn method(name: &str) -> Result<Method, MatchError> {
    let wrong = |reason: &str| MatchError::new(format!("`{name}` is not a method{reason}"));
    let upper = name.to_ascii_uppercase();
    if upper != name && KNOWN_METHODS.contains(&upper.as_str()) {
        return Err(wrong(&format!(", write `{upper}`")));
    }
    Method::from_bytes(name.as_bytes()).map_err(|_| wrong(""))
}

fn add_new<T: PartialEq>(list: &mut Vec<T>, items: impl IntoIterator<Item = T>) {
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

const KNOWN_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Case, Rank, Subject, Test};

    #[test]
    fn a_match_is_shown_in_one_line() {
        let prefix = |path| PathPattern::prefix(path, Rank::BelowRegex).unwrap();
        let host = |name| HostPattern::parse(name).unwrap();
        let gold = Predicate::new(
            Subject::header("X-Tier").unwrap(),
            Test::Equals("gold".into()),
        )
        .unwrap();
        let guest = Predicate::new(Subject::cookie("sid").unwrap(), Test::Absent).unwrap();
        let page = Predicate::new(
            Subject::query("page").unwrap(),
            Test::matches("^[0-9]+$", Case::Sensitive).unwrap(),
        );
        let table = [
            (
                Match::new(prefix("/protected/"))
                    .hosts([host("api.example.com")])
                    .methods([Method::POST]),
                "api.example.com/protected/*  POST",
            ),
            (Match::new(prefix("/")), "/*"),
            (Match::new(prefix("/product")), "/product[/*]"),
            (
                Match::new(PathPattern::exact("/healthz").unwrap()).methods([Method::GET]),
                "/healthz  GET,HEAD",
            ),
            (
                Match::new(PathPattern::prefix("/static/", Rank::AboveRegex).unwrap()),
                "^~ /static/*",
            ),
            (
                Match::new(PathPattern::regex(r"\.php$", Case::Sensitive).unwrap()),
                r"~ \.php$",
            ),
            (
                Match::new(PathPattern::regex(r"\.jpg$", Case::Ignored).unwrap())
                    .hosts([host("*.a.org"), host("b.org")]),
                r"*.a.org,b.org ~* \.jpg$",
            ),
            (
                Match::new(prefix("/")).predicates([gold.clone(), guest, page.unwrap(), gold]),
                "/*  header x-tier=gold  no cookie sid  query page ~ ^[0-9]+$",
            ),
        ];
        for (matching, expected) in table {
            assert_eq!(matching.to_string(), expected);
        }
    }

    #[test]
    fn a_method_is_written_as_it_is_sent() {
        assert_eq!(method("GET").unwrap(), Method::GET);
        assert_eq!(method("PURGE").unwrap().as_str(), "PURGE");
        assert_eq!(
            method("get").unwrap_err().to_string(),
            "`get` is not a method, write `GET`"
        );
        assert_eq!(
            method("G ET").unwrap_err().to_string(),
            "`G ET` is not a method"
        );
        assert_eq!(method("").unwrap_err().to_string(), "`` is not a method");
    }
}

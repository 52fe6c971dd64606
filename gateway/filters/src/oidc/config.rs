//! What the user writes under `oidc:`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgeway_sdk::{Build, BuildError, Period, Secret, types::Header};
use http::{HeaderName, header};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;

use super::{
    Oidc, cookies::Cookies, id_token::IdTokens, logout::Ended, origin::Origin, provider::Provider,
    refresh::Refreshes, seal::Seals, session::Sessions,
};
use crate::{
    client::{self, Client, Url},
    document::{self, Document, Pace, Source},
    forward::Forward,
    headers,
    jwt::{
        self,
        claims::{Parties, Rules},
        keys::Keys,
        lasting,
    },
    written::Several,
};

/// All of `oidc:`; [`DOC`](super::DOC) says what each key means.
#[derive(Deserialize)]
pub(crate) struct Config {
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    secret: Several<Secret>,
    #[serde(default = "usual_scopes")]
    scopes: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default = "usual_algorithms")]
    algorithms: Vec<Algorithm>,
    #[serde(default = "usual_leeway")]
    leeway: Period,
    #[serde(default)]
    userinfo: bool,
    #[serde(default = "usual_timeout")]
    timeout: Period,
    #[serde(default = "usual_callback")]
    callback_path: String,
    #[serde(default = "usual_logout")]
    logout_path: String,
    after_logout: Option<String>,
    public_url: Option<String>,
    #[serde(default = "usual_cookie")]
    cookie: String,
    #[serde(default = "usual_login_timeout")]
    login_timeout: Period,
    #[serde(default)]
    session: SessionConfig,
    #[serde(default = "usual_subject")]
    subject: Several<String>,
    #[serde(default)]
    forward: BTreeMap<String, String>,
    #[serde(default)]
    forward_tokens: ForwardTokens,
}

#[derive(Deserialize)]
#[serde(default)]
struct SessionConfig {
    lifetime: Period,
    idle: Period,
    refresh_before: Period,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            lifetime: Period(Duration::from_secs(12 * 3_600)),
            idle: Period(Duration::from_secs(3_600)),
            refresh_before: Period(Duration::from_secs(60)),
        }
    }
}

/// How long sessions last, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    pub(super) lifetime: u64,
    pub(super) idle: u64,
    pub(super) refresh_before: u64,
}

/// Which headers tell the upstream the tokens themselves.
#[derive(Default, Deserialize)]
pub(super) struct ForwardTokens {
    pub(super) access_token: Option<Header>,
    pub(super) id_token: Option<Header>,
}

/// Paths that mean something to the filter.
pub(super) struct Paths {
    pub(super) callback: String,
    pub(super) logout: String,
    /// A path or a URL.
    pub(super) after_logout: Option<String>,
}

fn usual_scopes() -> Vec<String> {
    vec!["openid".to_owned()]
}

fn usual_algorithms() -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    vec![
        RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA,
    ]
}

fn usual_leeway() -> Period {
    Period(Duration::from_secs(30))
}

fn usual_timeout() -> Period {
    Period(Duration::from_secs(5))
}

fn usual_callback() -> String {
    "/oidc/callback".to_owned()
}

fn usual_logout() -> String {
    "/oidc/logout".to_owned()
}

fn usual_cookie() -> String {
    "edgeway_session".to_owned()
}

fn usual_login_timeout() -> Period {
    Period(Duration::from_secs(600))
}

fn usual_subject() -> Several<String> {
    Several(vec!["sub".to_owned()])
}

impl Config {
    /// The filter that this is.
    pub(super) fn filter(self, build: &mut Build<'_>) -> Result<Oidc, BuildError> {
        let issuer = client::url("issuer", &self.issuer)?;
        client::warn_of_clear_text("issuer", &issuer, "what comes from an issuer", build);
        self.check()?;
        let pace = Pace {
            interval: INTERVAL,
            timeout: lasting("timeout", self.timeout)?,
        };
        let name = format!("{} {}", self.client_id, self.issuer);
        Ok(Oidc {
            provider: Arc::new(self.provider(&issuer, pace, build)?),
            id_tokens: Arc::new(self.id_tokens(pace, build)?),
            refreshes: build.resources().shared(&name, Refreshes::new),
            ended: build.resources().shared(&name, Ended::new),
            public: self.public()?,
            login_timeout: seconds("login_timeout", self.login_timeout)?,
            scope: self.scopes.join(" "),
            paths: Paths {
                callback: self.callback_path.clone(),
                logout: self.logout_path.clone(),
                after_logout: self.after_logout.clone(),
            },
            parameters: self.parameters.clone().into_iter().collect(),
            sessions: self.sessions(build)?,
        })
    }

    fn provider(
        &self,
        issuer: &Url,
        pace: Pace,
        build: &mut Build<'_>,
    ) -> Result<Provider, BuildError> {
        let place = client::url("issuer", &document::well_known(&self.issuer))?;
        let source = Source::Metadata(self.issuer.clone(), place);
        let metadata = build
            .resources()
            .shared(&self.issuer, || Document::new(source));
        build.background(Arc::clone(&metadata).keep(pace));
        Ok(Provider {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            metadata,
            client: Client::new(issuer),
            timeout: pace.timeout,
            userinfo: self.userinfo,
        })
    }

    fn id_tokens(&self, pace: Pace, build: &mut Build<'_>) -> Result<IdTokens, BuildError> {
        let place = client::url("issuer", &document::well_known(&self.issuer))?;
        let source = Source::Issuer(self.issuer.clone(), place);
        let parties = Parties {
            issuer: Some(Several(vec![self.issuer.clone()])),
            audience: Some(Several(vec![self.client_id.clone()])),
            subject: Several(self.subject.0.clone()),
        };
        Ok(IdTokens {
            keys: Keys {
                own: Vec::new(),
                published: Some(jwt::published(source, pace, REFETCH, build)),
            },
            algorithms: self.algorithms.clone(),
            rules: Rules::of(parties, self.leeway.0)?,
            client_id: self.client_id.clone(),
        })
    }

    fn sessions(self, build: &mut Build<'_>) -> Result<Sessions, BuildError> {
        let purpose = [&*self.issuer, &*self.client_id, &*self.cookie];
        let seals = Seals::new(&self.secret.0, &purpose)?;
        let lifetimes = Lifetimes {
            lifetime: seconds("session.lifetime", self.session.lifetime)?,
            idle: seconds("session.idle", self.session.idle)?,
            refresh_before: self.session.refresh_before.0.as_secs(),
        };
        let forward = Forward::new(self.forward, holds_credentials, build)?;
        let cookies = Cookies::new(self.cookie);
        Sessions::new(
            cookies,
            seals,
            lifetimes,
            forward,
            self.forward_tokens,
            build,
        )
    }

    fn public(&self) -> Result<Option<Origin>, BuildError> {
        let Some(text) = &self.public_url else {
            return Ok(None);
        };
        let wrong = || {
            let message =
                format!("expected an origin such as `https://app.example.com`, found `{text}`");
            BuildError::at("public_url", message)
        };
        Origin::parse(text).map(Some).ok_or_else(wrong)
    }

    fn check(&self) -> Result<(), BuildError> {
        self.check_names()?;
        self.check_paths()?;
        let symmetric = |algorithm: &&Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        if let Some(algorithm) = self.algorithms.iter().find(symmetric) {
            let message = format!("`{algorithm:?}` has no public key");
            return Err(BuildError::at("algorithms", message));
        }
        if self.algorithms.is_empty() {
            return Err(BuildError::at("algorithms", "name at least one algorithm"));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), BuildError> {
        if !self.scopes.iter().any(|scope| scope == "openid") {
            let error = BuildError::at("scopes", "without `openid` there is no ID token");
            return Err(error.help("add `openid`"));
        }
        let is_scope = |scope: &String| {
            let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
            !scope.is_empty() && scope.bytes().all(allowed)
        };
        if let Some(index) = self.scopes.iter().position(|scope| !is_scope(scope)) {
            return Err(BuildError::at(
                format!("scopes.{index}"),
                "this is not one scope",
            ));
        }
        if let Some(name) = OURS
            .iter()
            .find(|name| self.parameters.contains_key(**name))
        {
            let key = format!("parameters.{name}");
            return Err(BuildError::at(
                key,
                format!("`{name}` is set by the filter"),
            ));
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.cookie.is_empty() || !self.cookie.bytes().all(is_token) {
            let message = "expected letters, digits, `-`, `_` and `.`";
            return Err(BuildError::at("cookie", message));
        }
        Ok(())
    }

    fn check_paths(&self) -> Result<(), BuildError> {
        let paths = [
            ("callback_path", &self.callback_path),
            ("logout_path", &self.logout_path),
        ];
        for (key, path) in paths {
            if !is_path(path) || path.contains('?') {
                let message = format!("expected a path such as `/oidc/callback`, found `{path}`");
                return Err(BuildError::at(key, message));
            }
        }
        if self.callback_path == self.logout_path {
            let message = "a login can't come back where one logs out";
            return Err(BuildError::at("logout_path", message));
        }
        match &self.after_logout {
            Some(after) if !is_path(after) => client::url("after_logout", after).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

impl ForwardTokens {
    /// Reserves the headers, but `Authorization`: programs may bring one for another filter.
    pub(super) fn reserve(&self, build: &mut Build<'_>) -> Result<(), BuildError> {
        let tokens = [
            ("access_token", &self.access_token),
            ("id_token", &self.id_token),
        ];
        for (key, name) in tokens {
            let Some(Header(name)) = name else { continue };
            let key = format!("forward_tokens.{key}");
            headers::changeable(name, &*key)?;
            if *name == header::COOKIE {
                return Err(BuildError::at(key, "`cookie` is where the session stands"));
            }
            if *name != header::AUTHORIZATION {
                build.reserve_header(name.clone());
            }
        }
        Ok(())
    }
}

fn holds_credentials(name: &HeaderName) -> bool {
    [header::AUTHORIZATION, header::COOKIE].contains(name)
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn seconds(key: &str, period: Period) -> Result<u64, BuildError> {
    match period.0.as_secs() {
        0 => Err(BuildError::at(key, "expected a second or more")),
        seconds => Ok(seconds),
    }
}

/// Parameters of the authorization request that are the filter's own.
const OURS: [&str; 9] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];
/// What an issuer says of itself is fetched again after this time.
const INTERVAL: Duration = Duration::from_secs(300);
/// An unknown key id causes at most one fetch in this time.
const REFETCH: Duration = Duration::from_secs(30);

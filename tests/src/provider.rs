//! An OpenID Connect provider that does what it is told, and keeps the rules otherwise.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

use crate::upstream::{Caller, Upstream};

/// A provider within the test. Dropping it closes the port.
///
/// Its only client is [`CLIENT`](Self::CLIENT) with [`SECRET`](Self::SECRET), by name and password in a header.
/// The user who comes to it is logged in at once, as [`user`](Self::user) says. Codes are good once and for the
/// browser's own `code_challenge`; so are refresh tokens, and one that is used twice makes all of its family bad.
#[derive(Debug)]
pub struct Provider {
    upstream: Upstream,
    state: Arc<State>,
}

/// What a provider does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// Closes each connection.
    Away,
    /// Never answers.
    Silent,
    /// Answers 500.
    Unwell,
    /// Sends the user back with `access_denied`.
    Denies,
    /// Does not name itself when it sends the user back.
    Nameless,
    /// Names another issuer when it sends the user back.
    MixedUp,
    /// Gives ID tokens of another login.
    Nonce,
    /// Gives ID tokens of another issuer.
    Issuer,
    /// Gives ID tokens for another client.
    Audience,
    /// Gives ID tokens that were made for another client of the same audience.
    Party,
    /// Gives ID tokens that have ended.
    Expired,
    /// Gives ID tokens signed by a key that it does not publish, under the name of one that it does.
    Forged,
    /// Gives ID tokens without a signature (`alg: none`).
    Unsigned,
    /// Gives no refresh tokens.
    NoRefresh,
    /// Gives no new refresh token for an old one, which stays good.
    NoRotation,
    /// Refreshes for somebody else.
    SomebodyElse,
    /// Tells of somebody else by userinfo.
    OtherUserinfo,
    /// Answers questions about tokens with something that is no answer.
    Rubbish,
}

/// How the client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBy {
    /// By name and password in a header.
    Basic,
    /// By name and password in the form.
    Post,
    /// By its name alone.
    Name,
}

struct State {
    inner: Mutex<Inner>,
}

struct Inner {
    issuer: String,
    wrong: HashSet<Wrong>,
    redirects: HashSet<String>,
    user: Map<String, Value>,
    lasting: u64,
    client_by: ClientBy,
    codes: HashMap<String, Code>,
    /// Which login each refresh token belongs to, and whether it was used.
    refresh: HashMap<String, (u64, bool)>,
    /// What access tokens are good for.
    access: HashMap<String, Value>,
    /// Logins whose refresh tokens are all bad.
    ended: HashSet<u64>,
    key: Key,
    /// Paths that were asked for, in order.
    asked: Vec<String>,
    number: u64,
}

struct Code {
    challenge: String,
    redirect: String,
    nonce: String,
}

struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

struct Asked {
    method: String,
    path: String,
    query: HashMap<String, String>,
    form: HashMap<String, String>,
    authorization: String,
}

impl Provider {
    /// The name of the client.
    pub const CLIENT: &'static str = "edge:way";
    /// Its password.
    pub const SECRET: &'static str = "p@ss/w rd+1%";

    /// One whose user is `ann`.
    pub fn start() -> Self {
        let state = Arc::new(State::new());
        let served = Arc::clone(&state);
        let upstream =
            Upstream::raw(move |mut caller| while served.serve(&mut caller).is_some() {});
        state.lock().issuer = format!("http://{upstream}");
        Self { upstream, state }
    }

    /// The name of the issuer, which is where it is.
    pub fn issuer(&self) -> String {
        self.state.lock().issuer.clone()
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Lets users be sent back to this URL.
    pub fn allow(&self, redirect: &str) {
        self.state.lock().redirects.insert(redirect.to_owned());
    }

    /// Does this wrong from now on.
    pub fn begin(&self, wrong: Wrong) {
        self.state.lock().wrong.insert(wrong);
    }

    /// Does it right again.
    pub fn end(&self, wrong: Wrong) {
        self.state.lock().wrong.remove(&wrong);
    }

    /// Says this of the user from now on. The name is the claim `sub`.
    ///
    /// # Panics
    ///
    /// When that is no object.
    pub fn user(&self, claims: Value) {
        let Value::Object(claims) = claims else {
            panic!("claims are an object");
        };
        self.state.lock().user = claims;
    }

    /// How the client must show who it is from now on. The gateway learns it when it starts.
    pub fn client_by(&self, way: ClientBy) {
        self.state.lock().client_by = way;
    }

    /// How many seconds access tokens last that are given from now on.
    pub fn lasting(&self, seconds: u64) {
        self.state.lock().lasting = seconds;
    }

    /// Signs with another key from now on, and publishes that one alone.
    pub fn change_key(&self) {
        let mut inner = self.state.lock();
        inner.number += 1;
        inner.key = Key::new(format!("key-{}", inner.number));
    }

    /// An access token of its own making that is good, of which it says this when it is asked.
    pub fn token(&self, said: Value) -> String {
        let mut inner = self.state.lock();
        let token = inner.fresh("token");
        inner.access.insert(token.clone(), said);
        token
    }

    /// Says from now on that this token is not active.
    pub fn withdraw(&self, token: &str) {
        self.state.lock().access.remove(token);
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.upstream.connections()
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let inner = self.state.lock();
        inner.asked.iter().filter(|asked| *asked == path).count()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl State {
    fn new() -> Self {
        let inner = Inner {
            issuer: String::new(),
            wrong: HashSet::new(),
            redirects: HashSet::new(),
            user: Map::from_iter([("sub".to_owned(), json!("ann"))]),
            lasting: 3_600,
            client_by: ClientBy::Basic,
            codes: HashMap::new(),
            refresh: HashMap::new(),
            access: HashMap::new(),
            ended: HashSet::new(),
            key: Key::new("key".to_owned()),
            asked: Vec::new(),
            number: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request; none if the connection is to be closed.
    fn serve(&self, caller: &mut Caller) -> Option<()> {
        let head = caller.head()?;
        let asked = Asked::read(&head, caller)?;
        let wrong = self.lock().wrong.clone();
        if wrong.contains(&Wrong::Away) {
            return None;
        }
        if wrong.contains(&Wrong::Silent) {
            while self.lock().wrong.contains(&Wrong::Silent) {
                thread::sleep(Duration::from_millis(20));
            }
            return None;
        }
        let answer = if wrong.contains(&Wrong::Unwell) {
            said(500, &json!({ "error": "server_error" }))
        } else {
            self.lock().answer(&asked)
        };
        caller.send(answer);
        Some(())
    }
}

impl Inner {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong.contains(&wrong)
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.number += 1;
        format!("{kind}-{}-{:016x}", self.number, digest_number(self.number))
    }

    fn answer(&mut self, asked: &Asked) -> String {
        self.asked.push(asked.path.clone());
        match (&*asked.method, &*asked.path) {
            ("GET", "/.well-known/openid-configuration") => said(200, &self.metadata()),
            ("GET", "/jwks") => said(200, &json!({ "keys": [self.key.public()] })),
            ("GET", "/authorize") => self.authorize(asked),
            ("POST", "/token") if self.is_client(asked) => self.token(asked),
            ("POST", "/introspect") if self.is_client(asked) => self.introspect(asked),
            ("POST", "/revoke") if self.is_client(asked) => {
                let family = self
                    .refresh
                    .get(asked.form("token"))
                    .map(|(family, _)| *family);
                self.ended.extend(family);
                said(200, &json!({}))
            }
            ("POST", "/token" | "/introspect" | "/revoke") => {
                said(401, &json!({ "error": "invalid_client" }))
            }
            ("GET", "/userinfo") => self.userinfo(asked),
            ("GET", "/end") => page(200, "goodbye"),
            _ => page(404, "not here"),
        }
    }

    /// Whether it is our client that asks, in the one way that it may.
    fn is_client(&self, asked: &Asked) -> bool {
        let named = asked.form("client_id") == Provider::CLIENT;
        let secret = asked.form("client_secret");
        let silent = asked.authorization.is_empty();
        match self.client_by {
            ClientBy::Basic => asked.shows_password() && secret.is_empty(),
            ClientBy::Post => silent && named && secret == Provider::SECRET,
            ClientBy::Name => silent && named && secret.is_empty(),
        }
    }

    fn metadata(&self) -> Value {
        let issuer = &self.issuer;
        let way = match self.client_by {
            ClientBy::Basic => "client_secret_basic",
            ClientBy::Post => "client_secret_post",
            ClientBy::Name => "none",
        };
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "end_session_endpoint": format!("{issuer}/end?lang=en"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "authorization_response_iss_parameter_supported": true,
            "token_endpoint_auth_methods_supported": [way],
        })
    }

    fn authorize(&mut self, asked: &Asked) -> String {
        let redirect = asked.query("redirect_uri").to_owned();
        if asked.query("client_id") != Provider::CLIENT || !self.redirects.contains(&redirect) {
            return page(400, "unknown client or redirect_uri");
        }
        let right = asked.query("response_type") == "code"
            && asked.query("code_challenge_method") == "S256"
            && asked.query("code_challenge").len() == 43
            && asked
                .query("scope")
                .split(' ')
                .any(|scope| scope == "openid");
        let outcome = if !right {
            "error=invalid_request".to_owned()
        } else if self.is(Wrong::Denies) {
            "error=access_denied".to_owned()
        } else {
            let code = self.fresh("code");
            let kept = Code {
                challenge: asked.query("code_challenge").to_owned(),
                redirect: redirect.clone(),
                nonce: asked.query("nonce").to_owned(),
            };
            self.codes.insert(code.clone(), kept);
            format!("code={code}")
        };
        let issuer = match () {
            () if self.is(Wrong::Nameless) => String::new(),
            () if self.is(Wrong::MixedUp) => "&iss=http://other.example".to_owned(),
            () => format!("&iss={}", self.issuer),
        };
        let state = asked.query("state");
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {redirect}?{outcome}&state={state}{issuer}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    fn token(&mut self, asked: &Asked) -> String {
        let bad = said(400, &json!({ "error": "invalid_grant" }));
        match asked.form("grant_type") {
            "authorization_code" => {
                // Good once, also when it is wrong.
                let Some(code) = self.codes.remove(asked.form("code")) else {
                    return bad;
                };
                let proof = digest(&SHA256, asked.form("code_verifier").as_bytes());
                let proof = BASE64_URL_SAFE_NO_PAD.encode(proof);
                if proof != code.challenge || asked.form("redirect_uri") != code.redirect {
                    return bad;
                }
                self.number += 1;
                self.give(self.number, Some(&code.nonce))
            }
            "refresh_token" => {
                let Some((family, used)) = self.refresh.get_mut(asked.form("refresh_token")) else {
                    return bad;
                };
                let rotates = !self.wrong.contains(&Wrong::NoRotation);
                let (family, used) = (*family, std::mem::replace(used, rotates));
                if used {
                    self.ended.insert(family);
                }
                if self.ended.contains(&family) {
                    return bad;
                }
                self.give(family, None)
            }
            _ => said(400, &json!({ "error": "unsupported_grant_type" })),
        }
    }

    fn give(&mut self, family: u64, nonce: Option<&str>) -> String {
        let id_token = self.id_token(nonce);
        let access = self.fresh("access");
        let said_of = json!({ "active": true, "sub": self.user.get("sub"), "scope": "openid" });
        self.access.insert(access.clone(), said_of);
        let mut given = json!({
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": self.lasting,
            "id_token": id_token,
        });
        let is_refresh = nonce.is_none();
        let keeps = is_refresh && self.is(Wrong::NoRotation);
        if !(self.is(Wrong::NoRefresh) || keeps) {
            let refresh = self.fresh("refresh");
            self.refresh.insert(refresh.clone(), (family, false));
            given["refresh_token"] = refresh.into();
        }
        said(200, &given)
    }

    fn id_token(&self, nonce: Option<&str>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let other = |wrong, right: &str| match self.is(wrong) {
            true => "http://other.example".to_owned(),
            false => right.to_owned(),
        };
        let mut claims = self.user.clone();
        claims.insert("iss".into(), other(Wrong::Issuer, &self.issuer).into());
        claims.insert(
            "aud".into(),
            other(Wrong::Audience, Provider::CLIENT).into(),
        );
        claims.insert("iat".into(), now.into());
        let ends = if self.is(Wrong::Expired) {
            now - 3_600
        } else {
            now + 3_600
        };
        claims.insert("exp".into(), ends.into());
        if let Some(nonce) = nonce {
            claims.insert("nonce".into(), other(Wrong::Nonce, nonce).into());
        } else if self.is(Wrong::SomebodyElse) {
            claims.insert("sub".into(), "mallory".into());
        }
        if self.is(Wrong::Party) {
            claims.insert("aud".into(), json!([Provider::CLIENT, "other"]));
            claims.insert("azp".into(), "other".into());
        }
        let claims = Value::Object(claims);
        if self.is(Wrong::Unsigned) {
            let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            return format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims));
        }
        if self.is(Wrong::Forged) {
            return Key::new(self.key.id.clone()).sign(&claims);
        }
        self.key.sign(&claims)
    }

    fn introspect(&self, asked: &Asked) -> String {
        if self.is(Wrong::Rubbish) {
            return page(200, "{ \"active\": \"yes\" }");
        }
        match self.access.get(asked.form("token")) {
            Some(of_token) => said(200, of_token),
            None => said(200, &json!({ "active": false })),
        }
    }

    fn userinfo(&self, asked: &Asked) -> String {
        let token = asked.authorization.strip_prefix("Bearer ");
        if !token.is_some_and(|token| self.access.contains_key(token)) {
            return said(401, &json!({ "error": "invalid_token" }));
        }
        let subject = match self.is(Wrong::OtherUserinfo) {
            true => json!("mallory"),
            false => self.user.get("sub").cloned().unwrap_or_default(),
        };
        said(
            200,
            &json!({ "sub": subject, "email": "by-userinfo@example.com" }),
        )
    }
}

impl Asked {
    fn read(head: &str, caller: &mut Caller) -> Option<Self> {
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let line = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
            line.map_or("", |(_, value)| value)
        };
        let length = value("content-length").parse().unwrap_or(0);
        let body = caller.body(length)?;
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: pairs(query),
            form: pairs(&String::from_utf8_lossy(&body)),
            authorization: value("authorization").to_owned(),
        })
    }

    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn form(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    /// Whether the client has shown its password, encoded as RFC 6749 wants it.
    fn shows_password(&self) -> bool {
        let encoded = self.authorization.strip_prefix("Basic ");
        let pair = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        pair.is_some_and(|(id, secret)| {
            decoded(id) == Provider::CLIENT && decoded(secret) == Provider::SECRET
        })
    }
}

impl Key {
    fn new(id: String) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self {
            pair: pair.expect("a key can be made"),
            id,
        }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let [x, y] = [x, y].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "ES256", "kid": self.id });
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.expect("a key signs");
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn said(status: u16, value: &Value) -> String {
    let text = value.to_string();
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn page(status: u16, text: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn pairs(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// A text of a form as it was before it was encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.map_or('0', char::from));
                let digits: String = digits.iter().collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A number that can't be guessed from the last one.
fn digest_number(number: u64) -> u64 {
    let bytes = digest(&SHA256, format!("{number} of a test").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&bytes.as_ref()[..8]);
    u64::from_le_bytes(first)
}

//! What the claims of a token must be.

use std::time::Duration;

use edgeway_sdk::{BuildError, values::claim};
use serde_json::{Map, Value};

use super::{
    config::{Config, Oidc},
    refusal::Refusal,
};
use crate::written::Several;

/// The claims of a token.
pub(crate) type Claims = Map<String, Value>;

/// Seconds since 1970, as tokens count them.
pub(crate) type Seconds = f64;

/// The rules that the claims of a verified token must obey.
pub(crate) struct Rules {
    require_exp: bool,
    leeway: Seconds,
    issuers: Option<Vec<String>>,
    audiences: Option<Vec<String>>,
    required: Vec<Required>,
    subject: Vec<String>,
}

/// A claim that must have one of some values.
struct Required {
    path: String,
    values: Vec<Value>,
}

/// Whom a token must be from and for, and who it speaks of.
pub(crate) struct Parties {
    /// If none is given, `iss` is not looked at.
    pub(crate) issuer: Option<Several<String>>,
    /// If none is given, `aud` is not looked at.
    pub(crate) audience: Option<Several<String>>,
    /// The claims that may name the caller; the first one that has a name does.
    pub(crate) subject: Several<String>,
}

impl Rules {
    pub(super) fn new(config: &mut Config) -> Result<Self, BuildError> {
        let issuer = config.issuer.take();
        // An issuer's keys may sign for others too, so what they sign must name the issuer.
        let own = |oidc: &Oidc| Several(vec![oidc.issuer.clone()]);
        let parties = Parties {
            issuer: issuer.or_else(|| config.oidc.as_ref().map(own)),
            audience: config.audience.take(),
            subject: Several(std::mem::take(&mut config.subject.0)),
        };
        Ok(Self {
            require_exp: config.require_exp,
            required: required(config)?,
            ..Self::of(parties, config.leeway.0)?
        })
    }

    /// Rules about times and parties alone. A token must expire, and clocks may differ by `leeway`.
    pub(crate) fn of(parties: Parties, leeway: Duration) -> Result<Self, BuildError> {
        Ok(Self {
            require_exp: true,
            leeway: leeway.as_secs_f64(),
            issuers: some("issuer", parties.issuer)?,
            audiences: some("audience", parties.audience)?,
            required: Vec::new(),
            subject: parties.subject.0,
        })
    }

    /// The rules for tokens that need not expire.
    pub(crate) fn forever(self) -> Self {
        Self {
            require_exp: false,
            ..self
        }
    }

    /// Checks the claims of a token whose signature was verified, and tells until when it is valid.
    pub(crate) fn check(&self, claims: &Claims, now: Seconds) -> Result<Seconds, Refusal> {
        let expires = self.expiry(claims)?;
        if now >= expires {
            return Err(Refusal::Expired);
        }
        if time(claims, "nbf")?.is_some_and(|start| now + self.leeway < start) {
            return Err(Refusal::invalid("the token is not valid yet"));
        }
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        for required in &self.required {
            required.check(claims)?;
        }
        Ok(expires)
    }

    /// The name of the caller, empty if the token does not tell.
    pub(crate) fn subject(&self, claims: &Claims) -> String {
        let mut names = self.subject.iter().filter_map(|path| claim(claims, path));
        names.find_map(name).unwrap_or_default()
    }

    fn expiry(&self, claims: &Claims) -> Result<Seconds, Refusal> {
        match time(claims, "exp")? {
            Some(expires) => Ok(expires + self.leeway),
            None if self.require_exp => Err(Refusal::invalid("no `exp`")),
            None => Ok(Seconds::INFINITY),
        }
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), Refusal> {
        let Some(issuers) = &self.issuers else {
            return Ok(());
        };
        let issuer = claims.get("iss").and_then(Value::as_str);
        if issuer.is_some_and(|issuer| issuers.iter().any(|known| known == issuer)) {
            return Ok(());
        }
        Err(Refusal::invalid("the token is from another issuer"))
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Refusal> {
        let Some(audiences) = &self.audiences else {
            return Ok(());
        };
        let is_ours = |value: &Value| audiences.iter().any(|ours| value == ours);
        let ours = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(single) => is_ours(single),
            None => false,
        };
        if ours {
            return Ok(());
        }
        Err(Refusal::invalid("the token is for another audience"))
    }
}

impl Required {
    fn check(&self, claims: &Claims) -> Result<(), Refusal> {
        if claim(claims, &self.path).is_some_and(|value| self.allows(value)) {
            return Ok(());
        }
        let reason = format!("the claim `{}` is not as required", self.path);
        Err(Refusal::Insufficient(reason))
    }

    fn allows(&self, claimed: &Value) -> bool {
        match claimed {
            Value::Array(list) => list.iter().any(|value| self.values.contains(value)),
            Value::String(text) if self.is_scope() => text
                .split(' ')
                .any(|word| self.values.iter().any(|value| value == word)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.values.contains(claimed)
            }
            Value::Object(_) => false,
        }
    }

    /// Whether a text in this claim is a set of words (RFC 8693, 4.2; `scp` is another name of it).
    fn is_scope(&self) -> bool {
        let name = self.path.rsplit('.').next();
        matches!(name, Some("scope" | "scp"))
    }
}

/// A list that a claim is compared with. An empty one would refuse everybody.
fn some<T>(key: &str, values: Option<Several<T>>) -> Result<Option<Vec<T>>, BuildError> {
    match values {
        Some(Several(values)) if values.is_empty() => {
            Err(BuildError::at(key, "no token could match an empty list"))
        }
        values => Ok(values.map(|Several(values)| values)),
    }
}

fn required(config: &mut Config) -> Result<Vec<Required>, BuildError> {
    let rules = std::mem::take(&mut config.require).into_iter();
    rules
        .map(|(path, values)| {
            let values = some(&format!("require.{path}"), Some(values))?.unwrap_or_default();
            let values = values.into_iter().map(|scalar| scalar.0).collect();
            Ok(Required { path, values })
        })
        .collect()
}

/// The name that a claim is; one that is empty names nobody.
fn name(claim: &Value) -> Option<String> {
    match claim {
        Value::String(name) if !name.trim().is_empty() => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A time of the token. One that is no time is refused, whatever it says.
fn time(claims: &Claims, name: &str) -> Result<Option<Seconds>, Refusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    match value.as_f64() {
        Some(seconds) if seconds >= 0.0 => Ok(Some(seconds)),
        _ => Err(Refusal::invalid(format!("`{name}` is not a time"))),
    }
}

//! Lets only callers with certain roles, scopes, claims or names pass.
//!
//! Who is calling was found out by a filter before this one: by a token, a password, a key, a certificate.
//! This one does not care which.

mod rule;

use edgeway_sdk::prelude::*;

use self::rule::{Place, Rule, Written};

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
lets only callers with certain roles, scopes, claims or names pass

authorize:
  # All of these that are written must hold. Of a list, one is enough; `all` asks for more.
  # Nobody is known: 401. Somebody, but not as it is written here: 403.
  roles: [admin, operator]        # default: not looked at
  scopes: orders:read             # default: not looked at. The words of `scope`, or those of `scp`
  subjects: [ann, \"svc-*\"]        # default: not looked at. Names; `*` stands for any letters but a comma
  claims:                         # default: not looked at. `a.b` is the claim b within a
    tenant: acme
    plan: [gold, platinum]        # a list has each of its values
  any:                            # default: none. One of these rules must hold
    - { roles: auditor, scopes: reports:read }
    - subjects: root
    - any: [{ roles: a }, { roles: b }]
  all:                            # default: none. All of these rules must hold
    - scopes: reports:read
    - scopes: reports:write

  roles_claim: roles              # where roles stand: realm_access.roles, groups, cognito:groups ...
  challenge: 'Bearer realm=\"edgeway\"'  # what a 401 says in WWW-Authenticate
";

/// `authorize: { roles: admin }`
#[derive(Deserialize)]
pub(crate) struct Config {
    roles: Option<rule::Words>,
    scopes: Option<rule::Words>,
    subjects: Option<rule::Names>,
    claims: Option<rule::Claims>,
    any: Option<Vec<Written>>,
    all: Option<Vec<Written>>,
    #[serde(default = "Config::roles_claim")]
    roles_claim: String,
    #[serde(default)]
    challenge: Challenge,
}

impl Config {
    fn roles_claim() -> String {
        "roles".to_owned()
    }
}

/// The value of a `WWW-Authenticate`: a scheme, and perhaps more.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Challenge(HeaderValue);

impl Default for Challenge {
    fn default() -> Self {
        Self(HeaderValue::from_static("Bearer realm=\"edgeway\""))
    }
}

impl TryFrom<String> for Challenge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let starts_right = text.starts_with(|first: char| first.is_ascii_alphabetic());
        match HeaderValue::from_str(&text) {
            Ok(value) if starts_right => Ok(Self(value)),
            _ => Err("expected a challenge such as `Bearer realm=\"x\"`".to_owned()),
        }
    }
}

/// Lets only certain callers pass.
pub(crate) struct Authorize {
    rule: Rule,
    challenge: HeaderValue,
}

/// Builds the filter.
pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Authorize, BuildError> {
    let written = Written {
        roles: config.roles,
        scopes: config.scopes,
        subjects: config.subjects,
        claims: config.claims,
        any: config.any,
        all: config.all,
    };
    Ok(Authorize {
        rule: Rule::new(written, &config.roles_claim, &Place::top())?,
        challenge: config.challenge.0,
    })
}

#[async_trait]
impl Filter for Authorize {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let Some(identity) = request.identity() else {
            return Ok(Reply::new(401)
                .header(header::WWW_AUTHENTICATE, self.challenge.clone())
                .because("nobody is known to be calling")
                .rule("nobody")
                .into());
        };
        let Err(lack) = self.rule.check(identity) else {
            return Ok(Flow::Continue);
        };
        Ok(Reply::new(403)
            .detail("You are not allowed to do this.")
            .because(lack.to_string())
            .rule(lack.kind())
            .key(identity.subject().to_owned())
            .into())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

#[cfg(test)]
mod tests;

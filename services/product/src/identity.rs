//! Who asks, in the words of the gateway.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

/// The user and the role that the gateway vouches for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) role: String,
}

impl Identity {
    /// Both headers, exactly once each. A second value means that the gateway did not clean up
    /// after the client, and then neither can be believed.
    fn read(headers: &HeaderMap) -> Option<Self> {
        Some(Self {
            user: only(headers, &USER)?,
            role: only(headers, &ROLE)?,
        })
    }
}

/// The identity of a request that may have none.
pub(crate) struct MaybeIdentity(pub(crate) Option<Identity>);

impl<S: Sync> FromRequestParts<S> for MaybeIdentity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Identity::read(&parts.headers)))
    }
}

fn only(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && !value.is_empty()).then(|| value.to_owned())
}

const USER: HeaderName = HeaderName::from_static("x-auth-user");
const ROLE: HeaderName = HeaderName::from_static("x-auth-role");

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Identity> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Identity::read(&map)
    }

    #[test]
    fn an_identity_is_a_user_and_a_role() {
        let identity = read(&[("x-auth-user", "admin"), ("x-auth-role", "boss")]).unwrap();
        assert_eq!(
            (identity.user.as_str(), identity.role.as_str()),
            ("admin", "boss")
        );
    }

    #[test]
    fn half_an_identity_is_none() {
        assert_eq!(read(&[("x-auth-user", "admin")]), None);
        assert_eq!(read(&[("x-auth-role", "admin")]), None);
        assert_eq!(read(&[("x-auth-user", ""), ("x-auth-role", "admin")]), None);
        assert_eq!(
            read(&[("x_auth_user", "admin"), ("x_auth_role", "admin")]),
            None
        );
    }

    #[test]
    fn an_identity_given_twice_is_none() {
        assert_eq!(
            read(&[
                ("x-auth-user", "gues"),
                ("x-auth-role", "gues"),
                ("x-auth-role", "admin")
            ]),
            None
        );
    }
}

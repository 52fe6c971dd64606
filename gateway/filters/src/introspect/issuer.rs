//! The question to the issuer, and what its answer means.

use std::sync::Arc;

use edgeway_sdk::Identity;
use form_urlencoded::Serializer;
use http::{
    HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Request;
use serde_json::Value;

use crate::{
    client::{Answer, Client, Limits, Url},
    forward::{Forward, Headers},
    json,
    jwt::{
        claims::{Rules, Seconds},
        refusal::Refusal,
    },
};

/// Who is asked about tokens.
pub(super) struct Issuer {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) credentials: HeaderValue,
    pub(super) limits: Limits,
    pub(super) rules: Rules,
}

/// A token that is good.
pub(super) struct Verified {
    pub(super) expires: Seconds,
    pub(super) identity: Identity,
    pub(super) headers: Headers,
}

impl Issuer {
    pub(super) async fn ask(
        &self,
        token: &str,
        forward: &Forward,
        now: Seconds,
    ) -> Result<Arc<Verified>, Refusal> {
        let answer = self.client.ask(self.question(token), self.limits).await;
        let answer = answer.map_err(|reason| unavailable(&reason))?;
        self.judge(&answer, forward, now).map(Arc::new)
    }

    fn question(&self, token: &str) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        let form = Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        *request.body_mut() = Some(form.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, FORM);
        headers.insert(ACCEPT, JSON);
        headers.insert(AUTHORIZATION, self.credentials.clone());
        request
    }

    fn judge(&self, answer: &Answer, forward: &Forward, now: Seconds) -> Result<Verified, Refusal> {
        if answer.status != StatusCode::OK {
            return Err(unavailable(&format!("the answer is {}", answer.status)));
        }
        let claims = json::object(&answer.body)
            .map_err(|error| unavailable(&format!("the answer is no proper object: {error}")))?;
        match claims.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => {
                return Err(Refusal::invalid(
                    "the issuer says that the token is not active",
                ));
            }
            _ => {
                return Err(unavailable(
                    "the answer does not say whether the token is active",
                ));
            }
        }
        let expires = self.rules.check(&claims, now)?;
        let subject = self.rules.subject(&claims);
        if subject.is_empty() {
            return Err(Refusal::invalid("the token names nobody"));
        }
        Ok(Verified {
            expires,
            headers: forward.headers(&claims).map_err(Refusal::invalid)?,
            identity: Identity::with_claims(subject, Arc::new(claims)),
        })
    }
}

fn unavailable(reason: &str) -> Refusal {
    Refusal::Unavailable(format!("can't ask the issuer: {reason}").into())
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;
    use crate::{jwt::claims::Parties, written::Several};

    const NOW: Seconds = 1_000.0;

    fn judged(status: u16, body: &'static str) -> Result<Verified, Refusal> {
        let parties = Parties {
            issuer: Some(Several(vec!["ours".to_owned()])),
            audience: None,
            subject: Several(vec!["sub".to_owned(), "client_id".to_owned()]),
        };
        let url = Url::parse("http://localhost/").unwrap();
        let issuer = Issuer {
            client: Client::new(&url),
            url,
            credentials: FORM,
            limits: Limits {
                timeout: Duration::ZERO,
                largest: 0,
            },
            rules: Rules::of(parties, Duration::ZERO).unwrap().forever(),
        };
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
            trailers: HeaderMap::new(),
        };
        issuer.judge(&answer, &Forward::default(), NOW)
    }

    #[test]
    fn only_a_plain_yes_is_one() {
        let verified = judged(
            200,
            r#"{"active":true,"iss":"ours","sub":"ann","exp":2000}"#,
        );
        let verified = verified.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(
            (verified.identity.subject(), verified.expires),
            ("ann", 2_000.0)
        );
        for body in [
            r#"{"active":false,"iss":"ours"}"#,
            r#"{"active":true,"sub":"ann"}"#,
            r#"{"active":true,"iss":"theirs","sub":"ann"}"#,
            r#"{"active":true,"iss":"ours","sub":"ann","exp":"soon"}"#,
            r#"{"active":true,"iss":"ours"}"#,
            r#"{"active":true,"iss":"ours","sub":"","client_id":null}"#,
        ] {
            let refusal = judged(200, body).err();
            assert!(matches!(refusal, Some(Refusal::Invalid(_))), "{body}");
        }
        // A claim that says nothing does not hide the next one.
        let robot = judged(
            200,
            r#"{"active":true,"iss":"ours","sub":null,"client_id":"robot"}"#,
        );
        let robot = robot.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(robot.identity.subject(), "robot");
        let over = judged(200, r#"{"active":true,"iss":"ours","exp":1000}"#).err();
        assert_eq!(over, Some(Refusal::Expired));
    }

    #[test]
    fn what_is_no_answer_says_nothing_of_the_token() {
        for (status, body) in [
            (200, ""),
            (200, "[]"),
            (200, "{}"),
            (200, r#"{"active":"true"}"#),
            (200, r#"{"active":1}"#),
            (200, r#"{"active":false,"active":true}"#),
            (201, r#"{"active":true,"iss":"ours"}"#),
            (401, r#"{"active":true,"iss":"ours"}"#),
            (500, r#"{"active":false}"#),
        ] {
            let refusal = judged(status, body).err();
            assert!(
                matches!(refusal, Some(Refusal::Unavailable(_))),
                "{status} {body}"
            );
        }
    }
}

//! Requests and answers.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
    request::Parts,
};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    issue::Csr,
    jws::{Jwk, Jws, decode},
    state::{AcmeFault, Authorization, Order, State},
    validate::Question,
};

type Answer = Response<Full<Bytes>>;

/// The status, the kind of problem, and a sentence.
type Refusal = (u16, &'static str, String);

fn refusal(status: u16, kind: &'static str, why: &str) -> Refusal {
    (status, kind, why.to_owned())
}

/// Instead of an answer.
#[derive(Debug)]
pub(super) struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test wants no answer")
    }
}

impl std::error::Error for Hangup {}

pub(super) async fn answer(
    state: &Arc<State>,
    head: &Parts,
    body: &[u8],
) -> Result<Answer, Hangup> {
    let path = head.uri.path();
    let kind = path.split('/').nth(1).unwrap_or_default();
    let (delay, fault) = {
        let mut memory = state.lock();
        let seen = format!("{} {kind}", head.method);
        memory.counts.requests.push(seen);
        (memory.delay, memory.fault(kind))
    };
    tokio::time::sleep(delay).await;
    let answered = match refused(fault.as_ref())? {
        Some(answer) => Ok(answer),
        None => route(state, head, body, fault.as_ref()),
    };
    let mut answer = answered.unwrap_or_else(|(status, kind, detail)| {
        state.complain(format!("{} {path}: {kind}: {detail}", head.method));
        problem(status, kind, &detail)
    });
    if head.method != Method::GET {
        let nonce = HeaderValue::try_from(state.lock().nonce());
        let nonce = nonce.expect("a nonce can be part of a header");
        answer.headers_mut().insert("replay-nonce", nonce);
    }
    Ok(answer)
}

/// What is answered before anything is looked at.
fn refused(fault: Option<&AcmeFault>) -> Result<Option<Answer>, Hangup> {
    Ok(match fault {
        Some(AcmeFault::Hangup) => return Err(Hangup),
        Some(AcmeFault::BadNonce) => Some(problem(400, "badNonce", "not this one")),
        Some(AcmeFault::Problem(kind)) => Some(problem(500, kind, "as the test wants it")),
        Some(AcmeFault::RateLimited(seconds)) => {
            let mut answer = problem(429, "rateLimited", "too many");
            answer.headers_mut().insert(RETRY_AFTER, (*seconds).into());
            Some(answer)
        }
        Some(AcmeFault::Page(status)) => {
            let page = Bytes::from_static(b"<html>Something went wrong</html>");
            Some(with(*status, "text/html", page))
        }
        Some(AcmeFault::Foreign | AcmeFault::Expired | AcmeFault::Later(..)) | None => None,
    })
}

fn route(
    state: &Arc<State>,
    head: &Parts,
    body: &[u8],
    fault: Option<&AcmeFault>,
) -> Result<Answer, Refusal> {
    let path = head.uri.path();
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match (&head.method, &*parts) {
        (&Method::GET, ["directory"]) => return Ok(directory(state)),
        (&Method::HEAD | &Method::GET, ["new-nonce"]) => return Ok(json_of(200, &json!({}))),
        (&Method::GET, ["renewal-info", id]) => return renewal_info(state, id),
        (&Method::POST, _) => {}
        _ => return Err((405, "malformed", "another method is wanted".to_owned())),
    }
    let (jws, signer) = signed(state, head, body)?;
    let account = match (&*parts, signer) {
        (["new-account"], Signer::Key(key)) => return new_account(state, &jws, key),
        (_, Signer::Account(account)) => account,
        _ => {
            return Err((
                400,
                "malformed",
                "signed by the wrong kind of key".to_owned(),
            ));
        }
    };
    match &*parts {
        ["account", id] if *id == account => Ok(update(state, &jws)),
        ["new-order"] => new_order(state, &jws, account),
        ["order", id] if state.owns(&account, id) => Ok(order(state, 200, id)),
        ["authorization", id] if state.may_see(&account, id) => {
            only_asks(&jws)?;
            Ok(json_of(200, &state.shown_authorization(id)))
        }
        ["challenge", id, kind] if state.may_see(&account, id) => challenge(state, &jws, id, kind),
        ["finalize", id] if state.owns(&account, id) => finalize(state, &jws, id, fault),
        ["certificate", id] if state.owns(&account, id) => {
            only_asks(&jws)?;
            certificate(state, id)
        }
        _ => Err((404, "malformed", "there is no such thing".to_owned())),
    }
}

enum Signer {
    Key(Jwk),
    Account(String),
}

/// The request, if it is signed as it must be (RFC 8555, 6.2 to 6.5).
fn signed(state: &State, head: &Parts, body: &[u8]) -> Result<(Jws, Signer), Refusal> {
    let malformed = |why: &str| (400, "malformed", why.to_owned());
    let kind = head.headers.get(CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/jose+json") {
        return Err((
            415,
            "malformed",
            "it is not `application/jose+json`".to_owned(),
        ));
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| malformed("it is no JSON"))?;
    let jws = Jws::parse(&json).ok_or_else(|| malformed("it is no JWS"))?;
    let mut memory = state.lock();
    let known = jws
        .text("nonce")
        .is_some_and(|nonce| memory.nonces.remove(nonce));
    if !known {
        return Err((
            400,
            "badNonce",
            "the nonce is not one of ours, or was used".to_owned(),
        ));
    }
    if jws.text("url") != Some(&*state.url(head.uri.path())) {
        return Err((401, "unauthorized", "signed for another address".to_owned()));
    }
    let (key, signer) = match (jws.header.get("jwk"), jws.text("kid")) {
        (Some(jwk), None) => {
            let key = Jwk::parse(jwk).ok_or_else(|| malformed("no key"))?;
            (key.clone(), Signer::Key(key))
        }
        (None, Some(kid)) => {
            let id = kid.strip_prefix(&*state.url("/account/"));
            let account = id.and_then(|id| Some((id, memory.accounts.get(id)?)));
            let gone = || (400, "accountDoesNotExist", format!("no account {kid}"));
            let (id, key) = account.ok_or_else(gone)?;
            (key.clone(), Signer::Account(id.to_owned()))
        }
        _ => return Err(malformed("either `jwk` or `kid` is wanted")),
    };
    if !jws.is_signed_by(&key) {
        return Err((401, "unauthorized", "the signature is wrong".to_owned()));
    }
    Ok((jws, signer))
}

fn only_asks(jws: &Jws) -> Result<(), Refusal> {
    match jws.payload {
        None => Ok(()),
        Some(_) => Err((400, "malformed", "nothing is to be sent here".to_owned())),
    }
}

fn directory(state: &State) -> Answer {
    let mut directory = json!({
        "newNonce": state.url("/new-nonce"),
        "newAccount": state.url("/new-account"),
        "newOrder": state.url("/new-order"),
        "revokeCert": state.url("/revoke"),
        "keyChange": state.url("/key-change"),
        "meta": { "termsOfService": "https://localhost/terms" },
    });
    let memory = state.lock();
    if memory.window.is_some() {
        directory["renewalInfo"] = json!(state.url("/renewal-info"));
    }
    if memory.external.is_some() {
        directory["meta"]["externalAccountRequired"] = json!(true);
    }
    json_of(200, &directory)
}

fn renewal_info(state: &State, id: &str) -> Result<Answer, Refusal> {
    let memory = state.lock();
    let unknown = || (404, "malformed", format!("no certificate {id}"));
    serial_of(id)
        .filter(|serial| memory.signed.contains(serial))
        .ok_or_else(unknown)?;
    let (from, until) = memory.window.ok_or_else(unknown)?;
    let date = |time: SystemTime| {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        rfc3339(since.as_secs())
    };
    let window = json!({ "suggestedWindow": { "start": date(from), "end": date(until) } });
    let mut answer = json_of(200, &window);
    answer.headers_mut().insert(RETRY_AFTER, 21_600.into());
    Ok(answer)
}

/// The number of a certificate as it is known by (RFC 9773, 4.1).
fn serial_of(id: &str) -> Option<u64> {
    let (authority, serial) = id.split_once('.')?;
    decode(authority).filter(|authority| !authority.is_empty())?;
    let bytes = decode(serial).filter(|bytes| bytes.len() <= 9)?;
    Some(
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

fn new_account(state: &State, jws: &Jws, key: Jwk) -> Result<Answer, Refusal> {
    let payload = jws.payload.clone().unwrap_or_default();
    let mut memory = state.lock();
    let known = memory.accounts.iter().find(|(_, known)| **known == key);
    if let Some((id, _)) = known {
        return Ok(account(state, 200, id));
    }
    if payload["termsOfServiceAgreed"] != true {
        return Err((
            403,
            "userActionRequired",
            "the terms are not agreed to".to_owned(),
        ));
    }
    if let Some((key_id, secret)) = &memory.external {
        let bound = &payload["externalAccountBinding"];
        if bound.is_null() {
            let why = "an external account is wanted".to_owned();
            return Err((401, "externalAccountRequired", why));
        }
        let right = Jws::parse(bound).is_some_and(|binding| {
            binding.is_signed_with(secret)
                && binding.text("kid") == Some(key_id)
                && binding.text("url") == jws.text("url")
                && binding.payload.as_ref().and_then(Jwk::parse) == Some(key.clone())
        });
        if !right {
            let why = "the external account is not bound rightly".to_owned();
            return Err((403, "unauthorized", why));
        }
    }
    memory.counts.contacts = contacts(&payload);
    memory.counts.accounts += 1;
    let id = memory.unique("");
    memory.accounts.insert(id.clone(), key);
    Ok(account(state, 201, &id))
}

fn update(state: &State, jws: &Jws) -> Answer {
    let mut memory = state.lock();
    if let Some(payload) = &jws.payload {
        memory.counts.updates += 1;
        memory.counts.contacts = contacts(payload);
    }
    json_of(200, &json!({ "status": "valid" }))
}

fn contacts(payload: &Value) -> Vec<String> {
    let contacts = payload["contact"].as_array().cloned().unwrap_or_default();
    let texts = contacts.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn account(state: &State, status: u16, id: &str) -> Answer {
    let mut answer = json_of(status, &json!({ "status": "valid" }));
    let place = HeaderValue::try_from(state.url(&format!("/account/{id}")));
    let place = place.expect("a URL can be part of a header");
    answer.headers_mut().insert(LOCATION, place);
    answer
}

fn new_order(state: &State, jws: &Jws, account: String) -> Result<Answer, Refusal> {
    let payload = jws.payload.clone().unwrap_or_default();
    let identifiers = payload["identifiers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let name = |identifier: &Value| {
        let name = identifier["value"]
            .as_str()
            .filter(|_| identifier["type"] == "dns");
        name.map(str::to_owned)
    };
    let names: Option<Vec<_>> = identifiers.iter().map(name).collect();
    let names = names.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| refusal(400, "malformed", "no names of hosts"))?;
    let replaces = payload["replaces"].as_str().map(str::to_owned);
    let mut memory = state.lock();
    if let Some(id) = &replaces {
        let known = serial_of(id).is_some_and(|serial| memory.signed.contains(&serial));
        let orders = memory.orders.values();
        let again = orders
            .filter_map(|order| order.replaces.as_ref())
            .any(|other| other == id);
        match (known, again) {
            (true, false) => memory.counts.replaced += 1,
            (true, true) => return Err((409, "alreadyReplaced", format!("{id} is replaced"))),
            (false, _) => return Err((400, "malformed", format!("no certificate {id}"))),
        }
    }
    let mut authorizations = Vec::new();
    for name in &names {
        let id = memory.unique("");
        let authorization = Authorization {
            account: account.clone(),
            name: name.clone(),
            token: memory.unique("token-_"),
            offered: memory.challenges.clone(),
            status: "pending",
            tried: None,
        };
        memory.authorizations.insert(id.clone(), authorization);
        authorizations.push(id);
    }
    let id = memory.unique("");
    let new = Order {
        account,
        names,
        authorizations,
        replaces,
        processing: None,
        certificate: None,
    };
    memory.orders.insert(id.clone(), new);
    memory.counts.orders += 1;
    drop(memory);
    Ok(order(state, 201, &id))
}

/// An order, and when to look at it again.
fn order(state: &State, status: u16, id: &str) -> Answer {
    let mut answer = json_of(status, &state.shown(id));
    let place = HeaderValue::try_from(state.url(&format!("/order/{id}")));
    let place = place.expect("a URL can be part of a header");
    answer.headers_mut().insert(LOCATION, place);
    if let Some((_, seconds)) = state.lock().orders[id].processing {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

fn challenge(state: &Arc<State>, jws: &Jws, id: &str, kind: &str) -> Result<Answer, Refusal> {
    if jws.payload != Some(json!({})) {
        return Err((400, "malformed", "an empty object is wanted".to_owned()));
    }
    let mut memory = state.lock();
    let key = memory.authorizations[id].account.clone();
    let thumbprint = memory.accounts[&key].thumbprint();
    let authorization = memory.authorizations.get_mut(id);
    let authorization = authorization.ok_or_else(|| refusal(404, "malformed", "none"))?;
    let kind = authorization
        .offered
        .iter()
        .find(|offered| **offered == kind);
    let kind = *kind.ok_or_else(|| refusal(404, "malformed", "no such challenge"))?;
    if authorization.tried.is_none() {
        authorization.tried = Some((kind, None));
        let question = Question {
            kind,
            name: authorization.name.clone(),
            token: authorization.token.clone(),
            answer: format!("{}.{thumbprint}", authorization.token),
        };
        memory.counts.looks += 1;
        let (state, id) = (Arc::clone(state), id.to_owned());
        tokio::spawn(async move {
            let found = question.ask(state.place().await).await;
            state.note(&id, kind, found);
        });
    }
    drop(memory);
    let shown = state.shown_authorization(id);
    let mut challenges = shown["challenges"].as_array().into_iter().flatten();
    let shown = challenges.find(|challenge| challenge["type"] == kind);
    Ok(json_of(200, shown.unwrap_or(&Value::Null)))
}

fn finalize(
    state: &State,
    jws: &Jws,
    id: &str,
    fault: Option<&AcmeFault>,
) -> Result<Answer, Refusal> {
    let bad = |why: String| (400, "badCSR", why);
    let mut memory = state.lock();
    if memory.status(id) != "ready" {
        let why = format!("the order is {}", memory.status(id));
        return Err((403, "orderNotReady", why));
    }
    let payload = jws.payload.clone().unwrap_or_default();
    let der = payload["csr"].as_str().and_then(decode);
    let csr = Csr::parse(&der.unwrap_or_default()).map_err(bad)?;
    let mut names = memory.orders[id].names.clone();
    if csr.names != names.iter().cloned().collect::<BTreeSet<_>>() {
        return Err(bad(format!("it is for {:?}", csr.names)));
    }
    let now = SystemTime::now();
    let mut valid = (now - Duration::from_secs(2), now + memory.lifetime);
    match fault {
        Some(AcmeFault::Foreign) => names = vec!["somebody.else.test".to_owned()],
        Some(AcmeFault::Expired) => {
            valid = (now - Duration::from_secs(60), now - Duration::from_secs(30))
        }
        _ => {}
    }
    memory.counts.signed += 1;
    // With and without the zero that keeps it positive.
    let serial = 0x7fff_ffff_ffff_fff0 + memory.counts.signed as u64 * 8;
    memory.signed.push(serial);
    let chain = csr.sign(&state.authority, serial, &names, valid);
    if let Some(order) = memory.orders.get_mut(id) {
        order.certificate = Some(chain);
        if let Some(AcmeFault::Later(delay, seconds)) = fault {
            order.processing = Some((now + *delay, *seconds));
        }
    }
    drop(memory);
    Ok(order(state, 200, id))
}

fn certificate(state: &State, id: &str) -> Result<Answer, Refusal> {
    let memory = state.lock();
    let chain = memory.orders[id].certificate.clone();
    let chain = chain.filter(|_| memory.status(id) == "valid");
    let chain = chain.ok_or_else(|| refusal(403, "malformed", "there is none yet"))?;
    Ok(with(200, "application/pem-certificate-chain", chain.into()))
}

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    let problem = json!({ "type": kind, "detail": detail, "status": status });
    with(
        status,
        "application/problem+json",
        problem.to_string().into(),
    )
}

fn json_of(status: u16, value: &Value) -> Answer {
    with(status, "application/json", value.to_string().into())
}

fn with(status: u16, kind: &'static str, body: Bytes) -> Answer {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(Full::new(body))
        .expect("all parts are right")
}

/// Seconds since 1970 as a date.
fn rfc3339(seconds: u64) -> String {
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    // From the first of March of the year 0, so that leap days are last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_291_199), "2026-11-21T19:59:59Z");
    }

    #[test]
    fn the_number_of_a_certificate_may_begin_with_a_zero() {
        assert_eq!(serial_of("aYhb.AIdlQyE"), Some(0x8765_4321));
        assert_eq!(serial_of(".AIdlQyE"), None);
        assert_eq!(serial_of("aYhb"), None);
    }
}

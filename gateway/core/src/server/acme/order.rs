//! One order, from the first request to the certificate.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeHandle,
    ChallengeStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
};
use log::debug;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use tokio::time::{Instant, sleep};

use super::{Tables, client::Client, failure::Failure, schedule::Kind, spec::AcmeSpec};
use crate::{config::acme::Challenge, server::tls::pem};

/// The pauses between two looks at an order, if the authority asks for no other.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(10);

/// The shortest and the longest pause that an authority may ask for in an order.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));

/// How long an authority may take to look at the names, and to sign.
const PATIENCE: Duration = Duration::from_secs(900);

/// The same if it asks for longer pauses.
const LONGEST_PATIENCE: Duration = Duration::from_secs(86_400);

/// A certificate with its chain, and its key, in PEM form.
pub(super) struct Received {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Orders a certificate, in place of one that there is.
pub(super) async fn order(
    spec: &AcmeSpec,
    account: &Account,
    client: &Client,
    tables: &Tables,
    replaces: Option<CertificateIdentifier<'static>>,
) -> Result<Received, Failure> {
    let failed = |error| Failure::of(&error, client);
    let mut order = begin(spec, account, replaces).await.map_err(failed)?;
    // Until the authority has looked.
    let shown = show(spec, &mut order, client, tables).await?;
    wait(&mut order, client, &[OrderStatus::Pending]).await?;
    drop(shown);
    match order.state().status {
        OrderStatus::Ready => {}
        OrderStatus::Invalid => return Err(refusal(&mut order, client).await),
        // Nothing else comes before there was a request for a signature.
        OrderStatus::Pending | OrderStatus::Processing | OrderStatus::Valid => {
            let reason = "the order is not what was ordered";
            return Err(Failure::new(Kind::Refused, reason));
        }
    }
    let (key, request) = request(spec).map_err(|error| {
        let reason = format!("no key can be made: {error}");
        Failure::new(Kind::Refused, reason)
    })?;
    order.finalize_csr(&request).await.map_err(failed)?;
    wait(
        &mut order,
        client,
        &[OrderStatus::Ready, OrderStatus::Processing],
    )
    .await?;
    let chain = order.certificate().await.map_err(failed)?;
    let chain = chain.ok_or_else(|| Failure::new(Kind::Refused, "there is no certificate"))?;
    Ok(Received { chain, key })
}

async fn begin(
    spec: &AcmeSpec,
    account: &Account,
    replaces: Option<CertificateIdentifier<'static>>,
) -> Result<Order, Error> {
    let names = spec.names.iter();
    let names: Vec<_> = names
        .map(|name| Identifier::Dns(name.host.to_string()))
        .collect();
    let plain = NewOrder::new(&names);
    let Some(replaces) = replaces else {
        return account.new_order(&plain).await;
    };
    let replacing = NewOrder::new(&names).replaces(replaces);
    match account.new_order(&replacing).await {
        // To say what is replaced is only a kindness. Somebody else may have replaced it already.
        Err(Error::Api(problem)) if !is_about_us(&problem) => {
            debug!("order repeated: reason={problem}");
            account.new_order(&plain).await
        }
        Err(Error::Other(error)) if !error.is::<super::client::NoAnswer>() => {
            debug!("order repeated: reason={error}");
            account.new_order(&plain).await
        }
        ordered => ordered,
    }
}

/// Whether another order would be refused as well.
fn is_about_us(problem: &instant_acme::Problem) -> bool {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    [
        "rateLimited",
        "accountDoesNotExist",
        "serverInternal",
        "unauthorized",
    ]
    .iter()
    .any(|known| kind.ends_with(known))
}

/// Shows the authority that the names are ours, those of which it is not sure, and asks it to look.
async fn show<'t>(
    spec: &AcmeSpec,
    order: &mut Order,
    client: &Client,
    tables: &'t Tables,
) -> Result<Vec<Shown<'t>>, Failure> {
    let failed = |error| Failure::of(&error, client);
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => return Err(said_of(&authorization)),
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(kind(spec.challenge)) else {
            let reason = format!(
                "the authority does not check `{name}` by `{}`: choose another `challenge`",
                spec.challenge
            );
            return Err(Failure::new(Kind::Refused, reason));
        };
        shown.push(Shown::new(spec.challenge, &name, &challenge, tables)?);
        challenge.set_ready().await.map_err(failed)?;
    }
    Ok(shown)
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// What an authority can see of us until this is dropped.
struct Shown<'t> {
    tables: &'t Tables,
    challenge: Challenge,
    /// The token or the name.
    key: String,
}

impl<'t> Shown<'t> {
    fn new(
        kind: Challenge,
        name: &str,
        challenge: &ChallengeHandle<'_>,
        tables: &'t Tables,
    ) -> Result<Self, Failure> {
        let answer = challenge.key_authorization();
        let key = match kind {
            Challenge::Http01 => {
                tables.answers.put(&challenge.token, answer.as_str());
                challenge.token.clone()
            }
            Challenge::TlsAlpn01 => {
                let proof = proof(name, answer.digest().as_ref()).map_err(|reason| {
                    Failure::new(Kind::Refused, format!("no proof can be made: {reason}"))
                })?;
                tables.challenges.put(name, &Arc::new(proof));
                name.to_owned()
            }
        };
        Ok(Self {
            tables,
            challenge: kind,
            key,
        })
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        match self.challenge {
            Challenge::Http01 => self.tables.answers.remove(&self.key),
            Challenge::TlsAlpn01 => self.tables.challenges.remove(&self.key),
        }
    }
}

/// A certificate that says nothing but that we know what the authority has asked (RFC 8737, 3).
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let made = || {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate.der().clone(), key.serialize_der()))
    };
    let (certificate, key) = made().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let key = pem::provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    // Whether they belong together can't be asked: what is special about it is not known there, and critical.
    Ok(CertifiedKey::new(vec![certificate], key))
}

/// A new key in PEM form, and the request that it be certified.
fn request(spec: &AcmeSpec) -> Result<(String, Vec<u8>), rcgen::Error> {
    let names = spec.names.iter().map(|name| name.host.to_string());
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Looks at an order until it is in none of these states any more.
async fn wait(order: &mut Order, client: &Client, busy: &[OrderStatus]) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut pause = FIRST_LOOK;
    // When it was made, or finished, it may already be what is waited for.
    let mut asked = client.retry_after();
    while busy.contains(&order.state().status) {
        let (shortest, longest) = LOOKS;
        let patience = asked.map_or(PATIENCE, |_| LONGEST_PATIENCE);
        if begun.elapsed() > patience {
            let reason = "the authority takes too long";
            return Err(Failure::new(Kind::Refused, reason));
        }
        sleep(asked.unwrap_or(pause).clamp(shortest, longest)).await;
        pause = (pause * 2).min(LAST_LOOK);
        let looked = order.refresh().await;
        looked.map_err(|error| Failure::of(&error, client))?;
        asked = client.retry_after();
    }
    Ok(())
}

/// Why the authority does not believe that the names are ours.
async fn refusal(order: &mut Order, client: &Client) -> Failure {
    let reason = order.state().error.as_ref().map(Failure::refused);
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Err(error) = authorization.refresh().await {
            return Failure::of(&error, client);
        }
        if authorization.status == AuthorizationStatus::Invalid {
            return said_of(&authorization);
        }
    }
    reason.unwrap_or_else(|| Failure::new(Kind::Refused, "the authority refuses the order"))
}

/// What is wrong with a name.
fn said_of(authorization: &AuthorizationHandle<'_>) -> Failure {
    let name = authorization.identifier();
    let mut failed = authorization.challenges.iter();
    let failed = failed.find(|challenge| challenge.status == ChallengeStatus::Invalid);
    let said = failed.and_then(|challenge| challenge.error.as_ref());
    let said = said.map_or_else(
        || "the authority gives no reason".to_owned(),
        |problem| Failure::refused(problem).to_string(),
    );
    Failure::new(
        Kind::Refused,
        format!("`{name}` could not be checked: {said}"),
    )
}

#[cfg(test)]
mod tests {
    use x509_parser::{extensions::GeneralName, oid_registry::Oid};

    use super::{super::testing::spec, *};

    #[test]
    fn a_proof_has_one_name_and_the_digest_in_a_critical_extension() {
        let proof = proof("a.test", &[7; 32]).unwrap();
        let [der] = &*proof.cert else { panic!() };
        let certificate = pem::parsed(der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert!(matches!(
            &*names.value.general_names,
            [GeneralName::DNSName("a.test")]
        ));
        let identifier = Oid::from(&[1, 3, 6, 1, 5, 5, 7, 1, 31]).unwrap();
        let extension = certificate
            .get_extension_unique(&identifier)
            .unwrap()
            .unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn what_is_shown_is_shown_until_it_is_dropped() {
        let tables = Tables::default();
        tables.answers.put("token", "answer");
        let shown = Shown {
            tables: &tables,
            challenge: Challenge::Http01,
            key: "token".to_owned(),
        };
        let path = "/.well-known/acme-challenge/token";
        assert!(tables.answers.find(path).is_some());
        drop(shown);
        assert!(tables.answers.find(path).is_none());
    }

    #[test]
    fn a_request_has_a_key_of_its_own_each_time() {
        let spec = spec("https://acme.test/dir", &["a.test", "b.test"]);
        let (one, request_of_one) = request(&spec).unwrap();
        let (other, _) = request(&spec).unwrap();
        assert!(one.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(one, other);
        let has = |name: &str| {
            request_of_one
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        assert!(has("a.test") && has("b.test"));
    }
}

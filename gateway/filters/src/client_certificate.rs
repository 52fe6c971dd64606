//! Lets only clients with certain certificates pass, and tells upstreams who they are.
//!
//! That a certificate is one of ours was checked when the connection was made: by the authorities that the
//! listener's `client_auth` names. Here it is decided which of them may pass. A client without a
//! certificate is told 403, not 401: a 401 asks for something that HTTP can send, and a certificate is not.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ahash::RandomState;
use edgeway_sdk::{ClientCertificate, Tls, prelude::*};
use serde_json::{Map, Value};

use crate::{
    forward::{self, Forward, Headers},
    slots::Slots,
    written::{OneOrMany, Pattern},
};

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
lets only clients with certain certificates pass, and tells upstreams who they are

client_certificate:
  # The listener asks for certificates and checks them (`client_auth` of its `tls`); here is decided which
  # of them may pass. All that is written must fit; of a list one is enough. A `*` stands for any letters
  # but a comma. Written as `{tls.client.subject}` and the like show them.
  subjects: \"CN=*,O=Acme\"         # default: any
  names: [\"URI:spiffe://acme/*\", \"DNS:*.internal\"]  # default: any; alternative names
  issuers: \"CN=Acme Services CA\"  # default: any
  fingerprints:                   # default: any; SHA-256 of the certificate, as `openssl x509` shows it
    - \"AB:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:CD\"

  # Who is calling, for other filters: the first of these that the certificate has. Also: dns, email, ip,
  # fingerprint, serial.
  subject: [common_name, uri, subject]
  # For upstreams, by headers that nobody else can set: subject, common_name, san, dns, uri, email, ip,
  # issuer, serial, fingerprint. Those that a certificate has several of are joined by commas.
  forward: { common_name: X-Client, san: X-Client-Names }  # default: none
  optional: false                 # true: clients without a certificate pass, as nobody
";

/// `client_certificate: { names: "DNS:*.internal" }`
#[derive(Deserialize)]
pub(crate) struct Config {
    subjects: Option<OneOrMany<Pattern>>,
    names: Option<OneOrMany<Pattern>>,
    issuers: Option<OneOrMany<Pattern>>,
    fingerprints: Option<OneOrMany<Fingerprint>>,
    subject: Option<OneOrMany<Part>>,
    #[serde(default)]
    forward: BTreeMap<String, String>,
    #[serde(default)]
    optional: bool,
}

/// SHA-256 of a certificate in hexadecimal digits, colons between them or not.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Fingerprint(String);

impl TryFrom<Cow<'_, str>> for Fingerprint {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let expected =
                "expected 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` shows them";
            return Err(format!("{expected}, found `{text}`"));
        }
        Ok(Self(digits))
    }
}

/// What a client can be called by.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Part {
    Subject,
    CommonName,
    Dns,
    Uri,
    Email,
    Ip,
    Fingerprint,
    Serial,
}

impl Part {
    /// The first one that the certificate has.
    fn of(self, certificate: &ClientCertificate) -> Option<&str> {
        let text = match self {
            Self::Subject => &certificate.subject,
            Self::CommonName => &certificate.common_name,
            Self::Fingerprint => &certificate.fingerprint,
            Self::Serial => &certificate.serial,
            Self::Dns => return names(certificate, "DNS:").next(),
            Self::Uri => return names(certificate, "URI:").next(),
            Self::Email => return names(certificate, "email:").next(),
            Self::Ip => return names(certificate, "IP:").next(),
        };
        (!text.is_empty()).then_some(text)
    }
}

/// The alternative names of a kind, without it.
fn names<'c>(certificate: &'c ClientCertificate, kind: &'c str) -> impl Iterator<Item = &'c str> {
    let names = certificate.alternative_names.iter();
    names.filter_map(move |name| name.strip_prefix(kind))
}

/// Lets only clients with certain certificates pass.
pub(crate) struct ClientCertificates {
    subjects: Option<OneOrMany<Pattern>>,
    names: Option<OneOrMany<Pattern>>,
    issuers: Option<OneOrMany<Pattern>>,
    fingerprints: Option<OneOrMany<Fingerprint>>,
    subject: Vec<Part>,
    forward: Forward,
    optional: bool,
    /// Certificates that may pass.
    known: Slots<Known>,
    hasher: RandomState,
}

/// A certificate that may pass, and what is told of it.
struct Known {
    fingerprint: Box<str>,
    identity: Identity,
    headers: Headers,
}

/// Builds the filter.
pub(crate) fn build(
    config: Config,
    build: &mut Build<'_>,
) -> Result<ClientCertificates, BuildError> {
    for claim in config.forward.keys() {
        if !CLAIMS.contains(&claim.as_str()) {
            let message = format!("a certificate has no `{claim}`");
            let error = BuildError::at(format!("forward.{claim}"), message);
            return Err(error.help(format!("it has {}", CLAIMS.join(", "))));
        }
    }
    let usual = [Part::CommonName, Part::Uri, Part::Subject];
    Ok(ClientCertificates {
        subjects: config.subjects,
        names: config.names,
        issuers: config.issuers,
        fingerprints: config.fingerprints,
        subject: config
            .subject
            .map_or_else(|| usual.to_vec(), |parts| parts.iter().copied().collect()),
        forward: Forward::new(config.forward, |_| false, build)?,
        optional: config.optional,
        known: Slots::new(SLOTS),
        hasher: RandomState::new(),
    })
}

/// A rule, and why a certificate does not obey it.
type Refusal = (&'static str, Cow<'static, str>);

#[async_trait]
impl Filter for ClientCertificates {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let tls = request.values().get::<Tls>();
        let Some(certificate) = tls.and_then(|tls| tls.client.as_ref()) else {
            if self.optional {
                return Ok(Flow::Continue);
            }
            let reason = match tls {
                Some(_) => "the client has shown no certificate",
                None => "the connection has no TLS of this gateway",
            };
            return Ok(refuse("missing", reason).into());
        };
        match self.judge(certificate, SystemTime::now()) {
            Ok(known) => {
                forward::apply(&known.headers, request);
                request.values_mut().insert(known.identity.clone());
                Ok(Flow::Continue)
            }
            Err((rule, reason)) => {
                let key = certificate.subject.to_string();
                Ok(refuse(rule, reason).key(key).into())
            }
        }
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

fn refuse(rule: &'static str, reason: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(403)
        .detail("A client certificate that is allowed here is needed.")
        .rule(rule)
        .because(reason)
}

impl ClientCertificates {
    fn judge(
        &self,
        certificate: &ClientCertificate,
        now: SystemTime,
    ) -> Result<Arc<Known>, Refusal> {
        // It was valid when the connection was made, which may be long ago.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::MAX);
        if i64::try_from(now.as_secs()).unwrap_or(i64::MAX) > certificate.not_after {
            return Err(("expired", "the certificate is no longer valid".into()));
        }
        let number = self.hasher.hash_one(&certificate.fingerprint);
        let is_it = |known: &Known| known.fingerprint == certificate.fingerprint;
        if let Some(known) = self.known.find(number, is_it) {
            return Ok(known);
        }
        let known = Arc::new(self.introduce(certificate)?);
        self.known.keep(number, Arc::clone(&known));
        Ok(known)
    }

    fn introduce(&self, certificate: &ClientCertificate) -> Result<Known, Refusal> {
        self.check(certificate)?;
        let subject = self.subject.iter().find_map(|part| part.of(certificate));
        let Some(subject) = subject else {
            return Err((
                "nameless",
                "the certificate has nothing to call the client by".into(),
            ));
        };
        let claims = claims(certificate);
        let headers = self.forward.headers(&claims);
        Ok(Known {
            headers: headers.map_err(|error| ("unfit", error.into()))?,
            fingerprint: certificate.fingerprint.clone(),
            identity: Identity::with_claims(subject, Arc::new(claims)),
        })
    }

    fn check(&self, certificate: &ClientCertificate) -> Result<(), Refusal> {
        let fits = |patterns: &Option<OneOrMany<Pattern>>, text: &str| {
            let patterns = patterns.as_ref();
            patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(text)))
        };
        if !fits(&self.subjects, &certificate.subject) {
            return Err(("subjects", "the subject is not one of `subjects`".into()));
        }
        let mut names = certificate.alternative_names.iter();
        if self.names.is_some() && !names.any(|name| fits(&self.names, name)) {
            return Err(("names", "no alternative name is one of `names`".into()));
        }
        if !fits(&self.issuers, &certificate.issuer) {
            return Err(("issuers", "the issuer is not one of `issuers`".into()));
        }
        let mut known = self.fingerprints.iter().flat_map(OneOrMany::iter);
        let is_known = known.any(|known| *known.0 == *certificate.fingerprint);
        if self.fingerprints.is_some() && !is_known {
            return Err((
                "fingerprints",
                "the fingerprint is not one of `fingerprints`".into(),
            ));
        }
        Ok(())
    }
}

/// All that a certificate says of a client. What it does not have is left out.
fn claims(certificate: &ClientCertificate) -> Map<String, Value> {
    let list = |kind| {
        names(certificate, kind)
            .map(Value::from)
            .collect::<Vec<_>>()
    };
    let all = certificate.alternative_names.iter();
    let texts = [
        ("subject", &certificate.subject),
        ("common_name", &certificate.common_name),
        ("issuer", &certificate.issuer),
        ("serial", &certificate.serial),
        ("fingerprint", &certificate.fingerprint),
    ];
    let lists = [
        ("san", all.map(|name| Value::from(&**name)).collect()),
        ("dns", list("DNS:")),
        ("uri", list("URI:")),
        ("email", list("email:")),
        ("ip", list("IP:")),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let texts = texts.map(|(name, text)| (name.to_owned(), Value::from(&**text)));
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let lists = lists.map(|(name, list)| (name.to_owned(), Value::Array(list)));
    texts.chain(lists).collect()
}

/// What [`claims`] may have.
const CLAIMS: [&str; 10] = [
    "subject",
    "common_name",
    "issuer",
    "serial",
    "fingerprint",
    "san",
    "dns",
    "uri",
    "email",
    "ip",
];
const SLOTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use edgeway_sdk::{
        Resources,
        test::{self, Outcome, Trial},
    };
    use serde_json::json;

    use super::*;

    fn certificate() -> ClientCertificate {
        let mut certificate = ClientCertificate::default();
        certificate.subject = "CN=billing,O=Acme".into();
        certificate.common_name = "billing".into();
        certificate.alternative_names = [
            "DNS:billing.internal".into(),
            "URI:spiffe://acme/billing".into(),
        ]
        .into();
        certificate.issuer = "CN=Acme CA".into();
        certificate.serial = "0A".into();
        certificate.fingerprint = "ab".repeat(32).into();
        certificate.not_after = 4_000_000_000;
        certificate
    }

    fn over_tls(client: Option<ClientCertificate>) -> Trial {
        let mut tls = Tls::default();
        tls.client = client;
        Trial::get("/").value(tls)
    }

    fn filter(json: &str) -> ClientCertificates {
        test::build(json, build).unwrap()
    }

    fn subject(outcome: &Outcome) -> Option<&str> {
        Some(outcome.exchange.values.get::<Identity>()?.subject())
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let filter = filter("{}");
        for (trial, reason) in [
            (Trial::get("/"), "the connection has no TLS of this gateway"),
            (over_tls(None), "the client has shown no certificate"),
        ] {
            let outcome = trial.run(&filter).await;
            assert_eq!(outcome.status(), 403);
            let reply = outcome.reply.unwrap();
            assert_eq!(
                (reply.decided_by_rule(), reply.reason()),
                (Some("missing"), Some(reason))
            );
        }
        let outcome = over_tls(Some(certificate())).run(&filter).await;
        assert_eq!(subject(&outcome), Some("billing"));
    }

    #[tokio::test]
    async fn all_that_is_written_must_fit() {
        let (known, colons) = ("ab".repeat(32), vec!["AB"; 32].join(":"));
        let fingerprints = format!(r#"{{"fingerprints": ["{}", "{known}"]}}"#, "00".repeat(32));
        let with_colons = format!(r#"{{"fingerprints": "{colons}"}}"#);
        let unknown = format!(r#"{{"fingerprints": "{}"}}"#, "ac".repeat(32));
        for (json, rule) in [
            (r#"{"subjects": "CN=*,O=Acme"}"#, None),
            (r#"{"subjects": ["CN=x,O=Acme", "CN=billing,*"]}"#, None),
            (r#"{"subjects": "CN=*"}"#, Some("subjects")),
            (r#"{"names": "DNS:*.internal"}"#, None),
            (r#"{"names": ["DNS:x", "URI:spiffe://acme/*"]}"#, None),
            (r#"{"names": "spiffe://acme/*"}"#, Some("names")),
            (r#"{"issuers": "CN=Acme CA"}"#, None),
            (r#"{"issuers": ["CN=Other CA"]}"#, Some("issuers")),
            (fingerprints.as_str(), None),
            (with_colons.as_str(), None),
            (unknown.as_str(), Some("fingerprints")),
            (
                r#"{"subjects": "CN=*,O=Acme", "issuers": "CN=Other"}"#,
                Some("issuers"),
            ),
        ] {
            let filter = filter(json);
            // The second time it may be remembered.
            for _ in 0..2 {
                let outcome = over_tls(Some(certificate())).run(&filter).await;
                let reply = outcome.reply.as_ref();
                let decided = reply.and_then(Reply::decided_by_rule);
                assert_eq!(decided, rule, "{json}");
                assert_eq!(outcome.passed(), rule.is_none());
                assert_eq!(subject(&outcome).is_some(), rule.is_none());
                if let Some(reply) = reply {
                    assert_eq!(reply.about(), Some("CN=billing,O=Acme"));
                }
            }
        }
        let mut bare = certificate();
        bare.alternative_names = Box::default();
        let outcome = over_tls(Some(bare)).run(&filter(r#"{"names": "*"}"#)).await;
        assert_eq!(outcome.status(), 403);
    }

    #[tokio::test]
    async fn a_certificate_that_ends_while_the_connection_lasts_is_refused() {
        let filter = filter("{}");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(filter.judge(&certificate(), at(4_000_000_000)).is_ok());
        let error = filter
            .judge(&certificate(), at(4_000_000_001))
            .err()
            .unwrap();
        assert_eq!(error.0, "expired");
    }

    #[tokio::test]
    async fn a_client_is_called_by_what_its_certificate_has() {
        let fingerprint = "ab".repeat(32);
        for (written, called) in [
            (r#""subject""#, Some("CN=billing,O=Acme")),
            (r#""dns""#, Some("billing.internal")),
            (r#"["email", "uri"]"#, Some("spiffe://acme/billing")),
            (r#""serial""#, Some("0A")),
            (r#""fingerprint""#, Some(fingerprint.as_str())),
            (r#"["email", "ip"]"#, None),
        ] {
            let filter = filter(&format!(r#"{{"subject": {written}}}"#));
            let outcome = over_tls(Some(certificate())).run(&filter).await;
            assert_eq!(subject(&outcome), called, "{written}");
            let reply = outcome.reply.as_ref();
            let rule = reply.and_then(Reply::decided_by_rule);
            assert_eq!(rule, called.is_none().then_some("nameless"));
        }
    }

    #[tokio::test]
    async fn later_filters_and_upstreams_learn_what_the_certificate_says() {
        let json =
            r#"{"forward": {"common_name": "X-Client", "san": "X-Names", "email": "X-Email"}}"#;
        let outcome = over_tls(Some(certificate())).run(&filter(json)).await;
        for (header, value) in [
            ("x-client", Some("billing")),
            (
                "x-names",
                Some("DNS:billing.internal,URI:spiffe://acme/billing"),
            ),
            ("x-email", None),
        ] {
            assert_eq!(outcome.sent_header(header), value, "{header}");
        }
        let identity = outcome.exchange.values.get::<Identity>().unwrap();
        let expected = json!({
            "subject": "CN=billing,O=Acme",
            "common_name": "billing",
            "issuer": "CN=Acme CA",
            "serial": "0A",
            "fingerprint": "ab".repeat(32),
            "san": ["DNS:billing.internal", "URI:spiffe://acme/billing"],
            "dns": ["billing.internal"],
            "uri": ["spiffe://acme/billing"],
        });
        assert_eq!(Value::from(identity.claims().clone()), expected);
        let optional = filter(r#"{"optional": true, "forward": {"common_name": "X-Client"}}"#);
        // Said by a filter before: clients can't send it.
        let outcome = Trial::get("/")
            .header("x-client", "ann")
            .run(&optional)
            .await;
        assert!(outcome.passed());
        assert_eq!(
            (outcome.sent_header("x-client"), subject(&outcome)),
            (Some("ann"), None)
        );
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let error = test::build(r#"{"forward": {"role": "X-Role"}}"#, build)
            .err()
            .unwrap();
        assert_eq!(error.key.as_deref(), Some("forward.role"));
        for json in [
            r#"{"fingerprints": "abc"}"#,
            r#"{"fingerprints": []}"#,
            r#"{"subject": "role"}"#,
            r#"{"subjects": ""}"#,
        ] {
            assert!(test::build(json, build).is_err(), "{json}");
        }
        let resources = Resources::default();
        let mut stage = Build::new(&resources, std::path::Path::new("."));
        let json = r#"{"forward": {"serial": "X-Serial"}}"#;
        build(serde_json::from_str(json).unwrap(), &mut stage).unwrap();
        assert_eq!(stage.reserved, ["x-serial"]);
    }
}

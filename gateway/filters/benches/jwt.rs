//! What the `jwt` filter costs a request: `cargo bench -p edgeway-filters --bench jwt`.
//!
//! Prints the time of the filter's hook alone, for tokens that it sees for the first time and for
//! tokens that it remembers. Ends with an error if a token is not treated as it should be.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use edgeway_sdk::{Build, Exchange, Filter, Flow, Request, Resources};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Each figure is the best of so many rounds: the others were disturbed.
const ROUNDS: usize = 7;

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    println!("{:24} {:>10}", "", "ns");
    for (name, config, token) in cases() {
        for (how, remember, times) in [("first", 0, 2_000), ("remembered", 4096, 200_000)] {
            let filter = filter(&config, remember);
            let time = runtime.block_on(best(&*filter, &token, true, times));
            println!("{:24} {:>10}", format!("{name} {how}"), time.as_nanos());
        }
        let filter = filter(&config, 4096);
        let forged = forged(&token);
        let time = runtime.block_on(best(&*filter, &forged, false, 2_000));
        println!("{:24} {:>10}", format!("{name} forged"), time.as_nanos());
    }
}

fn cases() -> [(&'static str, Value, String); 3] {
    let rsa = include_bytes!("../src/jwt/testdata/rsa.pem");
    let ec = include_bytes!("../src/jwt/testdata/p256.pem");
    let rsa = EncodingKey::from_rsa_pem(rsa).expect("the RSA key of the tests");
    let ec = EncodingKey::from_ec_pem(ec).expect("the P-256 key of the tests");
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    [
        (
            "HS256",
            json!({ "secret": SECRET }),
            token(Algorithm::HS256, &secret),
        ),
        (
            "RS256",
            json!({ "public_keys": ["rsa.pub.pem"] }),
            token(Algorithm::RS256, &rsa),
        ),
        (
            "ES256",
            json!({ "public_keys": ["p256.pub.pem"] }),
            token(Algorithm::ES256, &ec),
        ),
    ]
    .map(|(name, mut config, token)| {
        config["algorithms"] = json!([name]);
        config["forward"] = json!({ "username": "X-Auth-User", "role": "X-Auth-Role" });
        (name, config, token)
    })
}

fn token(algorithm: Algorithm, key: &EncodingKey) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is after 1970").as_secs();
    let claims = json!({
        "username": "admin", "role": "administrator", "iat": now, "exp": now + 3600,
        "jti": "7b1f7a0e-9f3e-4c43-9d0b-0f9a3d1f5c11"
    });
    jsonwebtoken::encode(&Header::new(algorithm), &claims, key).expect("the key fits")
}

/// The token with another signature of the same length.
fn forged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let rest: String = signature.chars().skip(1).collect();
    format!("{message}.{first}{rest}")
}

fn filter(config: &Value, remember: usize) -> Arc<dyn Filter> {
    let mut config = config.clone();
    config["remember"] = remember.into();
    let filters = edgeway_filters::standard();
    let entry = filters.get("jwt").expect("the filter is in the list");
    let config = entry.read(&mut <dyn erased_serde::Deserializer<'_>>::erase(config));
    let resources = Resources::default();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/jwt/testdata"));
    let mut stage = Build::new(&resources, folder);
    let filter = entry.build(config.expect("the configuration is right"), &mut stage);
    filter.expect("the configuration is right")
}

/// The time of one call, in the best round.
async fn best(filter: &dyn Filter, token: &str, passes: bool, times: u32) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round(filter, token, passes, times).await);
    }
    best
}

async fn round(filter: &dyn Filter, token: &str, passes: bool, times: u32) -> Duration {
    let request = http::Request::get("/protected/product/1/")
        .header("host", "api.example.com")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .header("authorization", format!("Bearer {token}"))
        .body(());
    let (mut head, ()) = request.expect("a proper request").into_parts();
    let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
    let mut request = Request::new(&mut head, &mut exchange);
    let start = Instant::now();
    for _ in 0..times {
        let flow = filter.request(&mut request).await;
        let flow = flow.expect("the filter never fails");
        assert_eq!(
            matches!(flow, Flow::Continue),
            passes,
            "the outcome is right"
        );
    }
    let time = start.elapsed() / times;
    if passes {
        assert_eq!(request.header("x-auth-user"), Some("admin"));
    }
    time
}

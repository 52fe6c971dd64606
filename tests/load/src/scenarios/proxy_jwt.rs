//! Plain proxying, and proxying with an HS256 token check, before the same upstream.

use std::net::SocketAddr;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::arrivals::Arrivals;
use crate::contestant::{Bench, Contestant, SECRET, SECRET_VARIABLE};
use crate::fault::{Fault, Result, Trouble};
use crate::http;
use crate::load::{Answers, Plan};
use crate::scenario::{Figure, Job, Scenario, Upstream};
use crate::scenarios::NGINX_PROXY_PASS;

/// Starts everything, and asserts that whoever is compared does the same.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let upstream = upstream(bench)?;
    let behind = upstream.address;
    let mut contestants = vec![nginx_plain(bench, behind)?, nginx_njs(bench, behind)?];
    if bench.has_edgeway() {
        contestants.push(bench.edgeway("edgeway", &plain_routes(behind))?);
        contestants.push(bench.edgeway("edgeway + jwt", &jwt_routes(behind))?);
    }
    let (plain, jwt): (Vec<usize>, Vec<usize>) =
        (0..contestants.len()).partition(|at| at.is_multiple_of(2));
    for &at in &plain {
        proxies(&contestants[at])?;
    }
    let njs = njs_version(&contestants[1])?;
    for &at in &jwt {
        checks_tokens(&contestants[at])?;
    }
    let (jobs, upstream) = (jobs(plain, jwt)?, Upstream::Process(upstream));
    Ok(Scenario {
        versions: vec![njs],
        small_at_start: vec!["edgeway", "edgeway + jwt"],
        ..Scenario::new(Figure::Cpu, contestants, jobs, upstream)
    })
}

fn jobs(plain: Vec<usize>, jwt: Vec<usize>) -> Result<Vec<Job>> {
    let tokens = |count| {
        Ok::<_, Fault>(Plan {
            arrivals: Arrivals::WhenAnswered,
            requests: signed_requests(count)?,
            answers: Answers::AnyOf(vec![body()]),
            watched: None,
        })
    };
    Ok(vec![
        Job {
            title: "plain proxy",
            contestants: plain,
            plan: Plan {
                arrivals: Arrivals::WhenAnswered,
                requests: vec![http::get("/", &[])],
                answers: Answers::AnyOf(vec![body()]),
                watched: None,
            },
            at_most: vec![("edgeway", 1.5)],
        },
        Job {
            title: "jwt, one token",
            contestants: jwt.clone(),
            plan: tokens(1)?,
            at_most: vec![("edgeway + jwt", 0.95)],
        },
        Job {
            title: "jwt, 1 000 tokens",
            contestants: jwt.clone(),
            plan: tokens(1_000)?,
            at_most: vec![("edgeway + jwt", 0.95)],
        },
        // In turn, and more than anyone should remember: each of them has to be verified.
        Job {
            title: "jwt, 100 000 tokens",
            contestants: jwt,
            plan: tokens(100_000)?,
            at_most: Vec::new(),
        },
    ])
}

/// The cheapest thing that answers; `/whoami` repeats the identity it was told.
fn upstream(bench: &Bench) -> Result<Contestant> {
    let text = String::from_utf8(body()).expect("the body is text");
    bench.nginx("upstream", "", |address| {
        format!(
            "    default_type application/json;
    server {{
        listen {address};
        location / {{ return 200 '{text}'; }}
        location = /whoami {{ return 200 '$http_x_auth_user $http_x_auth_role'; }}
    }}"
        )
    })
}

fn nginx_plain(bench: &Bench, upstream: SocketAddr) -> Result<Contestant> {
    bench.nginx("nginx", "", |address| {
        nginx_proxy(address, upstream, &Extra::default())
    })
}

fn nginx_njs(bench: &Bench, upstream: SocketAddr) -> Result<Contestant> {
    bench.file("proxy_jwt.js", include_str!("proxy_jwt.js"))?;
    let main = format!(
        "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;\nenv {SECRET_VARIABLE};"
    );
    let check = Extra {
        http: "
    js_import gate from proxy_jwt.js;
    js_var $jwt_role;
    js_set $jwt_user gate.user;
    js_set $njs_version gate.version;",
        server: "
        location = /njs-version { return 200 $njs_version; }",
        location: "
            if ($jwt_user = \"\") { return 401; }
            proxy_set_header X-Auth-User $jwt_user;
            proxy_set_header X-Auth-Role $jwt_role;",
    };
    bench.nginx("nginx + njs", &main, |address| {
        nginx_proxy(address, upstream, &check)
    })
}

/// What a token check adds to the file of a plain proxy, level by level.
#[derive(Default)]
struct Extra {
    http: &'static str,
    server: &'static str,
    location: &'static str,
}

fn nginx_proxy(address: SocketAddr, upstream: SocketAddr, extra: &Extra) -> String {
    let Extra {
        http,
        server,
        location,
    } = extra;
    format!(
        "{http}
    upstream app {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};{server}
        location / {{{location}
{NGINX_PROXY_PASS}
        }}
    }}"
    )
}

fn njs_version(contestant: &Contestant) -> Result<String> {
    let (_, version) = http::ask(contestant.address, &http::get("/njs-version", &[]))
        .trouble(|| "cannot ask njs for its version".to_owned())?;
    Ok(format!("njs/{}", String::from_utf8_lossy(&version)))
}

fn plain_routes(upstream: SocketAddr) -> String {
    format!(
        "upstreams: {{ app: {{ endpoints: [\"{upstream}\"] }} }}
routes:
  - match: {{ path: / }}
    upstream: app
"
    )
}

fn jwt_routes(upstream: SocketAddr) -> String {
    format!(
        "upstreams: {{ app: {{ endpoints: [\"{upstream}\"] }} }}
routes:
  - match: {{ path: / }}
    filters:
      - jwt:
          algorithms: [HS256]
          secret: env:{SECRET_VARIABLE}
          forward: {{ username: X-Auth-User, role: X-Auth-Role }}
    upstream: app
"
    )
}

fn proxies(contestant: &Contestant) -> Result<()> {
    contestant.must_answer("for the body", &http::get("/", &[]), 200, Some(&body()))
}

fn checks_tokens(contestant: &Contestant) -> Result<()> {
    let good = token(0, u64::MAX / 2)?;
    let refused = [
        ("without a token", http::get("/", &[])),
        (
            "with another scheme",
            http::get("/", &["Authorization: Basic YTpi"]),
        ),
        (
            "with a tampered token",
            http::get("/", &[&bearer(&tampered(&good))]),
        ),
        (
            "with an expired token",
            http::get("/", &[&bearer(&token(0, 1)?)]),
        ),
    ];
    for (why, request) in refused {
        contestant.must_answer(why, &request, 401, None)?;
    }
    let request = http::get("/", &[&bearer(&good)]);
    contestant.must_answer("with a good token", &request, 200, Some(&body()))?;
    let request = http::get("/whoami", &[&bearer(&good), "X-Auth-User: mallory"]);
    contestant.must_answer("who it forwards", &request, 200, Some(b"user-0 admin"))
}

fn signed_requests(count: u32) -> Result<Vec<Vec<u8>>> {
    (0..count)
        .map(|number| Ok(http::get("/", &[&bearer(&token(number, NEXT_CENTURY)?)])))
        .collect()
}

#[derive(Serialize)]
struct Claims {
    sub: u32,
    username: String,
    role: &'static str,
    exp: u64,
}

fn token(number: u32, exp: u64) -> Result<String> {
    let claims = Claims {
        sub: number,
        username: format!("user-{number}"),
        role: "admin",
        exp,
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .trouble(|| "cannot sign a token".to_owned())
}

/// The same token with one character of its claims changed.
fn tampered(token: &str) -> String {
    let (head, rest) = token.split_once('.').expect("a token has three parts");
    let mut rest = rest.to_owned();
    let last = if rest.starts_with('e') { "f" } else { "e" };
    rest.replace_range(..1, last);
    format!("{head}.{rest}")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// 200 bytes of JSON.
fn body() -> Vec<u8> {
    let text = "x".repeat(200 - r#"{"text":""}"#.len());
    format!(r#"{{"text":"{text}"}}"#).into_bytes()
}

const NEXT_CENTURY: u64 = 4_102_444_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_200_bytes_of_json() {
        assert_eq!(body().len(), 200);
        assert!(serde_json::from_slice::<serde_json::Value>(&body()).is_ok());
    }

    #[test]
    fn tokens_differ_and_a_tampered_one_keeps_its_signature() {
        let good = token(1, NEXT_CENTURY).unwrap();
        assert_ne!(good, token(2, NEXT_CENTURY).unwrap());
        let bad = tampered(&good);
        assert_ne!(good, bad);
        assert_eq!(good.rsplit('.').next(), bad.rsplit('.').next());
    }
}

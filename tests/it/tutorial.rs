//! The main job, as the tutorials have it: an auth service and two product services behind one port.

use std::path::Path;

use edgeway_tests::{Answer, Auth, Gateway, PATIENCE, Product, eventually};
use serde_json::json;

use crate::jwt::tokens::{self, base64, raw};

const SECRET: &str = "a-secret-of-the-tutorial-that-is-long-enough";

/// All programs of the tutorial.
struct Tutorial {
    auth: Auth,
    products: [Product; 2],
    gateway: Gateway,
}

impl Tutorial {
    fn start() -> Self {
        Self::with(configuration)
    }

    fn with(configuration: impl Fn(&Auth, &[Product; 2]) -> String) -> Self {
        let auth = Auth::start(SECRET);
        let products = [Product::start("product-1"), Product::start("product-2")];
        let yaml = configuration(&auth, &products);
        let gateway = Gateway::setup(&yaml)
            .env("EDGEWAY_JWT_SECRET", SECRET)
            .start();
        Self {
            auth,
            products,
            gateway,
        }
    }

    fn log_in(&self, user: &str) -> String {
        let answer = self.log_in_with(user, "123456");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    fn log_in_with(&self, user: &str, password: &str) -> Answer {
        let request = self.gateway.request("POST", "/public/auth/login");
        request
            .header("Authorization", basic(user, password))
            .send()
    }

    fn product(&self, token: &str) -> Answer {
        self.gateway
            .request("GET", "/protected/product/1/")
            .bearer(token)
            .send()
    }

    /// The same once the list of revoked tokens is there, which is fetched after the start.
    fn product_when_ready(&self, token: &str) -> Answer {
        let mut answer = self.product(token);
        eventually(PATIENCE, || {
            answer = self.product(token);
            answer.status != 503
        });
        answer
    }

    /// How many requests the product services have seen.
    fn seen(&self) -> u64 {
        self.products.iter().map(Product::requests).sum()
    }
}

fn configuration(auth: &Auth, [one, two]: &[Product; 2]) -> String {
    format!(
        "
        upstreams:
          auth: {{ endpoints: [{auth}] }}
          products: {{ endpoints: [{one}, {two}] }}
        filters:
          - request_id
          - access_log
        routes:
          - match: {{ path: {{ exact: / }} }}
            respond: {{ json: {{ message: Hello world }} }}
          - match: {{ path: /public/auth/ }}
            strip_prefix: /public
            upstream: auth
          - match: {{ path: /public/product/ }}
            strip_prefix: /public
            upstream: products
          - match: {{ path: /protected/ }}
            filters:
              - jwt:
                  algorithms: [HS256]
                  secret: env:EDGEWAY_JWT_SECRET
                  forward: {{ username: X-Auth-User, role: X-Auth-Role }}
                  revocations: {{ url: 'http://{auth}/auth/revocations', interval: 100ms }}
            strip_prefix: /protected
            upstream: products
        "
    )
}

fn basic(user: &str, password: &str) -> String {
    let credentials = format!("{user}:{password}");
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, credentials);
    format!("Basic {encoded}")
}

/// A token like those of the auth service, of this secret.
fn forged(claims: &serde_json::Value, secret: &str) -> String {
    raw(
        r#"{"alg":"HS256"}"#,
        claims.to_string(),
        jsonwebtoken::Algorithm::HS256,
        secret,
    )
}

#[test]
fn the_three_checks_of_the_tutorial() {
    // #92, #93, #95
    let tutorial = Tutorial::start();
    let admin = tutorial.product_when_ready(&tutorial.log_in("admin"));
    assert_eq!(admin.status, 200);
    assert_eq!(admin.json()["data"]["id"], 1);

    let gues = tutorial.product(&tutorial.log_in("gues"));
    assert_eq!(gues.status, 403);
    assert_eq!(gues.json(), json!({ "message": "Forbidden" }));

    let public = tutorial.gateway.get("/public/product/all");
    assert_eq!(public.status, 200);
    assert!(
        public.json()["data"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
}

#[test]
fn the_three_checks_hold_for_the_configuration_of_the_repository() {
    // #30, #112
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/edgeway.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let tutorial = Tutorial::with(|auth, [one, two]| {
        let ports = [
            ("127.0.0.1:8881", "127.0.0.1:0".to_owned()),
            ("127.0.0.1:8101", auth.to_string()),
            ("127.0.0.1:8102", one.to_string()),
            ("127.0.0.1:8103", two.to_string()),
        ];
        ports.iter().fold(text.clone(), |text, (port, ours)| {
            assert!(text.contains(port), "{port}");
            text.replace(port, ours)
        })
    });
    assert_eq!(
        tutorial.gateway.get("/").json(),
        json!({ "message": "Hello world" })
    );
    let admin = tutorial.log_in("admin");
    assert_eq!(tutorial.product_when_ready(&admin).status, 200);
    assert_eq!(tutorial.product(&tutorial.log_in("gues")).status, 403);
    let before = tutorial.seen();
    assert_eq!(tutorial.gateway.get("/protected/product/1/").status, 401);
    assert_eq!(tutorial.seen(), before);
    assert_eq!(tutorial.gateway.get("/public/product/all").status, 200);
    let info = tutorial
        .gateway
        .get(&format!("/public/auth/token/info?access_token={admin}"));
    assert_eq!(info.json()["username"], "admin");
    // What is for the gateway alone.
    assert_eq!(tutorial.gateway.get("/public/auth/revocations").status, 404);
}

#[test]
fn no_request_without_a_good_token_reaches_a_service() {
    // #84
    let tutorial = Tutorial::start();
    let good = tutorial.log_in("admin");
    assert_eq!(tutorial.product_when_ready(&good).status, 200);
    let before = tutorial.seen();

    let now = tokens::now();
    let claims = json!({ "username": "admin", "role": "admin", "jti": "x", "exp": now + 60 });
    let expired = json!({ "username": "admin", "role": "admin", "jti": "x", "exp": now - 1 });
    let parts: Vec<_> = good.split('.').collect();
    let tampered = format!("{}.{}.{}", parts[0], base64(claims.to_string()), parts[2]);
    let bad = [
        ("empty", String::new()),
        ("not a token", "token".to_owned()),
        ("of another secret", forged(&claims, "another-secret")),
        ("expired", forged(&expired, SECRET)),
        ("tampered with", tampered),
        (
            "unsigned",
            format!(
                "{}.{}.",
                base64(r#"{"alg":"none"}"#),
                base64(claims.to_string())
            ),
        ),
    ];
    for (name, token) in bad {
        let answer = tutorial.product(&token);
        assert_eq!(answer.status, 401, "{name}");
    }
    // #85: one rule for everything below, whatever the service has there.
    for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        for target in [
            "/protected/product/1/",
            "/protected/product",
            "/protected/",
            "/protected/nothing",
        ] {
            let answer = tutorial.gateway.request(method, target).send();
            assert_eq!(answer.status, 401, "{method} {target}");
        }
    }
    assert_eq!(tutorial.seen(), before);
}

#[test]
fn a_refusal_of_the_gateway_is_json_with_the_right_status() {
    // #94, T13
    let tutorial = Tutorial::start();
    let unauthorized = tutorial.gateway.get("/protected/product/1/");
    let bad = tutorial
        .gateway
        .request("GET", "/protected/product/1/")
        .host("a b")
        .send();
    let nowhere = tutorial.gateway.get("/nowhere");
    for (answer, status, title) in [
        (unauthorized, 401, "Unauthorized"),
        (bad, 400, "Bad Request"),
        (nowhere, 404, "Not Found"),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.json()["title"], title);
    }
}

#[test]
fn a_log_in_needs_the_right_password() {
    // #88
    let tutorial = Tutorial::start();
    for user in ["admin", "gues"] {
        let token = tutorial.log_in(user);
        assert_eq!(token.split('.').count(), 3);
    }
    for (user, password) in [("admin", "1234567"), ("admin", ""), ("nobody", "123456")] {
        let answer = tutorial.log_in_with(user, password);
        assert_eq!(answer.status, 401, "{user}");
        assert!(
            answer
                .header("WWW-Authenticate")
                .is_some_and(|it| it.starts_with("Basic"))
        );
    }
    assert_eq!(
        tutorial
            .gateway
            .request("POST", "/public/auth/login")
            .send()
            .status,
        401
    );
}

#[test]
fn a_token_tells_its_claims_and_the_log_does_not_tell_the_token() {
    // #89, T11
    let tutorial = Tutorial::start();
    let token = tutorial.log_in("gues");
    let target = format!("/public/auth/token/info?access_token={token}&x=1");
    let info = tutorial.gateway.get(&target);
    assert_eq!(info.status, 200);
    let claims = info.json();
    assert_eq!(
        (&claims["username"], &claims["role"]),
        (&json!("gues"), &json!("gues"))
    );
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 60 * 60);

    let line = tutorial.gateway.wait_for_output("/token/info");
    assert!(line.contains("access_token=***&x=1"), "{line}");
    let bad = tutorial
        .gateway
        .get("/public/auth/token/info?access_token=nonsense");
    assert_eq!(bad.status, 401);
    for part in token.split('.') {
        assert!(!tutorial.gateway.output().contains(part));
        assert!(!tutorial.gateway.log().contains(part));
    }
}

#[test]
fn a_role_has_its_permissions() {
    // #90
    let tutorial = Tutorial::start();
    let of = |role: &str| {
        tutorial
            .gateway
            .get(&format!("/public/auth/permissions?role={role}"))
    };
    let admin = of("admin").json();
    assert!(
        admin.as_array().unwrap().contains(&json!("product:view")),
        "{admin}"
    );
    let gues = of("gues").json();
    assert!(
        !gues.as_array().unwrap().contains(&json!("product:view")),
        "{gues}"
    );
    assert_eq!(of("nobody").status, 404);
}

#[test]
fn a_token_is_refused_soon_after_its_log_out() {
    // #91
    let tutorial = Tutorial::start();
    let (one, two) = (tutorial.log_in("admin"), tutorial.log_in("admin"));
    assert_eq!(tutorial.product_when_ready(&one).status, 200);
    assert_eq!(tutorial.product(&two).status, 200);
    let log_out = tutorial
        .gateway
        .request("POST", "/public/auth/logout")
        .bearer(&one)
        .send();
    assert_eq!(log_out.status, 200);
    eventually(PATIENCE, || tutorial.product(&one).status == 401);
    assert_eq!(tutorial.product(&two).status, 200);
    // It stays revoked when the service that knows is gone, and so does nothing else.
    drop(tutorial.auth);
    let product = |token: &str| {
        tutorial
            .gateway
            .request("GET", "/protected/product/1/")
            .bearer(token)
            .send()
    };
    assert_eq!(product(&one).status, 401);
    assert_eq!(product(&two).status, 200);
}

#[test]
fn the_instances_take_turns() {
    // #31, #43
    let tutorial = Tutorial::start();
    let source = || {
        tutorial.gateway.get("/public/product/all").json()["source"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let sources: Vec<_> = (0..10).map(|_| source()).collect();
    for pair in sources.windows(2) {
        assert_ne!(pair[0], pair[1], "{sources:?}");
    }
    assert_eq!(tutorial.products.each_ref().map(Product::requests), [5, 5]);
}

#[test]
fn an_admin_may_add_and_delete_and_a_guest_may_not() {
    // #86. One instance: each has a list of its own.
    let tutorial = Tutorial::with(|auth, products| {
        let [one, two] = products;
        configuration(auth, products).replace(&format!("[{one}, {two}]"), &format!("[{one}]"))
    });
    let (admin, gues) = (tutorial.log_in("admin"), tutorial.log_in("gues"));
    assert_eq!(tutorial.product_when_ready(&admin).status, 200);
    let list = || {
        tutorial.gateway.get("/public/product/all").json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    let before = list();
    let add = |token: &str| {
        let request = tutorial
            .gateway
            .request("POST", "/protected/product")
            .bearer(token);
        let body = json!({ "name": "Lamp", "price": 12.5 }).to_string();
        request
            .header("Content-Type", "application/json")
            .body(body)
            .send()
    };
    assert_eq!(add(&gues).status, 403);
    let added = add(&admin);
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(list(), before + 1);

    let target = format!("/protected/product/{}", added.json()["data"]["id"]);
    let delete = |token: &str| {
        tutorial
            .gateway
            .request("DELETE", &target)
            .bearer(token)
            .send()
            .status
    };
    assert_eq!(delete(&gues), 403);
    assert_eq!(delete(&admin), 204);
    assert_eq!(list(), before);
}

#[test]
fn what_a_client_says_of_itself_is_not_believed_by_the_service() {
    // #87, T10
    let tutorial = Tutorial::start();
    let gues = tutorial.log_in("gues");
    assert_eq!(tutorial.product_when_ready(&gues).status, 403);
    for (user, role) in [
        ("X-Auth-User", "X-Auth-Role"),
        ("X_Auth_User", "X_Auth_Role"),
        ("x-auth_user", "x_auth-role"),
    ] {
        let request = tutorial
            .gateway
            .request("GET", "/protected/product/1/")
            .bearer(&gues);
        let forged = request.header(user, "admin").header(role, "admin").send();
        assert_eq!(forged.status, 403, "{role}");
        // Below `/public` nobody has a role, so nobody may see details.
        let request = tutorial.gateway.request("GET", "/public/product/1/");
        let forged = request.header(user, "admin").header(role, "admin").send();
        assert_eq!(forged.status, 401, "{role}");
    }
}

#[test]
fn a_change_of_the_one_rule_is_followed_by_every_route() {
    // #85
    let tutorial = Tutorial::start();
    let admin = tutorial.log_in("admin");
    assert_eq!(tutorial.product_when_ready(&admin).status, 200);
    let stricter = configuration(&tutorial.auth, &tutorial.products).replace(
        "algorithms: [HS256]",
        "require: { role: boss }\n                  algorithms: [HS256]",
    );
    assert!(tutorial.gateway.reload(&stricter));
    for target in [
        "/protected/product/1/",
        "/protected/product",
        "/protected/x",
    ] {
        let answer = tutorial
            .gateway
            .request("GET", target)
            .bearer(&admin)
            .send();
        assert_eq!(answer.status, 403, "{target}");
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/problem+json")
        );
    }
}

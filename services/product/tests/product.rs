//! Drives the real program over its socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it is made of"
)]

use std::io::Read;

use edgeway_service::testing::Running;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeway-product");

fn product() -> Running {
    Running::start(PROGRAM, &["--source", "product-1"])
}

/// A request as the gateway passes it on after it has verified a token with this role.
fn request(product: &Running, method: Method, path: &str, role: &str) -> RequestBuilder {
    let request = Client::new().request(method, product.url(path));
    request
        .header("X-Auth-User", role)
        .header("X-Auth-Role", role)
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

async fn get(product: &Running, path: &str) -> Response {
    reqwest::get(product.url(path)).await.unwrap()
}

async fn requests(product: &Running) -> u64 {
    let body: Value = get(product, "/requests").await.json().await.unwrap();
    body["requests"].as_u64().unwrap()
}

#[tokio::test]
async fn everybody_sees_the_list_and_which_instance_gave_it() {
    let product = product();
    let body: Value = get(&product, "/product/all").await.json().await.unwrap();
    assert_eq!(body["message"], "OK");
    assert_eq!(body["source"], "product-1");
    assert_eq!(
        body["data"][0],
        json!({ "id": 1, "name": "iPhone 9", "price": 549.0 })
    );
    assert!(body["data"].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn a_product_is_shown_to_a_role_that_may_view_it() {
    let product = product();
    for path in ["/product/1", "/product/1/"] {
        let response = request(&product, Method::GET, path, "admin")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["message"], "OK");
        assert_eq!(body["source"], "product-1");
        assert_eq!(body["data"]["name"], "iPhone 9");
    }
}

#[tokio::test]
async fn a_role_without_the_permission_is_forbidden_whether_the_product_exists_or_not() {
    let product = product();
    for (method, path) in [
        (Method::GET, "/product/1/"),
        (Method::GET, "/product/999"),
        (Method::DELETE, "/product/1"),
        (Method::POST, "/product"),
    ] {
        for role in ["gues", "unknown"] {
            let response = request(&product, method.clone(), path, role)
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 403, "{method} {path}");
            assert_eq!(response.text().await.unwrap(), r#"{"message":"Forbidden"}"#);
        }
    }
}

#[tokio::test]
async fn a_request_without_an_identity_is_unauthorized() {
    let product = product();
    for (method, path) in [
        (Method::GET, "/product/1"),
        (Method::DELETE, "/product/1"),
        (Method::POST, "/product"),
    ] {
        let response = Client::new()
            .request(method, product.url(path))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
    }
}

#[tokio::test]
async fn an_unknown_product_is_not_found() {
    let product = product();
    for path in [
        "/product/999",
        "/product/0",
        "/product/-1",
        "/product/x",
        "/product/99999999999999999999",
    ] {
        assert_eq!(
            status(request(&product, Method::GET, path, "admin")).await,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_product_that_was_added_is_there_until_it_is_deleted() {
    let product = product();
    let new = json!({ "name": "Pixel", "price": 9.99 });
    let response = request(&product, Method::POST, "/product", "admin")
        .json(&new)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["data"]["price"], 9.99);

    assert_eq!(
        status(request(&product, Method::GET, &location, "admin")).await,
        200
    );
    assert_eq!(
        status(request(&product, Method::DELETE, &location, "admin")).await,
        204
    );
    assert_eq!(
        status(request(&product, Method::GET, &location, "admin")).await,
        404
    );
    assert_eq!(
        status(request(&product, Method::DELETE, &location, "admin")).await,
        404
    );
}

#[tokio::test]
async fn a_product_that_makes_no_sense_is_refused_with_the_reason() {
    let product = product();
    let cases = [
        (json!({ "name": "", "price": 1 }), "a name has between"),
        (json!({ "name": "x", "price": -1 }), "a price is a number"),
        (json!({ "name": "x" }), "missing field `price`"),
        (
            json!({ "name": "x", "price": 1, "id": 1 }),
            "unknown field `id`",
        ),
    ];
    for (new, reason) in cases {
        let response = request(&product, Method::POST, "/product", "admin")
            .json(&new)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 422);
        let body: Value = response.json().await.unwrap();
        assert!(body["detail"].as_str().unwrap().contains(reason), "{body}");
    }
    let text = request(&product, Method::POST, "/product", "admin").body("{}");
    assert_eq!(status(text).await, 415);
}

#[tokio::test]
async fn the_number_of_requests_leaves_out_those_that_watch() {
    let product = product();
    for path in ["/healthz", "/requests"] {
        assert_eq!(get(&product, path).await.status(), 200);
    }
    assert_eq!(requests(&product).await, 0);
    for path in ["/product/all", "/product/1", "/nothing"] {
        get(&product, path).await;
    }
    assert_eq!(requests(&product).await, 3);
}

#[tokio::test]
async fn each_request_leaves_one_line_in_the_log() {
    let product = product();
    get(&product, "/product/1?token=secret").await;
    get(&product, "/healthz").await;
    product.ask_to_stop();
    let (status, log) = product.wait();
    assert!(status.success());
    assert!(
        log.contains("request method=GET path=/product/1 status=401"),
        "{log}"
    );
    assert_eq!(log.matches("method=").count(), 1, "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn products_survive_a_restart_when_the_database_is_a_file() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("product.db");
    let arguments = ["--database", database.to_str().unwrap()];
    let product = Running::start(PROGRAM, &arguments);
    assert_eq!(
        status(request(&product, Method::DELETE, "/product/1", "admin")).await,
        204
    );
    product.ask_to_stop();
    assert!(product.wait().0.success());

    let product = Running::start(PROGRAM, &arguments);
    assert_eq!(
        status(request(&product, Method::GET, "/product/1", "admin")).await,
        404
    );
}

#[tokio::test]
async fn a_stop_closes_idle_connections_at_once() {
    let product = product();
    let mut idle = std::net::TcpStream::connect(product.address()).unwrap();
    let client = Client::new();
    let response = client
        .get(product.url("/product/all"))
        .send()
        .await
        .unwrap();
    drop(response.text().await.unwrap());
    product.ask_to_stop();
    let (status, log) = product.wait();
    assert!(status.success(), "{log}");
    assert!(!log.contains("in flight"), "{log}");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn an_address_that_is_taken_ends_the_start_with_the_reason() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().to_string();
    let (code, said) = Running::refuse(PROGRAM, &["--listen", &taken]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&format!("edgeway-product: cannot listen on `{taken}`")),
        "{said}"
    );
}

//! Listings of folders.

use std::fs;

use edgeway_tests::{Answer, Gateway};

fn gateway(routes: &str) -> Gateway {
    let name = "site/docs/<img src=x onerror=alert(1)>.txt";
    let setup = Gateway::setup(routes)
        .file(name, "12345")
        .file("site/docs/b.txt", "1");
    let setup = setup
        .file("site/docs/.env", "hidden")
        .file("site/docs/sub/index.html", "index");
    setup.file("site/.well-known/security.txt", "open").start()
}

const ROUTES: &str = "
    routes:
      - match: { path: /closed/ }
        files: { alias: site }
      - match: { path: /hidden/ }
        files: { alias: site, listing: true, hidden: true }
      - match: { path: /s/ }
        files: { alias: site, listing: true }
    ";

fn listed(gateway: &Gateway, path: &str, accept: &str) -> Answer {
    gateway.request("GET", path).header("Accept", accept).send()
}

fn hrefs(answer: &Answer) -> Vec<String> {
    let items = answer.json();
    let href = |item: &serde_json::Value| item["href"].as_str().unwrap().to_owned();
    items.as_array().unwrap().iter().map(href).collect()
}

#[test]
fn a_folder_is_shown_to_people_only_where_the_route_says_so() {
    let gateway = gateway(ROUTES);
    assert_eq!(gateway.get("/closed/docs/").status, 404);
    let answer = listed(&gateway, "/s/docs/", "text/html,*/*;q=0.8");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    let page = answer.text();
    assert!(!page.contains("<img") && !page.contains(".env"), "{page}");
    assert!(
        page.contains("href=\"%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.txt\""),
        "{page}"
    );
    assert!(page.contains("<a href=\"../\">s/</a>"), "{page}");
    // A folder with an index is not shown.
    assert_eq!(gateway.get("/s/docs/sub/").text(), "index");
    let answer = gateway.get("/s/docs?sort=size");
    assert_eq!(
        (answer.status, answer.header("location")),
        (301, Some("/s/docs/?sort=size"))
    );
}

#[test]
fn a_program_gets_json_in_the_order_that_it_asks_for() {
    let gateway = gateway(ROUTES);
    let hostile = "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.txt";
    for (query, expected) in [
        ("", ["sub/", hostile, "b.txt"]),
        ("?order=desc", ["sub/", "b.txt", hostile]),
        ("?sort=size", ["sub/", "b.txt", hostile]),
        ("?sort=size&order=desc", ["sub/", hostile, "b.txt"]),
        ("?sort=nonsense&order=%00", ["sub/", hostile, "b.txt"]),
    ] {
        let answer = listed(&gateway, &format!("/s/docs/{query}"), "application/json");
        assert_eq!(hrefs(&answer), expected, "{query}");
        assert_eq!(answer.header("vary"), Some("accept"));
        assert_eq!(answer.header("x-total-count"), Some("3"));
    }
    let answer = listed(&gateway, "/s/docs/", "application/json");
    let items = answer.json();
    assert_eq!(items[0]["type"], "folder");
    assert_eq!(items[2]["type"], "file");
    assert_eq!(items[2]["size"], 1);
}

#[test]
fn what_is_hidden_is_shown_only_where_it_is_served() {
    let gateway = gateway(ROUTES);
    let of = |path| hrefs(&listed(&gateway, path, "application/json"));
    assert!(of("/hidden/docs/").contains(&".env".to_owned()));
    assert_eq!(gateway.get("/hidden/docs/.env").text(), "hidden");
    assert_eq!(of("/s/"), [".well-known/", "docs/"]);
    assert_eq!(of("/s/.well-known/"), ["security.txt"]);
}

#[test]
fn the_head_of_a_listing_has_no_body_and_a_folder_that_is_gone_has_none() {
    let gateway = gateway(ROUTES);
    let answer = gateway.request("HEAD", "/s/docs/").send();
    assert_eq!(answer.status, 200);
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(length, gateway.get("/s/docs/").body.len());
    fs::remove_dir_all(gateway.folder().join("site/docs")).unwrap();
    assert_eq!(gateway.get("/s/docs/").status, 404);
}

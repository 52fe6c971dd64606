//! The page: as it is sent, and as a browser shows it.

use std::{collections::HashMap, time::Duration};

use edgeway_tests::{Answer, Echo, Gateway, Request, eventually};

use super::{admin, browser::Browser, configuration, named, under_load, wait_for_health};

/// What all of it may weigh: nobody should wait for it, however far away.
const HEAVIEST: usize = 100 << 10;

fn page(gateway: &Gateway) -> Answer {
    let request = Request::to(gateway.address_of("admin"), "GET", "/");
    request
        .header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .send()
}

/// All that follows a mark, up to a character.
fn after<'t>(text: &'t str, mark: &str, end: char) -> Vec<&'t str> {
    let parts = text.split(mark).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(end)?.0))
        .collect()
}

#[test]
fn browsers_get_the_page_and_others_the_list_of_calls() {
    let gateway = Gateway::start(&configuration(&Echo::start()));
    assert_eq!(
        admin(&gateway, "/").header("content-type"),
        Some("application/json")
    );
    let page = page(&gateway);
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn the_page_is_light_and_asks_for_nothing_from_elsewhere() {
    let gateway = Gateway::start(&configuration(&Echo::start()));
    let page = page(&gateway);
    let mut wanted: Vec<String> = [
        after(page.text(), "src=\"", '"'),
        after(page.text(), "href=\"page/", '"'),
    ]
    .concat()
    .iter()
    .map(|name| name.trim_start_matches("page/").to_owned())
    .collect();
    let mut files: HashMap<String, String> = HashMap::new();
    while let Some(name) = wanted.pop() {
        if files.contains_key(&name) {
            continue;
        }
        let file = admin(&gateway, &format!("/page/{name}"));
        assert_eq!(file.status, 200, "{name}");
        wanted.extend(
            after(file.text(), "from \"./", '"')
                .into_iter()
                .map(str::to_owned),
        );
        files.insert(name, file.text().to_owned());
    }
    assert!(files.len() > 10, "{:?}", files.keys());
    let weight = page.text().len() + files.values().map(String::len).sum::<usize>();
    assert!(weight < HEAVIEST, "{weight}");
    for (name, text) in &files {
        let text = text
            .replace("http://www.w3.org/2000/svg", "")
            .replace("https://example.com/products/7", "");
        let text = text
            .replace("${scheme}://", "")
            .replace("http://localhost/`", "");
        assert!(!text.contains("://"), "{name}");
        assert!(
            !text.contains("innerHTML") && !text.contains("eval("),
            "{name}"
        );
    }
}

/// How much lighter one colour is than another, as WCAG 2 has it.
fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |colour: &str| {
        let number = u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap();
        let part = |place: usize| {
            let value = f64::from(number.to_be_bytes()[place]) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(1) + 0.7152 * part(2) + 0.0722 * part(3)
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn every_text_can_be_read_by_day_and_by_night() {
    assert!((contrast("#ffffff", "#000000") - 21.0).abs() < 0.01);
    let gateway = Gateway::start(&configuration(&Echo::start()));
    let style = admin(&gateway, "/page/style.css");
    let colour = |name: &str, place: usize| {
        let pairs = after(style.text(), &format!("--{name}: light-dark("), ')');
        pairs[0].split(", ").nth(place).unwrap().to_owned()
    };
    let texts = [
        ("ink", "card"),
        ("ink", "ground"),
        ("ink", "sunken"),
        ("muted", "card"),
        ("muted", "ground"),
        ("muted", "sunken"),
        ("accent", "card"),
        ("accent", "accent-tint"),
        ("on-accent", "accent"),
        ("ok", "card"),
        ("ok", "ok-tint"),
        ("notice", "card"),
        ("notice", "notice-tint"),
        ("bad", "card"),
        ("bad", "bad-tint"),
        ("bad", "ground"),
        ("ink", "ok-tint"),
        ("ink", "notice-tint"),
        ("ink", "bad-tint"),
        ("card", "ink"),
        ("card", "bad"),
    ];
    for (text, ground) in texts {
        for place in [0, 1] {
            let contrast = contrast(&colour(text, place), &colour(ground, place));
            assert!(
                contrast >= 4.5,
                "{text} on {ground}: {contrast:.2} ({place})"
            );
        }
    }
    // What is drawn and not read.
    for line in ["c2", "c3", "c4", "c5", "p50", "p95", "p99"] {
        for place in [0, 1] {
            let contrast = contrast(&colour(line, place), &colour("card", place));
            assert!(contrast >= 2.5, "{line}: {contrast:.2} ({place})");
        }
    }
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}/", gateway.address_of("admin"))
}

/// The state that the configuration in force has the endpoint in.
fn state(gateway: &Gateway, endpoint: &str) -> String {
    let shop = admin(gateway, "/v1/upstreams/shop").json();
    named(&shop["endpoints"], endpoint)["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[track_caller]
fn becomes(gateway: &Gateway, endpoint: &str, wanted: &str) {
    eventually(Duration::from_secs(10), || {
        state(gateway, endpoint) == wanted
    });
}

#[test]
fn the_page_shows_what_is_going_on() {
    let Some(browser) = Browser::start(1360, 900) else {
        return;
    };
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    browser.open(&url(&gateway));
    // Before the first request it says what to type, and what is wrong is on top.
    browser.until("document.querySelector('#quiet pre')?.textContent.startsWith('curl ')");
    browser.until("document.querySelector('#attention').innerText.includes('refused')");
    browser.picture("at-rest");
    under_load(&gateway, || {
        browser.until(
            "Number(document.querySelector('#tiles dd span').textContent.replace(',', '')) > 5",
        );
        browser.until("document.querySelector('#quiet').hidden");
        // A name is a text, whatever it looks like.
        browser.until("document.querySelector('#routes tbody').innerText.includes('<i>hello</i>')");
        browser.until("!document.querySelector('#routes i')");
        browser.until("document.querySelector('#refusals').innerText.includes('ip_access')");
        browser.until("/[1-9].* %/.test(document.querySelector('#caches .big')?.textContent)");
        std::thread::sleep(Duration::from_secs(4));
        browser.picture("under-load");
    });
    let down = "[...document.querySelectorAll('#upstreams tr')].find((row) => row.innerText.includes('127.0.0.1:1'))";
    browser.until(&format!(
        "{down}.innerText.includes('Down') && {down}.innerText.includes('refused')"
    ));
    let ours = format!("http://{}", gateway.address_of("admin"));
    let asked = browser.asked();
    assert!(asked.iter().all(|origin| *origin == ours), "{asked:?}");
    assert_eq!(browser.complaints(), [""; 0]);
    drop(gateway);
    browser.until("document.querySelector('#lost').innerText.includes('Trying again')");
    browser.until("document.querySelector('#state').innerText === 'Connection lost'");
}

#[test]
fn endpoints_are_taken_out_and_back_with_the_mouse_or_the_keyboard_alone() {
    let Some(browser) = Browser::start(1280, 800) else {
        return;
    };
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    let name = echo.to_string();
    browser.open(&url(&gateway));
    let group = format!("[aria-label='What {name} shall do']");
    // By mouse: it is the last one that serves, which is said before it is done.
    browser.click(&format!("{group} [data-state=drain]"));
    browser.until(
        "document.querySelector('dialog').innerText.includes('No other endpoint of shop serves')",
    );
    browser.picture("asked");
    browser.click("dialog [type=submit]");
    becomes(&gateway, &name, "drain");
    assert_eq!(gateway.get("/shop/x").status, 502);
    browser.until(&format!(
        "document.querySelector(\"{group} [data-state=drain]\").ariaPressed === 'true'"
    ));
    browser.until("document.querySelector('#attention').innerText.includes('Nobody serves')");
    browser.picture("an-endpoint-down");
    browser.click("#toasts button");
    becomes(&gateway, &name, "up");
    assert_eq!(gateway.get("/shop/x").status, 200);
    // By keyboard: from the filter on, as far as it takes.
    browser.script("document.activeElement.blur()");
    browser.press("/");
    browser.press(&name);
    browser.until("document.querySelectorAll('#upstreams tbody tr').length === 1");
    for _ in 0..40 {
        browser.press("\u{e004}");
        if browser.script("return document.activeElement.dataset.state === 'maintenance'") == true {
            break;
        }
    }
    browser.press("\u{e007}");
    browser.until("document.querySelector('dialog')?.contains(document.activeElement)");
    browser.press("\u{e00c}");
    browser.until("!document.querySelector('dialog')");
    assert_eq!(state(&gateway, &name), "up");
    browser.until("document.activeElement.dataset.state === 'maintenance'");
    browser.press("\u{e007}");
    browser.until("document.querySelector('dialog')?.contains(document.activeElement)");
    browser.press("\u{e004}");
    browser.press("\u{e007}");
    becomes(&gateway, &name, "maintenance");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_configuration_is_read_again_and_routes_are_closed_from_the_page() {
    let Some(browser) = Browser::start(1280, 800) else {
        return;
    };
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    browser.open(&url(&gateway));
    let reload = "#configuration .button.main";
    browser.until("document.querySelector('#configuration small').textContent === 'revision 1'");
    let wrong = configuration(&echo).replace("upstream: shop", "upstream: shpo");
    gateway.write("edgeway.yaml", unindented(&wrong));
    browser.click(reload);
    browser.until("document.querySelector('#configuration pre.bad')?.innerText.includes('unknown upstream `shpo`')");
    browser.picture("refused");
    let changed = configuration(&echo).replace("ttl: 60s", "ttl: 5s");
    gateway.write("edgeway.yaml", unindented(&changed));
    browser.click(reload);
    browser.until("document.querySelector('#configuration small').textContent === 'revision 2'");
    browser.until("document.querySelector('.diff').innerText.includes('routes[shop].cache.ttl')");
    let answer = || gateway.get("/hello").status;
    browser.click("[aria-label='Maintenance of Everything']");
    browser.click("dialog [type=submit]");
    eventually(Duration::from_secs(10), || answer() == 503);
    browser.until("document.querySelector('#state').innerText === 'Maintenance'");
    browser.click("[aria-label='Maintenance of Everything']");
    eventually(Duration::from_secs(10), || answer() == 200);
    // The one refusal is in the log of the browser, since it is one.
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|said| said.contains("422")),
        "{complaints:?}"
    );
}

fn unindented(yaml: &str) -> String {
    let lines = yaml
        .lines()
        .map(|line| line.strip_prefix("        ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn it_fits_a_phone_and_is_dark_for_who_likes_that() {
    let Some(browser) = Browser::start(360, 780) else {
        return;
    };
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    gateway.get("/closed/");
    gateway.get("/shop/");
    browser.prefer("dark");
    browser.open(&url(&gateway));
    browser.until("document.querySelectorAll('#upstreams tbody tr').length === 2");
    browser.until("document.documentElement.scrollWidth <= 360");
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let dark = browser.script(ground);
    browser.picture("phone-dark");
    browser.prefer("light");
    browser.until(&format!(
        "getComputedStyle(document.body).backgroundColor !== {dark}"
    ));
    browser.picture("phone");
    browser.click("#theme");
    assert_eq!(browser.script(ground), dark);
    // What somebody has chosen stays.
    browser.open(&url(&gateway));
    browser.until("document.querySelectorAll('#upstreams tbody tr').length === 2");
    assert_eq!(browser.script(ground), dark);
    let nameless = browser.script(NAMELESS);
    assert_eq!(nameless, serde_json::json!([]), "{nameless}");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What can be used and has no name, ids that are there twice, and references to what is not there.
const NAMELESS: &str = r##"
    const name = (node) => node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.[0]?.textContent.trim()
        || document.getElementById(node.getAttribute("aria-labelledby"))?.textContent.trim();
    const used = [...document.querySelectorAll("a, button, input, select, table, [role=group], [role=img], section")];
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    const twice = ids.filter((id, place) => ids.indexOf(id) !== place);
    const lost = [...document.querySelectorAll("[aria-labelledby]")].filter((node) => !document.getElementById(node.getAttribute("aria-labelledby")));
    const links = [...document.querySelectorAll("a[href^='#']")].filter((node) => !document.querySelector(node.hash));
    return [...used.filter((node) => !name(node)), ...lost, ...links].map((node) => node.outerHTML.slice(0, 120)).concat(twice);
"##;

#[test]
fn a_token_is_asked_for_once_and_sent_where_nobody_sees_it() {
    let Some(browser) = Browser::start(1280, 800) else {
        return;
    };
    let yaml = configuration(&Echo::start()).replace(
        "admin: { bind: '127.0.0.1:0' }",
        "admin: { bind: '127.0.0.1:0', token: s3cret-of-ours }",
    );
    let gateway = Gateway::start(&yaml);
    assert_eq!(admin(&gateway, "/v1/live").status, 401);
    browser.open(&url(&gateway));
    browser.find("#token");
    browser.press("guessed\u{e007}");
    browser.until("document.querySelector('#gate').innerText.includes('not the token')");
    browser.picture("locked");
    browser.press("s3cret-of-ours\u{e007}");
    browser.until("document.querySelectorAll('#upstreams tbody tr').length === 2");
    browser.until("!location.href.includes('s3cret') && !document.querySelector('#gate')");
    // Until the tab is closed.
    browser.open(&url(&gateway));
    browser.until("document.querySelectorAll('#upstreams tbody tr').length === 2");
}

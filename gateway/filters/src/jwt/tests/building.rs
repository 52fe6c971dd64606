//! Configurations: what is refused and what is warned of.

use super::*;

fn refusal(config: &Value) -> String {
    let Err(error) = try_built(config.clone(), &Resources::default()) else {
        panic!("{config} is accepted")
    };
    format!("{}: {error}", error.key.as_deref().unwrap_or(""))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_wrong_configuration_is_refused_where_it_is_wrong() {
    let rsa = |more: Value| {
        let mut config = json!({ "algorithms": ["RS256"] });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config
    };
    let cases = [
        (
            json!({ "secret": SECRET }),
            "serde: missing field `algorithms`",
        ),
        (
            with(json!({ "algorithms": ["none"] })),
            "serde: unknown variant `none`",
        ),
        (
            with(json!({ "algorithms": [] })),
            "algorithms: name at least one algorithm",
        ),
        (
            json!({ "algorithms": ["HS256"] }),
            "algorithms: `HS256` needs a `secret`",
        ),
        (
            with(json!({ "algorithms": ["HS256", "RS256"] })),
            "algorithms: `RS256` needs a public key",
        ),
        (
            json!({ "algorithms": ["HS256"], "public_keys": ["rsa.pub.pem"] }),
            "algorithms: `HS256` needs a `secret`",
        ),
        (
            with(json!({ "algorithms": ["RS256"] })),
            "secret: no algorithm of the list uses `secret`",
        ),
        (
            with(json!({ "public_keys": ["rsa.pub.pem"] })),
            "public_keys: no algorithm",
        ),
        (
            with(json!({ "secret_base64": "eA==" })),
            "secret_base64: give `secret` or",
        ),
        (
            json!({ "algorithms": ["HS256"], "secret_base64": "hunter2!" }),
            "secret_base64: the secret is not base64",
        ),
        (
            rsa(json!({ "public_keys": ["absent.pem"] })),
            "public_keys.0: can't read",
        ),
        (
            rsa(json!({ "public_keys": ["p256.pub.pem"] })),
            "public_keys.0: no algorithm",
        ),
        (
            rsa(json!({ "public_keys": ["rsa.pub.pem", "rsa.pem"] })),
            "public_keys.1: `",
        ),
        (
            rsa(json!({ "public_keys": ["rsa-weak.pub.pem"] })),
            "public_keys.0: `",
        ),
        (
            rsa(json!({ "public_keys": ["secp256k1.pub.pem"] })),
            "public_keys.0: `",
        ),
        (rsa(json!({ "jwks_file": "rsa.pub.pem" })), "jwks_file: `"),
        (
            rsa(json!({ "jwks_file": "absent.json" })),
            "jwks_file: can't read",
        ),
        (
            rsa(json!({ "jwks": { "url": "keys" } })),
            "jwks.url: `keys` is not a URL",
        ),
        (
            rsa(json!({ "jwks": { "url": "file:///keys" } })),
            "jwks.url: `file:///keys` is neither",
        ),
        (
            rsa(json!({ "jwks": { "url": "https://a:b@c/" } })),
            "jwks.url: a URL with a user name",
        ),
        (
            rsa(json!({ "jwks": { "url": "https://a/", "interval": "0s" } })),
            "jwks.interval: expected",
        ),
        (
            rsa(json!({ "oidc": { "issuer": "https://a", "timeout": "0s" } })),
            "oidc.timeout: expected",
        ),
        (
            rsa(json!({ "oidc": { "issuer": "a" } })),
            "oidc.issuer: `a` is not a URL",
        ),
        (
            rsa(json!({ "oidc": { "issuer": "https://a" }, "jwks": { "url": "https://a" } })),
            "oidc: give `jwks` or `oidc`",
        ),
        (
            rsa(json!({ "jwks": { "url": "https://a/", "refetch_interval": "0s" } })),
            "jwks.refetch_interval: expected",
        ),
        (
            rsa(json!({ "oidc": { "issuer": "https://a", "refetch_interval": "0s" } })),
            "oidc.refetch_interval: expected",
        ),
        (
            with(json!({ "forward": { "a": "Authorization" } })),
            "forward.a: `Authorization` is where tokens stand",
        ),
        (
            with(json!({ "from": [{ "cookie": "t" }], "forward": { "a": "cookie" } })),
            "forward.a: `cookie` is where tokens stand",
        ),
        (
            with(json!({ "revocations": { "url": "x" } })),
            "revocations.url: ",
        ),
        (
            with(json!({ "revocations": { "url": "http://x", "interval": "0s" } })),
            "revocations.interval: ",
        ),
        (with(json!({ "from": [] })), "from: name at least one place"),
        (
            with(json!({ "from": ["body"] })),
            "serde: unknown variant `body`",
        ),
        (
            with(json!({ "from": [{ "query": "t" }], "strip_token": true })),
            "strip_token: a token in the query",
        ),
        (
            with(json!({ "issuer": [] })),
            "issuer: no token could match",
        ),
        (with(json!({ "issuer": 5 })), "serde: invalid type"),
        (
            with(json!({ "issuer": { "a": "b" } })),
            "serde: invalid type: map, expected a value or a list",
        ),
        (
            with(json!({ "audience": [] })),
            "audience: no token could match",
        ),
        (
            with(json!({ "require": { "role": [] } })),
            "require.role: no token could match",
        ),
        (
            with(json!({ "require": { "role": [{}] } })),
            "serde: invalid type: map, expected a text, a number",
        ),
        (
            with(json!({ "forward": { "sub": "X User" } })),
            "forward.sub: `X User` is not a header name",
        ),
        (
            with(json!({ "forward": { "sub": "Connection" } })),
            "forward.sub: `Connection` is set by the gateway",
        ),
        (
            with(json!({ "forward": { "a": "X-A", "b": "x-a" } })),
            "forward.b: `x-a` is given to two claims",
        ),
        (
            with(json!({ "remember": 99_999_999 })),
            "remember: more than",
        ),
        (
            with(json!({ "realm": "a\"b" })),
            "realm: expected printable",
        ),
        (
            with(json!({ "leeway": 5 })),
            "serde: invalid type: integer `5`, expected a length of time",
        ),
    ];
    for (config, message) in cases {
        let shown = config.to_string();
        let refusal = refusal(&config);
        assert!(
            refusal.starts_with(message),
            "{shown}\n gives {refusal}\n not   {message}"
        );
    }
}

#[test]
fn a_pem_file_that_holds_no_usable_key_is_said_to() {
    let cases = [
        ("rsa.pem", "a private key, where a public one is wanted"),
        (
            "rsa-weak.pub.pem",
            "an RSA key of 1024 bits, where 2048 to 8192 are wanted",
        ),
        (
            "secp256k1.pub.pem",
            "a key on another curve than P-256 and P-384",
        ),
    ];
    for (file, what) in cases {
        let refusal = refusal(&json!({ "algorithms": ["RS256", "ES256"], "public_keys": [file] }));
        assert!(
            refusal.ends_with(&format!("{file}` holds {what}")),
            "{refusal}"
        );
    }
    let rsa = include_str!("../testdata/rsa.pub.pem");
    for (text, what) in [
        (String::new(), "no PEM"),
        ([rsa, rsa].concat(), "more than one key"),
        (rsa.replace("MII", "AII"), "neither a public key"),
    ] {
        let Err(error) = pem::key(&text) else {
            panic!("{what}")
        };
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn a_secret_that_is_easy_to_guess_is_warned_of() {
    let short = json!({ "algorithms": ["HS256"], "secret": "supersecretkey" });
    assert_eq!(
        built(short).warnings,
        ["secret: a secret of 14 bytes is easier to guess than the 32 that `HS256` wants"]
    );
    let secret = "x".repeat(47);
    let config = |algorithms: &[&str]| json!({ "algorithms": algorithms, "secret": secret });
    assert_eq!(built(config(&["HS256"])).warnings, [""; 0]);
    assert_eq!(built(config(&["HS256", "HS384"])).warnings.len(), 1);
    assert_eq!(built(config(&["HS512"])).warnings.len(), 1);
    let base64 = json!({ "algorithms": ["HS256"], "secret_base64": "c3VwZXI=" });
    assert!(built(base64).warnings[0].starts_with("secret_base64: a secret of 5 bytes"));
}

#[test]
fn secrets_are_not_shown() {
    let refusal = refusal(&with(json!({ "secret": ["hunter2"] })));
    assert!(!refusal.contains("hunter2"), "{refusal}");
    for warning in built(json!({ "algorithms": ["HS256"], "secret": "hunter2" })).warnings {
        assert!(!warning.contains("hunter2"), "{warning}");
    }
}

#[tokio::test]
async fn keys_that_are_fetched_in_the_clear_are_warned_of() {
    let config = |url: &str| json!({ "algorithms": ["RS256"], "jwks": { "url": url } });
    assert_eq!(built(config("http://id.invalid/keys")).warnings.len(), 1);
    for url in [
        "https://id.invalid/keys",
        "http://localhost:1/keys",
        "http://[::1]:1/keys",
    ] {
        assert_eq!(built(config(url)).warnings, [""; 0], "{url}");
    }
}

#[test]
fn the_text_for_people_names_every_key() {
    for key in [
        "algorithms",
        "secret",
        "secret_base64",
        "public_keys",
        "jwks_file",
        "jwks",
        "oidc",
        "from",
        "strip_token",
        "optional",
        "max_size",
        "require_exp",
        "leeway",
        "issuer",
        "audience",
        "require",
        "subject",
        "forward",
        "revocations",
        "remember",
        "realm",
    ] {
        assert!(
            DOC.contains(&format!("\n  {key}:")) || DOC.contains(&format!("\n  #{key}:")),
            "{key}"
        );
    }
}

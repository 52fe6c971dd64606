//! A gateway with a filter that looks at whole bodies: only webhooks that are signed may enter.
//!
//! Who sends a webhook signs its body with a secret that both know, and puts the signature beside it, as
//! `X-Signature-256: sha256=...` in hexadecimal digits:
//!
//! ```yaml
//! routes:
//!   - match: { path: /hooks/, method: POST }
//!     filters:
//!       - webhook: { secret: env:WEBHOOK_SECRET }
//!     upstream: hooks
//! ```

use aws_lc_rs::hmac;
use edgeway::prelude::*;

#[derive(Deserialize)]
struct Config {
    secret: Secret,
    /// How long a body may be.
    #[serde(default = "Config::max_body")]
    max_body: Size,
}

impl Config {
    fn max_body() -> Size {
        Size(64 * 1024)
    }
}

struct Webhook {
    key: hmac::Key,
    max_body: usize,
}

#[async_trait]
impl Filter for Webhook {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let Some(signature) = signature(request) else {
            return Ok(Reply::new(401).rule("unsigned").into());
        };
        // Waits for the client. The upstream gets the body all the same.
        let body = request.body(self.max_body).await?;
        if hmac::verify(&self.key, &body, &signature).is_err() {
            return Ok(Reply::new(401).rule("forged").into());
        }
        Ok(Flow::Continue)
    }
}

/// The signature that the client has sent, if it has sent one.
fn signature(request: &Request<'_>) -> Option<Vec<u8>> {
    let digits = request.header("x-signature-256")?.strip_prefix("sha256=")?;
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    (digits.len() == 64).then(|| pairs.map(byte).collect())?
}

fn build(config: Config, _: &mut Build<'_>) -> Result<Webhook, BuildError> {
    let Config { secret, max_body } = config;
    Ok(Webhook {
        key: hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()),
        max_body: usize::try_from(max_body.0).unwrap_or(usize::MAX),
    })
}

fn main() -> ExitCode {
    edgeway::main(edgeway::standard().add("webhook", build))
}

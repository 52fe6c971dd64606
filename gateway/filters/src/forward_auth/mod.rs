//! Asks a service whether a request may pass, as nginx' `auth_request` and Traefik's `ForwardAuth` do.
//!
//! The service is told about the request and answers by a status: 2xx lets it pass; a redirect or 4xx is
//! what the client is told, with the service's own body and challenge, so that it may send a browser to a
//! login page. Anything else is no answer, and without an answer nobody passes.

mod config;
mod question;
mod remember;
mod verdict;

use std::sync::Arc;

use edgeway_sdk::prelude::*;

use self::{
    question::{Question, Questions},
    remember::Remembered,
    verdict::{Admission, Judge, Verdict},
};
use crate::client::{Client, Limits};

pub(crate) use self::config::Config;

pub(crate) const DOC: &str = "\
asks a service whether a request may pass

forward_auth:
  url: https://auth.example.com/verify  # 2xx lets pass; a redirect or 4xx is what the client is told
  #socket: /run/auth.sock               # default: none; the unix socket that the service listens at
  method: GET                           # or HEAD, POST, or client: that of the request
  # What of the request is sent along. It is told method, scheme, host, path and query, and client by
  # X-Forwarded-Method, -Proto, -Host, -Uri and -For in any case.
  request_headers: [Authorization, Cookie, Accept, User-Agent, Origin]
  #body: 64KiB                          # default: none; the body too, up to 64KiB, by POST or client

  # What of a 2xx is passed on. Nobody else can tell the upstream these headers.
  response_headers: []                  # to the upstream: [X-Auth-User, X-Auth-Role]
  client_headers: []                    # to the client: [Set-Cookie]
  identity: {}                          # to other filters: { subject: X-Auth-User, roles: X-Auth-Role }

  timeout: 5s                           # then, or when the service fails, nobody passes (503)
  # Who may pass is remembered for a while; who may not is asked about each time, and so is an answer with
  # `Cache-Control: no-store` or `Set-Cookie`.
  cache:                                # default: none
    ttl: 10s
    # What answers are known again by: all that they depend on, or a client gets in by what was said of
    # another. If one of the values is missing, the answer is not remembered.
    #key: \"{cookie.session} {method} {host} {target}\"   # default: all that is sent
    size: 4096                          # how many answers are remembered
";

/// The filter.
pub(crate) struct ForwardAuth {
    service: Arc<Service>,
    questions: Questions,
    remembered: Option<Remembered>,
}

/// The service that is asked.
struct Service {
    client: Client,
    limits: Limits,
    judge: Judge,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<ForwardAuth, BuildError> {
    config.parts(build)
}

#[async_trait]
impl Filter for ForwardAuth {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let Some(question) = self.questions.about(request).await? else {
            return Ok(Reply::new(508)
                .because("the service that is asked is behind this filter itself")
                .rule("loop")
                .into());
        };
        match self.verdict(question, request).await {
            Verdict::Admitted(admission) => {
                admission.apply(request);
                Ok(Flow::Continue)
            }
            Verdict::Refused(refusal) => Ok(refusal.reply().into()),
            Verdict::Broken(reason) => Ok(unavailable(reason).into()),
        }
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        verdict::tell_client(response);
        Ok(())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Needs("the authorization service")
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

fn unavailable(reason: String) -> Reply {
    Reply::new(503)
        .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        .because(reason)
        .rule("unavailable")
}

impl ForwardAuth {
    async fn verdict(&self, question: Question, request: &Request<'_>) -> Verdict {
        let Some(remembered) = &self.remembered else {
            return self.service.ask(question).await;
        };
        let Some(key) = remembered.key(&question, request) else {
            return self.service.ask(question).await;
        };
        if let Some(admission) = remembered.find(&key) {
            return Verdict::Admitted(admission);
        }
        let (service, same) = (Arc::clone(&self.service), question.clone());
        let work = async move { service.ask(same).await };
        let Some(landed) = remembered.asked.join(key, work).await else {
            return Verdict::Broken("the question was given up".to_owned());
        };
        // What was said to somebody else may be meant for nobody else.
        if landed.shared && !landed.result.may_be_shared() {
            return self.service.ask(question).await;
        }
        if let Verdict::Admitted(admission) = &landed.result {
            remembered.keep(key, admission);
        }
        landed.result
    }
}

impl Service {
    async fn ask(&self, question: Question) -> Verdict {
        let answer = self.client.ask(question.request(), self.limits).await;
        match answer {
            Ok(answer) => self.judge.verdict(answer),
            Err(reason) => Verdict::Broken(format!("the service does not answer: {reason}")),
        }
    }
}

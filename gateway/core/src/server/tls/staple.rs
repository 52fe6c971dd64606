//! Proofs that certificates are not revoked, kept fresh.

use std::{sync::Arc, time::Duration};

use log::{info, warn};
use tokio::time::sleep;

use super::{
    Terminator,
    identity::Digest,
    now,
    ocsp::{Answer, Question},
    watch::Kept,
};

/// The shortest and the longest pause after an authority had no answer, in seconds.
const PAUSE: i64 = 60;
const LONGEST_PAUSE: i64 = 3600;

impl Terminator {
    /// Asks authorities, each when its last answer has half its time behind it.
    pub(super) async fn keep_stapled(self: &Arc<Self>) {
        loop {
            while let Some((digest, question)) = self.next_question() {
                let answer = question.ask().await;
                self.note(digest, answer, now());
            }
            let pause = self.drop_expired(now());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.renewed.notified() => {}
            }
        }
    }

    /// What is to be asked now, and of which certificate.
    pub(super) fn next_question(&self) -> Option<(Digest, Question)> {
        if !self.rules.stapling {
            return None;
        }
        let now = now();
        let keeper = self.keeper();
        let due = |kept: &&Kept| kept.ask_at <= now && kept.asks().is_some();
        // One that never answers must not have its turn again before the others.
        let due = keeper.kept.iter().filter(due);
        let kept = due.min_by_key(|kept| kept.ask_at)?;
        Some((kept.identity.digest, kept.asks()?.clone()))
    }

    fn note(&self, digest: Digest, answer: Result<Answer, String>, now: i64) {
        let mut keeper = self.keeper();
        // It may have been replaced meanwhile.
        let mut same = keeper.kept.iter_mut();
        let Some(kept) = same.find(|kept| kept.identity.digest == digest) else {
            return;
        };
        let fresh = answer.is_ok();
        kept.note(&self.listener, answer, now);
        if fresh {
            self.publish(&keeper);
        }
    }

    /// Stops sending proofs that no longer hold. Returns how long there is nothing to do.
    fn drop_expired(&self, now: i64) -> Duration {
        let mut keeper = self.keeper();
        let mut dropped = false;
        for kept in &mut keeper.kept {
            if kept
                .staple
                .as_ref()
                .is_some_and(|staple| staple.until <= now)
            {
                kept.staple = None;
                dropped = true;
            }
        }
        if dropped {
            self.publish(&keeper);
        }
        let asked = keeper
            .kept
            .iter()
            .filter(|kept| self.rules.stapling && kept.asks().is_some());
        let asked = asked.map(|kept| kept.ask_at);
        let ends = keeper
            .kept
            .iter()
            .filter_map(|kept| Some(kept.staple.as_ref()?.until));
        let next = asked.chain(ends).min();
        let pause = next.map_or(LONGEST_PAUSE, |next| next.saturating_sub(now));
        Duration::from_secs(pause.clamp(1, LONGEST_PAUSE).unsigned_abs())
    }
}

impl Kept {
    /// What is asked about it, if there is somebody to ask, and no file that somebody else keeps fresh.
    fn asks(&self) -> Option<&Question> {
        let by_file = self.identity.answer.is_some();
        self.identity.responder.as_ref().filter(|_| !by_file)
    }

    fn note(&mut self, listener: &str, answer: Result<Answer, String>, now: i64) {
        let certificate = self.identity.label();
        match answer {
            Ok(answer) => {
                if self.failures > 0 || self.staple.is_none() {
                    info!("certificate stapled: listener={listener} certificate={certificate}");
                }
                self.failures = 0;
                let half = answer.since.midpoint(answer.until);
                self.ask_at = half.max(now.saturating_add(PAUSE));
                self.staple = Some(answer);
            }
            Err(reason) => {
                if self.failures == 0 {
                    warn!(
                        "certificate not stapled, asked again later: listener={listener} certificate={certificate} reason={reason}"
                    );
                }
                let pause = PAUSE << self.failures.min(6);
                self.failures = self.failures.saturating_add(1);
                self.ask_at = now.saturating_add(pause.min(LONGEST_PAUSE));
            }
        }
    }
}

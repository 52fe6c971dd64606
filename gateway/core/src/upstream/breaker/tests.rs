use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    thread,
};

use super::*;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;

const RULES: Rules = Rules {
    window: Duration::from_secs(10),
    min_requests: 10,
    error_rate: 0.5,
    open_for: Duration::from_secs(5),
    probes: 2,
};

const ONE_PROBE: Rules = Rules { probes: 1, ..RULES };

/// A breaker that has opened at `now`.
fn open(rules: &Rules, now: u64) -> Breaker {
    let breaker = Breaker::default();
    fail_until_open(&breaker, rules, now);
    breaker
}

fn fail_until_open(breaker: &Breaker, rules: &Rules, now: u64) {
    for _ in 0..rules.min_requests {
        let admission = breaker.admit(rules, now);
        assert!(matches!(admission, Admission::Pass(_)), "{admission:?}");
        breaker.note(rules, now, admission, false);
    }
    assert!(matches!(breaker.state(rules, now), State::Open { .. }));
}

fn trial(breaker: &Breaker, rules: &Rules, now: u64) -> Admission {
    let admission = breaker.admit(rules, now);
    assert!(matches!(admission, Admission::Trial(_)), "{admission:?}");
    admission
}

fn is_refused(breaker: &Breaker, rules: &Rules, now: u64) -> bool {
    matches!(breaker.admit(rules, now), Admission::Refused { .. })
}

#[test]
fn a_breaker_opens_at_its_share_of_errors_and_tells_it_once() {
    let breaker = Breaker::default();
    let outcomes = [true, true, true, true, true, false, false, false, false];
    for good in outcomes {
        let admission = breaker.admit(&RULES, SECOND);
        assert_eq!(breaker.note(&RULES, SECOND, admission, good), None);
    }
    let (last, late) = (breaker.admit(&RULES, SECOND), breaker.admit(&RULES, SECOND));
    let changed = breaker.note(&RULES, SECOND, last, false);
    assert_eq!(changed, Some(Changed::Opened));
    assert_eq!(breaker.note(&RULES, SECOND, late, false), None);
}

#[test]
fn too_few_requests_open_nothing() {
    let breaker = Breaker::default();
    for _ in 0..9 {
        let admission = breaker.admit(&RULES, SECOND);
        assert_eq!(breaker.note(&RULES, SECOND, admission, false), None);
    }
    assert_eq!(breaker.state(&RULES, SECOND), State::Closed);
    // The window has gone by: the nine count no longer.
    let admission = breaker.admit(&RULES, 20 * SECOND);
    assert_eq!(breaker.note(&RULES, 20 * SECOND, admission, false), None);
}

#[test]
fn requests_that_were_not_asked_for_do_not_count() {
    let breaker = Breaker::default();
    for _ in 0..100 {
        let changed = breaker.note(&RULES, SECOND, Admission::UNASKED, false);
        assert_eq!(changed, None);
    }
    breaker.abandoned(Admission::UNASKED);
    let admission = breaker.admit(&RULES, SECOND);
    assert_eq!(breaker.note(&RULES, SECOND, admission, false), None);
}

#[test]
fn an_open_breaker_refuses_and_says_for_how_long() {
    let breaker = open(&RULES, SECOND);
    assert_eq!(
        breaker.admit(&RULES, 3 * SECOND),
        Admission::Refused {
            retry_after: Duration::from_secs(3)
        }
    );
    assert_eq!(
        breaker.state(&RULES, 3 * SECOND),
        State::Open {
            retry_after: Duration::from_secs(3)
        }
    );
    assert!(is_refused(&breaker, &RULES, 6 * SECOND - MS));
}

#[test]
fn successes_of_all_probes_close_it() {
    let breaker = open(&RULES, SECOND);
    let now = 6 * SECOND;
    assert_eq!(breaker.state(&RULES, now), State::HalfOpen);
    let first = trial(&breaker, &RULES, now);
    let second = trial(&breaker, &RULES, now);
    assert!(is_refused(&breaker, &RULES, now), "two at a time");
    assert_eq!(breaker.note(&RULES, now, first, true), None);
    assert_eq!(breaker.state(&RULES, now), State::HalfOpen);
    let changed = breaker.note(&RULES, now, second, true);
    assert_eq!(changed, Some(Changed::Closed));
    assert!(matches!(breaker.admit(&RULES, now), Admission::Pass(_)));
}

#[test]
fn a_trial_that_succeeds_makes_room_for_the_next() {
    let breaker = open(&ONE_PROBE, SECOND);
    let two = Rules { probes: 2, ..RULES };
    let first = trial(&breaker, &ONE_PROBE, 6 * SECOND);
    assert!(is_refused(&breaker, &ONE_PROBE, 6 * SECOND));
    assert_eq!(breaker.note(&two, 6 * SECOND, first, true), None);
    let second = trial(&breaker, &ONE_PROBE, 6 * SECOND);
    let changed = breaker.note(&two, 6 * SECOND, second, true);
    assert_eq!(changed, Some(Changed::Closed));
}

#[test]
fn one_failed_trial_opens_it_again_for_the_whole_time() {
    let breaker = open(&RULES, SECOND);
    let first = trial(&breaker, &RULES, 6 * SECOND);
    let second = trial(&breaker, &RULES, 6 * SECOND);
    breaker.note(&RULES, 6 * SECOND, first, true);
    let changed = breaker.note(&RULES, 7 * SECOND, second, false);
    assert_eq!(changed, Some(Changed::Opened));
    assert!(is_refused(&breaker, &RULES, 12 * SECOND - MS));
    // The success from before does not count towards closing.
    let again = trial(&breaker, &RULES, 12 * SECOND);
    assert_eq!(breaker.note(&RULES, 12 * SECOND, again, true), None);
}

#[test]
fn a_closed_breaker_does_not_remember_why_it_was_open() {
    let breaker = open(&ONE_PROBE, 5 * SECOND);
    // The failures that opened it are still within the window.
    let now = 10 * SECOND;
    let admission = trial(&breaker, &ONE_PROBE, now);
    breaker.note(&ONE_PROBE, now, admission, true);
    let admission = breaker.admit(&ONE_PROBE, now);
    assert_eq!(breaker.note(&ONE_PROBE, now, admission, false), None);
    assert_eq!(breaker.state(&ONE_PROBE, now), State::Closed);
}

#[test]
fn requests_from_before_it_opened_do_not_open_it_again() {
    let breaker = Breaker::default();
    let waiting: Vec<_> = (0..100)
        .map(|_| breaker.admit(&ONE_PROBE, SECOND))
        .collect();
    fail_until_open(&breaker, &ONE_PROBE, SECOND);
    let admission = trial(&breaker, &ONE_PROBE, 6 * SECOND);
    breaker.note(&ONE_PROBE, 6 * SECOND, admission, true);
    for admission in waiting {
        let changed = breaker.note(&ONE_PROBE, 7 * SECOND, admission, false);
        assert_eq!(changed, None);
    }
    assert_eq!(breaker.state(&ONE_PROBE, 7 * SECOND), State::Closed);
}

#[test]
fn outcomes_from_before_do_not_decide_for_a_half_open_breaker() {
    let breaker = Breaker::default();
    let early = breaker.admit(&ONE_PROBE, SECOND);
    fail_until_open(&breaker, &ONE_PROBE, SECOND);
    assert_eq!(breaker.note(&ONE_PROBE, 2 * SECOND, early, true), None);
    let old = trial(&breaker, &RULES, 6 * SECOND);
    let failed = trial(&breaker, &RULES, 6 * SECOND);
    breaker.note(&RULES, 6 * SECOND, failed, false);
    assert_eq!(breaker.note(&ONE_PROBE, 7 * SECOND, old, true), None);
    assert!(is_refused(&breaker, &ONE_PROBE, 7 * SECOND));
    let _next = trial(&breaker, &ONE_PROBE, 12 * SECOND);
    assert_eq!(breaker.note(&ONE_PROBE, 12 * SECOND, old, true), None);
    assert_eq!(breaker.note(&ONE_PROBE, 12 * SECOND, old, false), None);
    assert_eq!(breaker.note(&ONE_PROBE, 12 * SECOND, early, false), None);
    assert_eq!(breaker.state(&ONE_PROBE, 12 * SECOND), State::HalfOpen);
}

#[test]
fn a_trial_that_was_abandoned_gives_its_place_back() {
    let breaker = open(&ONE_PROBE, SECOND);
    for _ in 0..1000 {
        let admission = trial(&breaker, &ONE_PROBE, 6 * SECOND);
        assert!(is_refused(&breaker, &ONE_PROBE, 6 * SECOND));
        breaker.abandoned(admission);
    }
    let admission = trial(&breaker, &ONE_PROBE, 6 * SECOND);
    let changed = breaker.note(&ONE_PROBE, 6 * SECOND, admission, true);
    assert_eq!(changed, Some(Changed::Closed));
    breaker.abandoned(admission);
    assert_eq!(breaker.state(&ONE_PROBE, 6 * SECOND), State::Closed);
}

#[test]
fn an_old_trial_that_is_abandoned_takes_no_place_from_a_new_one() {
    let breaker = open(&RULES, SECOND);
    let old = trial(&breaker, &RULES, 6 * SECOND);
    let failed = trial(&breaker, &RULES, 6 * SECOND);
    breaker.note(&RULES, 6 * SECOND, failed, false);
    let _new = trial(&breaker, &ONE_PROBE, 11 * SECOND);
    breaker.abandoned(old);
    assert!(is_refused(&breaker, &ONE_PROBE, 11 * SECOND));
}

#[test]
fn trials_that_never_end_do_not_keep_it_from_closing() {
    let breaker = open(&RULES, SECOND);
    let mut now = 6 * SECOND;
    for _ in 0..10 {
        let _lost = trial(&breaker, &RULES, now);
        let _lost = trial(&breaker, &RULES, now);
        assert!(is_refused(&breaker, &RULES, now + 5 * SECOND - MS));
        now += 5 * SECOND;
    }
    for expected in [None, Some(Changed::Closed)] {
        let admission = trial(&breaker, &RULES, now);
        assert_eq!(breaker.note(&RULES, now, admission, true), expected);
    }
}

#[test]
fn trials_slower_than_the_open_time_still_close_it() {
    let breaker = open(&RULES, SECOND);
    let slow = [
        trial(&breaker, &RULES, 6 * SECOND),
        trial(&breaker, &RULES, 6 * SECOND),
    ];
    let _others = [
        trial(&breaker, &RULES, 11 * SECOND),
        trial(&breaker, &RULES, 11 * SECOND),
    ];
    assert_eq!(breaker.note(&RULES, 12 * SECOND, slow[0], true), None);
    let changed = breaker.note(&RULES, 12 * SECOND, slow[1], true);
    assert_eq!(changed, Some(Changed::Closed));
}

#[test]
fn an_idle_open_breaker_closes_with_the_first_requests_after_years() {
    let breaker = open(&ONE_PROBE, SECOND);
    let now = 3 * 365 * 24 * 3600 * SECOND;
    let admission = trial(&breaker, &ONE_PROBE, now);
    let changed = breaker.note(&ONE_PROBE, now, admission, true);
    assert_eq!(changed, Some(Changed::Closed));
}

#[test]
fn the_clock_of_a_standing_may_wrap() {
    let wrap = TICK << SINCE_BITS;
    let breaker = open(&ONE_PROBE, wrap - SECOND);
    assert!(is_refused(&breaker, &ONE_PROBE, wrap + 4 * SECOND - MS));
    trial(&breaker, &ONE_PROBE, wrap + 4 * SECOND);
}

#[test]
fn a_thread_with_an_older_time_does_not_half_open_it_early() {
    let breaker = open(&RULES, 10 * SECOND);
    assert!(is_refused(&breaker, &RULES, 9 * SECOND));
}

#[test]
fn rules_at_the_limits_do_no_harm() {
    let zero = Rules {
        window: Duration::ZERO,
        min_requests: 0,
        error_rate: 0.0,
        open_for: Duration::ZERO,
        probes: 0,
    };
    let most = Rules {
        window: Duration::MAX,
        min_requests: 1,
        error_rate: 1.0,
        open_for: Duration::ZERO,
        probes: u32::MAX,
    };
    for rules in [zero, most] {
        let breaker = Breaker::default();
        let admission = breaker.admit(&rules, SECOND);
        assert_eq!(
            breaker.note(&rules, SECOND, admission, false),
            Some(Changed::Opened)
        );
        let mut changed = None;
        for _ in 0..MOST_PROBES {
            let admission = trial(&breaker, &rules, SECOND);
            changed = breaker.note(&rules, SECOND, admission, true);
            if changed.is_some() {
                break;
            }
        }
        assert_eq!(changed, Some(Changed::Closed));
    }
}

#[test]
fn every_standing_survives_packing() {
    for phase in [Phase::Closed, Phase::Open, Phase::HalfOpen] {
        for (trials, successes) in [(0, 0), (100, 0), (0, 100), (127, 127)] {
            for (round, since) in [(0, 0), (mask(ROUND_BITS), mask(SINCE_BITS)), (5, 7)] {
                let standing = Standing {
                    phase,
                    trials,
                    successes,
                    round: Round(round),
                    since,
                };
                assert_eq!(Standing::unpack(standing.pack()), standing);
            }
        }
    }
}

#[test]
fn one_of_many_threads_opens_it_and_one_closes_it() {
    for _ in 0..200 {
        let breaker = Breaker::default();
        let (opened, closed) = (AtomicU64::new(0), AtomicU64::new(0));
        let run = |now: u64, good: bool| {
            for _ in 0..20 {
                let admission = breaker.admit(&ONE_PROBE, now);
                match breaker.note(&ONE_PROBE, now, admission, good) {
                    Some(Changed::Opened) => opened.fetch_add(1, Ordering::Relaxed),
                    Some(Changed::Closed) => closed.fetch_add(1, Ordering::Relaxed),
                    None => 0,
                };
            }
        };
        for (now, good) in [(SECOND, false), (6 * SECOND, true)] {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| run(now, good));
                }
            });
        }
        assert_eq!((opened.into_inner(), closed.into_inner()), (1, 1));
    }
}

#[test]
fn threads_never_run_more_trials_at_a_time_than_there_are_probes() {
    let rules = Rules { probes: 3, ..RULES };
    let breaker = open(&rules, SECOND);
    let running = AtomicI64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let admission = breaker.admit(&rules, 6 * SECOND);
                    if matches!(admission, Admission::Trial(_)) {
                        let others = running.fetch_add(1, Ordering::SeqCst);
                        assert!(others < 3, "{others} others");
                        running.fetch_sub(1, Ordering::SeqCst);
                        breaker.abandoned(admission);
                    }
                }
            });
        }
    });
    let seen = breaker.load();
    assert_eq!((seen.trials, seen.phase), (0, Phase::HalfOpen));
}

/// An upstream that fails and recovers, and the time there.
struct World {
    breaker: Breaker,
    clock: AtomicU64,
    well: AtomicBool,
    done: AtomicBool,
}

impl World {
    const RULES: Rules = Rules {
        window: Duration::from_millis(100),
        min_requests: 5,
        error_rate: 0.5,
        open_for: Duration::from_millis(20),
        probes: 3,
    };

    /// Sends requests; of some it never tells the outcome, and some it abandons.
    fn run_client(&self, seed: u64) {
        let mut random = seed;
        while !self.done.load(Ordering::Relaxed) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let now = self.clock.fetch_add(50, Ordering::Relaxed);
            let admission = self.breaker.admit(&Self::RULES, now);
            match random >> 60 {
                0 => {}
                1 | 2 => self.breaker.abandoned(admission),
                _ => {
                    let good = self.well.load(Ordering::Relaxed);
                    self.breaker.note(&Self::RULES, now, admission, good);
                }
            }
        }
    }

    fn state(&self) -> State {
        let now = self.clock.load(Ordering::Relaxed);
        self.breaker.state(&Self::RULES, now)
    }

    fn set(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
        let start = self.clock.load(Ordering::Relaxed);
        while (self.state() == State::Closed) != well {
            let passed = self.clock.load(Ordering::Relaxed) - start;
            assert!(passed < 60 * SECOND, "well: {well}, {:?}", self.state());
            thread::yield_now();
        }
    }
}

/// Ends the clients also when an assertion fails.
struct End<'a>(&'a World);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

#[test]
fn under_load_from_threads_it_always_closes_again() {
    let world = World {
        breaker: Breaker::default(),
        clock: AtomicU64::new(SECOND),
        well: AtomicBool::new(true),
        done: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let _end = End(&world);
        for seed in 1..=3 {
            let world = &world;
            scope.spawn(move || world.run_client(seed));
        }
        for _ in 0..50 {
            world.set(false);
            world.set(true);
        }
    });
    assert_eq!(world.state(), State::Closed);
}

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::*;

const SECOND: u64 = 1_000_000;

const TWICE: Patience = Patience {
    max_fails: 2,
    fail_timeout: Duration::from_secs(10),
    max_fail_timeout: Duration::from_secs(10),
    error_rate: None,
};

const GROWING: Patience = Patience {
    max_fails: 1,
    max_fail_timeout: Duration::from_secs(35),
    ..TWICE
};

const HALF: Patience = Patience {
    max_fails: 0,
    error_rate: Some(ErrorRate {
        share: 0.5,
        min_requests: 10,
    }),
    ..TWICE
};

fn left_out(seconds: u64) -> Failed {
    Failed::LeftOut(Duration::from_secs(seconds))
}

/// A request that begins and ends at `now`.
fn fail(passive: &Passive, patience: &Patience, now: u64) -> Failed {
    passive.failed(patience, now, now, || true)
}

fn succeed(passive: &Passive, patience: &Patience, now: u64) -> bool {
    passive.succeeded(patience, now, now)
}

/// One that was left out at `now`.
fn out(patience: &Patience, now: u64) -> Passive {
    let passive = Passive::default();
    for _ in 0..patience.max_fails {
        fail(&passive, patience, now);
    }
    assert!(passive.is_out(patience));
    passive
}

#[test]
fn an_endpoint_is_left_out_after_its_last_permitted_failure() {
    let passive = Passive::default();
    assert_eq!(fail(&passive, &TWICE, SECOND), Failed::Counted);
    assert!(passive.may_serve(&TWICE, SECOND));
    assert_eq!(fail(&passive, &TWICE, SECOND), left_out(10));
    assert!(!passive.may_serve(&TWICE, SECOND));
    assert_eq!(passive.out_until(&TWICE), Some(11 * SECOND));
    assert_eq!(
        fail(&passive, &TWICE, SECOND),
        Failed::Counted,
        "it is news only once"
    );
}

#[test]
fn a_success_forgets_the_failures_before() {
    let passive = Passive::default();
    fail(&passive, &TWICE, SECOND);
    assert!(!succeed(&passive, &TWICE, SECOND), "it was not left out");
    assert_eq!(fail(&passive, &TWICE, SECOND), Failed::Counted);
    assert_eq!(fail(&passive, &TWICE, SECOND), left_out(10));
    assert!(succeed(&passive, &TWICE, SECOND));
    assert!(!passive.is_out(&TWICE));
    assert_eq!(fail(&passive, &TWICE, SECOND), Failed::Counted);
}

#[test]
fn failures_that_are_far_apart_do_not_add_up() {
    let passive = Passive::default();
    for number in 0..10 {
        let now = SECOND + number * 11 * SECOND;
        assert_eq!(fail(&passive, &TWICE, now), Failed::Counted);
    }
    assert_eq!(fail(&passive, &TWICE, 105 * SECOND), left_out(10));
}

#[test]
fn time_without_failures_does_not_shorten_the_next_count() {
    let passive = Passive::default();
    fail(&passive, &TWICE, SECOND);
    succeed(&passive, &TWICE, SECOND);
    fail(&passive, &TWICE, 10 * SECOND);
    assert_eq!(fail(&passive, &TWICE, 12 * SECOND), left_out(10));
}

#[test]
fn an_answer_to_an_earlier_request_does_not_bring_an_endpoint_back() {
    let passive = out(&TWICE, 2 * SECOND);
    assert!(!passive.succeeded(&TWICE, 3 * SECOND, SECOND));
    assert!(!passive.may_serve(&TWICE, 3 * SECOND));
    // Nor while another request tries it.
    assert!(passive.may_serve(&TWICE, 12 * SECOND));
    assert!(!passive.succeeded(&TWICE, 13 * SECOND, 11 * SECOND));
    assert!(passive.is_out(&TWICE));
    assert!(passive.succeeded(&TWICE, 13 * SECOND, 12 * SECOND));
}

#[test]
fn an_earlier_request_that_fails_late_changes_nothing() {
    let passive = out(&GROWING, 2 * SECOND);
    let late = |now| passive.failed(&GROWING, now, SECOND, || true);
    late(3 * SECOND);
    assert_eq!(passive.out_until(&GROWING), Some(12 * SECOND));
    assert!(passive.may_serve(&GROWING, 12 * SECOND));
    late(12 * SECOND);
    assert!(passive.succeeded(&GROWING, 13 * SECOND, 12 * SECOND));
    assert_eq!(late(14 * SECOND), Failed::Counted);
    assert!(!passive.is_out(&GROWING));
}

#[test]
fn one_request_in_each_fail_timeout_tries_an_endpoint_whose_time_is_over() {
    let passive = out(&TWICE, SECOND);
    assert!(!passive.may_serve(&TWICE, 11 * SECOND - 1));
    assert!(passive.may_serve(&TWICE, 11 * SECOND), "its time is over");
    assert!(!passive.may_serve(&TWICE, 11 * SECOND), "one is trying");
    assert!(!passive.may_serve(&TWICE, 21 * SECOND - 1));
    assert!(passive.may_serve(&TWICE, 21 * SECOND), "it takes too long");
    assert!(passive.is_out(&TWICE));
}

#[test]
fn a_trial_that_fails_leaves_it_out_again() {
    let passive = out(&TWICE, SECOND);
    assert!(passive.may_serve(&TWICE, 11 * SECOND));
    assert_eq!(fail(&passive, &TWICE, 12 * SECOND), Failed::Counted);
    assert!(!passive.may_serve(&TWICE, 22 * SECOND - 1));
    assert!(passive.may_serve(&TWICE, 22 * SECOND));
}

#[test]
fn failures_of_requests_sent_to_it_all_the_same_prolong_the_time_without_doubling_it() {
    let passive = out(&GROWING, SECOND);
    for _ in 0..5 {
        fail(&passive, &GROWING, 6 * SECOND);
    }
    assert_eq!(passive.out_until(&GROWING), Some(16 * SECOND));
}

#[test]
fn the_time_doubles_with_each_trial_that_fails_up_to_its_limit() {
    let passive = Passive::default();
    let mut now = SECOND;
    assert_eq!(fail(&passive, &GROWING, now), left_out(10));
    for wait in [10, 20, 35, 35, 35] {
        assert!(!passive.may_serve(&GROWING, now + wait * SECOND - 1));
        now += wait * SECOND;
        assert!(passive.may_serve(&GROWING, now));
        fail(&passive, &GROWING, now);
    }
}

#[test]
fn the_time_doubles_if_it_fails_again_soon_after_it_came_back() {
    let passive = out(&GROWING, SECOND);
    assert!(succeed(&passive, &GROWING, 11 * SECOND));
    assert_eq!(fail(&passive, &GROWING, 20 * SECOND), left_out(20));
    assert!(succeed(&passive, &GROWING, 40 * SECOND));
    assert_eq!(fail(&passive, &GROWING, 59 * SECOND), left_out(35));
}

#[test]
fn an_endpoint_that_has_served_as_long_as_it_was_left_out_starts_anew() {
    let passive = out(&GROWING, SECOND);
    assert!(succeed(&passive, &GROWING, 11 * SECOND));
    assert_eq!(fail(&passive, &GROWING, 20 * SECOND), left_out(20));
    assert!(succeed(&passive, &GROWING, 40 * SECOND));
    assert_eq!(fail(&passive, &GROWING, 60 * SECOND), left_out(10));
}

#[test]
fn the_time_never_overflows() {
    let patience = Patience {
        max_fail_timeout: Duration::MAX,
        ..GROWING
    };
    let passive = out(&patience, SECOND);
    for _ in 0..300 {
        let next = passive.load().trying(SECOND);
        assert!(passive.exchange(passive.load(), next));
        fail(&passive, &patience, SECOND);
    }
    assert_eq!(passive.load().times, u8::MAX);
    assert!(!passive.may_serve(&patience, 1_000_000 * SECOND));
    assert!(passive.out_until(&patience).is_some());
}

#[test]
fn the_share_of_failures_leaves_it_out() {
    let passive = Passive::default();
    for _ in 0..5 {
        fail(&passive, &HALF, SECOND);
        succeed(&passive, &HALF, SECOND);
    }
    assert!(!passive.is_out(&HALF), "five of ten are half, no more");
    assert_eq!(fail(&passive, &HALF, SECOND), left_out(10));
    // Sent there because all are left out; its failures are still within the window.
    assert!(succeed(&passive, &HALF, 3 * SECOND));
    assert_eq!(
        fail(&passive, &HALF, 3 * SECOND),
        Failed::Counted,
        "what was before it came back is forgotten"
    );
}

#[test]
fn a_smaller_share_or_too_few_requests_leave_nothing_out() {
    let passive = Passive::default();
    for number in 0..1000 {
        if number % 5 < 2 {
            fail(&passive, &HALF, SECOND);
        } else {
            succeed(&passive, &HALF, SECOND);
        }
    }
    assert!(!passive.is_out(&HALF), "two of five");
    let passive = Passive::default();
    for _ in 0..9 {
        assert_eq!(fail(&passive, &HALF, SECOND), Failed::Counted);
    }
    assert_eq!(fail(&passive, &HALF, 12 * SECOND), Failed::Counted);
}

#[test]
fn an_endpoint_stays_if_no_more_may_leave() {
    let passive = Passive::default();
    let mut asked = 0;
    let mut fail = |may_leave: bool| {
        passive.failed(&TWICE, SECOND, SECOND, || {
            asked += 1;
            may_leave
        })
    };
    assert_eq!(fail(false), Failed::Counted);
    assert_eq!(fail(false), Failed::Counted);
    assert!(!passive.is_out(&TWICE));
    assert_eq!(fail(true), left_out(10), "one may, later");
    assert_eq!(fail(true), Failed::Counted);
    assert_eq!(asked, 2, "only when it would have left");
}

#[test]
fn without_a_limit_nothing_is_ever_left_out() {
    let passive = out(&TWICE, SECOND);
    let endless = Patience {
        max_fails: 0,
        ..TWICE
    };
    assert!(passive.may_serve(&endless, SECOND), "not even from before");
    assert!(!passive.is_out(&endless));
    let passive = Passive::default();
    for _ in 0..100 {
        assert_eq!(fail(&passive, &endless, SECOND), Failed::Counted);
    }
    assert!(!passive.is_out(&TWICE));
}

#[test]
fn a_time_of_zero_is_over_at_once() {
    let patience = Patience {
        fail_timeout: Duration::ZERO,
        max_fail_timeout: Duration::ZERO,
        ..GROWING
    };
    let passive = out(&patience, SECOND);
    assert!(passive.may_serve(&patience, SECOND));
}

#[test]
fn every_standing_survives_packing() {
    for phase in [Phase::In, Phase::Out, Phase::Trying] {
        for times in [0, 1, u8::MAX] {
            for since in [0, 1, SINCE] {
                let standing = Standing {
                    phase,
                    times,
                    since,
                };
                assert_eq!(Standing::unpack(standing.pack()), standing);
            }
        }
    }
}

#[test]
fn failures_at_the_same_moment_are_all_counted() {
    let patience = Patience {
        max_fails: 4,
        ..TWICE
    };
    for _ in 0..1000 {
        let passive = Passive::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| fail(&passive, &patience, 100 * SECOND));
            }
        });
        assert!(passive.is_out(&patience));
    }
}

#[test]
fn one_of_many_threads_leaves_it_out_one_tries_it_and_one_brings_it_back() {
    for _ in 0..300 {
        let passive = Passive::default();
        let counted = |event: &(dyn Fn() -> bool + Sync)| {
            let total = AtomicU64::new(0);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..10 {
                            total.fetch_add(u64::from(event()), Ordering::Relaxed);
                        }
                    });
                }
            });
            total.into_inner()
        };
        let left = counted(&|| fail(&passive, &TWICE, SECOND) != Failed::Counted);
        let tried = counted(&|| passive.may_serve(&TWICE, 11 * SECOND));
        let back = counted(&|| succeed(&passive, &TWICE, 11 * SECOND));
        assert_eq!((left, tried, back), (1, 1, 1));
    }
}

/// Under any mixture of outcomes: when the endpoint is well again, it is back soon.
#[test]
fn threads_that_race_never_leave_it_out_for_good() {
    let patience = Patience {
        max_fails: 3,
        fail_timeout: Duration::from_millis(1),
        max_fail_timeout: Duration::from_millis(4),
        error_rate: Some(ErrorRate {
            share: 0.3,
            min_requests: 5,
        }),
    };
    let passive = Passive::default();
    let clock = AtomicU64::new(SECOND);
    let well = AtomicBool::new(true);
    for round in 0..40 {
        well.store(round % 2 == 1, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let began = clock.fetch_add(10, Ordering::Relaxed);
                        if !passive.may_serve(&patience, began) {
                            continue;
                        }
                        let now = clock.fetch_add(10, Ordering::Relaxed);
                        if well.load(Ordering::Relaxed) {
                            passive.succeeded(&patience, now, began);
                        } else {
                            passive.failed(&patience, now, began, || true);
                        }
                    }
                });
            }
        });
        assert_eq!(passive.is_out(&patience), round % 2 == 0);
    }
}

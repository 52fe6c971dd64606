use super::*;

const SECOND: u64 = 1_000_000;
const SLOWLY: Duration = Duration::from_secs(10);

const ONCE: Patience = Patience {
    max_fails: 1,
    fail_timeout: Duration::from_secs(10),
    max_fail_timeout: Duration::from_secs(10),
    error_rate: None,
};

const AT_ONCE: Thresholds = Thresholds {
    well_after: 1,
    ill_after: 1,
};

/// One whose address is known.
fn found() -> State {
    let state = State::default();
    assert!(state.found(SocketAddr::from(([127, 0, 0, 1], 8080))));
    state
}

fn fail(state: &State, now: u64) -> Failed {
    state.failed(&ONCE, now, now, || true)
}

fn probe(state: &State, ok: bool, at: u64) -> Option<Turned> {
    let check = Check {
        ok,
        took: Duration::from_millis(1),
        reason: String::new(),
        at,
    };
    state.probed(check, AT_ONCE)
}

fn status(state: &State, now: u64) -> Status {
    state.status(&ONCE, SLOWLY, now)
}

#[test]
fn an_address_is_news_once() {
    let state = found();
    assert!(!state.found(SocketAddr::from(([127, 0, 0, 1], 8080))));
    assert!(state.found(SocketAddr::from(([127, 0, 0, 2], 8080))));
}

#[test]
fn the_mode_decides_who_is_served() {
    let cases = [
        (Mode::Up, true, true),
        (Mode::Drain, false, true),
        (Mode::Maintenance, false, false),
    ];
    let state = found();
    for (mode, anyone, session) in cases {
        state.set_mode(mode, SECOND);
        assert_eq!(state.mode(), mode);
        assert_eq!(state.may_serve(&ONCE, SECOND), anyone, "{mode:?}");
        assert_eq!(state.may_be_asked(), anyone, "{mode:?}");
        assert_eq!(state.may_serve_session(&ONCE, SECOND), session, "{mode:?}");
        assert_eq!(state.is_well(&ONCE), anyone, "{mode:?}");
    }
}

#[test]
fn checks_and_failures_hold_for_sessions_too() {
    let state = found();
    state.expect_probe(true);
    assert!(!state.may_serve_session(&ONCE, SECOND));
    probe(&state, true, SECOND);
    assert!(state.may_serve_session(&ONCE, SECOND));
    fail(&state, SECOND);
    assert!(!state.may_serve_session(&ONCE, SECOND));
}

#[test]
fn a_trial_is_not_taken_by_who_may_not_serve_anyway() {
    let state = found();
    state.expect_probe(false);
    fail(&state, SECOND);
    probe(&state, false, SECOND);
    assert!(!state.may_serve(&ONCE, 11 * SECOND));
    probe(&state, true, SECOND);
    state.set_mode(Mode::Maintenance, SECOND);
    assert!(!state.may_serve(&ONCE, 11 * SECOND));
    state.set_mode(Mode::Up, SECOND);
    assert!(!state.is_well(&ONCE), "a scan takes no turn");
    assert!(state.may_serve(&ONCE, 11 * SECOND), "nobody has tried yet");
    assert!(!state.may_serve(&ONCE, 11 * SECOND));
}

#[test]
fn who_does_not_answer_is_looked_for_at_each_address_of_its_name() {
    let [a, b, c] = [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], 8080)));
    let state = State::default();
    assert_eq!(state.turn_from(a), None, "nothing is known yet");
    state.found(a);
    assert_eq!(state.turn_from(a), None, "nothing else is known");
    state.may_be_at(vec![a, b, c]);
    assert_eq!(state.turn_from(a), Some(b));
    assert_eq!(state.turn_from(a), None, "that was another request's");
    assert!(state.is_elsewhere(a), "also for that request");
    assert!(!state.is_elsewhere(b));
    assert_eq!(state.turn_from(b), Some(c));
    assert_eq!(state.turn_from(c), Some(a));
    assert!(!state.is_elsewhere(c), "all have been tried");
    assert_eq!(state.address(), Some(a));
    state.may_be_at(vec![a]);
    assert_eq!(state.turn_from(a), None);
}

#[test]
fn an_endpoint_that_is_not_well_may_still_be_asked() {
    let state = found();
    state.expect_probe(false);
    fail(&state, SECOND);
    assert!(!state.is_well(&ONCE) && state.may_be_asked());
}

#[test]
fn failures_are_counted_even_if_nothing_is_left_out() {
    let state = found();
    let endless = Patience {
        max_fails: 0,
        ..ONCE
    };
    for _ in 0..3 {
        state.failed(&endless, SECOND, SECOND, || true);
    }
    assert_eq!(state.load.failures(), 3);
}

#[test]
fn who_was_there_from_the_start_has_its_whole_share() {
    let state = found();
    assert_eq!(state.ease(SECOND, SLOWLY), 1.0);
    state.expect_probe(true);
    assert_eq!(probe(&state, true, SECOND), Some(Turned::Well));
    assert_eq!(state.ease(SECOND, SLOWLY), 1.0);
}

#[test]
fn a_share_grows_evenly_during_slow_start() {
    let state = found();
    state.entered_service(10 * SECOND);
    for (now, part) in [(0, 0.1), (10, 0.1), (15, 0.55), (20, 1.0), (1000, 1.0)] {
        let ease = state.ease(now * SECOND, SLOWLY);
        assert!((ease - part).abs() < 1e-9, "{now}: {ease}");
    }
    assert_eq!(state.ease(10 * SECOND, Duration::ZERO), 1.0);
    assert!(state.ease(u64::MAX, Duration::MAX) <= 1.0);
}

#[test]
fn whoever_comes_back_starts_slowly() {
    let starts_slowly = |state: &State| state.ease(20 * SECOND, SLOWLY) == 0.1;

    let state = found();
    fail(&state, 10 * SECOND);
    assert!(state.succeeded(&ONCE, 20 * SECOND, 20 * SECOND));
    assert!(starts_slowly(&state), "after failures");

    let state = found();
    state.expect_probe(false);
    probe(&state, false, 10 * SECOND);
    probe(&state, true, 20 * SECOND);
    assert!(starts_slowly(&state), "after failed checks");

    let state = found();
    state.entered_service(5 * SECOND);
    state.expect_probe(true);
    probe(&state, true, 20 * SECOND);
    assert!(starts_slowly(&state), "after the first check of a new one");

    let state = found();
    state.set_mode(Mode::Maintenance, 10 * SECOND);
    state.set_mode(Mode::Up, 20 * SECOND);
    assert!(starts_slowly(&state), "after maintenance");

    let state = found();
    state.set_mode(Mode::Drain, 10 * SECOND);
    state.set_mode(Mode::Up, 20 * SECOND);
    assert!(!starts_slowly(&state), "but not after draining");
}

#[test]
fn the_status_is_the_strongest_reason_not_to_serve() {
    let state = found();
    assert_eq!(status(&state, SECOND), Status::Up);
    state.entered_service(SECOND);
    assert_eq!(status(&state, SECOND), Status::SlowStart);
    fail(&state, SECOND);
    let until = 11 * SECOND;
    assert_eq!(status(&state, SECOND), Status::LeftOut { until });
    state.expect_probe(true);
    assert_eq!(status(&state, SECOND), Status::Unchecked);
    probe(&state, false, SECOND);
    assert_eq!(status(&state, SECOND), Status::Unhealthy);
    state.set_mode(Mode::Drain, SECOND);
    assert_eq!(status(&state, SECOND), Status::Draining);
    state.set_mode(Mode::Maintenance, SECOND);
    assert_eq!(status(&state, SECOND), Status::Maintenance);
}

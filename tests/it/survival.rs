//! What clients see while processes behind the gateway are killed, stopped and started again.
//!
//! The tests run at a pace that a debug build keeps up with beside others. The ignored ones are the
//! same at 1 000 requests a second, for a gateway that was built for release:
//!
//! ```text
//! cargo build --release -p edgeway -p edgeway-echo
//! cargo test --release -p edgeway-tests --test it -- --ignored survival:: --nocapture --test-threads 1
//! ```

use std::time::{Duration, Instant};
use std::{fs, thread};

use edgeway_tests::{
    Connection, Echo, Gateway, Outcomes, PATIENCE, Request, Tornado, eventually, pace_during,
};

/// Requests a second of the tests that always run.
const EASY: u32 = 250;

/// What the gateway has to bear.
const HARD: u32 = 1_000;

fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!("upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

fn get(connection: &mut Connection, _number: usize) -> Request<'_> {
    connection.request("GET", "/")
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Whether all threads of a process have taken notice of a SIGSTOP.
fn is_stopped(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        status.contains("State:\tT")
    })
}

fn share(outcomes: &Outcomes, name: &str) -> f64 {
    let by = outcomes.endpoints();
    let own = by.get(name).copied().unwrap_or(0);
    own as f64 / outcomes.total().max(1) as f64
}

fn show(what: &str, outcomes: &Outcomes) {
    eprintln!("{what}: {}", outcomes.summary());
}

// ---- kill -9 ----------------------------------------------------------------------------------

/// One of two is killed, and later started again.
fn killed(per_second: u32) {
    let [mut one, two] = ["one", "two"].map(Echo::named);
    let gateway = gateway(&format!("endpoints: [{one}, {two}], fail_timeout: 500ms"));
    let outcomes = pace_during(gateway.address(), per_second, get, || {
        thread::sleep(ms(1000));
        one.kill();
        thread::sleep(ms(1500));
        one.restart();
        gateway.wait_for_log("endpoint is back");
        thread::sleep(ms(1000));
    });
    show(&format!("kill -9 at {per_second}/s"), &outcomes);
    outcomes.expect_all(200);
    let meanwhile = outcomes.between(ms(1100), ms(2400));
    assert!(share(&meanwhile, "two") > 0.99, "{}", meanwhile.summary());
    assert!(one.stats().requests > 0);
}

/// #41, #42, #43
#[test]
fn no_client_sees_that_one_of_two_processes_is_killed() {
    killed(EASY);
}

#[test]
#[ignore = "needs a release build and a quiet machine"]
fn at_1000_a_second_no_client_sees_that_one_of_two_processes_is_killed() {
    killed(HARD);
}

// ---- SIGSTOP ----------------------------------------------------------------------------------

/// One of two is stopped: the kernel still accepts its connections, and nothing is ever answered.
/// Later it goes on.
fn stopped(per_second: u32) {
    const TRY: Duration = Duration::from_millis(500);
    let [one, two] = ["one", "two"].map(Echo::named);
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], fail_timeout: 1500ms, retries: {{ timeout: 500ms }}, slow_start: 2s"
    ));
    let (mut stopped_at, mut back_at) = (ms(0), ms(0));
    let start = Instant::now();
    let outcomes = pace_during(
        gateway.address(),
        per_second,
        // Answers take a while, so that some are under way when it stops.
        |connection, _| connection.request("GET", "/?delay=20ms"),
        || {
            thread::sleep(ms(1000));
            one.pause();
            stopped_at = start.elapsed();
            eventually(PATIENCE, || is_stopped(one.pid()));
            gateway.wait_for_log("endpoint is left out");
            thread::sleep(ms(1000));
            one.resume();
            gateway.wait_for_log("endpoint is back");
            back_at = start.elapsed();
            thread::sleep(ms(3500));
        },
    );
    show(&format!("SIGSTOP at {per_second}/s"), &outcomes);
    outcomes.expect_all(200);
    let waited = outcomes.slower_than(TRY - ms(10));
    eprintln!("{waited} requests waited for the time of a try or longer");
    assert!(waited > 0, "nobody was there when it stopped");
    // Those in flight there, and its half of those that come before the first time of a try is over;
    // each second of being left out one more tries it.
    let most = f64::from(per_second) * (TRY + ms(150)).as_secs_f64() / 2.0 + 10.0;
    assert!(
        (waited as f64) < most,
        "{waited} of at most {most}: {}",
        outcomes.summary()
    );
    assert!(
        outcomes.slowest() < TRY + ms(1500),
        "{}",
        outcomes.summary()
    );
    let out = outcomes.between(stopped_at + TRY + ms(200), stopped_at + ms(1400));
    assert!(share(&out, "two") > 0.98, "{}", out.summary());
    // It comes back slowly.
    let early = share(&outcomes.between(back_at, back_at + ms(600)), "one");
    let late = share(
        &outcomes.between(back_at + ms(2300), back_at + ms(3400)),
        "one",
    );
    eprintln!("share after its return: {early:.2} within 600 ms, {late:.2} after 2.3 s");
    assert!(early > 0.0 && early < 0.36, "{early}");
    assert!((0.42..=0.58).contains(&late), "{late}");
}

/// #48, T12
#[test]
fn requests_at_a_process_that_was_stopped_are_answered_by_another() {
    stopped(EASY);
}

#[test]
#[ignore = "needs a release build and a quiet machine"]
fn at_1000_a_second_requests_at_a_process_that_was_stopped_are_answered_by_another() {
    stopped(HARD);
}

/// A process that was killed and started again starts slowly as well.
#[test]
fn a_process_that_was_started_again_gets_its_share_little_by_little() {
    let [mut one, two] = ["one", "two"].map(Echo::named);
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], fail_timeout: 300ms, slow_start: 2s"
    ));
    let start = Instant::now();
    let mut back_at = ms(0);
    let outcomes = pace_during(gateway.address(), EASY, get, || {
        thread::sleep(ms(300));
        one.kill();
        gateway.wait_for_log("endpoint is left out");
        one.restart();
        gateway.wait_for_log("endpoint is back");
        back_at = start.elapsed();
        thread::sleep(ms(3300));
    });
    outcomes.expect_all(200);
    let shares = [(0, 500), (700, 1300), (2200, 3200)].map(|(from, to)| {
        share(
            &outcomes.between(back_at + ms(from), back_at + ms(to)),
            "one",
        )
    });
    assert!(shares[0] < shares[1] && shares[1] < shares[2], "{shares:?}");
    assert!(shares[0] < 0.33 && shares[2] > 0.42, "{shares:?}");
}

// ---- rolling restart --------------------------------------------------------------------------

/// Each of the processes is stopped as an operator does it, and started again, one after the other.
fn rolled(per_second: u32) {
    let Some(mut instances) = (0..5).map(|_| Tornado::start()).collect::<Option<Vec<_>>>() else {
        eprintln!("SKIPPED: no Python with Tornado on this machine");
        return;
    };
    let endpoints: Vec<_> = instances.iter().map(ToString::to_string).collect();
    let gateway = gateway(&format!(
        "endpoints: [{}], fail_timeout: 200ms",
        endpoints.join(", ")
    ));
    let pids = |instances: &[Tornado]| instances.iter().map(Tornado::pid).collect::<Vec<_>>();
    let mut seen = pids(&instances);
    let outcomes = pace_during(
        gateway.address(),
        per_second,
        |connection, number| {
            let target = if number % 5 == 0 { "/?delay=0.1" } else { "/" };
            connection.request("GET", target)
        },
        || {
            thread::sleep(ms(300));
            for instance in &mut instances {
                assert!(instance.stop().success(), "{}", instance.log());
                thread::sleep(ms(100));
                instance.restart();
                thread::sleep(ms(400));
            }
        },
    );
    show(&format!("rolling restart at {per_second}/s"), &outcomes);
    outcomes.expect_all(200);
    seen.extend(pids(&instances));
    let answered = outcomes.by(|answer| Some(answer.text().trim().to_owned()));
    for pid in seen {
        assert!(
            answered.contains_key(&pid.to_string()),
            "{pid} of {answered:?}"
        );
    }
}

/// #44, #45
#[test]
fn no_client_sees_that_five_processes_are_restarted_one_after_the_other() {
    rolled(150);
}

#[test]
#[ignore = "needs a release build and a quiet machine"]
fn at_1000_a_second_no_client_sees_that_five_processes_are_restarted() {
    rolled(HARD);
}

/// Killed, not asked to stop: requests under way are lost there, and repeated elsewhere.
#[test]
fn no_client_sees_that_all_of_three_processes_are_killed_one_after_the_other() {
    let mut echoes = ["a", "b", "c"].map(Echo::named);
    let endpoints = echoes.each_ref().map(ToString::to_string).join(", ");
    let yaml = |number: usize| {
        configuration(&format!(
            "endpoints: [{endpoints}], fail_timeout: 200ms, retries: {{ max_backoff: {number}s }}"
        ))
    };
    let gateway = Gateway::start(&yaml(1));
    let outcomes = pace_during(
        gateway.address(),
        EASY,
        |connection, _| connection.request("GET", "/?delay=10ms"),
        || {
            for round in 0..6 {
                let echo = &mut echoes[round % 3];
                echo.kill();
                // The configuration changes in the middle of it.
                assert!(gateway.reload(&yaml(round + 2)));
                thread::sleep(ms(150));
                echo.restart();
                eventually(PATIENCE, || echo.stats().requests > 5);
            }
        },
    );
    outcomes.expect_all(200);
}

/// A POST is not repeated, but neither is it lost where nothing was sent.
#[test]
fn orders_are_never_placed_twice_while_a_process_comes_and_goes() {
    let [mut one, two] = ["one", "two"].map(Echo::named);
    let gateway = gateway(&format!("endpoints: [{one}, {two}], fail_timeout: 100ms"));
    let before = one.stats().requests + two.stats().requests;
    let outcomes = pace_during(
        gateway.address(),
        100,
        |connection, number| {
            connection
                .request("POST", "/")
                .body(format!("order {number}"))
        },
        || {
            thread::sleep(ms(300));
            one.ask_to_stop();
            thread::sleep(ms(400));
            one.restart();
            thread::sleep(ms(500));
        },
    );
    assert_eq!(outcomes.broken().count(), 0, "{}", outcomes.summary());
    let placed = outcomes.with_status(200);
    let lost = outcomes.with_status(502);
    assert_eq!(placed + lost, outcomes.total(), "{}", outcomes.summary());
    assert!(lost <= 5, "{}", outcomes.summary());
    // The first process has taken its count along; nobody has answered more than was asked.
    let counted = (one.stats().requests + two.stats().requests - before) as usize;
    assert!(
        counted <= outcomes.total(),
        "{counted}: {}",
        outcomes.summary()
    );
}

//! The limit, and how it follows what answers take.
//!
//! Times are counted from any moment, the same for all calls; nothing here has a clock.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{median::Times, rounds::Rounds};

/// What a limit is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) min: u32,
    pub(super) max: u32,
    /// How much longer answers may take, as a share of how long they take without load.
    pub(super) buffer: f64,
    /// How often the limit is adjusted.
    pub(super) window: Duration,
    /// How often it is measured how long answers take without load.
    pub(super) measure: Duration,
}

/// What was learnt of the upstream by one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// It took so long.
    Answered(Duration),
    /// It could not serve it.
    Overloaded,
}

/// How many may be in flight, and how many are. All threads share it, and none waits for another.
pub(super) struct Limit {
    in_flight: AtomicU32,
    /// The most that were in flight in this window.
    most: AtomicU32,
    /// A float.
    limit: AtomicU64,
    /// How long an answer takes without load, in microseconds; 0 if that is not known.
    unloaded: AtomicU64,
    /// Whether that is being measured.
    measures: AtomicBool,
    /// The medians of the windows without load since it is time to measure.
    rounds: Rounds,
    /// When measuring began, or ended. Who was let in before tells nothing.
    since: AtomicU64,
    /// When the window ends. Whoever moves it adjusts the limit, and nobody else.
    window_ends: AtomicU64,
    times: Times,
    overloads: AtomicU32,
}

impl Limit {
    /// A limit that begins with finding out how long an answer takes.
    pub(super) fn new(initial: u32) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            most: AtomicU32::new(0),
            limit: AtomicU64::new(f64::from(initial).to_bits()),
            unloaded: AtomicU64::new(0),
            measures: AtomicBool::new(true),
            rounds: Rounds::new(),
            since: AtomicU64::new(0),
            window_ends: AtomicU64::new(0),
            times: Times::new(),
            overloads: AtomicU32::new(0),
        }
    }

    /// Takes a place, or tells of the limit that it would exceed.
    pub(super) fn enter(&self, settings: &Settings) -> Result<(), u32> {
        let limit = self.now(settings);
        let next = |count: u32| (count < limit).then_some(count + 1);
        match self.in_flight.fetch_update(Relaxed, Relaxed, next) {
            Ok(before) => {
                self.most.fetch_max(before + 1, Relaxed);
                Ok(())
            }
            Err(_) => Err(limit),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// How many may be in flight now.
    pub(super) fn now(&self, settings: &Settings) -> u32 {
        let limit = self.limit(settings);
        if self.measures.load(Relaxed) {
            unloaded_limit(limit, settings)
        } else {
            limit as u32
        }
    }

    /// Takes note of what became of a request that was let in `since`, and adjusts the limit if it is time.
    pub(super) fn learn(
        &self,
        since: Duration,
        now: Duration,
        outcome: Outcome,
        settings: &Settings,
    ) {
        if micros(since) < self.since.load(Relaxed) {
            return;
        }
        match outcome {
            Outcome::Answered(latency) => self.times.add(latency),
            Outcome::Overloaded => {
                self.overloads.fetch_add(1, Relaxed);
            }
        }
        let enough = self.has_enough() || self.overloads.load(Relaxed) > 0;
        let ends = self.window_ends.load(Relaxed);
        let is_over = enough && micros(now) >= ends;
        let next = micros(now + self.window(settings));
        let is_ours = || {
            self.window_ends
                .compare_exchange(ends, next, Relaxed, Relaxed)
                .is_ok()
        };
        if is_over && is_ours() {
            self.adjust(now, settings);
        }
    }

    /// Whether a median can be made of the answers of this window.
    fn has_enough(&self) -> bool {
        let least = if self.measures.load(Relaxed) {
            SAMPLES_OF_ROUND
        } else {
            SAMPLES
        };
        self.times.count() >= least
    }

    /// How long a window is. While it is measured requests are refused, so that it must not be for long.
    fn window(&self, settings: &Settings) -> Duration {
        if self.measures.load(Relaxed) {
            settings.window.min(settings.measure / ROUNDS_OF_MEASURE)
        } else {
            settings.window
        }
    }

    fn adjust(&self, now: Duration, settings: &Settings) {
        let overloads = self.overloads.swap(0, Relaxed);
        let enough = self.has_enough();
        let median = enough.then(|| self.times.take_median()).flatten();
        let most = self.most.swap(self.in_flight.load(Relaxed), Relaxed);
        let limit = self.limit(settings);
        if overloads > 0 {
            self.set(limit * BACK_OFF, settings);
            return;
        }
        let Some(median) = median.map(micros) else {
            return;
        };
        if self.measures.load(Relaxed) {
            self.note(median, now, settings);
            return;
        }
        let unloaded = self.unloaded.load(Relaxed);
        let next = adjusted(limit, median, unloaded, settings.buffer);
        // What is not used can't be known to be borne.
        if next < limit || f64::from(most) >= limit / 2.0 {
            self.set(next, settings);
        }
        let measured = self.since.load(Relaxed);
        if micros(now) >= measured.saturating_add(micros(settings.measure)) {
            self.measure(most, median, now, settings);
        }
    }

    /// Measures how long an answer takes without load.
    fn measure(&self, most: u32, median: u64, now: Duration, settings: &Settings) {
        // There was no load anyway.
        if most <= unloaded_limit(self.limit(settings), settings) {
            self.note(median, now, settings);
        } else {
            self.turn(true, now, settings);
        }
    }

    /// Takes note of a window without load. The median of several of them is known to be the usual state, and no
    /// burst of answers that are faster than others.
    fn note(&self, median: u64, now: Duration, settings: &Settings) {
        if let Some(unloaded) = self.rounds.add(median) {
            self.unloaded.store(unloaded.max(1), Relaxed);
            self.turn(false, now, settings);
        }
    }

    fn turn(&self, measures: bool, now: Duration, settings: &Settings) {
        self.measures.store(measures, Relaxed);
        // What is let in from here on counts.
        self.since.store(micros(now) + 1, Relaxed);
        let next = micros(now + self.window(settings));
        self.window_ends.store(next, Relaxed);
    }

    fn limit(&self, settings: &Settings) -> f64 {
        let limit = f64::from_bits(self.limit.load(Relaxed));
        limit.clamp(settings.min.into(), settings.max.into())
    }

    fn set(&self, limit: f64, settings: &Settings) {
        let limit = limit.clamp(settings.min.into(), settings.max.into());
        self.limit.store(limit.to_bits(), Relaxed);
    }
}

/// How many are no load: fewer than those that are served at once, as far as the limit tells, which has come to
/// rest where answers take the buffer longer and the square root of it queues. Else a queue would be taken for
/// the usual state, and the limit would grow each time. It may be less than the least limit, for the same reason.
fn unloaded_limit(limit: f64, settings: &Settings) -> u32 {
    let served_at_once = (limit - limit.sqrt()) / (1.0 + settings.buffer);
    ((served_at_once * UNLOADED) as u32).max(1)
}

fn adjusted(limit: f64, median: u64, unloaded: u64, buffer: f64) -> f64 {
    let gradient = unloaded as f64 * (1.0 + buffer) / median.max(1) as f64;
    limit * gradient.clamp(0.5, 1.0) + limit.sqrt()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How many answers a median is made of, at least.
const SAMPLES: u32 = 10;
/// The same while it is measured, when few are let through; it takes several such medians.
const SAMPLES_OF_ROUND: u32 = 5;
/// How many windows fit into the time between two measurements, at least.
const ROUNDS_OF_MEASURE: u32 = 20;
/// How much of what is served at once is no load.
const UNLOADED: f64 = 0.7;
/// What becomes of the limit when the upstream can't serve.
const BACK_OFF: f64 = 0.9;

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use super::*;

    const SETTINGS: Settings = Settings {
        min: 1,
        max: 1000,
        buffer: 0.25,
        window: Duration::from_millis(100),
        measure: Duration::from_secs(30),
    };

    /// An upstream that serves so many at once, each in so many microseconds, first come first served; and
    /// clients that come at random, so many a second.
    struct Simulation {
        limit: Limit,
        settings: Settings,
        now: u64,
        random: u64,
        /// When each of those that serve is free.
        servers: BinaryHeap<Reverse<u64>>,
        /// The answers to come: when, and since when they are waited for.
        answers: BinaryHeap<Reverse<(u64, u64)>>,
        service: u64,
        served: Vec<u64>,
        refused: usize,
    }

    impl Simulation {
        fn new(servers: usize, service: u64, settings: Settings) -> Self {
            Self {
                limit: Limit::new(20),
                settings,
                now: 0,
                random: 88_172_645_463_325_252,
                servers: (0..servers).map(|_| Reverse(0)).collect(),
                answers: BinaryHeap::new(),
                service,
                served: Vec::new(),
                refused: 0,
            }
        }

        /// Between 0 and 1.
        fn random(&mut self) -> f64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn run(&mut self, seconds: u64, per_second: f64) {
            self.served.clear();
            self.refused = 0;
            self.run_until(self.now + seconds * 1_000_000, per_second);
        }

        /// Clients ask for something that takes a fortieth of the time, for so many milliseconds.
        fn burst(&mut self, millis: u64, per_second: f64) {
            let service = self.service;
            self.service /= 40;
            self.run_until(self.now + millis * 1000, per_second);
            self.service = service;
        }

        fn run_until(&mut self, end: u64, per_second: f64) {
            while self.now < end {
                let pause = -(1.0 - self.random()).ln() * 1_000_000.0 / per_second;
                let next = self.now + pause as u64 + 1;
                self.answer_until(next);
                self.now = next;
                match self.limit.enter(&self.settings) {
                    Ok(()) => self.serve(),
                    Err(_) => self.refused += 1,
                }
            }
        }

        fn serve(&mut self) {
            let Reverse(free) = self.servers.pop().expect("somebody serves");
            // The same work does not always take the same time.
            let service = self.service as f64 * (0.9 + 0.2 * self.random());
            let done = free.max(self.now) + service as u64;
            self.servers.push(Reverse(done));
            self.answers.push(Reverse((done, self.now)));
        }

        fn answer_until(&mut self, time: u64) {
            while let Some(Reverse((done, since))) = self.answers.peek().copied()
                && done <= time
            {
                self.answers.pop();
                self.limit.leave();
                self.served.push(done - since);
                let outcome = Outcome::Answered(Duration::from_micros(done - since));
                let (since, done) = (Duration::from_micros(since), Duration::from_micros(done));
                self.limit.learn(since, done, outcome, &self.settings);
            }
        }

        fn limit(&self) -> f64 {
            self.limit.limit(&self.settings)
        }

        /// The time that this share of those that were served had to wait at most, in milliseconds.
        fn within(&mut self, share: f64) -> f64 {
            self.served.sort_unstable();
            let place = (self.served.len() - 1) as f64 * share;
            self.served[place as usize] as f64 / 1000.0
        }
    }

    /// 10 at once in 20 ms each are 500 a second.
    fn upstream() -> Simulation {
        Simulation::new(10, 20_000, SETTINGS)
    }

    #[test]
    fn an_upstream_that_is_sent_twice_what_it_can_serve_stays_fast() {
        let mut simulation = upstream();
        simulation.run(10, 1000.0);
        simulation.run(60, 1000.0);
        let limit = simulation.limit();
        assert!((10.0..=25.0).contains(&limit), "the limit is {limit}");
        let (half, most) = (simulation.within(0.5), simulation.within(0.99));
        assert!(
            half < 45.0 && most < 60.0,
            "half in {half} ms, most in {most} ms"
        );
        let served = simulation.served.len();
        assert!(served > 28_000, "{served} of 30 000 were served");
    }

    #[test]
    fn without_a_limit_the_same_upstream_does_not_answer_in_time() {
        let endless = Settings {
            min: 1_000_000,
            max: 1_000_000,
            ..SETTINGS
        };
        let mut simulation = Simulation::new(10, 20_000, endless);
        simulation.run(10, 1000.0);
        assert!(simulation.within(0.5) > 1000.0);
    }

    #[test]
    fn the_limit_does_not_creep_while_there_is_no_end_of_load() {
        let mut simulation = upstream();
        simulation.run(60, 2000.0);
        let first = simulation.limit();
        simulation.run(3600, 2000.0);
        let (last, half) = (simulation.limit(), simulation.within(0.5));
        assert!(last < first * 1.3, "{first} has become {last}");
        assert!(half < 45.0, "half in {half} ms");
    }

    #[test]
    fn who_sends_less_than_can_be_served_is_never_refused() {
        let mut simulation = upstream();
        simulation.run(5, 250.0);
        simulation.run(300, 250.0);
        assert_eq!(simulation.refused, 0);
    }

    #[test]
    fn the_limit_is_not_lowered_to_measure_where_there_is_no_load_anyway() {
        let mut simulation = upstream();
        simulation.run(5, 100.0);
        let first = simulation.limit.since.load(Relaxed);
        for _ in 0..1000 {
            simulation.run_until(simulation.now + 100_000, 100.0);
            assert!(!simulation.limit.measures.load(Relaxed));
        }
        assert!(simulation.limit.since.load(Relaxed) > first + 60_000_000);
    }

    #[test]
    fn the_limit_follows_an_upstream_that_gets_slower_and_faster() {
        let mut simulation = Simulation::new(40, 20_000, SETTINGS);
        simulation.run(60, 4000.0);
        let before = simulation.limit();
        assert!((40.0..=80.0).contains(&before), "{before}");
        // Three of four servers fall out.
        for _ in 0..30 {
            simulation.servers.pop();
        }
        simulation.run(60, 4000.0);
        let less = simulation.limit();
        assert!((10.0..=26.0).contains(&less), "{less}");
        simulation
            .servers
            .extend((0..30).map(|_| Reverse(simulation.now)));
        simulation.run(60, 4000.0);
        let again = simulation.limit();
        assert!((40.0..=80.0).contains(&again), "{again}");
        // The work itself gets harder: that is no load.
        simulation.service = 80_000;
        simulation.run(120, 4000.0);
        let harder = simulation.limit();
        assert!((40.0..=80.0).contains(&harder), "{harder}");
    }

    #[test]
    fn a_burst_of_fast_answers_does_not_shut_the_upstream() {
        let mut simulation = upstream();
        simulation.run(20, 300.0);
        simulation.burst(400, 1500.0);
        simulation.run(60, 300.0);
        let refused = simulation.refused;
        assert!(refused < 100, "{refused} of 18 000 were refused");
    }

    /// Every 30 s it is measured how long an answer takes without load, and some of that is in a burst.
    #[test]
    fn a_burst_of_fast_answers_is_not_taken_for_the_usual_state() {
        for per_second in [250.0, 1000.0] {
            let mut simulation = upstream();
            simulation.run(20, per_second);
            let mut served = 0;
            let seconds = 300;
            for _ in 0..seconds {
                simulation.burst(90, 1500.0);
                simulation.run(1, per_second);
                served += simulation.served.len();
                let limit = simulation.limit();
                assert!(limit > 8.0, "{limit} at {per_second} a second");
            }
            let least = 0.85 * f64::from(seconds) * per_second.min(500.0);
            assert!(served as f64 > least, "{served} at {per_second} a second");
        }
    }

    #[test]
    fn few_answers_at_once_are_no_measurement() {
        let limit = Limit::new(20);
        let millis = Duration::from_millis;
        let answered = |at: u64, time| {
            limit.learn(
                millis(at),
                millis(at),
                Outcome::Answered(millis(time)),
                &SETTINGS,
            );
        };
        for _ in 0..1000 {
            answered(1, 1);
        }
        assert!(limit.measures.load(Relaxed));
        for at in 1..60 {
            answered(20 * at, 20);
        }
        assert!(!limit.measures.load(Relaxed));
        let unloaded = limit.unloaded.load(Relaxed);
        assert!((19_000..=21_000).contains(&unloaded), "{unloaded}");
    }

    /// Requests are refused as long as it is measured: that must not be most of the time.
    #[test]
    fn measuring_does_not_take_as_long_as_the_windows_of_a_patient_limit() {
        let patient = Settings {
            window: Duration::from_secs(10),
            ..SETTINGS
        };
        let mut simulation = Simulation::new(10, 20_000, patient);
        simulation.run(100, 1000.0);
        let mut measured = 0;
        for _ in 0..300 {
            simulation.run(1, 1000.0);
            measured += u32::from(simulation.limit.measures.load(Relaxed));
        }
        assert!((10..=100).contains(&measured), "{measured} of 300 s");
    }

    #[test]
    fn the_limit_stays_between_its_bounds() {
        let narrow = Settings {
            min: 15,
            max: 18,
            ..SETTINGS
        };
        let mut simulation = Simulation::new(2, 20_000, narrow);
        simulation.run(60, 1000.0);
        assert_eq!(simulation.limit(), 15.0);
        let mut simulation = Simulation::new(100, 20_000, narrow);
        simulation.run(60, 4000.0);
        assert_eq!(simulation.limit(), 18.0);
        assert!(simulation.answers.len() <= 18);
    }

    #[test]
    fn a_larger_buffer_lets_more_wait() {
        let patient = Settings {
            buffer: 3.0,
            ..SETTINGS
        };
        let mut simulation = Simulation::new(10, 20_000, patient);
        simulation.run(120, 2000.0);
        let limit = simulation.limit();
        assert!((38.0..=70.0).contains(&limit), "{limit}");
        let half = simulation.within(0.5);
        assert!((70.0..=130.0).contains(&half), "half in {half} ms");
    }

    #[test]
    fn an_upstream_that_says_it_can_not_serve_is_sent_less() {
        let limit = Limit::new(100);
        let settings = Settings {
            min: 10,
            ..SETTINGS
        };
        let mut now = Duration::ZERO;
        let mut last = 100.0;
        for _ in 0..40 {
            now += Duration::from_millis(101);
            limit.enter(&settings).unwrap();
            limit.leave();
            limit.learn(now, now, Outcome::Overloaded, &settings);
            let next = limit.limit(&settings);
            assert!(next < last || next == 10.0);
            last = next;
        }
        assert_eq!(last, 10.0);
        // Twice in a window counts once.
        let limit = Limit::new(100);
        for _ in 0..20 {
            limit.learn(now, now, Outcome::Overloaded, &settings);
        }
        assert_eq!(limit.limit(&settings), 90.0);
    }

    #[test]
    fn no_more_than_the_limit_are_let_in() {
        // It begins with measuring: 0.7 * (25 - 5) / 1.25.
        let limit = Limit::new(25);
        for _ in 0..11 {
            assert_eq!(limit.enter(&SETTINGS), Ok(()));
        }
        assert_eq!(limit.enter(&SETTINGS), Err(11));
        limit.leave();
        assert_eq!(limit.enter(&SETTINGS), Ok(()));
    }
}

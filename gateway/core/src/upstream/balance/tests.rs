//! What policies promise, on endpoints of which everything can be said.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{key::hash, *};

const HASH: Policy = Policy::Hash { bound: None };
const BOUNDED: Policy = Policy::Hash { bound: Some(1.25) };
const ALL: [Policy; 6] = [
    Policy::RoundRobin,
    Policy::LeastConnections,
    Policy::LeastTime,
    Policy::RandomTwo,
    HASH,
    BOUNDED,
];

/// Endpoints of which everything can be said.
struct Meadow {
    endpoints: Vec<Endpoint>,
    asked: Cell<usize>,
}

struct Endpoint {
    usable: bool,
    active: AtomicU32,
    latency: f64,
    ease: f64,
}

impl Meadow {
    fn of(count: usize) -> Self {
        let endpoint = || Endpoint {
            usable: true,
            active: AtomicU32::new(0),
            latency: 1_000.0,
            ease: 1.0,
        };
        Self {
            endpoints: (0..count).map(|_| endpoint()).collect(),
            asked: Cell::new(0),
        }
    }

    fn with(mut self, number: usize, change: impl FnOnce(&mut Endpoint)) -> Self {
        change(&mut self.endpoints[number]);
        self
    }

    fn set_active(&self, number: u16, active: u32) {
        self.endpoints[usize::from(number)]
            .active
            .store(active, Ordering::Relaxed);
    }

    fn add(&self, number: u16) {
        self.set_active(number, self.active(number) + 1);
    }

    fn remove(&self, number: u16) {
        self.set_active(number, self.active(number) - 1);
    }
}

impl Field for Meadow {
    fn usable(&self, number: u16) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.endpoints[usize::from(number)].usable
    }

    fn active(&self, number: u16) -> u32 {
        self.endpoints[usize::from(number)]
            .active
            .load(Ordering::Relaxed)
    }

    fn latency(&self, number: u16) -> f64 {
        self.endpoints[usize::from(number)].latency
    }

    fn ease(&self, number: u16) -> f64 {
        self.endpoints[usize::from(number)].ease
    }
}

fn name(number: u16) -> String {
    format!("10.0.{}.{}:8080", number / 250, number % 250)
}

/// A tier of endpoints with these numbers and weights.
fn tier_of(policy: Policy, members: &[(u16, u16)]) -> Tier {
    let names: Vec<_> = members.iter().map(|(number, _)| name(*number)).collect();
    let members: Vec<_> = members
        .iter()
        .zip(&names)
        .map(|((number, weight), name)| Member {
            number: *number,
            weight: *weight,
            name,
        })
        .collect();
    Tier::seeded(policy, &members, Arc::default(), 42)
}

fn tier(policy: Policy, weights: &[u16]) -> Tier {
    let members: Vec<_> = (0..).zip(weights.iter().copied()).collect();
    tier_of(policy, &members)
}

fn key(number: u64) -> u64 {
    hash(&number.to_le_bytes())
}

/// How many of `requests` each endpoint got when `at_once` are always under way and all take equally long.
fn shares(tier: &Tier, field: &Meadow, at_once: usize, requests: u64) -> Vec<f64> {
    let mut counts = vec![0.0; field.endpoints.len()];
    let mut under_way = VecDeque::new();
    for request in 0..requests {
        let number = tier.pick(field, Some(key(request))).unwrap();
        counts[usize::from(number)] += 1.0;
        field.add(number);
        under_way.push_back(number);
        if under_way.len() >= at_once {
            field.remove(under_way.pop_front().unwrap());
        }
    }
    under_way.iter().for_each(|number| field.remove(*number));
    counts
}

#[test]
fn round_robin_is_exact_and_smooth() {
    let (tier, field) = (tier(Policy::RoundRobin, &[5, 1, 1]), Meadow::of(3));
    let picked: Vec<_> = (0..14).map(|_| tier.pick(&field, None).unwrap()).collect();
    assert_eq!(picked, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_turn_goes_on_in_the_next_tier() {
    let turn = Arc::<Turn>::default();
    let next = || {
        let names = ["a", "b", "c"];
        let members: Vec<_> = (0..)
            .zip(names)
            .map(|(number, name)| Member {
                number,
                weight: 1,
                name,
            })
            .collect();
        let tier = Tier::new(Policy::RoundRobin, &members, Arc::clone(&turn));
        tier.pick(&Meadow::of(3), None).unwrap()
    };
    assert_eq!([next(), next(), next(), next()], [0, 1, 2, 0]);
}

/// Whether weights that differ can be told from the requests that are under way: two choices of chance, and a
/// bound, keep a light endpoint from a request that it would get if requests could be halved.
fn is_fine_grained(policy: Policy, at_once: usize) -> bool {
    match policy {
        Policy::RandomTwo => !(2..40).contains(&at_once),
        Policy::Hash { bound: Some(_) } => !(2..300).contains(&at_once),
        Policy::RoundRobin
        | Policy::LeastConnections
        | Policy::LeastTime
        | Policy::Hash { bound: None } => true,
    }
}

#[test]
fn weights_hold_to_a_twentieth_for_every_policy_whatever_the_load() {
    for policy in ALL {
        for weights in [&[5_u16, 1, 1][..], &[1, 2, 3, 4], &[80, 20], &[1; 7]] {
            for at_once in [1, 2, 5, 40, 300] {
                if weights != [1; 7] && !is_fine_grained(policy, at_once) {
                    continue;
                }
                let (tier, field) = (tier(policy, weights), Meadow::of(weights.len()));
                let counts = shares(&tier, &field, at_once, 70_000);
                let total: f64 = weights.iter().copied().map(f64::from).sum();
                for (count, weight) in counts.iter().zip(weights) {
                    let share = count / 70_000.0 * total / f64::from(*weight);
                    assert!(
                        (share - 1.0).abs() < 0.05,
                        "{policy:?} {weights:?} {at_once}: {counts:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_share_of_an_endpoint_that_is_down_is_spread_over_all_others() {
    for policy in ALL {
        let field = Meadow::of(5).with(2, |endpoint| endpoint.usable = false);
        let counts = shares(&tier(policy, &[1; 5]), &field, 8, 60_000);
        for (number, count) in counts.iter().enumerate() {
            let expected = if number == 2 { 0.0 } else { 15_000.0 };
            assert!((count - expected).abs() < 1_000.0, "{policy:?}: {counts:?}");
        }
    }
}

#[test]
fn an_endpoint_that_starts_slowly_gets_that_part_of_its_share() {
    for policy in ALL {
        for at_once in [1, 40] {
            let field = Meadow::of(4).with(1, |endpoint| endpoint.ease = 0.1);
            // What a bound keeps from the others may fall to it.
            let most = if policy == BOUNDED { 3_000.0 } else { 2_500.0 };
            let counts = shares(&tier(policy, &[1; 4]), &field, at_once, 62_000);
            assert!(
                (1_500.0..most).contains(&counts[1]),
                "{policy:?} {at_once}: {counts:?}"
            );
        }
    }
}

#[test]
fn slow_start_never_refuses() {
    for policy in ALL {
        let field = Meadow::of(1).with(0, |endpoint| endpoint.ease = 0.001);
        let tier = tier(policy, &[1]);
        for request in 0..1_000 {
            assert_eq!(tier.pick(&field, Some(key(request))), Some(0), "{policy:?}");
        }
    }
}

#[test]
fn nothing_usable_gives_none() {
    for policy in ALL {
        for count in [0, 1, 2, 3, 100] {
            let mut field = Meadow::of(count);
            for endpoint in &mut field.endpoints {
                endpoint.usable = false;
            }
            let tier = tier(policy, &vec![3; count]);
            assert_eq!(tier.pick(&field, Some(1)), None, "{policy:?} {count}");
            assert_eq!(tier.pick(&field, None), None, "{policy:?} {count}");
            assert!(field.asked.get() <= 200 * count, "{policy:?} {count}");
        }
    }
}

#[test]
fn weight_0_is_never_chosen() {
    for policy in ALL {
        let (tier, field) = (tier(policy, &[1, 0, 1]), Meadow::of(3));
        assert_eq!(shares(&tier, &field, 3, 1_000)[1], 0.0, "{policy:?}");
        let drained = tier_of(policy, &[(0, 0), (1, 0), (2, 0)]);
        assert_eq!(drained.pick(&field, Some(1)), None, "{policy:?}");
    }
}

#[test]
fn a_pick_is_usable_and_there_is_one_if_anyone_is_usable() {
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..300 {
        let count = random.random_range(1..40);
        let mut field = Meadow::of(count);
        let alive = random.random_range(0.0..1.0);
        for endpoint in &mut field.endpoints {
            endpoint.usable = random.random_bool(alive);
            endpoint.latency = [0.0, 0.0, 500.0, 3e7][random.random_range(0..4)];
            endpoint.ease = [1.0, 1.0, 0.3, 0.0, f64::NAN][random.random_range(0..5)];
            *endpoint.active.get_mut() = random.random_range(0..60) * random.random_range(0..2);
        }
        let weight = [1, 10, u16::MAX][random.random_range(0..3)];
        let weights: Vec<_> = (0..count)
            .map(|_| random.random_range(1..=weight))
            .collect();
        let anyone = field.endpoints.iter().any(|endpoint| endpoint.usable);
        for policy in ALL {
            let tier = tier(policy, &weights);
            for _ in 0..20 {
                let key = random.random_bool(0.9).then(|| random.random());
                let picked = tier.pick(&field, key);
                assert_eq!(picked.is_some(), anyone, "{policy:?} {weights:?}");
                assert!(picked.is_none_or(|number| field.usable(number)));
            }
        }
    }
}

#[test]
fn a_usable_endpoint_is_found_while_others_pick() {
    /// Requests come and go as it likes.
    struct Busy(AtomicU32);
    impl Field for Busy {
        fn usable(&self, number: u16) -> bool {
            number == 13
        }
        fn active(&self, number: u16) -> u32 {
            self.0.fetch_add(u32::from(number), Ordering::Relaxed) % 50
        }
        fn latency(&self, number: u16) -> f64 {
            f64::from(self.active(number))
        }
        fn ease(&self, _: u16) -> f64 {
            1.0
        }
    }
    for policy in ALL {
        let (tier, field) = (tier(policy, &[1; 60]), Busy(AtomicU32::new(0)));
        thread::scope(|scope| {
            for number in 0..4 {
                let (tier, field) = (&tier, &field);
                scope.spawn(move || {
                    for request in 0..500 {
                        let picked = tier.pick(field, Some(key(number * 500 + request)));
                        assert_eq!(picked, Some(13), "{policy:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn fewest_connections_for_the_weight_wins() {
    for (weights, active, best) in [
        (&[1_u16, 1, 1][..], &[3_u32, 2, 4][..], 1),
        (&[1, 1, 1], &[1, 1, 0], 2),
        (&[10, 1, 1], &[8, 1, 1], 0),
        (&[100, 100, 1], &[50, 10, 1], 1),
    ] {
        let (tier, field) = (tier(Policy::LeastConnections, weights), Meadow::of(3));
        (0..)
            .zip(active)
            .for_each(|(number, active)| field.set_active(number, *active));
        for _ in 0..1_000 {
            assert_eq!(
                tier.pick(&field, None),
                Some(best),
                "{weights:?} {active:?}"
            );
        }
    }
}

#[test]
fn equal_endpoints_take_turns() {
    for policy in [Policy::LeastConnections, Policy::LeastTime] {
        let (tier, field) = (tier(policy, &[1, 1, 1]), Meadow::of(3));
        let picked: Vec<_> = (0..6).map(|_| tier.pick(&field, None).unwrap()).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1, 2], "{policy:?}");
    }
}

/// How many requests each of three gets when the last one takes ten times as long, and one comes with each
/// tick of a clock.
fn with_a_slow_one(policy: Policy) -> [u32; 3] {
    let (tier, field) = (tier(policy, &[1; 3]), Meadow::of(3));
    let field = field.with(2, |endpoint| endpoint.latency = 10_000.0);
    let (mut counts, mut under_way) = ([0; 3], Vec::new());
    for tick in 0..20_000 {
        under_way.retain(|(until, number)| {
            let going_on = *until > tick;
            if !going_on {
                field.remove(*number);
            }
            going_on
        });
        let number = tier.pick(&field, Some(key(tick))).unwrap();
        field.add(number);
        counts[usize::from(number)] += 1;
        under_way.push((tick + if number == 2 { 80 } else { 8 }, number));
    }
    counts
}

#[test]
fn a_slow_endpoint_gets_fewer() {
    assert!(with_a_slow_one(Policy::RoundRobin)[2] > 6_000);
    let [first, second, slow] = with_a_slow_one(Policy::LeastConnections);
    assert!(slow < 1_300 && first.abs_diff(second) < 1_000, "{slow}");
    let [first, second, slow] = with_a_slow_one(Policy::LeastTime);
    assert!(slow < 300 && first.abs_diff(second) < 1_000, "{slow}");
    let two = with_a_slow_one(Policy::RandomTwo)[2];
    assert!(two < 2_000, "{two}");
}

#[test]
fn an_endpoint_without_a_known_latency_is_tried_at_once_and_by_one() {
    let field = Meadow::of(4).with(3, |endpoint| endpoint.latency = 0.0);
    let tier = tier(Policy::LeastTime, &[1; 4]);
    let picked: Vec<_> = (0..100)
        .map(|_| {
            let number = tier.pick(&field, None).unwrap();
            if number == 3 {
                field.add(number);
            }
            number
        })
        .collect();
    assert!(picked[..4].contains(&3), "{picked:?}");
    assert_eq!(picked.iter().filter(|number| **number == 3).count(), 1);
}

#[test]
fn nothing_known_is_balanced_by_connections() {
    let mut field = Meadow::of(5);
    for endpoint in &mut field.endpoints {
        endpoint.latency = 0.0;
    }
    let counts = shares(&tier(Policy::LeastTime, &[1; 5]), &field, 20, 1_000);
    assert!(
        counts.iter().all(|count| (190.0..=210.0).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn latencies_that_are_nearly_equal_share_and_a_faster_one_wins() {
    let near = Meadow::of(2).with(1, |endpoint| endpoint.latency = 1_050.0);
    let counts = shares(&tier(Policy::LeastTime, &[1, 1]), &near, 1, 1_000);
    assert_eq!(counts, [500.0, 500.0]);
    let far = Meadow::of(2).with(1, |endpoint| endpoint.latency = 2_000.0);
    let counts = shares(&tier(Policy::LeastTime, &[1, 1]), &far, 1, 1_000);
    assert_eq!(counts, [1_000.0, 0.0]);
}

#[test]
fn two_choices_avoid_the_loaded_one() {
    let (tier, field) = (tier(Policy::RandomTwo, &[1; 10]), Meadow::of(10));
    field.set_active(4, 100);
    for _ in 0..10_000 {
        assert_ne!(tier.pick(&field, None), Some(4));
    }
}

/// Who gets each of many keys.
fn owners(members: &[(u16, u16)], field: &Meadow) -> Vec<u16> {
    let tier = tier_of(HASH, members);
    (0..50_000)
        .map(|number| tier.pick(field, Some(key(number))).unwrap())
        .collect()
}

#[test]
fn the_same_key_finds_the_same_endpoint_in_any_order_of_members() {
    let members: Vec<_> = (0..20).map(|number| (number, 1 + number % 3)).collect();
    let mut others = members.clone();
    others.reverse();
    others.swap(2, 9);
    let field = Meadow::of(20);
    assert_eq!(owners(&members, &field), owners(&others, &field));
}

#[test]
fn the_ring_never_changes() {
    let members: Vec<_> = (0..10).map(|number| (number, 1 + number % 3)).collect();
    let owners = owners(&members, &Meadow::of(10));
    assert_eq!(owners[..12], [1, 2, 0, 4, 4, 2, 5, 5, 7, 8, 8, 8]);
}

#[test]
fn only_the_keys_of_an_endpoint_that_leaves_move() {
    for count in [2_u16, 3, 10, 100] {
        for weight in [|_| 1, |number| 1 + number % 5] {
            let all: Vec<_> = (0..count).map(|number| (number, weight(number))).collect();
            let field = Meadow::of(usize::from(count));
            let before = owners(&all, &field);
            // The same comparison says what happens when one comes.
            let left = owners(&all[1..], &field);
            let down = owners(&all, &field.with(0, |endpoint| endpoint.usable = false));
            let total: u32 = all.iter().map(|(_, weight)| u32::from(*weight)).sum();
            let share = f64::from(all[0].1) / f64::from(total);
            for after in [&left, &down] {
                let moved = before.iter().zip(after).filter(|(old, new)| old != new);
                let (theirs, others): (Vec<_>, Vec<_>) = moved.partition(|(old, _)| **old == 0);
                assert_eq!(others, []);
                let moved = theirs.len() as f64 / 50_000.0;
                assert!(moved <= share + 0.05 && moved > 0.0, "{count}: {moved}");
            }
        }
    }
}

#[test]
fn the_keys_of_an_endpoint_that_is_down_go_to_all_others() {
    let all: Vec<_> = (0..5).map(|number| (number, 1)).collect();
    let before = owners(&all, &Meadow::of(5));
    let field = Meadow::of(5).with(0, |endpoint| endpoint.usable = false);
    let mut heirs = [0; 5];
    for (old, new) in before.iter().zip(owners(&all, &field)) {
        heirs[usize::from(new)] += u32::from(*old == 0);
    }
    assert!(
        heirs[1..]
            .iter()
            .all(|count| (2_000..3_000).contains(count)),
        "{heirs:?}"
    );
}

#[test]
fn keys_that_an_endpoint_has_during_slow_start_stay_with_it() {
    let all: Vec<_> = (0..5).map(|number| (number, 1)).collect();
    let at = |ease: f64| {
        owners(
            &all,
            &Meadow::of(5).with(0, |endpoint| endpoint.ease = ease),
        )
    };
    let (little, more) = (at(0.2), at(0.6));
    for (little, more) in little.iter().zip(&more) {
        assert!(*little != 0 || *more == 0);
        assert!(little == more || *more == 0);
    }
}

#[test]
fn many_endpoints_have_their_share_of_the_ring() {
    for count in [1_000_u16, 3_000] {
        let members: Vec<_> = (0..count).map(|number| (number, 1)).collect();
        let tier = tier_of(HASH, &members);
        let field = Meadow::of(usize::from(count));
        let mut counts = vec![0_u32; usize::from(count)];
        for number in 0..u64::from(count) * 1_000 {
            counts[usize::from(tier.pick(&field, Some(key(number))).unwrap())] += 1;
        }
        let least = counts.iter().min().unwrap();
        let most = counts.iter().max().unwrap();
        assert!(*least > 450 && *most < 1_650, "{count}: {least} to {most}");
    }
}

#[test]
fn the_bound_is_never_exceeded() {
    for weights in [&[1_u16; 10][..], &[5, 1, 1], &[1, 2, 3, 4, 90]] {
        let (tier, field) = (tier(BOUNDED, weights), Meadow::of(weights.len()));
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        // Most requests are for the same key, and they stay.
        for request in 0..2_000_u32 {
            let number = tier
                .pick(&field, Some(key(u64::from(request % 10 / 9))))
                .unwrap();
            field.add(number);
            let share = f64::from(weights[usize::from(number)]) / total;
            let limit = (1.25 * f64::from(request + 1) * share).ceil();
            assert!(
                f64::from(field.active(number)) <= limit,
                "{weights:?}: {number} of {request}"
            );
        }
    }
}

#[test]
fn the_bound_spreads_what_is_left_when_many_are_down() {
    let mut field = Meadow::of(10);
    for endpoint in &mut field.endpoints[..6] {
        endpoint.usable = false;
    }
    let tier = tier(BOUNDED, &[1; 10]);
    for _ in 0..1_000 {
        field.add(tier.pick(&field, Some(key(1))).unwrap());
    }
    let most = (6..10).map(|number| field.active(number)).max().unwrap();
    assert!(most < 250 * 2, "{most}");
}

#[test]
fn a_key_stays_where_it_is_while_the_bound_holds() {
    let (tier, free) = (tier(BOUNDED, &[1; 5]), tier(HASH, &[1; 5]));
    let field = Meadow::of(5);
    for number in 0..5 {
        field.set_active(number, 10);
    }
    for number in 0..1_000 {
        let key = Some(key(number));
        assert_eq!(tier.pick(&field, key), free.pick(&field, key));
    }
}

#[test]
fn without_a_key_hash_is_round_robin() {
    let (tier, field) = (tier(BOUNDED, &[1, 1, 1]), Meadow::of(3));
    let picked: Vec<_> = (0..6).map(|_| tier.pick(&field, None).unwrap()).collect();
    assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn an_endpoint_is_asked_once_when_it_is_well() {
    for policy in ALL {
        let (tier, field) = (tier(policy, &[1; 10]), Meadow::of(10));
        for request in 0..100 {
            field.asked.set(0);
            tier.pick(&field, Some(key(request)));
            assert_eq!(field.asked.get(), 1, "{policy:?}");
        }
    }
}

#[test]
fn ten_thousand_endpoints_are_affordable() {
    let members: Vec<_> = (0..10_000).map(|number| (number, 1 + number % 7)).collect();
    for policy in ALL {
        let tier = tier_of(policy, &members);
        assert!(tier.pick(&Meadow::of(10_000), Some(1)).is_some());
    }
}

#[test]
fn who_asks_again_with_lower_demands_comes_to_all_endpoints_in_turn() {
    for policy in [
        Policy::RoundRobin,
        Policy::LeastConnections,
        Policy::LeastTime,
    ] {
        for count in 2..=12 {
            let tier = tier(policy, &vec![1; count]);
            let mut nobody = Meadow::of(count);
            nobody
                .endpoints
                .iter_mut()
                .for_each(|endpoint| endpoint.usable = false);
            let all = Meadow::of(count);
            let mut shares = vec![0; count];
            for _ in 0..10 * count {
                assert_eq!(tier.pick(&nobody, None), None);
                shares[usize::from(tier.pick(&all, None).unwrap())] += 1;
            }
            assert_eq!(shares, vec![10; count], "{policy:?}");
        }
    }
}

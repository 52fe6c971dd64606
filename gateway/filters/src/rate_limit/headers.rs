//! What clients are told: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! A policy allows as much as the burst and one, in the time that a level of that takes to sink. Of the
//! limits of a request the one with the least left is told, whichever filter it belongs to.

use std::{cmp::Reverse, sync::Arc};

use bytes::Bytes;
use edgeway_sdk::prelude::*;
use smallvec::SmallVec;

use super::gcra::{Gcra, Nanos, seconds};

/// What a limit has left for a client.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The name of the limit, in quotes.
    name: Arc<str>,
    /// How often a request such as this one could pass.
    requests: u64,
    /// The units that are left.
    units: u64,
    /// Until there is one more; zero if all are left.
    next: Nanos,
}

impl Left {
    pub(super) fn new(name: &Arc<str>, gcra: &Gcra, empty_at: Nanos, now: Nanos) -> Self {
        let (units, next) = gcra.left(empty_at, now);
        Self {
            name: Arc::clone(name),
            requests: units / u64::from(gcra.cost),
            units,
            next,
        }
    }

    /// The one with less left; of equals, the one that takes longer to have more.
    pub(super) fn tighter(self, other: Self) -> Self {
        let rank = |left: &Self| (left.requests, Reverse(left.next));
        if rank(&other) < rank(&self) {
            other
        } else {
            self
        }
    }

    /// Told with every response, so it is written without the means for texts of all kinds.
    fn header(&self) -> Option<HeaderValue> {
        let mut text = Vec::with_capacity(self.name.len() + 32);
        text.extend_from_slice(self.name.as_bytes());
        text.extend_from_slice(b";r=");
        push(&mut text, self.units);
        if self.next > 0 {
            text.extend_from_slice(b";t=");
            push(&mut text, seconds(self.next));
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }
}

/// Writes a number in decimal digits.
fn push(text: &mut Vec<u8>, number: u64) {
    let begin = text.len();
    let mut rest = number;
    loop {
        text.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = text.get_mut(begin..) {
        digits.reverse();
    }
}

/// What the filters of a chain have to tell a client. The last of them that had a say tells it, since its
/// turn is the first when the response comes.
#[derive(Clone)]
pub(super) struct Told {
    policies: SmallVec<[HeaderValue; 1]>,
    tightest: Left,
    by: Speaker,
}

/// A filter, among others of a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Speaker(usize);

impl Speaker {
    /// The one at this place in memory.
    pub(super) fn at<T>(filter: &T) -> Self {
        Self(std::ptr::from_ref(filter).addr())
    }
}

impl Told {
    /// Adds to what filters before this one have to tell.
    pub(super) fn add(request: &mut Request<'_>, by: Speaker, policies: &HeaderValue, left: Left) {
        let told = match request.values().get::<Self>() {
            None => Self {
                policies: SmallVec::from_elem(policies.clone(), 1),
                tightest: left,
                by,
            },
            Some(known) => {
                let mut told = known.clone();
                told.policies.push(policies.clone());
                told.tightest = told.tightest.tighter(left);
                told.by = by;
                told
            }
        };
        request.values_mut().insert(told);
    }

    /// Tells it, if this is the filter to do so.
    pub(super) fn tell(response: &mut Response<'_>, by: Speaker) {
        let told = response.exchange().values.get::<Self>();
        let Some(told) = told.filter(|told| told.by == by) else {
            return;
        };
        let (policies, left) = (told.policies.clone(), told.tightest.header());
        for policy in policies {
            response.append_header(POLICY, policy);
        }
        if let Some(left) = left {
            response.append_header(LEFT, left);
        }
    }
}

/// The name of a limit as headers have it.
pub(super) fn quoted(name: &str) -> Arc<str> {
    format!("\"{name}\"").into()
}

/// What clients are told of all the limits of a filter.
pub(super) fn policies<'a>(
    limits: impl Iterator<Item = (&'a Arc<str>, &'a Gcra)>,
) -> Result<HeaderValue, BuildError> {
    let policy = |(name, gcra): (&Arc<str>, &Gcra)| {
        let (quota, window) = (u64::from(gcra.burst) + 1, seconds(gcra.capacity()));
        format!("{name};q={quota};w={window}")
    };
    let text: Vec<_> = limits.map(policy).collect();
    HeaderValue::try_from(text.join(", ")).map_err(BuildError::new)
}

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn limit(interval: Nanos, burst: u32, cost: u32) -> Gcra {
        Gcra {
            interval,
            burst,
            at_once: burst,
            cost,
        }
    }

    #[test]
    fn a_policy_is_what_fits_in_and_how_long_it_takes_to_sink() {
        let names = ["10/s", "hourly"].map(quoted);
        let limits = [limit(100 * MS, 20, 1), limit(3_600 * MS, 999, 2)];
        let policies = policies(names.iter().zip(&limits)).unwrap();
        assert_eq!(policies, "\"10/s\";q=21;w=3, \"hourly\";q=1000;w=3600");
    }

    #[test]
    fn what_is_left_is_told_in_whole_units_and_seconds() {
        let (name, gcra) = (quoted("a"), limit(1_500 * MS, 4, 1));
        let told = |empty_at| {
            Left::new(&name, &gcra, empty_at, 10_000 * MS)
                .header()
                .unwrap()
        };
        assert_eq!(told(0), "\"a\";r=5");
        assert_eq!(told(10_001 * MS), "\"a\";r=4;t=1");
        assert_eq!(told(11_500 * MS), "\"a\";r=4;t=2");
        assert_eq!(told(17_500 * MS), "\"a\";r=0;t=2");
    }

    #[test]
    fn a_number_is_written_in_all_its_digits() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut text = b"r=".to_vec();
            push(&mut text, number);
            assert_eq!(text, format!("r={number}").into_bytes());
        }
    }

    #[test]
    fn the_tightest_limit_is_the_one_by_which_fewer_requests_pass() {
        let names = ["few", "dear", "slow"].map(quoted);
        // Each with 3, 5 and 3 units left.
        let few = Left::new(&names[0], &limit(MS, 3, 1), MS, 0);
        let dear = Left::new(&names[1], &limit(MS, 5, 4), MS, 0);
        let slow = Left::new(&names[2], &limit(1_000 * MS, 3, 1), 1_000 * MS, 0);
        let tighter = |a: &Left, b: &Left| a.clone().tighter(b.clone()).name;
        for (a, b, name) in [(&few, &dear, &names[1]), (&few, &slow, &names[2])] {
            assert_eq!(tighter(a, b), *name);
            assert_eq!(tighter(b, a), *name);
        }
    }
}

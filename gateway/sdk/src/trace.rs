//! Which trace a request is part of (W3C Trace Context).

use std::fmt;

/// A trace, and the place of a request in it.
///
/// A filter that follows traces gives it to the request ([`Request::set_trace`](crate::Request::set_trace)); logs and
/// other filters read it from the [`Exchange`](crate::Exchange).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace.
    pub id: TraceId,
    /// What the request is a part of, if the client has told that it is.
    pub parent: Option<SpanId>,
    /// The request itself.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Trace {
    /// A trace that begins with this request, with ids made up.
    pub fn begin() -> Self {
        Self {
            id: TraceId(rand::random::<u128>().max(1)),
            parent: None,
            span: SpanId::random(),
            sampled: false,
        }
    }

    /// The id of one attempt (1, 2, ...) to have an endpoint answer the request. The same number has the same id
    /// each time, so that none need be kept.
    pub fn of_attempt(&self, number: u32) -> SpanId {
        let mut mixed = self.span.0 ^ (u64::from(number) << 32 | u64::from(number));
        // The end of SplitMix64: different numbers have different results.
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        SpanId((mixed ^ (mixed >> 31)).max(1))
    }
}

/// The id of a trace: 128 bits, of which one at least is set. Shown in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id of a part of a trace: 64 bits, of which one at least is set. Shown in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

impl SpanId {
    /// An id that nothing else has.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_of_a_request_has_its_own_id_each_time_the_same() {
        let trace = Trace::begin();
        let ids: Vec<_> = (1..50).map(|number| trace.of_attempt(number)).collect();
        for (place, id) in ids.iter().enumerate() {
            assert!(!ids[..place].contains(id) && *id != trace.span && id.0 != 0);
        }
        assert_eq!(ids[0], trace.of_attempt(1));
        assert_ne!(ids[0], Trace::begin().of_attempt(1));
    }

    #[test]
    fn ids_are_shown_at_full_length() {
        assert_eq!(TraceId(1).to_string(), "00000000000000000000000000000001");
        assert_eq!(SpanId(0xab).to_string(), "00000000000000ab");
    }
}

//! When there is something to do.

use std::{ops::Range, time::Duration};

use rand::Rng;

/// The longest time that an authority is believed to want to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 86_400);

/// After a failure that may pass by itself: the authority can't be reached, or has a problem.
const PASSING: [u64; 7] = [5, 15, 60, 300, 900, 3_600, 10_800];

/// After the authority has said no. Failed checks are counted: five in an hour are too many for most.
const REFUSED: [u64; 6] = [60, 300, 900, 3_600, 10_800, 21_600];

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Passing,
    Refused,
    /// There were too many orders.
    TooMany,
}

/// How long to wait after so many failures in a row, the last one counted, and not less than the authority has
/// asked for.
pub(super) fn pause(kind: Kind, failures: u32, asked: Option<Duration>) -> Duration {
    let steps: &[u64] = match (kind, asked) {
        (Kind::Passing, _) | (_, Some(_)) => &PASSING,
        (Kind::Refused, None) => &REFUSED,
        (Kind::TooMany, None) => REFUSED.get(3..).unwrap_or(&REFUSED),
    };
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let step = steps
        .get(step)
        .or_else(|| steps.last())
        .copied()
        .unwrap_or(3_600);
    let least = Duration::from_secs(step).max(asked.unwrap_or_default());
    // So that many gateways that fail together don't come back together.
    least
        .min(LONGEST_PAUSE)
        .mul_f64(rand::rng().random_range(1.0..1.2))
}

/// When a certificate that is valid for these seconds since 1970 is replaced: at some time before what is asked
/// for, so that not all of an authority's customers come at once.
///
/// If the time that is asked for is nearly all that there is, or more, it is as if nothing were: it would be replaced
/// again and again.
pub(super) fn renewal(valid: &Range<i64>, before: Option<Duration>) -> i64 {
    let whole = valid.end.saturating_sub(valid.start).max(0);
    let before = before.and_then(|before| i64::try_from(before.as_secs()).ok());
    let before = before.filter(|before| is_sensible(*before, whole));
    let before = before.unwrap_or(whole / 3);
    let earlier = rand::rng().random_range(0..=whole / 50);
    valid.end.saturating_sub(before).saturating_sub(earlier)
}

/// Whether one certificate can be replaced so many seconds before its end without being replaced all the time.
pub(super) fn is_sensible(before: i64, whole: i64) -> bool {
    before < whole.saturating_sub(whole / 10)
}

/// Some time within a window, or at once if that is over; in any case in good time before the end.
pub(super) fn within(window: &Range<i64>, latest: i64) -> i64 {
    let end = window.end.max(window.start);
    rand::rng().random_range(window.start..=end).min(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn seconds(kind: Kind, failures: u32, asked: Option<u64>) -> f64 {
        pause(kind, failures, asked.map(Duration::from_secs)).as_secs_f64()
    }

    #[test]
    fn pauses_grow_from_seconds_or_minutes_to_hours() {
        for (kind, failures, least) in [
            (Kind::Passing, 1, 5.0),
            (Kind::Passing, 3, 60.0),
            (Kind::Passing, 1_000, 10_800.0),
            (Kind::Refused, 1, 60.0),
            (Kind::Refused, 2, 300.0),
            (Kind::Refused, u32::MAX, 21_600.0),
            (Kind::TooMany, 1, 3_600.0),
            (Kind::TooMany, 9, 21_600.0),
        ] {
            let pause = seconds(kind, failures, None);
            assert!(
                (least..least * 1.2).contains(&pause),
                "{kind:?} {failures}: {pause}"
            );
        }
    }

    #[test]
    fn a_failed_check_is_not_repeated_more_than_four_times_in_an_hour() {
        let within_an_hour = REFUSED.iter().scan(0, |sum, step| {
            *sum += step;
            Some(*sum)
        });
        assert_eq!(1 + within_an_hour.filter(|at| *at < 3_600).count(), 4);
    }

    #[test]
    fn an_authority_is_left_alone_for_as_long_as_it_asks_but_not_for_ever() {
        let pause = seconds(Kind::TooMany, 1, Some(7_200));
        assert!((7_200.0..8_640.0).contains(&pause), "{pause}");
        // Who says "at once" again and again is not believed.
        let pause = seconds(Kind::Refused, 3, Some(0));
        assert!((60.0..72.0).contains(&pause), "{pause}");
        let pause = seconds(Kind::Passing, 1, Some(u64::MAX));
        assert!(pause < 9.0 * 86_400.0, "{pause}");
    }

    #[test]
    fn a_certificate_is_replaced_when_a_third_is_left_or_as_asked() {
        let whole = 0..90 * DAY;
        for _ in 0..100 {
            let at = renewal(&whole, None);
            assert!((58 * DAY..=60 * DAY).contains(&at), "{at}");
            let at = renewal(&whole, Some(Duration::from_secs(10 * 86_400)));
            assert!((78 * DAY..=80 * DAY).contains(&at), "{at}");
        }
        let some: std::collections::HashSet<_> = (0..20).map(|_| renewal(&whole, None)).collect();
        assert!(some.len() > 1, "all at the same time");
    }

    #[test]
    fn a_certificate_shorter_than_its_reserve_is_not_replaced_at_once() {
        let short = 0..6 * DAY;
        let at = renewal(&short, Some(Duration::from_secs(30 * 86_400)));
        assert!(at > 3 * DAY, "{at}");
        assert_eq!(renewal(&(5..5), None), 5);
        assert!(renewal(&(i64::MIN..i64::MAX), None) < i64::MAX);
    }

    #[test]
    fn a_window_is_kept_to_unless_it_is_too_late() {
        for _ in 0..100 {
            assert!((10..=20).contains(&within(&(10..20), 100)));
            assert_eq!(within(&(90..200), 50), 50);
        }
        // From its end to its start: nonsense.
        let (start, end) = (20, 10);
        assert_eq!(within(&(start..end), 100), 20);
    }
}

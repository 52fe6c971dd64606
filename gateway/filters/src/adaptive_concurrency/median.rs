//! The median of times, without keeping them.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Times by size, as many threads add them: each box is at most a sixteenth wider than it is long.
pub(super) struct Times {
    boxes: Box<[AtomicU32]>,
    count: AtomicU32,
}

impl Times {
    pub(super) fn new() -> Self {
        Self {
            boxes: (0..BOXES).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicU32::new(0),
        }
    }

    pub(super) fn add(&self, time: Duration) {
        if let Some(count) = self.boxes.get(box_of(time)) {
            count.fetch_add(1, Relaxed);
            self.count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// The median of all times since the last call, of which there are none after it. A time that is added
    /// meanwhile may be lost.
    pub(super) fn take_median(&self) -> Option<Duration> {
        let half = self.count.swap(0, Relaxed).div_ceil(2);
        let mut seen = 0;
        let mut median = None;
        for (number, count) in self.boxes.iter().enumerate() {
            seen += count.swap(0, Relaxed);
            if median.is_none() && half > 0 && seen >= half {
                median = Some(middle_of(number));
            }
        }
        median
    }
}

/// Up to 16 microseconds each has a box of its own; then there are 16 boxes for each power of two.
fn box_of(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .min(LONGEST);
    let Some(above) = micros.max(1).ilog2().checked_sub(4) else {
        return micros as usize;
    };
    // Between 16 and 31.
    let mantissa = (micros >> above) as usize;
    above as usize * 16 + mantissa
}

fn middle_of(number: usize) -> Duration {
    if number < 32 {
        return Duration::from_micros(number as u64);
    }
    let above = number / 16 - 1;
    let mantissa = (number % 16 + 16) as u64;
    Duration::from_micros((mantissa << above) + (1 << above >> 1))
}

/// In microseconds: nineteen hours.
const LONGEST: u64 = (1 << 36) - 1;
const BOXES: usize = 33 * 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_a_thirtieth() {
        assert_eq!(box_of(Duration::from_micros(LONGEST)), BOXES - 1);
        assert_eq!(box_of(Duration::MAX), BOXES - 1);
        let mut last = 0;
        for power in 0..36_u32 {
            for part in 0..100_u64 {
                let micros = (1_u64 << power) + (part << power) / 100;
                let number = box_of(Duration::from_micros(micros));
                assert!(number >= last, "{micros}");
                last = number;
                let middle = middle_of(number).as_micros() as f64;
                let error = (middle - micros as f64).abs() / micros as f64;
                assert!(error <= 1.0 / 30.0, "{micros} is taken for {middle}");
            }
        }
    }

    #[test]
    fn the_median_is_of_the_times_since_the_last_one() {
        let times = Times::new();
        assert_eq!(times.take_median(), None);
        for micros in [9, 1, 5, 1_000_000, 2] {
            times.add(Duration::from_micros(micros));
        }
        assert_eq!(times.count(), 5);
        assert_eq!(times.take_median(), Some(Duration::from_micros(5)));
        assert_eq!((times.count(), times.take_median()), (0, None));
        times.add(Duration::ZERO);
        assert_eq!(times.take_median(), Some(Duration::ZERO));
    }
}

//! A histogram that one core writes and any core reads. Each bucket is twice as wide as the one
//! before, so the bucket of a value follows from its leading bit, without a search.

use super::add;
use crate::api::metrics::{BUCKETS, HistogramSample};
use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The first bucket takes values up to `UNIT`, the next one up to twice that, and so on; the last
/// takes all that is more.
#[derive(Debug)]
pub(crate) struct Histogram<const UNIT: u64> {
    counts: [AtomicU64; BUCKETS + 1],
    sum: AtomicU64,
}

/// Of durations in microseconds.
pub(crate) type DurationHistogram = Histogram<100>;
/// Of numbers of items.
pub(crate) type CountHistogram = Histogram<1>;

impl<const UNIT: u64> Default for Histogram<UNIT> {
    fn default() -> Self {
        Self {
            counts: array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const UNIT: u64> Histogram<UNIT> {
    /// Adds a value, so many times.
    pub(crate) fn observe(&self, value: u64, times: u64) {
        if let Some(count) = self.counts.get(bucket::<UNIT>(value)) {
            add(count, times);
        }
        add(&self.sum, value.saturating_mul(times));
    }

    /// What it holds now.
    pub(crate) fn sample(&self) -> HistogramSample {
        HistogramSample {
            counts: array::from_fn(|index| {
                let count = self.counts.get(index);
                count.map_or(0, |count| count.load(Relaxed))
            }),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// The bucket of a value.
fn bucket<const UNIT: u64>(value: u64) -> usize {
    let bits = (value.saturating_sub(1) / UNIT).checked_ilog2();
    bits.map_or(0, |bits| (bits as usize + 1).min(BUCKETS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_bucket_with_the_least_bound_that_holds_it() {
        for index in 0..BUCKETS {
            let bound = 100 << index;
            assert_eq!(bucket::<100>(bound), index, "{bound}");
            assert_eq!(bucket::<100>(bound + 1), index + 1, "{bound}");
            assert_eq!(bucket::<1>(1 << index), index);
            assert_eq!(bucket::<1>((1 << index) + 1), index + 1);
        }
        assert_eq!(bucket::<100>(0), 0);
        assert_eq!(bucket::<1>(u64::MAX), BUCKETS);
    }

    #[test]
    fn what_was_observed_is_in_the_sample() {
        let histogram = DurationHistogram::default();
        histogram.observe(100, 3);
        histogram.observe(250, 1);
        let sample = histogram.sample();
        assert_eq!((sample.counts[0], sample.counts[2]), (3, 1));
        assert_eq!(sample.sum, 550);
    }
}

//! Numbers for people: conversions, and what a set of measured times comes to.

/// Nanoseconds in a millisecond and in a second.
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// For ratios and rates that a person reads.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with four digits at most"
)]
pub(crate) fn approximate(value: u64) -> f64 {
    value as f64
}

/// `nanos` in milliseconds.
pub(crate) fn millis(nanos: u64) -> f64 {
    approximate(nanos) / approximate(MILLISECOND)
}

/// How many of `count` come in a second, when all took `nanos`.
pub(crate) fn per_second(count: u64, nanos: u64) -> f64 {
    approximate(count) * approximate(SECOND) / approximate(nanos.max(1))
}

/// `bytes` in MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    approximate(bytes) / approximate(1024 * 1024)
}

/// Measured times, in nanoseconds, or other figures of which the middle and the end count.
#[derive(Debug, Default)]
pub(crate) struct Times {
    sorted: Vec<u64>,
}

impl Times {
    pub(crate) fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest value that at least `permille` of a thousand values do not exceed; 0 if there
    /// are no values.
    pub(crate) fn quantile(&self, permille: usize) -> u64 {
        let rank = (self.sorted.len() * permille).div_ceil(1000);
        let at = self.sorted.get(rank.saturating_sub(1));
        at.copied().unwrap_or(0)
    }

    pub(crate) fn median(&self) -> u64 {
        self.quantile(500)
    }

    pub(crate) fn least(&self) -> u64 {
        self.sorted.first().copied().unwrap_or(0)
    }

    pub(crate) fn most(&self) -> u64 {
        self.sorted.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let check = |values: &[u64], permille, expected| {
            let times = Times::new(values.to_vec());
            assert_eq!(times.quantile(permille), expected, "{values:?} {permille}");
        };
        check(&[], 500, 0);
        check(&[7], 1, 7);
        check(&[7], 1000, 7);
        check(&[3, 1, 2], 500, 2);
        check(&[4, 3, 2, 1], 500, 2);
        check(&[4, 3, 2, 1], 501, 3);
        check(&[4, 3, 2, 1], 1000, 4);
    }

    #[test]
    fn rates_are_per_second() {
        assert!((per_second(5, SECOND / 2) - 10.0).abs() < f64::EPSILON);
        assert!(per_second(5, 0).is_finite());
    }
}

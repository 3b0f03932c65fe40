//! Which entity is next: uniform, or zipfian, where a few get most of the load.

use crate::numbers::{approximate, floor};
use crate::options::Skew;
use fastrand::Rng;

/// The exponent of the distribution: that of the usual benchmarks of key-value stores.
const THETA: f64 = 0.99;
/// Number of terms of a sum that are added one by one. An integral stands for the others.
const TERMS_MAX: u64 = 10_000;
/// A prime beyond every count of entities: multiplied by it, ranks become numbers that are not
/// neighbours.
const SCATTER: u64 = 2_654_435_761;

/// A choice among `0..count`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    count: u64,
    zipfian: Option<Zipfian>,
}

impl Keys {
    /// `count`: 1 to 10^8.
    pub(crate) fn new(count: u64, skew: Skew) -> Self {
        Self {
            count,
            zipfian: match skew {
                Skew::Uniform => None,
                Skew::Zipfian => Some(Zipfian::new(count)),
            },
        }
    }

    pub(crate) fn pick(&self, random: &mut Rng) -> u64 {
        match &self.zipfian {
            None => random.u64(..self.count),
            // The most wanted entity is number 0, the next ones lie all over.
            Some(zipfian) => zipfian.rank(random.f64()).min(self.count - 1) * SCATTER % self.count,
        }
    }
}

/// Ranks whose frequency falls with the power [`THETA`] of the rank, without a table (Gray et al.,
/// "Quickly generating billion-record synthetic databases", 1994, §4).
#[derive(Clone, Debug)]
struct Zipfian {
    count: f64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    fn new(count: u64) -> Self {
        let (all, first_two) = (zeta(count), zeta(count.min(2)));
        let rest = (2.0 / approximate(count)).powf(1.0 - THETA);
        let eta = if count > 2 {
            (1.0 - rest) / (1.0 - first_two / all)
        } else {
            0.0
        };
        Self {
            count: approximate(count),
            zeta: all,
            eta,
        }
    }

    /// `unit`: uniform in `0..1`.
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        floor(self.count * (self.eta * (unit - 1.0) + 1.0).powf(1.0 / (1.0 - THETA)))
    }
}

/// The sum of `n^-THETA` over `1..=count`.
fn zeta(count: u64) -> f64 {
    let term = |rank: u64| approximate(rank).powf(-THETA);
    let exact = count.min(TERMS_MAX);
    let sum: f64 = (1..=exact).map(term).sum();
    if count == exact {
        return sum;
    }
    // Euler-Maclaurin: the integral, and half of the difference at its ends.
    let power = |rank: u64| approximate(rank).powf(1.0 - THETA) / (1.0 - THETA);
    sum + power(count) - power(exact) + (term(count) - term(exact)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(count: u64, skew: Skew, picks: u64) -> Vec<u64> {
        let keys = Keys::new(count, skew);
        let mut random = crate::random::stream(7, 0);
        let mut frequencies = vec![0; crate::numbers::index(count)];
        for _ in 0..picks {
            frequencies[crate::numbers::index(keys.pick(&mut random))] += 1;
        }
        frequencies
    }

    #[test]
    fn zipfian_ranks_are_as_frequent_as_the_power_says() {
        let (count, picks) = (1000, 1_000_000);
        let mut found = frequencies(count, Skew::Zipfian, picks);
        found.sort_unstable_by(|a, b| b.cmp(a));
        let expected = |rank: u64| approximate(picks) / approximate(rank).powf(THETA) / zeta(count);
        // The first two are exact, the others come from an approximation that is good for sums of
        // neighbours.
        for rank in [1, 2] {
            let (found, expected) = (approximate(found[rank - 1]), expected(rank as u64));
            assert!(
                (found / expected - 1.0).abs() < 0.02,
                "{rank}: {found} {expected}"
            );
        }
        for range in [2..10, 10..100, 100..1000] {
            let some: u64 = found[range.clone()].iter().sum();
            let expected: f64 = range.clone().map(|rank| expected(rank as u64 + 1)).sum();
            let ratio = approximate(some) / expected;
            assert!((ratio - 1.0).abs() < 0.15, "{range:?}: {ratio}");
        }
    }

    #[test]
    fn uniform_picks_are_equally_frequent() {
        for found in frequencies(100, Skew::Uniform, 1_000_000) {
            assert!((9_000..11_000).contains(&found), "{found}");
        }
    }

    #[test]
    fn every_pick_is_an_entity() {
        for count in [1, 2, 3, 10, 1_000_003, 100_000_000] {
            for skew in [Skew::Uniform, Skew::Zipfian] {
                let keys = Keys::new(count, skew);
                let mut random = crate::random::stream(count, 1);
                assert!((0..10_000).all(|_| keys.pick(&mut random) < count));
            }
        }
    }

    #[test]
    fn a_long_sum_is_that_of_its_terms() {
        let direct: f64 = (1..=1_000_000_u64)
            .map(|rank| approximate(rank).powf(-THETA))
            .sum();
        assert!((zeta(1_000_000) / direct - 1.0).abs() < 1e-9);
    }
}

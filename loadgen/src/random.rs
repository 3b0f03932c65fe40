//! Random choices: the same seed gives the same load.

use fastrand::Rng;

/// The generator of one connection, or of another use that has its own number.
///
/// The factor spreads the numbers over all seeds, so that streams do not overlap in practice.
pub(crate) fn stream(seed: u64, number: usize) -> Rng {
    Rng::with_seed(seed ^ (number as u64).wrapping_mul(0xd134_2543_de82_ef95))
}

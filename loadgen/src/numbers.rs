//! Conversions between counts, indices and ratios, each with its reason in one place.

/// A `u64` made from an index of this process, back as an index.
///
/// # Panics
/// If `usize` is narrower than 64 bits and the value does not fit. Values from outside do not come
/// here.
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).expect("made from a usize or bounded by one")
}

/// For ratios and rates that a person reads.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with four digits at most"
)]
pub(crate) fn approximate(value: u64) -> f64 {
    value as f64
}

/// The whole part of what is not negative and below 2^53.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only the fraction is cut off; a negative value would become 0"
)]
pub(crate) fn floor(value: f64) -> u64 {
    value as u64
}

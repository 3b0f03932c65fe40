//! Numbers and UUIDs as text, eight digits at a time: each digit has one byte of a word.
//!
//! Every answer holds several numbers. A loop takes some eight instructions for each digit, and a
//! copy whose length is not known beforehand takes as many as all of them together. So eight digits
//! are made in one word, the zeros before the first that counts are shifted out, and the word is
//! stored whole.

/// Eight zeros.
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
/// One more than eight decimal digits hold.
const EIGHT_DECIMALS: u64 = 100_000_000;

/// Appends `value` in decimal.
#[inline]
pub fn write_decimal(out: &mut Vec<u8>, value: u64) {
    if value < EIGHT_DECIMALS {
        write_from_first(out, decimals(value));
    } else {
        write_long_decimal(out, value);
    }
}

#[inline(never)]
fn write_long_decimal(out: &mut Vec<u8>, value: u64) {
    write_decimal(out, value / EIGHT_DECIMALS);
    out.extend_from_slice(&eight_decimals(value));
}

/// Appends `value` in hexadecimal, in lower case.
pub fn write_hex(out: &mut Vec<u8>, value: u64) {
    let [high, low] = halves(value);
    if high == 0 {
        write_from_first(out, hexadecimals(low));
    } else {
        write_from_first(out, hexadecimals(high));
        out.extend_from_slice(&hexadecimals(low).to_le_bytes());
    }
}

/// Characters of a UUID.
const UUID_CHARS: usize = 36;

/// The text of a UUID: its digits in lower case, in five groups.
pub fn uuid_text(uuid: uuid::Uuid) -> [u8; UUID_CHARS] {
    let (high, low) = uuid.as_u64_pair();
    let [[a, b], [c, d]] = [high, low].map(|half| halves(half).map(hexadecimals));
    let mut text = [b'-'; UUID_CHARS];
    text[..8].copy_from_slice(&a.to_le_bytes());
    let [b, c] = [b, c].map(u64::to_le_bytes);
    text[9..13].copy_from_slice(&b[..4]);
    text[14..18].copy_from_slice(&b[4..]);
    text[19..23].copy_from_slice(&c[..4]);
    text[24..28].copy_from_slice(&c[4..]);
    text[28..].copy_from_slice(&d.to_le_bytes());
    text
}

/// The last eight decimal digits of a number.
pub(super) fn eight_decimals(value: u64) -> [u8; 8] {
    decimals(value % EIGHT_DECIMALS).to_le_bytes()
}

/// Appends eight digits without the zeros before the first that counts. One is always left.
#[inline]
fn write_from_first(out: &mut Vec<u8>, digits: u64) {
    let zeros = ((digits ^ ZEROS).trailing_zeros() / 8).min(7);
    let first = digits >> (8 * zeros);
    out.extend_from_slice(&first.to_le_bytes());
    out.truncate(out.len().saturating_sub(zeros as usize));
}

/// The eight decimal digits of a number that has no more, the first in the lowest byte. Each step
/// halves all numbers in a word at once.
fn decimals(value: u64) -> u64 {
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | ((twos - 10 * tens) << 8);
    ones | ZEROS
}

/// The eight hexadecimal digits of a number that has no more, the first in the lowest byte.
fn hexadecimals(value: u64) -> u64 {
    let fours = (value | (value << 16)) & 0x0000_ffff_0000_ffff;
    let twos = (fours | (fours << 8)) & 0x00ff_00ff_00ff_00ff;
    let ones = (twos | (twos << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // In each byte, 1 for a letter.
    let letters = ((ones + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    ((ones | ZEROS) + letters * u64::from(b'a' - b'0' - 10)).swap_bytes()
}

/// The upper and the lower half of a number.
const fn halves(value: u64) -> [u64; 2] {
    [value >> 32, value & 0xffff_ffff]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of every length, and the ones beside them.
    fn numbers() -> impl Iterator<Item = u64> {
        let powers = (0..64).map(|bit| 1 << bit);
        let tens = (0..20).map(|power| 10_u64.pow(power));
        let edges = powers.chain(tens).chain([u64::MAX]);
        edges.flat_map(|edge| [edge - 1, edge, edge.wrapping_add(1), edge / 3])
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in numbers().chain((0..100_000_000).step_by(9_973)) {
            let mut out = Vec::from(b"x");
            write_decimal(&mut out, number);
            assert_eq!(out, format!("x{number}").as_bytes());
            out.truncate(1);
            write_hex(&mut out, number);
            assert_eq!(out, format!("x{number:x}").as_bytes());
        }
    }

    #[test]
    fn a_uuid_is_written_as_its_library_writes_it() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let uuid = uuid::Uuid::from_u128(random.u128(..));
            assert_eq!(uuid_text(uuid), *uuid.hyphenated().to_string().as_bytes());
        }
    }

    #[test]
    fn the_last_eight_digits_of_a_number() {
        for number in numbers() {
            let last = number % EIGHT_DECIMALS;
            assert_eq!(eight_decimals(number), *format!("{last:08}").as_bytes());
        }
    }
}

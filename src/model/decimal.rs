//! Exact decimal arithmetic over the text of JSON numbers.
//!
//! A number keeps the digits that it was sent with, so it is compared and added as decimal digits:
//! a double would make `0.1 + 0.2` another number, and 2^53 the last one that a counter reaches.
//!
//! ```text
//! -0012.3400e5   negative, digits 1234, top 6     the first digit stands for 1 * 10^6
//! ```
//!
//! Leading and trailing zeros are passed over, not stripped into a copy: comparison allocates
//! nothing and costs the digits of the shorter number, whatever the exponents are. Zero has no
//! digits and no sign.
//!
//! A sum has one text for each value: no exponent, no trailing zeros after the point. It has an
//! exponent only if it would take more than [`DECIMAL_DIGITS_MAX`] digits without.

use std::cmp::Ordering;

use crate::limits::DECIMAL_DIGITS_MAX;

/// Exponents are exact up to this; an exponent beyond it counts as this. Far from what the
/// arithmetic of `i128` can overflow at.
const EXPONENT_MAX: i128 = 10_i128.pow(36);
/// A sum has no exponent below minus this: one of its numbers may have been beyond
/// [`EXPONENT_MAX`].
const EXPONENT_EXACT_MAX: i128 = 10_i128.pow(30);
/// The place of the first digit of the largest double: a number above it may be none.
const DOUBLE_TOP: i128 = 308;

/// A JSON number. Equality and order are those of the values: `1.0` is `1`, `-0` is `0`, `1e2` is
/// `100`.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    negative: bool,
    /// The digits before the point, from the first that is not zero.
    integer: &'a [u8],
    /// The digits after the point, from the first that counts.
    fraction: &'a [u8],
    /// How many of the digits of both count: those up to the last that is not zero.
    len: usize,
    /// The first digit stands for itself times ten to the power of this.
    top: i128,
}

/// Why a sum has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// A number, or the sum, has more digits than [`DECIMAL_DIGITS_MAX`].
    #[error("a number of more than {DECIMAL_DIGITS_MAX} digits")]
    Digits,
    /// A double can't hold the sum: it would round to infinity.
    #[error("a sum beyond the range of a double")]
    Range,
}

impl<'a> Decimal<'a> {
    /// The number that `text`, which is a number by JSON's grammar, stands for; `None` if it can't
    /// be one. Cost: linear, no allocation.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mantissa_len = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match mantissa_len {
            None => (rest, 0),
            Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
        };
        let (integer, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            None => (mantissa, &mantissa[mantissa.len()..]),
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        };
        let digits = || integer.iter().chain(fraction);
        if integer.is_empty() || !digits().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = digits().take_while(|digit| **digit == b'0').count();
        let trailing = digits().rev().take_while(|digit| **digit == b'0').count();
        let count = integer.len() + fraction.len();
        if zeros == count {
            return Some(Self {
                negative: false,
                integer: &[],
                fraction: &[],
                len: 0,
                top: 0,
            });
        }
        let before_point = i128::try_from(integer.len()).ok()?;
        Some(Self {
            negative,
            integer: &integer[zeros.min(integer.len())..],
            fraction: &fraction[zeros.saturating_sub(integer.len())..],
            len: count - zeros - trailing,
            top: exponent + before_point - 1 - i128::try_from(zeros).ok()?,
        })
    }

    /// Digits as they were sent, from the first that is not zero: `0.050e9` has two. Zero has none.
    pub const fn digit_count(&self) -> usize {
        self.integer.len() + self.fraction.len()
    }

    /// True if it is zero.
    pub const fn is_zero(&self) -> bool {
        self.len == 0
    }

    /// The digits that count, as ASCII, the highest first.
    fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        let digits = self.integer.iter().chain(self.fraction);
        digits.take(self.len).copied()
    }

    /// The place of the last digit. Not for zero.
    fn bottom(&self) -> Option<i128> {
        Some(self.top + 1 - i128::try_from(self.len).ok()?)
    }

    fn compare_magnitude(&self, other: &Self) -> Ordering {
        // Zero has no place.
        (!self.is_zero())
            .cmp(&!other.is_zero())
            .then_with(|| self.top.cmp(&other.top))
            .then_with(|| self.digits().cmp(other.digits()))
    }

    /// Appends the sum as JSON text. Nothing is appended if there is none.
    ///
    /// # Errors
    /// [`DecimalError`].
    pub fn add(&self, other: &Self, out: &mut String) -> Result<(), DecimalError> {
        if self.digit_count().max(other.digit_count()) > DECIMAL_DIGITS_MAX {
            return Err(DecimalError::Digits);
        }
        let (larger, smaller) = match self.compare_magnitude(other) {
            Ordering::Less => (other, self),
            Ordering::Equal | Ordering::Greater => (self, other),
        };
        if larger.is_zero() {
            out.push('0');
            return Ok(());
        }
        let mut sum = Sum::new(larger, smaller).ok_or(DecimalError::Digits)?;
        if larger.negative == smaller.negative {
            sum.add(smaller);
        } else {
            sum.subtract(smaller);
        }
        sum.write(larger.negative, out)
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_magnitude(other),
            (true, true) => other.compare_magnitude(self),
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

/// The exponent of this text, which may have a sign.
fn parse_exponent(text: &[u8]) -> Option<i128> {
    let negative = text.first() == Some(&b'-');
    let has_sign = negative || text.first() == Some(&b'+');
    let digits = &text[usize::from(has_sign)..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i128, |value, digit| {
        (value * 10 + i128::from(digit - b'0')).min(EXPONENT_MAX)
    });
    Some(if negative { -value } else { value })
}

/// A place more for the carry, and one because the digits of two numbers of the largest length may
/// lie one place apart and still leave a sum of that length.
const SUM_DIGITS_MAX: usize = DECIMAL_DIGITS_MAX + 2;

/// A sum in the making: one digit a byte, from 0 to 9, the highest first.
struct Sum {
    digits: [u8; SUM_DIGITS_MAX],
    len: usize,
    /// The place of the first digit.
    top: i128,
    /// The place of the last digit of the smaller number, counted in `digits`.
    smaller_end: usize,
}

impl Sum {
    /// The digits of `larger`, with room for those of `smaller` and a carry; `None` if the sum has
    /// too many digits.
    fn new(larger: &Decimal<'_>, smaller: &Decimal<'_>) -> Option<Self> {
        let mut bottom = larger.bottom()?;
        if !smaller.is_zero() {
            bottom = bottom.min(smaller.bottom()?);
        }
        let top = larger.top + 1;
        let place = |place: i128| usize::try_from(top - place).ok();
        let len = place(bottom)? + 1;
        if len > SUM_DIGITS_MAX {
            return None;
        }
        let smaller_end = if smaller.is_zero() {
            0
        } else {
            place(smaller.bottom()?)? + 1
        };
        let mut digits = [0; SUM_DIGITS_MAX];
        for (slot, digit) in digits[1..].iter_mut().zip(larger.digits()) {
            *slot = digit - b'0';
        }
        Some(Self {
            digits,
            len,
            top,
            smaller_end,
        })
    }

    /// The places of the smaller number's digits and the places before them, which a carry may
    /// reach; the last first, each with the smaller number's digit there.
    fn places(&mut self, smaller: &Decimal<'_>) -> impl Iterator<Item = (&mut u8, u8)> {
        let mut addend = [0; SUM_DIGITS_MAX];
        let start = self.smaller_end - smaller.len;
        for (slot, digit) in addend[start..].iter_mut().zip(smaller.digits()) {
            *slot = digit - b'0';
        }
        let places = self.digits[..self.smaller_end].iter_mut();
        places.zip(addend).rev()
    }

    /// Adds the smaller number's digits.
    fn add(&mut self, smaller: &Decimal<'_>) {
        let mut carry = 0;
        for (digit, addend) in self.places(smaller) {
            let value = *digit + addend + carry;
            carry = value / 10;
            *digit = value % 10;
        }
    }

    /// Takes the smaller number's digits away.
    fn subtract(&mut self, smaller: &Decimal<'_>) {
        let mut borrow = 0;
        for (digit, subtrahend) in self.places(smaller) {
            let value = 10 + *digit - subtrahend - borrow;
            borrow = 1 - value / 10;
            *digit = value % 10;
        }
    }

    /// Appends the text of what the digits stand for.
    fn write(self, negative: bool, out: &mut String) -> Result<(), DecimalError> {
        let mut digits = self.digits;
        let digits = &mut digits[..self.len];
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        if zeros == digits.len() {
            out.push('0');
            return Ok(());
        }
        let trailing = digits.iter().rev().take_while(|digit| **digit == 0).count();
        let digits = &mut digits[zeros..self.len - trailing];
        for digit in &mut *digits {
            *digit += b'0';
        }
        let digits = str::from_utf8(digits).or(Err(DecimalError::Digits))?;
        let top = self.top - i128::try_from(zeros).or(Err(DecimalError::Digits))?;
        if digits.len() > DECIMAL_DIGITS_MAX || top < -EXPONENT_EXACT_MAX {
            return Err(DecimalError::Digits);
        }
        if top > DOUBLE_TOP {
            return Err(DecimalError::Range);
        }
        let start = out.len();
        if negative {
            out.push('-');
        }
        write_plain_or_exponent(digits, top, out);
        if top == DOUBLE_TOP && !out[start..].parse().is_ok_and(f64::is_finite) {
            out.truncate(start);
            return Err(DecimalError::Range);
        }
        Ok(())
    }
}

/// Appends the number whose first digit, which is not zero, stands at the place `top`.
fn write_plain_or_exponent(digits: &str, top: i128, out: &mut String) {
    let below_point = usize::try_from(-top).unwrap_or(0);
    if let Ok(top) = usize::try_from(top) {
        let (integer, fraction) = digits.split_at(digits.len().min(top + 1));
        out.push_str(integer);
        out.extend(std::iter::repeat_n('0', top + 1 - integer.len()));
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
    } else if below_point > 0 && below_point + digits.len() <= DECIMAL_DIGITS_MAX {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', below_point - 1));
        out.push_str(digits);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push('e');
        out.push_str(&top.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text).expect(text)
    }

    fn sum(a: &str, b: &str) -> Result<String, DecimalError> {
        let mut out = String::new();
        let result = decimal(a).add(&decimal(b), &mut out);
        assert!(result.is_ok() || out.is_empty(), "{a} + {b}: {out}");
        result.map(|()| out)
    }

    #[test]
    fn numbers_compare_by_value() {
        let ascending: &[&[&str]] = &[
            &["-1e308", "-100e306"],
            &["-12.5", "-1.25e1", "-12.500"],
            &["-12.25"],
            &["-1e-308"],
            &["-1e-99999999999999999999"],
            &[
                "0",
                "-0",
                "0.0",
                "-0.0e9",
                "0e99999999999999999999999999999999999999999",
            ],
            &["1e-99999999999999999999"],
            &["1e-308", "0.1e-307", "10E-309"],
            &["0.001", "1e-3", "0.0010"],
            &["0.00100000000000000000000000000000001"],
            &["1", "1.0", "10e-1", "1E+0", "0.1e1"],
            &["1.00000000000000000000000000000000001"],
            &["9"],
            &["9.5"],
            &["10", "1e1", "10.000"],
            &["100", "1e2", "1E+02", "0.1e3"],
            &["9007199254740992"],
            &["9007199254740993"],
            &["1e308", "0.001e311"],
        ];
        for (rank, equal) in ascending.iter().enumerate() {
            for (other_rank, others) in ascending.iter().enumerate() {
                for (a, b) in equal
                    .iter()
                    .flat_map(|a| others.iter().map(move |b| (a, b)))
                {
                    let found = decimal(a).cmp(&decimal(b));
                    assert_eq!(found, rank.cmp(&other_rank), "{a} and {b}");
                    assert_eq!(decimal(a) == decimal(b), rank == other_rank, "{a} and {b}");
                }
            }
        }
    }

    #[test]
    fn sums_are_exact_and_have_one_text() {
        for (a, b, expected) in [
            ("0", "-0", "0"),
            ("1", "-1.0", "0"),
            ("0.1", "0.2", "0.3"),
            ("1", "1", "2"),
            ("5", "0", "5"),
            ("0e5", "22.50", "22.5"),
            ("22.50", "0.5", "23"),
            ("99", "1", "100"),
            ("-99", "-1", "-100"),
            ("100", "-1", "99"),
            ("1", "-100", "-99"),
            ("-1", "0.25", "-0.75"),
            ("1e2", "1", "101"),
            ("1e20", "1e-5", "100000000000000000000.00001"),
            ("9007199254740993", "1", "9007199254740994"),
            ("0.001", "-0.0001", "0.0009"),
            ("1e-3", "0", "0.001"),
            ("1E+3", "0", "1000"),
            ("1.5e-2000", "1.5e-2000", "3e-2000"),
            ("1.5e-2000", "1e-2002", "1.51e-2000"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Ok(expected), "{a} + {b}");
            assert_eq!(sum(b, a).as_deref(), Ok(expected), "{b} + {a}");
        }
        let tiny = format!("1e-{}", "9".repeat(40));
        assert_eq!(sum(&tiny, "0"), Err(DecimalError::Digits));
        let expected = format!("1{}1", "0".repeat(299));
        assert_eq!(sum("1e300", "1"), Ok(expected));
    }

    #[test]
    fn a_sum_within_the_limits_is_given_and_one_beyond_is_refused() {
        let digits = |count: usize| format!("1.{}", "3".repeat(count - 1));
        let (most, more) = (digits(DECIMAL_DIGITS_MAX), digits(DECIMAL_DIGITS_MAX + 1));
        assert_eq!(sum(&most, "0"), Ok(most.clone()));
        assert_eq!(sum(&most, "1").map(|it| it.len()), Ok(most.len()));
        assert_eq!(sum(&more, "0"), Err(DecimalError::Digits));
        assert_eq!(sum("0", &more), Err(DecimalError::Digits));
        // The sum has a digit more on the left, or on the right.
        let nines = format!("9.{}", "9".repeat(DECIMAL_DIGITS_MAX - 1));
        assert_eq!(
            sum(&nines, &digits(DECIMAL_DIGITS_MAX)),
            Err(DecimalError::Digits)
        );
        let below = format!("1e-{DECIMAL_DIGITS_MAX}");
        assert_eq!(sum("1", &below), Err(DecimalError::Digits));
        let last = format!("1e-{}", DECIMAL_DIGITS_MAX - 1);
        assert_eq!(
            sum("1", &last).map(|it| it.len()),
            Ok(DECIMAL_DIGITS_MAX + 1)
        );
        assert_eq!(
            sum("1", "1e-99999999999999999999"),
            Err(DecimalError::Digits)
        );
        // Two of the most digits, one place apart, whose sum has no more.
        let shifted = format!("-0.9{}", "9".repeat(DECIMAL_DIGITS_MAX - 1));
        let small = sum("1", &shifted).unwrap();
        assert_eq!(small, format!("1e-{DECIMAL_DIGITS_MAX}"));
        for (a, b) in [
            ("1.7e308", "1e307"),
            ("-1e308", "-1e308"),
            ("9e307", "9e307"),
        ] {
            let in_range = a.parse::<f64>().unwrap() + b.parse::<f64>().unwrap();
            assert_eq!(sum(a, b).is_ok(), in_range.is_finite(), "{a} + {b}");
        }
        assert_eq!(sum("1e308", "1e308"), Err(DecimalError::Range));
        assert_eq!(sum("1e308", "-1e308").as_deref(), Ok("0"));
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        for text in [
            "", "-", "x", "1x", "1e", "1e+", "1ex", ".5", "\"1\"", "1.2.3", "NaN",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    /// A number, and its value times 10^12.
    fn random_number(random: &mut fastrand::Rng) -> (String, i128) {
        let width = random.u32(0..=9);
        let integer = random.u64(..10_u64.pow(width));
        let places = random.u32(0..=6);
        let fraction = random.u64(..10_u64.pow(places));
        let exponent = random.i32(-6..=6);
        let negative = random.bool();
        let mut text = format!("{}{integer}", if negative { "-" } else { "" });
        let mut value = i128::from(integer) * 10_i128.pow(places) + i128::from(fraction);
        if places > 0 {
            let width = usize::try_from(places).unwrap();
            write!(text, ".{fraction:0width$}").unwrap();
        }
        if random.bool() {
            write!(text, "e{exponent}").unwrap();
            value *= 10_i128.pow((12 + exponent).unsigned_abs() - places);
        } else {
            value *= 10_i128.pow(12 - places);
        }
        (text, if negative { -value } else { value })
    }

    #[test]
    fn comparison_and_addition_agree_with_integers() {
        let mut random = fastrand::Rng::with_seed(26);
        for _ in 0..100_000 {
            let ((a, a_value), (b, b_value)) =
                (random_number(&mut random), random_number(&mut random));
            assert_eq!(
                decimal(&a).cmp(&decimal(&b)),
                a_value.cmp(&b_value),
                "{a}, {b}"
            );
            let sum = sum(&a, &b).unwrap();
            let (integer, fraction) = sum.split_once('.').unwrap_or((&sum, ""));
            assert!(!fraction.ends_with('0') && !sum.contains('e'), "{sum}");
            let scaled: i128 = format!("{integer}{fraction:0<12}").parse().unwrap();
            assert_eq!(scaled, a_value + b_value, "{a} + {b} is not {sum}");
        }
    }

    #[test]
    fn what_is_added_and_taken_away_again_leaves_what_was_there() {
        let mut random = fastrand::Rng::with_seed(27);
        let long = |random: &mut fastrand::Rng| {
            let digits: String = (0..random.usize(1..=300))
                .map(|_| random.digit(10))
                .collect();
            let sign = if random.bool() { "-" } else { "" };
            format!(
                "{sign}{}.{digits}e{}",
                random.u8(..10),
                random.i32(-200..=200)
            )
        };
        for _ in 0..5_000 {
            let (a, b) = (long(&mut random), long(&mut random));
            let both = sum(&a, &b).unwrap();
            assert_eq!(both, sum(&b, &a).unwrap());
            let minus = b
                .strip_prefix('-')
                .map_or_else(|| format!("-{b}"), str::to_owned);
            let back = sum(&both, &minus).unwrap();
            assert_eq!(decimal(&back), decimal(&a), "{a} + {b}");
            let order = decimal(&both).cmp(&decimal(&a));
            assert_eq!(order, decimal(&b).cmp(&decimal("0")), "{a} + {b}");
        }
    }
}

//! One JSON number: where it ends, and whether a double can hold it (RFC 8259 §6).

use super::{JsonError, Word};

/// Up to this length and with at most [`EXPONENT_DIGITS_SAFE`] a number is in range whatever its
/// digits are: 200 digits times 10^99 is below 10^300, and the largest double is above 10^308.
const LEN_SAFE: usize = 200;
const EXPONENT_DIGITS_SAFE: usize = 2;

/// The end of the number that starts at `start`, which holds `-` or a digit.
///
/// # Errors
/// `Number` or `End` if it is malformed, `NumberRange` if it rounds to infinity.
pub(super) fn scan(text: &str, start: usize) -> Result<usize, JsonError> {
    let bytes = text.as_bytes();
    let integer = match bytes.get(start) {
        Some(b'-') => start.wrapping_add(1),
        _ => start,
    };
    // A leading zero stands alone: "01" ends after the zero, and the caller then finds a digit
    // where none may be.
    let mut end = match bytes.get(integer) {
        Some(b'0') => integer.wrapping_add(1),
        _ => digits(text, integer)?,
    };
    if matches!(bytes.get(end), Some(b'0'..=b'9')) {
        return Err(malformed(text, end));
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(text, end.wrapping_add(1))?;
    }
    let mut exponent_len = 0;
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let mut exponent = end.wrapping_add(1);
        if matches!(bytes.get(exponent), Some(b'+' | b'-')) {
            exponent = exponent.wrapping_add(1);
        }
        end = digits(text, exponent)?;
        exponent_len = end.wrapping_sub(exponent);
    }
    if exponent_len > EXPONENT_DIGITS_SAFE || end.wrapping_sub(start) > LEN_SAFE {
        check_range(text, start, end)?;
    }
    Ok(end)
}

/// The end of the digits at `start`, of which there must be one.
fn digits(text: &str, start: usize) -> Result<usize, JsonError> {
    let mut end = start;
    while matches!(text.as_bytes().get(end), Some(b'0'..=b'9')) {
        end = end.wrapping_add(1);
    }
    if end > start {
        return Ok(end);
    }
    Err(malformed(text, end))
}

/// Why a number can't go on at `offset`.
#[cold]
fn malformed(text: &str, offset: usize) -> JsonError {
    if offset == text.len() {
        return JsonError::End { offset };
    }
    JsonError::Number {
        offset,
        found: Word::at(text, offset),
    }
}

#[cold]
fn check_range(text: &str, start: usize, end: usize) -> Result<(), JsonError> {
    let value = text
        .get(start..end)
        .and_then(|number| number.parse::<f64>().ok());
    match value {
        Some(value) if value.is_finite() => Ok(()),
        _ => Err(JsonError::NumberRange {
            offset: start,
            found: Word::at(text, start),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, JsonError>) {
        assert_eq!(scan(text, 0), expected, "{text}");
    }

    #[test]
    fn a_number_ends_where_its_grammar_ends() {
        for text in [
            "0", "-0", "7", "-12", "0.0", "22.50", "1e2", "1E+2", "1e-2", "-0.5e00", "1e0099",
        ] {
            check(text, Ok(text.len()));
            check(&format!("{text},"), Ok(text.len()));
            check(&format!("{text}]"), Ok(text.len()));
        }
    }

    #[test]
    fn malformed_numbers_are_refused_where_they_break() {
        for (text, offset) in [
            ("01", 1),
            ("-01", 2),
            ("00", 1),
            ("1.,", 2),
            ("1.e2", 2),
            ("1e,", 2),
            ("1e+,", 3),
            ("-,", 1),
            ("-.5", 1),
            ("--1", 1),
        ] {
            let found = Word::at(text, offset);
            check(text, Err(JsonError::Number { offset, found }));
        }
        for text in ["-", "1.", "1e", "1e-"] {
            check(text, Err(JsonError::End { offset: text.len() }));
        }
    }

    #[test]
    fn only_numbers_that_round_to_infinity_are_out_of_range() {
        let nines = |count| "9".repeat(count);
        let zeros = |count| "0".repeat(count);
        for text in [
            "1e308".to_owned(),
            "-1.7976931348623157e308".to_owned(),
            "1e-999".to_owned(),
            "0e999".to_owned(),
            "0.0e99999999999999999999".to_owned(),
            nines(LEN_SAFE) + "e99",
            nines(308),
            format!("1{}", zeros(308)),
            format!("0.{}1e999", zeros(999)),
            format!("1.{}", nines(1000)),
        ] {
            check(&text, Ok(text.len()));
        }
        for text in [
            "1e309".to_owned(),
            "1e999".to_owned(),
            "-1e400".to_owned(),
            "1.7976931348623159e308".to_owned(),
            "1e99999999999999999999".to_owned(),
            nines(309),
            format!("1{}", zeros(399)),
            format!("{}e99", nines(300)),
        ] {
            let (offset, found) = (0, Word::at(&text, 0));
            check(&text, Err(JsonError::NumberRange { offset, found }));
        }
    }
}

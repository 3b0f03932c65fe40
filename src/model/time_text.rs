//! Times in query parameters: RFC 3339, or Unix milliseconds.
//!
//! ```text
//! 2026-01-31T23:59:59.123456789+02:00   date, T or t or space, time, fraction?, offset or Z or z
//! 1769896799123                         milliseconds since the Unix epoch
//! ```
//!
//! The plus of an offset arrives as it is, as `%2B`, or as a space if a client encoded its query
//! as a form: all three are the plus. Digits beyond microseconds are dropped, since the log knows
//! no more. The second 60 of a leap second, which Unix time has no number for, is the last
//! microsecond of its minute.
//!
//! Sources: RFC 3339 §5.6 and §5.7.

use super::Timestamp;

/// What a time must look like, for whoever sent another.
pub const TIME_RULE: &str =
    "a time as RFC 3339 (`2026-01-31T12:00:00Z`) or as Unix milliseconds from 0";

const SECONDS_RULE: &str = "in milliseconds, and looks like seconds: append three digits";
const MICROSECONDS_RULE: &str =
    "in milliseconds, and looks like microseconds: leave out the last three digits";
const NANOSECONDS_RULE: &str =
    "in milliseconds, and looks like nanoseconds: leave out the last six digits";

/// 9999-12-31T23:59:59.999Z: what comes later has no RFC 3339 form.
const MILLIS_MAX: i64 = 253_402_300_799_999;
const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// More digits of a second than nanoseconds name no instant that a clock gave.
const FRACTION_DIGITS_MAX: usize = 9;

/// The time that `text` names, or `None` where it names none.
pub fn parse(text: &str) -> Option<Timestamp> {
    let micros = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let millis: i64 = text.parse().ok()?;
        (millis <= MILLIS_MAX).then(|| millis.checked_mul(1000))??
    } else {
        rfc3339_micros(text.as_bytes())?
    };
    Some(Timestamp::from_micros(micros))
}

/// The time that a person asks about.
///
/// # Errors
/// What it must look like. A number of seconds, microseconds or nanoseconds of this time is refused
/// by name: as milliseconds it would mean January 1970, or a year that nobody asks about, and the
/// answer would be empty without a word.
pub fn parse_asked(text: &str) -> Result<Timestamp, &'static str> {
    let digits = text.trim_start_matches('0');
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    // 2001-09-09 to 2033-05-18 in each unit.
    if is_number && digits.starts_with('1') {
        match digits.len() {
            10 => return Err(SECONDS_RULE),
            16 => return Err(MICROSECONDS_RULE),
            19 => return Err(NANOSECONDS_RULE),
            _ => {}
        }
    }
    parse(text).ok_or(TIME_RULE)
}

fn rfc3339_micros(text: &[u8]) -> Option<i64> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    one_of(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    one_of(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    one_of(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let second = number(&mut rest, 2)?;
    let fraction = fraction_micros(&mut rest)?;
    let offset_minutes = offset(&mut rest)?;
    let sound = rest.is_empty()
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !sound {
        return None;
    }
    let minutes = hour
        .checked_mul(60)?
        .checked_add(minute)?
        .checked_sub(offset_minutes)?;
    let seconds = days_from_civil(year, month, day)?
        .checked_mul(SECONDS_PER_DAY)?
        .checked_add(minutes.checked_mul(60)?)?
        .checked_add(second.min(59))?;
    let fraction = if second == 60 {
        // Leap seconds are the last of a UTC day.
        (seconds.rem_euclid(SECONDS_PER_DAY) == 86_399).then_some(999_999)?
    } else {
        fraction
    };
    let micros = seconds
        .checked_mul(MICROS_PER_SECOND)?
        .checked_add(fraction)?;
    // An offset can lead out of the years that have four digits.
    let years = days_from_civil(0, 1, 1)?
        .checked_mul(SECONDS_PER_DAY)?
        .checked_mul(MICROS_PER_SECOND)?
        ..=MILLIS_MAX.checked_mul(1000)?.checked_add(999)?;
    years.contains(&micros).then_some(micros)
}

/// Takes exactly `digits` digits.
fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    decimal(head)
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

fn one_of(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (&byte, tail) = rest.split_first()?;
    *rest = tail;
    allowed.contains(&byte).then_some(byte)
}

/// Takes `.` and its digits if they are there; microseconds, rounded down.
fn fraction_micros(rest: &mut &[u8]) -> Option<i64> {
    let Some(after) = rest.strip_prefix(b".") else {
        return Some(0);
    };
    let count = after
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, tail) = after.split_at_checked(count)?;
    *rest = tail;
    if !(1..=FRACTION_DIGITS_MAX).contains(&count) {
        return None;
    }
    let mut six = *b"000000";
    for (slot, digit) in six.iter_mut().zip(digits) {
        *slot = *digit;
    }
    decimal(&six)
}

/// Takes `Z` or an offset; minutes east of UTC.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match one_of(rest, b"Zz+- ")? {
        b'Z' | b'z' => return Some(0),
        b'-' => -1,
        _ => 1,
    };
    let hours = number(rest, 2)?;
    one_of(rest, b":")?;
    let minutes = number(rest, 2)?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    hours
        .checked_mul(60)?
        .checked_add(minutes)?
        .checked_mul(sign)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counted in years that begin
/// on 1 March, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let shifted_month = if month <= 2 {
        month.checked_add(9)?
    } else {
        month.checked_sub(3)?
    };
    let day_of_year = shifted_month
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div_euclid(5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let leap_days = year
        .div_euclid(4)
        .checked_sub(year.div_euclid(100))?
        .checked_add(year.div_euclid(400))?;
    year.checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(day_of_year)?
        .checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = parse(text).map(|time| time.rfc3339().to_string());
        assert_eq!(found.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn a_number_in_another_unit_is_named() {
        assert_eq!(parse_asked("1700000000"), Err(SECONDS_RULE));
        assert_eq!(parse_asked("1700000000000000"), Err(MICROSECONDS_RULE));
        assert_eq!(parse_asked("1700000000000000000"), Err(NANOSECONDS_RULE));
        assert_eq!(parse_asked("yesterday"), Err(TIME_RULE));
        assert_eq!(parse_asked("9223372036854775807"), Err(TIME_RULE));
        for text in ["0", "1", "999999999", "1700000000000", "9999999999999"] {
            assert_eq!(parse_asked(text).ok(), parse(text), "{text}");
            assert!(parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn every_form_of_a_time_is_understood() {
        check("0", Some("1970-01-01T00:00:00.000000Z"));
        check("1795463408123", Some("2026-11-23T19:50:08.123000Z"));
        check("0001", Some("1970-01-01T00:00:00.001000Z"));
        check("253402300799999", Some("9999-12-31T23:59:59.999000Z"));
        check("2026-01-31T23:59:59Z", Some("2026-01-31T23:59:59.000000Z"));
        check("2026-01-31t23:59:59z", Some("2026-01-31T23:59:59.000000Z"));
        check("2026-01-31 23:59:59Z", Some("2026-01-31T23:59:59.000000Z"));
        check(
            "2026-01-31T23:59:59.1Z",
            Some("2026-01-31T23:59:59.100000Z"),
        );
        check(
            "2026-01-31T23:59:59.123456789Z",
            Some("2026-01-31T23:59:59.123456Z"),
        );
        check(
            "2026-01-31T23:59:59.999999999Z",
            Some("2026-01-31T23:59:59.999999Z"),
        );
        check(
            "2026-02-01T01:59:59+02:00",
            Some("2026-01-31T23:59:59.000000Z"),
        );
        check(
            "2026-02-01T01:59:59 02:00",
            Some("2026-01-31T23:59:59.000000Z"),
        );
        check(
            "2026-01-31T14:29:59.5-09:30",
            Some("2026-01-31T23:59:59.500000Z"),
        );
        check(
            "2026-01-31T23:59:59-00:00",
            Some("2026-01-31T23:59:59.000000Z"),
        );
        check("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00.000000Z"));
        check("2000-02-29T00:00:00Z", Some("2000-02-29T00:00:00.000000Z"));
        check("1969-12-31T23:59:59Z", Some("1969-12-31T23:59:59.000000Z"));
        check("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00.000000Z"));
        check("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:59.999999Z"));
        check(
            "2017-01-01T00:59:60.5+01:00",
            Some("2016-12-31T23:59:59.999999Z"),
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "now",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "253402300800000",
            "99999999999999999999",
            "2026-01-31",
            "2026-01-31T",
            "2026-01-31T23:59Z",
            "2026-01-31T23:59:59",
            "2026-01-31T23:59:59.Z",
            "2026-01-31T23:59:59.1234567890Z",
            "2026-01-31T23:59:59,5Z",
            "2026-01-31T23:59:59Z ",
            " 2026-01-31T23:59:59Z",
            "2026-01-31T23:59:59ZZ",
            "2026-01-31T23:59:59+02",
            "2026-01-31T23:59:59+0200",
            "2026-01-31T23:59:59+24:00",
            "2026-01-31T23:59:59+02:60",
            "2026-01-31T24:00:00Z",
            "2026-01-31T23:60:00Z",
            "2026-01-31T23:59:61Z",
            "2026-01-31T12:00:60Z",
            "2026-00-31T00:00:00Z",
            "2026-13-31T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "26-01-31T00:00:00Z",
            "2026-1-31T00:00:00Z",
            "2026-01-31_00:00:00Z",
            "20260131T000000Z",
            "+2026-01-31T00:00:00Z",
            "12026-01-31T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
            "2026-01-31T23:59:59\u{2212}01:00",
            "２026-01-31T23:59:59Z",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn the_text_of_every_time_is_read_back() {
        for step in 0..3999_i64 {
            let micros = -62_167_219_200_000_000 + step * 78_912_345_678_901;
            let time = Timestamp::from_micros(micros);
            assert_eq!(parse(&time.rfc3339().to_string()), Some(time), "{micros}");
        }
    }
}

//! Points in time, and their text form in responses.

use std::fmt;

/// Microseconds since the Unix epoch, UTC. Never read from a clock here: `clock` makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Timestamp(i64);

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.000001Z`, always 27 bytes for years 0 to 9999.
    pub fn rfc3339(self) -> Rfc3339 {
        let (days, micros) = (
            self.0.div_euclid(MICROS_PER_SECOND * SECONDS_PER_DAY),
            self.0.rem_euclid(MICROS_PER_SECOND * SECONDS_PER_DAY),
        );
        let (year, month, day) = civil_from_days(days);
        let seconds = micros / MICROS_PER_SECOND;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        put(&mut text, 0, 4, year);
        put(&mut text, 5, 2, month);
        put(&mut text, 8, 2, day);
        put(&mut text, 11, 2, seconds / 3600);
        put(&mut text, 14, 2, seconds / 60 % 60);
        put(&mut text, 17, 2, seconds % 60);
        put(&mut text, 20, 6, micros % MICROS_PER_SECOND);
        Rfc3339(text)
    }
}

/// The text of a [`Timestamp`]; made on the stack, since every response and push carries one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text as ASCII bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.0).or(Err(fmt::Error))?)
    }
}

/// Writes `value` as `width` decimal digits at `at`; higher digits are dropped.
fn put(text: &mut [u8; 27], at: usize, width: usize, value: i64) {
    let mut rest = value.unsigned_abs();
    for slot in text[at..at + width].iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar, by counting in
/// 400-year eras that begin on 1 March, so that the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc3339_utc_with_microseconds() {
        let check = |micros, text: &str| {
            assert_eq!(Timestamp::from_micros(micros).rfc3339().to_string(), text);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(1, "1970-01-01T00:00:00.000001Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(951_868_799_999_999, "2000-02-29T23:59:59.999999Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z");
        check(1_795_463_408_123_456, "2026-11-23T19:50:08.123456Z");
    }

    #[test]
    fn milliseconds_round_down() {
        assert_eq!(Timestamp::from_micros(1999).as_millis(), 1);
        assert_eq!(Timestamp::from_micros(-1).as_millis(), -1);
    }
}

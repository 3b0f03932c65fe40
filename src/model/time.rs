//! Points in time, and their text form in responses.

use super::digits::eight_decimals;
use std::cell::Cell;
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

    /// RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.000001Z`, always 27 bytes for years
    /// 0 to 9999.
    pub fn rfc3339(self) -> Rfc3339 {
        let seconds_total = self.0.div_euclid(MICROS_PER_SECOND);
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let seconds = seconds_total.rem_euclid(SECONDS_PER_DAY);
        let date = date_digits(seconds_total.div_euclid(SECONDS_PER_DAY));
        let time = seconds / 3600 * 10_000 + seconds / 60 % 60 * 100 + seconds % 60;
        let time = eight_decimals(time.unsigned_abs());
        let fraction = eight_decimals(micros.unsigned_abs());
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        text[..4].copy_from_slice(&date[..4]);
        text[5..7].copy_from_slice(&date[4..6]);
        text[8..10].copy_from_slice(&date[6..]);
        text[11..13].copy_from_slice(&time[2..4]);
        text[14..16].copy_from_slice(&time[4..6]);
        text[17..19].copy_from_slice(&time[6..]);
        text[20..26].copy_from_slice(&fraction[2..]);
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

thread_local! {
    /// A day, and its digits.
    static LAST_DAY: Cell<(i64, [u8; 8])> = const { Cell::new((0, *b"19700101")) };
}

/// The digits YYYYMMDD of the date so many days after 1970-01-01. The day that was asked for last
/// is remembered: the times of a listing, and those of now, are nearly all of one.
fn date_digits(days: i64) -> [u8; 8] {
    let (last, date) = LAST_DAY.get();
    if last == days {
        return date;
    }
    let date = eight_decimals(date_number(days).unsigned_abs());
    LAST_DAY.set((days, date));
    date
}

/// The date so many days after 1970-01-01, in the proleptic Gregorian calendar, as the number
/// YYYYMMDD.
///
/// Years begin on 1 March, so that the leap day is the last of its year; centuries, years and
/// months are found by multiplications (Neri, Schneider: Euclidean affine functions and their
/// application to calendar algorithms, 2022).
fn date_number(days: i64) -> i64 {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH_DAY: i64 = 719_468;
    const ERA_DAYS: i64 = 146_097;
    const ERA_YEARS: i64 = 400;
    let shifted = days + EPOCH_DAY;
    let quarter_days = 4 * shifted.rem_euclid(ERA_DAYS) + 3;
    let century = quarter_days / ERA_DAYS;
    // The year of the century in the upper half, and how much of it is over in the lower.
    let year_part = 2_939_745 * ((quarter_days % ERA_DAYS) | 3);
    let year_of_century = year_part >> 32;
    let day_of_year = (year_part & 0xffff_ffff) / 2_939_745 / 4;
    let month_part = 2141 * day_of_year + 197_913;
    let (month, day) = (month_part >> 16, (month_part & 0xffff) / 2141 + 1);
    let next_year = i64::from(day_of_year >= 306);
    let year =
        shifted.div_euclid(ERA_DAYS) * ERA_YEARS + 100 * century + year_of_century + next_year;
    year * 10_000 + (month - 12 * next_year) * 100 + day
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
    fn every_day_of_ten_thousand_years_follows_the_one_before() {
        let (mut year, mut month, mut day) = (0, 1, 1);
        // 0000-01-01 is 719,528 days before 1970-01-01, and 9999-12-31 is 2,932,896 after it.
        for days in -719_528..=2_932_896 {
            assert_eq!(date_number(days), year * 10_000 + month * 100 + day);
            let leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + i64::from(leaps),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn milliseconds_round_down() {
        assert_eq!(Timestamp::from_micros(1999).as_millis(), 1);
        assert_eq!(Timestamp::from_micros(-1).as_millis(), -1);
    }
}

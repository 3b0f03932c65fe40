//! The `Date` of a response: IMF-fixdate (RFC 9110 §5.6.7). The caller makes it once a second, not
//! per response.

/// `Sun, 06 Nov 1994 08:49:37 GMT`: always 29 ASCII bytes.
pub type ImfFixdate = [u8; 29];

const SECONDS_PER_DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z, the last that four digits hold.
const LAST_SECOND: i64 = 253_402_300_799;
const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// Writes the text of a time in Unix seconds; one before 1970 or after 9999 is taken as the nearest
/// within.
pub fn imf_fixdate(unix_seconds: i64, out: &mut ImfFixdate) {
    let seconds = unix_seconds.clamp(0, LAST_SECOND);
    let days = seconds / SECONDS_PER_DAY;
    let second_of_day = seconds % SECONDS_PER_DAY;
    let (year, month, day) = civil_from_days(days);
    *out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    put_name(out, 0, WEEKDAYS, days % 7);
    put_number(out, 5..7, day);
    put_name(out, 8, MONTHS, month);
    put_number(out, 12..16, year);
    put_number(out, 17..19, second_of_day / 3600);
    put_number(out, 20..22, second_of_day / 60 % 60);
    put_number(out, 23..25, second_of_day % 60);
}

/// Copies the three letters of the name at `index`.
fn put_name(out: &mut ImfFixdate, at: usize, names: &[u8], index: i64) {
    let name = usize::try_from(index)
        .ok()
        .and_then(|index| names.chunks_exact(3).nth(index));
    let slot = out
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<3>());
    if let (Some(slot), Some(name)) = (slot, name) {
        slot.copy_from_slice(name);
    }
}

/// Fills `range` with the last decimal digits of `value`.
fn put_number(out: &mut ImfFixdate, range: std::ops::Range<usize>, value: i64) {
    let mut rest = value;
    for slot in out.get_mut(range).unwrap_or_default().iter_mut().rev() {
        *slot = u8::try_from(rest % 10).map_or(b'0', |digit| digit | b'0');
        rest /= 10;
    }
}

/// Days since 1970-01-01, not negative, to the year, the month from 0, and the day from 1.
///
/// Counted in 400-year eras from 0000-03-01, so that the leap day comes last in its year.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the caller clamps to the years 1970 to 9999, so every value here has at most seven digits"
)]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march / 146_097, since_march % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdate() {
        let check = |seconds, expected: &str| {
            let mut out = [0; 29];
            imf_fixdate(seconds, &mut out);
            assert_eq!(str::from_utf8(&out).unwrap(), expected, "{seconds}");
        };
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT");
        check(LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        let text = |seconds| {
            let mut out = [0; 29];
            imf_fixdate(seconds, &mut out);
            out
        };
        assert_eq!(text(i64::MIN), text(0));
        assert_eq!(text(i64::MAX), text(LAST_SECOND));
    }
}

//! What judging an entity costs, in units of work (`limits`), and how far it came.
//!
//! ```text
//! 1,1,0,?  │ three comparisons are made, the next would cost too much: it goes on there
//! ```
//!
//! A comparison is linear in the value that it is about, and an entity may be some megabytes. So
//! what a comparison costs at worst is taken before it is made, by the length of the value. If
//! there is not as much left, the comparisons made so far are kept, and a later call goes on: a
//! comparison is the smallest piece, some milliseconds at worst.

use super::Operand;
use super::json::{ESCAPE_BYTES_MAX, Kind};
use crate::limits::FILTER_BYTES_MAX;

/// Units of a comparison, besides what it looks at.
const COMPARISON_UNITS: u64 = 32;
/// Units of a property whose name is looked at.
const PROPERTY_UNITS: u64 = 8;
/// Units of a byte of a container that is walked over, or of a number.
const WALK_UNITS: u64 = 2;
/// Bytes of a string without escapes that are searched for one unit.
const SEARCH_BYTES_PER_UNIT: u64 = 1;
/// Units of a byte of a string with escapes that is searched.
const ESCAPED_UNITS: u64 = 4;
/// Bytes of a string that are looked at for an escape for one unit.
const SCAN_BYTES_PER_UNIT: u64 = 8;
/// How often the text of large objects is gone through to bring their members into one order.
const SORTING_FACTOR: u64 = 8;

/// The comparisons of one judgement that were made: what each said, by its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    count: u32,
    holds: u64,
}

/// See the module. By default, none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    left: u64,
    spent: u64,
    progress: Progress,
    /// The first piece of a call is done whatever it costs, so that each call comes further.
    goes_on: bool,
    /// Nothing was compared in this call.
    is_first: bool,
}

impl Effort {
    /// As much as it takes.
    pub const fn unbounded() -> Self {
        Self::strict(u64::MAX)
    }

    /// So many units, and no more.
    pub const fn strict(units: u64) -> Self {
        Self {
            left: units,
            spent: 0,
            progress: Progress { count: 0, holds: 0 },
            goes_on: false,
            is_first: true,
        }
    }

    /// So many units, and one comparison in any case. `progress`: what was found out before.
    pub const fn going_on(units: u64, progress: Progress) -> Self {
        Self {
            progress,
            goes_on: true,
            ..Self::strict(units)
        }
    }

    /// Units that were spent.
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// The comparisons that were made.
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The same judgement may take so many units more.
    pub(crate) const fn give(&mut self, units: u64) {
        self.left = self.left.saturating_add(units);
    }

    /// Another judgement begins, with what is left.
    pub(crate) const fn restart(&mut self) {
        self.progress = Progress { count: 0, holds: 0 };
    }

    pub(super) const fn begin(&mut self) {
        self.is_first = true;
    }

    const fn take(&mut self, units: u64) -> Option<()> {
        let is_forced = self.goes_on && self.is_first;
        if units > self.left && !is_forced {
            return None;
        }
        self.left = self.left.saturating_sub(units);
        self.spent = self.spent.saturating_add(units);
        Some(())
    }

    /// The name of a property is looked at.
    pub(super) const fn pass_property(&mut self) -> Option<()> {
        self.take(PROPERTY_UNITS)
    }

    /// A value is walked over for what is inside it.
    pub(super) const fn walk(&mut self, value: &str) -> Option<()> {
        self.take(value.len() as u64 * WALK_UNITS)
    }

    /// A value is compared with an operand.
    pub(super) fn compare(&mut self, value: &str, operand: &Operand) -> Option<()> {
        let kind = Kind::of(value);
        let units = match operand {
            Operand::Number(_) if kind == Kind::Number => value.len() as u64 * WALK_UNITS,
            Operand::String(text) if kind == Kind::String => {
                let looked_at = value.len().min(ESCAPE_BYTES_MAX * (text.len() + 1));
                looked_at as u64 * WALK_UNITS
            }
            Operand::Other(other) if kind == Kind::of(other) => equality(value, other),
            _ => 0,
        };
        self.take(COMPARISON_UNITS + units)
    }

    /// A value is compared with another.
    pub(crate) fn equal(&mut self, value: &str, other: &str) -> Option<()> {
        let units = if value == other {
            value.len() as u64 / SCAN_BYTES_PER_UNIT
        } else {
            equality(value, other)
        };
        self.take(COMPARISON_UNITS + units)
    }

    /// A value is searched for the pieces of a pattern.
    pub(super) fn search(&mut self, value: &str) -> Option<()> {
        let len = value.len() as u64;
        if Kind::of(value) != Kind::String {
            return self.take(COMPARISON_UNITS);
        }
        self.take(COMPARISON_UNITS + len / SCAN_BYTES_PER_UNIT)?;
        if memchr::memchr(b'\\', value.as_bytes()).is_some() {
            self.take(len * ESCAPED_UNITS)
        } else {
            self.take(len / SEARCH_BYTES_PER_UNIT)
        }
    }

    /// What the comparison of this turn said, if it was made.
    pub(super) const fn known(&self, turn: u32) -> Option<bool> {
        if turn < self.progress.count {
            Some(self.progress.holds >> turn & 1 == 1)
        } else {
            None
        }
    }

    /// The comparison of this turn says so.
    pub(super) fn note(&mut self, turn: u32, holds: bool) {
        self.progress.count = turn + 1;
        self.progress.holds |= u64::from(holds) << turn;
        self.is_first = false;
    }
}

/// Units of comparing two values that are not the same text.
fn equality(value: &str, other: &str) -> u64 {
    let (value, other) = (value.as_bytes(), other.as_bytes());
    let (shorter, longer) = if value.len() < other.len() {
        (value, other)
    } else {
        (other, value)
    };
    let is_sorted = shorter.len() > FILTER_BYTES_MAX;
    let factor = if is_sorted { SORTING_FACTOR } else { 1 };
    // Members in another order cost the text once more, for each object around them.
    let objects = memchr::memchr_iter(b'{', shorter).take(128).count() as u64;
    longer.len() as u64 * WALK_UNITS * (1 + objects * factor)
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, Filter};
    use super::*;
    use crate::model::Timestamp;

    const FACTS: Facts = Facts {
        version: 1,
        updated: Timestamp::from_micros(1),
        expires: None,
    };

    /// A string of 64 KiB that begins with an escape.
    fn large() -> String {
        format!("\"\\n{}\"", "a".repeat(64 * 1024))
    }

    fn filter(text: &str) -> Filter {
        Filter::parse(text).expect(text)
    }

    #[test]
    fn a_judgement_goes_on_one_comparison_at_a_time_and_comes_to_the_same() {
        let value = large();
        let properties = || [("p", value.as_str())].into_iter();
        for (part, count, expected) in [
            (r#"like(p,"*a")"#, 64, true),
            (r#"not(like(p,"*b"))"#, 63, true),
            // The first decides.
            (r#"like(p,"*b")"#, 64, false),
        ] {
            let filter = filter(&format!("and({})", vec![part; count].join(",")));
            let (mut progress, mut slices) = (Progress::default(), 0);
            let matches = loop {
                slices += 1;
                let mut effort = Effort::going_on(1, progress);
                let matches = filter.judge(&FACTS, properties(), &mut effort);
                progress = effort.progress();
                if let Some(matches) = matches {
                    break matches;
                }
            };
            assert_eq!(matches, expected, "{part}");
            assert_eq!(matches, filter.matches(&FACTS, properties()), "{part}");
            let comparisons = if part == r#"like(p,"*b")"# { 1 } else { count };
            assert_eq!(slices, comparisons, "{part}");
        }
    }

    #[test]
    fn no_more_is_spent_than_there_is_and_what_decides_first_decides() {
        let value = large();
        let nested = format!(r#"{{"x":{value}}}"#);
        let properties = || [("a", "1"), ("n", nested.as_str()), ("p", value.as_str())].into_iter();
        for (text, units, expected) in [
            (r#"like(p,"*b")"#, 128 * 1024, None),
            (r#"like(p,"*b")"#, 320 * 1024, Some(false)),
            (r#"and(eq(a,2),like(p,"*b"))"#, 1024, Some(false)),
            (r#"or(eq(a,1),like(p,"*b"))"#, 1024, Some(true)),
            // What is not searched costs next to nothing, however large it is.
            (r#"eq(p,"b")"#, 1024, Some(false)),
            ("exists(p)", 1024, Some(true)),
            ("exists(n/x)", 1024, None),
            ("exists(n/x)", 192 * 1024, Some(true)),
            ("eq(n,[1])", 1024, Some(false)),
            (r#"eq(n,{"x":1})"#, 1024, None),
        ] {
            let mut effort = Effort::strict(units);
            let judged = filter(text).judge(&FACTS, properties(), &mut effort);
            assert_eq!(judged, expected, "{text} {units}");
            assert!(effort.spent() <= units, "{text} {}", effort.spent());
        }
    }

    #[test]
    fn values_in_values_are_walked_over_once_however_deep_the_paths_lead() {
        let deep = (0..100).fold("1".to_owned(), |inner, _| {
            format!(r#"{{"a":{inner},"b":[2]}}"#)
        });
        let path = |len: usize| format!("exists(p{})", "/a".repeat(len));
        let spent = |len: usize| {
            let mut effort = Effort::unbounded();
            let properties = [("p", deep.as_str())].into_iter();
            assert_eq!(
                filter(&path(len)).judge(&FACTS, properties, &mut effort),
                Some(true)
            );
            effort.spent()
        };
        assert_eq!(spent(1), spent(100));
    }
}

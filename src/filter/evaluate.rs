//! Whether an entity matches a filter.
//!
//! The values that the filter's paths name are found in one walk over the properties and over what
//! is inside them, however many paths there are: paths and properties are both in order, and inside
//! a value each name is held against the paths that lead there.

use std::cmp::Ordering;
use std::fmt::Write;

use super::effort::Effort;
use super::json::{Kind, compare_string, equal_by_value, find_values, string_content};
use super::{Comparison, Expression, Facts, Filter, Operand, Target};
use crate::limits::FILTER_COMPARISONS_MAX;
use crate::model::{Decimal, Timestamp};

/// Values of a filter with few paths, which most are: clearing more for each entity would cost as
/// much as the look at it.
const FEW: usize = 4;

impl Filter {
    /// True if an entity matches, whatever it costs to find that out: for helper threads.
    /// `properties`: names and JSON text of the values, ascending by name. Cost: the text of the
    /// properties that the filter names, for each of its comparisons at worst; no allocation.
    pub fn matches<'a>(
        &self,
        facts: &Facts,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> bool {
        self.judge(facts, properties, &mut Effort::unbounded())
            .unwrap_or(false)
    }

    /// Whether an entity matches; `None` if that would take more than what is left of `effort`. It
    /// then knows what was found out, and the next call with it goes on from there if the entity is
    /// the same.
    pub fn judge<'a>(
        &self,
        facts: &Facts,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        effort: &mut Effort,
    ) -> Option<bool> {
        if self.paths.len() <= FEW {
            self.judge_within::<FEW>(facts, properties, effort)
        } else {
            self.judge_within::<FILTER_COMPARISONS_MAX>(facts, properties, effort)
        }
    }

    fn judge_within<'a, const N: usize>(
        &self,
        facts: &Facts,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        effort: &mut Effort,
    ) -> Option<bool> {
        effort.begin();
        let mut values: [Option<&str>; N] = [None; N];
        let mut next = 0;
        for (name, value) in properties {
            while self.paths.get(next).is_some_and(|path| *path[0] < *name) {
                next += 1;
            }
            let rest = self.paths.get(next..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let count = rest.iter().take_while(|path| *path[0] == *name).count();
            effort.pass_property()?;
            if count > 0 {
                let paths = &rest[..count];
                if paths.iter().any(|path| path.len() > 1) {
                    effort.walk(value)?;
                }
                find_values(paths, value, &mut values[next..]);
            }
            next += count;
        }
        let mut asked = Asked {
            values: &values,
            facts,
            effort,
            next: 0,
        };
        asked.hold(&self.root)
    }
}

/// What a filter is asked about.
struct Asked<'v, 'a> {
    /// By the index of the path.
    values: &'v [Option<&'a str>],
    facts: &'v Facts,
    effort: &'v mut Effort,
    /// Comparisons that were made so far, in this call or an earlier one. What each said decides
    /// which is the next, so they are the same in each call.
    next: u32,
}

impl Asked<'_, '_> {
    fn hold(&mut self, expression: &Expression) -> Option<bool> {
        match expression {
            Expression::All(parts) => {
                for part in parts {
                    if !self.hold(part)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Expression::Any(parts) => {
                for part in parts {
                    if self.hold(part)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Expression::Not(part) => Some(!self.hold(part)?),
            comparison => {
                let index = self.next;
                self.next += 1;
                if let Some(known) = self.effort.known(index) {
                    return Some(known);
                }
                self.afford(comparison)?;
                let holds = self.compares(comparison);
                self.effort.note(index, holds);
                Some(holds)
            }
        }
    }

    /// Takes what a comparison costs at worst.
    fn afford(&mut self, comparison: &Expression) -> Option<()> {
        let values = self.values;
        let value = |target: &Target| match target {
            Target::Path(index) => values.get(*index).copied().flatten().unwrap_or_default(),
            Target::Version | Target::Updated | Target::Expires => "",
        };
        match comparison {
            Expression::Compare(target, _, operand) => {
                let value = value(target);
                self.effort.compare(value, operand)
            }
            Expression::In(target, operands) => {
                let value = value(target);
                let effort = &mut *self.effort;
                operands
                    .iter()
                    .try_for_each(|operand| effort.compare(value, operand))
            }
            Expression::Like(target, _) => {
                let value = value(target);
                self.effort.search(value)
            }
            _ => Some(()),
        }
    }

    /// What a comparison says.
    fn compares(&self, comparison: &Expression) -> bool {
        match comparison {
            Expression::All(_) | Expression::Any(_) | Expression::Not(_) => false,
            Expression::Compare(target, comparison, operand) => {
                let has_order = !matches!(operand, Operand::Other(_));
                let found = self.compare(*target, operand);
                found.is_some_and(|found| match comparison {
                    Comparison::Eq => found == Ordering::Equal,
                    Comparison::Ne => found != Ordering::Equal,
                    Comparison::Lt => has_order && found == Ordering::Less,
                    Comparison::Le => has_order && found != Ordering::Greater,
                    Comparison::Gt => has_order && found == Ordering::Greater,
                    Comparison::Ge => has_order && found != Ordering::Less,
                })
            }
            Expression::In(target, operands) => operands
                .iter()
                .any(|operand| self.compare(*target, operand) == Some(Ordering::Equal)),
            Expression::Like(target, pattern) => match target {
                Target::Path(index) => self
                    .value(*index)
                    .filter(|value| Kind::of(value) == Kind::String)
                    .is_some_and(|value| pattern.matches(string_content(value))),
                Target::Version => false,
                Target::Updated | Target::Expires => self.time(*target).is_some_and(|time| {
                    let text = time.rfc3339();
                    str::from_utf8(text.as_bytes()).is_ok_and(|text| pattern.matches(text))
                }),
            },
            Expression::Exists(target) => match target {
                Target::Path(index) => self.value(*index).is_some(),
                Target::Version | Target::Updated => true,
                Target::Expires => self.facts.expires.is_some(),
            },
        }
    }

    fn value(&self, index: usize) -> Option<&str> {
        self.values.get(index).copied().flatten()
    }

    fn time(&self, target: Target) -> Option<Timestamp> {
        match target {
            Target::Updated => Some(self.facts.updated),
            Target::Expires => self.facts.expires,
            Target::Path(_) | Target::Version => None,
        }
    }

    /// How a value compares with an operand; `None` if it is missing or the types differ. Of types
    /// that have no order any inequality is `Less`.
    fn compare(&self, target: Target, operand: &Operand) -> Option<Ordering> {
        match target {
            Target::Path(index) => compare_value(self.value(index)?, operand),
            Target::Version => {
                let mut digits = Digits::default();
                write!(digits, "{}", self.facts.version).ok()?;
                compare_value(digits.as_str(), operand)
            }
            Target::Updated | Target::Expires => compare_time(self.time(target)?, operand),
        }
    }
}

fn compare_value(value: &str, operand: &Operand) -> Option<Ordering> {
    let kind = Kind::of(value);
    match operand {
        Operand::Number(number) => {
            let value = (kind == Kind::Number).then(|| Decimal::parse(value))??;
            Some(value.cmp(&Decimal::parse(number)?))
        }
        Operand::String(text) => {
            (kind == Kind::String).then(|| compare_string(string_content(value), text))
        }
        Operand::Time(_) => None,
        Operand::Other(other) => (kind == Kind::of(other)).then(|| {
            if equal_by_value(value, other) {
                Ordering::Equal
            } else {
                Ordering::Less
            }
        }),
    }
}

fn compare_time(time: Timestamp, operand: &Operand) -> Option<Ordering> {
    match operand {
        Operand::Time(other) => Some(time.cmp(other)),
        Operand::Number(number) => {
            let mut digits = Digits::default();
            write!(digits, "{}e-3", time.as_micros()).ok()?;
            let millis = Decimal::parse(digits.as_str())?;
            Some(millis.cmp(&Decimal::parse(number)?))
        }
        Operand::String(_) | Operand::Other(_) => None,
    }
}

/// The digits of a number, on the stack.
#[derive(Default)]
struct Digits {
    bytes: [u8; 24],
    len: usize,
}

impl Digits {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len());
        room.ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

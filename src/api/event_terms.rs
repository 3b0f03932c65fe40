//! What an event asks of its owner besides being stored: its conditions, its operations and its
//! `ttl` (API contract §14).

use super::error::ApiError;
use super::event::{EventReader, Text};
use super::json::{JsonError, Kind, RawValue, Scanner};
use crate::filter::Filter;
use crate::limits;
use crate::model::{Decimal, Property, Term, TermKind, Terms};

/// The terms of an event as the walk finds them; of repeated ones the last stays.
#[derive(Debug, Default)]
pub(super) struct TermSpans<'a> {
    terms: Vec<(TermKind, Text<'a>, Text<'a>)>,
}

impl<'a> TermSpans<'a> {
    fn push(&mut self, kind: TermKind, (name, value): (Text<'a>, Text<'a>)) {
        self.terms.push((kind, name, value));
    }

    /// A member comes, perhaps again: what an earlier one said is forgotten.
    fn forget(&mut self, kind: TermKind) {
        self.terms.retain(|(other, ..)| *other != kind);
    }

    /// What an earlier payload asked for is forgotten.
    pub(super) fn forget_payload(&mut self) {
        self.terms.retain(|(kind, ..)| !kind.is_of_payload());
    }

    /// What an earlier `expect` asked for is forgotten.
    fn forget_conditions(&mut self) {
        self.terms.retain(|(kind, ..)| kind.is_of_payload());
    }

    /// Appends the terms to `out` in their order.
    pub(super) fn encode(mut self, scratch: &str, out: &mut Vec<u8>) {
        if self.terms.is_empty() {
            return;
        }
        // Stable: of terms with the same name the last in the body stays last.
        self.terms
            .sort_by(|(kind, name, _), (other, other_name, _)| {
                let by_name = || name.resolve(scratch).cmp(other_name.resolve(scratch));
                kind.cmp(other).then_with(by_name)
            });
        let mut terms = self.terms.iter().peekable();
        while let Some((kind, name, value)) = terms.next() {
            let name = name.resolve(scratch);
            let is_repeated = terms.peek().is_some_and(|(other, other_name, _)| {
                other == kind && other_name.resolve(scratch) == name
            });
            if !is_repeated {
                let value = value.resolve(scratch);
                Term {
                    kind: *kind,
                    name,
                    value,
                }
                .encode(out);
            }
        }
    }
}

/// The rule for the value of an operation on the property `name`.
fn check_operand(kind: TermKind, name: &str, value: &RawValue<'_>) -> Result<(), ApiError> {
    let too_long = || ApiError::OperationLimit(kind.place(name));
    match (kind, value.kind) {
        (TermKind::Append, Kind::Array) => {
            let mut array = Scanner::over(value.text);
            let mut count = 0_usize;
            let counted = array.begin_array().and_then(|()| {
                while array.next_element()? {
                    array.raw_value()?;
                    count = count.saturating_add(1);
                }
                Ok(())
            });
            match counted {
                Ok(()) if count <= limits::APPEND_ELEMENTS_MAX => Ok(()),
                _ => Err(too_long()),
            }
        }
        (TermKind::Increment | TermKind::Min | TermKind::Max, Kind::Number) => {
            let number = Decimal::parse(value.text);
            let fits = |number: Decimal<'_>| number.digit_count() <= limits::DECIMAL_DIGITS_MAX;
            if number.is_some_and(fits) {
                Ok(())
            } else {
                Err(too_long())
            }
        }
        _ => Err(ApiError::OperationType(kind.place(name))),
    }
}

/// Whether a value is a `ttl`: a number of seconds within its bounds, or `null`.
fn is_ttl(value: &RawValue<'_>) -> bool {
    let bounds = [limits::TTL_SECONDS_MIN, limits::TTL_SECONDS_MAX].map(Decimal::parse);
    match (value.kind, Decimal::parse(value.text), bounds) {
        (Kind::Null, ..) => true,
        (Kind::Number, Some(seconds), [Some(min), Some(max)]) => min <= seconds && seconds <= max,
        _ => false,
    }
}

/// A property that is named by two operations, or by one and by `properties`, which ascend.
pub(super) fn conflict(terms: &[u8], properties: &[Property<'_>]) -> Option<Box<str>> {
    let operations = Terms::new(terms).filter(|term| term.kind.is_operation());
    let mut names: Vec<&str> = operations.map(|term| term.name).collect();
    names.sort_unstable();
    let is_set = |name: &&str| {
        let found = properties.binary_search_by(|property| property.name.cmp(name));
        found.is_ok()
    };
    let repeats = |pair: &&[&str]| pair.first() == pair.last();
    let repeated = names.windows(2).find(repeats).and_then(|it| it.first());
    let conflict = repeated.or_else(|| names.iter().find(|name| is_set(name)));
    conflict.map(|&name| name.into())
}

/// True for an entity tag in its strong form, quotes included (RFC 9110 §8.8.3).
pub(super) fn is_strong_tag(tag: &str) -> bool {
    let inside = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inside.is_some_and(|inside| inside.bytes().all(|byte| byte > b' ' && byte != b'"'))
}

const NOTHING: Text<'static> = Text::Body("");

impl<'a> EventReader<'_, 'a> {
    /// Reads `expect`.
    pub(super) fn expect(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        // Of a repeated `expect` the last counts.
        self.terms.forget_conditions();
        self.begin_member("expect");
        match scanner.kind()? {
            Kind::Object => {}
            kind => {
                scanner.raw_value()?;
                if kind != Kind::Null {
                    self.invalid("expect", "an object");
                }
                return Ok(());
            }
        }
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            let name = self.text(key);
            match name.resolve(self.scratch) {
                "version" => self.expect_version(scanner)?,
                "etag" => self.expect_tag(scanner)?,
                "absent" => self.expect_true(scanner, (TermKind::Absent, "expect.absent"))?,
                "present" => self.expect_true(scanner, (TermKind::Present, "expect.present"))?,
                "properties" => self.expect_properties(scanner)?,
                "absent_properties" => self.expect_absent_properties(scanner)?,
                "filter" => self.expect_filter(scanner)?,
                _ => {
                    scanner.raw_value()?;
                    let rule = "its members are `version`, `etag`, `absent`, `present`, \
                                `properties`, `absent_properties` and `filter`";
                    self.invalid("expect", rule);
                }
            }
        }
        Ok(())
    }

    fn expect_version(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        const FIELD: &str = "expect.version";
        self.begin_term(TermKind::Version, FIELD);
        let value = scanner.raw_value()?;
        let digits = value.text.bytes().all(|byte| byte.is_ascii_digit());
        match value.text.parse::<u64>() {
            Ok(version) if digits && version > 0 => {
                let value = (NOTHING, Text::Body(value.text));
                self.terms.push(TermKind::Version, value);
            }
            _ => self.invalid(FIELD, "a positive integer"),
        }
        Ok(())
    }

    fn expect_tag(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        const FIELD: &str = "expect.etag";
        self.begin_term(TermKind::EntityTag, FIELD);
        if let Some(string) = scanner.string_or_other()? {
            let tag = self.text(string);
            if is_strong_tag(tag.resolve(self.scratch)) {
                self.terms.push(TermKind::EntityTag, (NOTHING, tag));
                return Ok(());
            }
        } else {
            scanner.raw_value()?;
        }
        self.invalid(
            FIELD,
            "an entity tag as the `ETag` header has it, quotes included",
        );
        Ok(())
    }

    fn expect_filter(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        const FIELD: &str = "expect.filter";
        self.begin_term(TermKind::Filter, FIELD);
        let Some(string) = scanner.string_or_other()? else {
            scanner.raw_value()?;
            self.invalid(FIELD, "a string");
            return Ok(());
        };
        let text = self.text(string);
        match Filter::parse(text.resolve(self.scratch)) {
            Ok(_) => self.terms.push(TermKind::Filter, (NOTHING, text)),
            Err(error) => self.fields.errors.push((FIELD, error.into())),
        }
        Ok(())
    }

    fn expect_true(
        &mut self,
        scanner: &mut Scanner<'a>,
        (kind, field): (TermKind, &'static str),
    ) -> Result<(), JsonError> {
        self.begin_term(kind, field);
        if scanner.raw_value()?.kind == Kind::True {
            self.terms.push(kind, (NOTHING, NOTHING));
        } else {
            self.invalid(field, "`true`");
        }
        Ok(())
    }

    fn expect_properties(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        const FIELD: &str = "expect.properties";
        self.begin_term(TermKind::Equal, FIELD);
        if scanner.kind()? != Kind::Object {
            scanner.raw_value()?;
            self.invalid(FIELD, "an object");
            return Ok(());
        }
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            let name = self.text(key);
            let value = scanner.raw_value()?;
            let value = self.value(&value);
            self.terms.push(TermKind::Equal, (name, value));
        }
        Ok(())
    }

    fn expect_absent_properties(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        const FIELD: &str = "expect.absent_properties";
        self.begin_term(TermKind::Missing, FIELD);
        if scanner.kind()? != Kind::Array {
            scanner.raw_value()?;
            self.invalid(FIELD, "an array of strings");
            return Ok(());
        }
        scanner.begin_array()?;
        while scanner.next_element()? {
            if let Some(string) = scanner.string_or_other()? {
                let name = self.text(string);
                self.terms.push(TermKind::Missing, (name, NOTHING));
            } else {
                scanner.raw_value()?;
                self.invalid(FIELD, "an array of strings");
            }
        }
        Ok(())
    }

    /// Reads an operation of the payload from its value.
    pub(super) fn operation(
        &mut self,
        (kind, path): (TermKind, &'static str),
        value: &RawValue<'a>,
    ) {
        self.terms.forget(kind);
        self.fields.operations = true;
        let fits = match (kind, value.kind) {
            (TermKind::Unset, Kind::Array) => self.names(value.text),
            (TermKind::Unset, _) => Some(Err(ApiError::OperationType(kind.place("")))),
            (_, Kind::Object) => self.operands(kind, value.text),
            (_, _) => Some(Err(ApiError::OperationType(kind.place("")))),
        };
        // The value was walked over before: it is JSON.
        if let Some(Err(error)) = fits {
            self.terms.forget(kind);
            if !self.is_stored {
                self.fields.errors.push((path, error));
            }
        }
    }

    /// Reads `ttl` from its value.
    pub(super) fn ttl(&mut self, value: &RawValue<'a>) {
        self.terms.forget(TermKind::Ttl);
        self.fields.operations = true;
        if is_ttl(value) {
            let value = (NOTHING, Text::Body(value.text));
            self.terms.push(TermKind::Ttl, value);
        } else if !self.is_stored {
            self.invalid(
                "payload.ttl",
                "a number of seconds from 0.1 to 315360000, or null",
            );
        }
    }

    /// The names in the array `text`.
    fn names(&mut self, text: &'a str) -> Option<Result<(), ApiError>> {
        let mut array = Scanner::over(text);
        array.begin_array().ok()?;
        while array.next_element().ok()? {
            let Some(name) = array.string_or_other().ok()? else {
                return Some(Err(ApiError::OperationType(TermKind::Unset.place(""))));
            };
            let name = self.text(name);
            self.terms.push(TermKind::Unset, (name, NOTHING));
        }
        Some(Ok(()))
    }

    /// The names and values in the object `text`.
    fn operands(&mut self, kind: TermKind, text: &'a str) -> Option<Result<(), ApiError>> {
        let mut object = Scanner::over(text);
        object.begin_object().ok()?;
        while let Some(key) = object.next_key().ok()? {
            let name = self.text(key);
            let value = object.raw_value().ok()?;
            if let Err(error) = check_operand(kind, name.resolve(self.scratch), &value) {
                return Some(Err(error));
            }
            let value = self.value(&value);
            self.terms.push(kind, (name, value));
        }
        Some(Ok(()))
    }

    fn begin_term(&mut self, kind: TermKind, field: &str) {
        self.terms.forget(kind);
        self.begin_member(field);
    }
}

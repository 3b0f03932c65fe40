//! Conditions on a write in the head of its request (API contract §14; RFC 9110 §13.1): `If-Match`
//! with one strong entity tag or `*`, and `If-None-Match: *`.
//!
//! A condition that is ignored would let a write through that its sender meant to be refused, so a
//! form that is not taken is an error.

use super::error::ApiError;
use super::event_terms::is_strong_tag;
use crate::model::{Term, TermKind};
use crate::wire::http1::{Field, Head};

/// The conditions of one write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadConditions<'a> {
    if_match: Option<IfMatch<'a>>,
    is_absent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMatch<'a> {
    Any,
    Tag(&'a str),
}

impl<'a> HeadConditions<'a> {
    /// Those in a head.
    ///
    /// # Errors
    /// [`ApiError::InvalidHeader`] for a form that is not taken.
    pub fn parse(head: &Head<'a>) -> Result<Self, ApiError> {
        let if_match = one(head.if_match, "If-Match", IF_MATCH_RULE)?;
        let if_match = match if_match {
            None => None,
            Some("*") => Some(IfMatch::Any),
            Some(tag) if is_strong_tag(tag) => Some(IfMatch::Tag(tag)),
            Some(_) => return Err(invalid("If-Match", IF_MATCH_RULE)),
        };
        let if_none_match = one(head.if_none_match, "If-None-Match", IF_NONE_MATCH_RULE)?;
        match if_none_match {
            None | Some("*") => Ok(Self {
                if_match,
                is_absent: if_none_match.is_some(),
            }),
            Some(_) => Err(invalid("If-None-Match", IF_NONE_MATCH_RULE)),
        }
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.if_match.is_none() && !self.is_absent
    }

    /// Appends them to the terms of the write.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut add = |kind, value| {
            let name = "";
            Term { kind, name, value }.encode(out);
        };
        match self.if_match {
            Some(IfMatch::Any) => add(TermKind::Present, ""),
            Some(IfMatch::Tag(tag)) => add(TermKind::EntityTag, tag),
            None => {}
        }
        if self.is_absent {
            add(TermKind::Absent, "");
        }
    }
}

const IF_MATCH_RULE: &str = "one entity tag in quotes, or `*`; no list and no weak tag";
const IF_NONE_MATCH_RULE: &str = "on a write it must be `*`";

/// Refuses a batch whose head carries a condition: it would not say of which item.
///
/// # Errors
/// [`ApiError::InvalidHeader`], which names the field.
pub fn check_batch(head: &Head<'_>) -> Result<(), ApiError> {
    let rule = "a batch takes no condition in its head; an item may have `expect`";
    refuse(
        rule,
        &[
            ("If-Match", head.if_match),
            ("If-None-Match", head.if_none_match),
        ],
    )
}

/// Refuses a condition in the head of a call that neither publishes nor deletes. `reads`: the
/// call's answer may have a tag, which `If-None-Match` is compared with.
///
/// # Errors
/// As [`check_batch`].
pub fn check_other(head: &Head<'_>, reads: bool) -> Result<(), ApiError> {
    let if_none_match = if reads {
        Field::Absent
    } else {
        head.if_none_match
    };
    refuse(
        "only where an event is published or an entity is deleted",
        &[
            ("If-Match", head.if_match),
            ("If-None-Match", if_none_match),
        ],
    )
}

fn refuse(rule: &'static str, conditions: &[(&'static str, Field<'_>)]) -> Result<(), ApiError> {
    match conditions.iter().find(|(_, value)| *value != Field::Absent) {
        None => Ok(()),
        Some((field, _)) => Err(invalid(field, rule)),
    }
}

/// The text of a field that may be there once.
fn one<'a>(
    value: Field<'a>,
    field: &'static str,
    rule: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    match value {
        Field::Absent => Ok(None),
        Field::Repeated => Err(invalid(field, rule)),
        Field::One(bytes) => match str::from_utf8(bytes.trim_ascii()) {
            Ok(text) => Ok(Some(text)),
            Err(_not_text) => Err(invalid(field, rule)),
        },
    }
}

const fn invalid(field: &'static str, rule: &'static str) -> ApiError {
    ApiError::InvalidHeader { field, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Terms;
    use crate::wire::http1::{Next, RequestReader};

    /// What a request with these fields asks for; the field that is refused.
    fn check(fields: &str, expected: Result<&[(TermKind, &str)], &str>) {
        let mut reader = RequestReader::default();
        let head = format!("DELETE /api/state/entities/x HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        reader.receive(head.as_bytes());
        let Ok(Next::Request(request)) = reader.next(|_| 0) else {
            panic!("{fields}");
        };
        let mut bytes = Vec::new();
        let parsed = HeadConditions::parse(&request.head).map(|conditions| {
            conditions.encode(&mut bytes);
            assert_eq!(conditions.is_empty(), bytes.is_empty());
        });
        let terms: Vec<_> = Terms::new(&bytes)
            .map(|term| (term.kind, term.value))
            .collect();
        match (parsed, expected) {
            (Ok(()), Ok(expected)) => assert_eq!(terms, expected, "{fields}"),
            (Err(ApiError::InvalidHeader { field, .. }), Err(expected)) => {
                assert_eq!(field, expected, "{fields}");
            }
            (parsed, _) => panic!("{fields} gave {parsed:?} {terms:?}"),
        }
        assert_eq!(check_batch(&request.head).is_ok(), expected == Ok(&[]));
    }

    #[test]
    fn one_strong_tag_or_a_star_is_taken_and_nothing_else() {
        check("", Ok(&[]));
        check("If-Modified-Since: x\r\n", Ok(&[]));
        check(
            "If-Match: \"1-a\"\r\n",
            Ok(&[(TermKind::EntityTag, "\"1-a\"")]),
        );
        check("if-match:  * \r\n", Ok(&[(TermKind::Present, "")]));
        check("If-None-Match: *\r\n", Ok(&[(TermKind::Absent, "")]));
        let both = [(TermKind::Present, ""), (TermKind::Absent, "")];
        check("If-Match: *\r\nIf-None-Match: *\r\n", Ok(&both));
        for value in [
            "",
            "1-a",
            "\"1\", \"2\"",
            "W/\"1\"",
            "\"1",
            "*, *",
            "\"a b\"",
        ] {
            check(&format!("If-Match: {value}\r\n"), Err("If-Match"));
        }
        check("If-Match: *\r\nIf-Match: *\r\n", Err("If-Match"));
        for value in ["", "\"1-a\"", "*, \"1\"", "W/\"1\""] {
            check(&format!("If-None-Match: {value}\r\n"), Err("If-None-Match"));
        }
    }
}

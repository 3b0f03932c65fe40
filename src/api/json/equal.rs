//! Whether two values are equal: numbers by their exact value, strings by their text, arrays by
//! their elements, objects by their members in any order.

use super::{JsonStr, Kind, RawValue, Scanner};
use crate::model::Decimal;
use std::borrow::Cow;

/// Compares two values that are in their stored form, as `compact` writes it. Other texts are equal
/// only if they are the same. Cost: n log n in their bytes.
pub fn equal(a: &str, b: &str) -> bool {
    a == b || values(a, b).unwrap_or(false)
}

/// `None` if one is no value.
fn values(a: &str, b: &str) -> Option<bool> {
    let (mut a, mut b) = (Scanner::over(a), Scanner::over(b));
    let kind = a.kind().ok()?;
    if b.kind().ok()? != kind {
        return Some(false);
    }
    match kind {
        Kind::Object => members_equal(&mut a, &mut b),
        Kind::Array => elements_equal(&mut a, &mut b),
        Kind::String => Some(a.string().ok()?.to_cow() == b.string().ok()?.to_cow()),
        Kind::Number => {
            let [a, b] = [a, b].map(|mut number| number.raw_value().ok());
            Some(Decimal::parse(a?.text)? == Decimal::parse(b?.text)?)
        }
        // The text of these is the value.
        Kind::True | Kind::False | Kind::Null => Some(true),
    }
}

fn elements_equal(a: &mut Scanner<'_>, b: &mut Scanner<'_>) -> Option<bool> {
    a.begin_array().ok()?;
    b.begin_array().ok()?;
    loop {
        match (a.next_element().ok()?, b.next_element().ok()?) {
            (true, true) => {}
            (more, other_more) => return Some(more == other_more),
        }
        let (one, other) = (a.raw_value().ok()?, b.raw_value().ok()?);
        if !equal(one.text, other.text) {
            return Some(false);
        }
    }
}

fn members_equal(a: &mut Scanner<'_>, b: &mut Scanner<'_>) -> Option<bool> {
    let (a, b) = (members(a)?, members(b)?);
    let is_equal = |((name, value), (other_name, other)): (&Member<'_>, &Member<'_>)| {
        name == other_name && equal(value.text, other.text)
    };
    Some(a.len() == b.len() && a.iter().zip(&b).all(is_equal))
}

/// A name, and the value under it.
type Member<'a> = (Cow<'a, str>, RawValue<'a>);

/// The members of an object, by name.
fn members<'a>(object: &mut Scanner<'a>) -> Option<Vec<Member<'a>>> {
    object.begin_object().ok()?;
    let mut members = Vec::new();
    while let Some(name) = object.next_key().ok()? {
        members.push((JsonStr::to_cow(name), object.raw_value().ok()?));
    }
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_what_they_mean() {
        let check = |a: &str, b: &str, expected| {
            assert_eq!(equal(a, b), expected, "{a} {b}");
            assert_eq!(equal(b, a), expected, "{b} {a}");
        };
        check("1", "1.0", true);
        check("1", "1e0", true);
        check("100", "1E+2", true);
        check("0.001", "1e-3", true);
        check(
            "12345678901234567890123",
            "12345678901234567890123.00",
            true,
        );
        check("12345678901234567890123", "12345678901234567890124", false);
        check("-0.0", "0", true);
        check("0e5", "0", true);
        check("-1", "1", false);
        check("10", "1", false);
        check("0.10", "0.1", true);
        check("101", "1.01e2", true);
        check("1", "\"1\"", false);
        check("true", "false", false);
        check("null", "null", true);
        check(r#""a\u0062""#, r#""ab""#, true);
        check(r#""\/""#, r#""/""#, true);
        check(r#""a""#, r#""A""#, false);
        check("[1,2.0]", "[1.0,2]", true);
        check("[1]", "[1,1]", false);
        check("[]", "{}", false);
        check("[]", "[]", true);
        check(r#"{"a":1,"b":[2]}"#, r#"{"b":[2.0],"\u0061":1}"#, true);
        check(r#"{"a":1}"#, r#"{"a":1,"b":1}"#, false);
        check(r#"{"a":1}"#, r#"{"b":1}"#, false);
        check("", "1", false);
    }
}

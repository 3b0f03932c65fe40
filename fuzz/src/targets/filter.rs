//! Filters, a line feed, and the value of a property that they are asked about.
//!
//! Nothing here panics whatever it is given. A filter and its negation never agree, and one that
//! was read is read again from its own text.

use flux::filter::{Facts, Filter, equal_by_value};
use flux::model::Timestamp;

/// Texts of filters and values.
pub const DICTIONARY: &[&[u8]] = &[
    b"eq(a,1)",
    b"ne(a/b,\"x\")",
    b"le($version,7)",
    b"gt($updated,\"2026-01-01T00:00:00Z\")",
    b"in(a,1,\"b\",null)",
    b"like(a,\"p*-*\")",
    b"exists(\"a/b~1c\")",
    b"and(",
    b"or(",
    b"not(",
    b")",
    b",",
    b"\n",
    b"{\"b\":1.0}",
    b"[1,2e0]",
    b"\"\\u0041\"",
    b"1e308",
    b"~0",
];

/// Runs the target.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, value) = text.split_once('\n').unwrap_or((text, "1"));
    assert!(equal_by_value(value, value));
    let Ok(filter) = Filter::parse(text) else {
        return;
    };
    let facts = Facts {
        version: 7,
        updated: Timestamp::from_micros(1_795_841_400_000_001),
        expires: None,
    };
    let matches = |filter: &Filter| filter.matches(&facts, [("a", value), ("b", "1")].into_iter());
    let found = matches(&filter);
    assert_eq!(Filter::parse(filter.text()).as_ref(), Ok(&filter));
    if let Ok(negated) = Filter::parse(&format!("not({text})")) {
        assert_eq!(matches(&negated), !found, "{text} of {value}");
    }
}

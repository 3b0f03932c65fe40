//! Stored JSON text as it is read: kinds, members, elements, strings, and equality by value.
//!
//! Text that is stored was checked when it came, so nothing here reports an error: of text that is
//! no JSON it reads something, and never panics. Nothing allocates, but for the comparison of two
//! large objects whose members come in different orders.

use std::cmp::Ordering;

use super::Path;
use crate::limits::FILTER_BYTES_MAX;
use crate::model::Decimal;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// Judged by the first byte.
    pub(super) fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            _ => Self::Null,
        }
    }
}

/// The text of a string between its quotes.
pub(super) fn string_content(value: &str) -> &str {
    let inner = value.strip_prefix('"').unwrap_or(value);
    inner.strip_suffix('"').unwrap_or(inner)
}

/// The UTF-8 bytes of a string, escapes undone, from the text between its quotes.
#[derive(Debug, Clone)]
pub(super) struct Unescaped<'a> {
    rest: &'a [u8],
    /// What is left of the character of the last escape.
    character: [u8; 4],
    at: usize,
    end: usize,
}

impl<'a> Unescaped<'a> {
    pub(super) const fn new(raw: &'a str) -> Self {
        Self {
            rest: raw.as_bytes(),
            character: [0; 4],
            at: 0,
            end: 0,
        }
    }

    /// Four hexadecimal digits, which are taken.
    fn hex4(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    }

    /// The character of an escape whose backslash is taken.
    fn escape(&mut self) -> Option<char> {
        let (letter, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                if let Some(character) = char::from_u32(high) {
                    return Some(character);
                }
                self.rest = self.rest.strip_prefix(b"\\u")?;
                let low = self.hex4()?;
                char::from_u32(0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff))?
            }
            other => char::from(*other),
        })
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.at < self.end {
            self.at += 1;
            return self.character.get(self.at - 1).copied();
        }
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *byte != b'\\' {
            return Some(*byte);
        }
        let character = self.escape()?;
        (self.at, self.end) = (1, character.encode_utf8(&mut self.character).len());
        self.character.first().copied()
    }
}

/// Bytes of a string's text that stand for one byte of the string at most: `\u0061` is `a`.
pub(super) const ESCAPE_BYTES_MAX: usize = 6;

/// Compares a string, by the text between its quotes, with a text, by code point. UTF-8 has that
/// order. Cost: the shorter of both.
pub(super) fn compare_string(raw: &str, text: &str) -> Ordering {
    // No more of it is looked at.
    let looked_at = raw
        .len()
        .min(text.len().saturating_add(1) * ESCAPE_BYTES_MAX);
    if memchr::memchr(b'\\', &raw.as_bytes()[..looked_at]).is_none() {
        return raw.cmp(text);
    }
    Unescaped::new(raw).cmp(text.bytes())
}

fn equal_strings(a: &str, b: &str) -> bool {
    a == b || Unescaped::new(a).eq(Unescaped::new(b))
}

/// The end of the string whose opening quote is at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|it| memchr::memchr2(b'"', b'\\', it))
    {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// The bytes that [`value_end`] decides by inside a container.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

/// The end of the value that starts at `start`.
fn value_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth > 0 => {
                // What lies between is passed over without a decision for each byte.
                let rest = text.get(at + 1..).unwrap_or_default();
                let plain = rest.iter().position(|byte| STRUCTURE[usize::from(*byte)]);
                at += 1 + plain.unwrap_or(rest.len());
            }
            _ => {
                let rest = &text[at..];
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t'..=b'\r');
                return at + rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A walk over the values of a container, whose opening bracket is passed.
#[derive(Debug, Clone)]
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    const fn new(container: &'a str) -> Self {
        Self {
            text: container,
            at: 1,
        }
    }

    /// The next value of the text, or a key; what lies between values is passed over.
    fn next(&mut self) -> Option<&'a str> {
        if !self.comes_to_value() {
            return None;
        }
        let start = self.at;
        self.at = value_end(self.text.as_bytes(), start).max(start + 1);
        self.text.get(start..self.at)
    }

    /// Passes over what lies between values. True if one follows, or a key; false at the end of the
    /// container.
    fn comes_to_value(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        let between = |byte: &&u8| matches!(byte, b',' | b':' | b' ' | b'\t'..=b'\r');
        let rest = bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(between).count();
        !matches!(bytes.get(self.at), None | Some(b'}' | b']'))
    }

    /// What follows.
    fn kind(&self) -> Kind {
        Kind::of(self.text.get(self.at..).unwrap_or_default())
    }

    /// Passes over one byte, which is a bracket.
    fn pass_bracket(&mut self) {
        self.at = self.at.saturating_add(1).min(self.text.len());
    }
}

/// Finds the values of `paths`, whose first name is that of `value`: of each, if it is there, at
/// its index. The text is walked over once, however deep the paths lead and however many there are.
pub(super) fn find_values<'a>(paths: &[Path], value: &'a str, found: &mut [Option<&'a str>]) {
    let is_deep = paths.iter().any(|path| path.len() > 1);
    if !is_deep || Kind::of(value) != Kind::Object {
        if let (Some(path), Some(place)) = (paths.first(), found.first_mut())
            && path.len() == 1
        {
            *place = Some(value);
        }
        return;
    }
    let mut walk = Walk { text: value, at: 0 };
    find_from(&mut walk, (paths, 1), found);
}

/// The same for the value that `walk` has come to, which the first `depth` names of the paths lead
/// to. Passes over it.
fn find_from<'a>(
    walk: &mut Walk<'a>,
    (paths, depth): (&[Path], usize),
    found: &mut [Option<&'a str>],
) {
    let start = walk.at;
    // The shortest is the first: paths are in order, and each is there once.
    let here = usize::from(paths.first().is_some_and(|path| path.len() == depth));
    let deeper = &paths[here..];
    if deeper.is_empty() || walk.kind() != Kind::Object {
        walk.next();
    } else {
        walk.pass_bracket();
        while let Some(name) = walk.next() {
            if !walk.comes_to_value() {
                break;
            }
            let order = |path: &Path| compare_string(string_content(name), &path[depth]);
            let first = deeper.partition_point(|path| order(path) == Ordering::Greater);
            let rest = &deeper[first..];
            let count = rest.partition_point(|path| order(path) == Ordering::Equal);
            if count > 0 {
                let places = &mut found[here + first..];
                find_from(walk, (&rest[..count], depth + 1), places);
            } else {
                walk.next();
            }
        }
        walk.pass_bracket();
    }
    if here == 1 {
        found[0] = walk.text.get(start..walk.at);
    }
}

/// The members of an object: the text between the key's quotes, and the value.
pub(super) fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut walk = Walk::new(object);
    std::iter::from_fn(move || {
        let key = walk.next()?;
        Some((string_content(key), walk.next()?))
    })
}

/// The elements of an array.
fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut walk = Walk::new(array);
    std::iter::from_fn(move || walk.next())
}

/// How many elements an array has; `None` if the value is no array. It was checked when it came, so
/// it is not checked again: which takes as long again as all else of an `append`.
pub fn array_len(value: &str) -> Option<usize> {
    (Kind::of(value) == Kind::Array).then(|| elements(value).count())
}

/// True if two values, each the JSON text of one as it is stored, are the same value: numbers by
/// their exact value (`1.0` is `1`), strings by their characters however they are escaped, objects
/// whatever the order of their members. Cost: what both begin with and is equal; if the members of
/// objects come in different orders, the text once more for each object around them.
pub fn equal_by_value(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let whole = |text| Walk { text, at: 0 };
    equal_from(&mut whole(a), &mut whole(b))
}

/// The same for the values that both have come to; if they are equal, both have passed over them.
fn equal_from(a: &mut Walk<'_>, b: &mut Walk<'_>) -> bool {
    let kind = a.kind();
    if kind != b.kind() {
        return false;
    }
    match kind {
        Kind::Array => {
            a.pass_bracket();
            b.pass_bracket();
            loop {
                match (a.comes_to_value(), b.comes_to_value()) {
                    (true, true) if equal_from(a, b) => {}
                    (false, false) => break,
                    _ => return false,
                }
            }
            a.pass_bracket();
            b.pass_bracket();
            true
        }
        Kind::Object => equal_objects_from(a, b),
        _ => match (a.next(), b.next()) {
            (Some(a), Some(b)) => equal_simple(kind, a, b),
            _ => false,
        },
    }
}

/// True if two values of a kind that holds no others are the same.
fn equal_simple(kind: Kind, a: &str, b: &str) -> bool {
    match kind {
        Kind::Null => true,
        Kind::String => equal_strings(string_content(a), string_content(b)),
        Kind::Number => match (Decimal::parse(a), Decimal::parse(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
        // Of one text each.
        Kind::Bool | Kind::Array | Kind::Object => a == b,
    }
}

fn equal_objects_from(a: &mut Walk<'_>, b: &mut Walk<'_>) -> bool {
    let starts = (a.at, b.at);
    a.pass_bracket();
    b.pass_bracket();
    loop {
        match (a.comes_to_value(), b.comes_to_value()) {
            (true, true) => {}
            (false, false) => break,
            _ => return false,
        }
        let names = a.next().zip(b.next());
        let is_same = |(a, b)| equal_strings(string_content(a), string_content(b));
        if !names.is_some_and(is_same) {
            // They come in different orders, or there are others.
            (a.at, b.at) = starts;
            return match (a.next(), b.next()) {
                (Some(a), Some(b)) => equal_objects(a, b),
                _ => false,
            };
        }
        if !(a.comes_to_value() && b.comes_to_value() && equal_from(a, b)) {
            return false;
        }
    }
    a.pass_bracket();
    b.pass_bracket();
    true
}

fn equal_objects(a: &str, b: &str) -> bool {
    let (larger, smaller) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let count = members(smaller).count();
    // No more of a large one is looked at than tells them apart.
    if members(larger).take(count + 1).count() != count {
        return false;
    }
    if smaller.len() <= FILTER_BYTES_MAX {
        // Names are not repeated, so as many members that are found are all.
        return members(larger).all(|(name, value)| {
            let mut others = members(smaller);
            others
                .find(|(other, _)| equal_strings(name, other))
                .is_some_and(|(_, other)| equal_by_value(value, other))
        });
    }
    // To look each name up in a large object would take the square of its size.
    let sorted = |object| {
        let mut members: Vec<(&str, &str)> = members(object).collect();
        members.sort_by(|(a, _), (b, _)| Unescaped::new(a).cmp(Unescaped::new(b)));
        members
    };
    let (a, b) = (sorted(a), sorted(b));
    let mut pairs = a.iter().zip(&b);
    pairs.all(|(a, b)| equal_strings(a.0, b.0) && equal_by_value(a.1, b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_what_they_mean() {
        let large = |names: &mut dyn Iterator<Item = u32>| {
            let members: Vec<String> = names.map(|it| format!("\"name-{it}\":{it}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let (up, down) = (large(&mut (0..999)), large(&mut (0..999).rev()));
        for (a, b, expected) in [
            ("1.0", "1", true),
            ("-0", "0.0e7", true),
            ("1e2", "100", true),
            ("1", "1.0000000000000000000000000000001", false),
            ("1", "\"1\"", false),
            ("true", "true", true),
            ("true", "false", false),
            ("null", "null", true),
            ("null", "false", false),
            (r#""A""#, r#""\u0041""#, true),
            (
                r#""\ud83d\ude00é\n\/""#,
                "\"\u{1f600}\u{e9}\\u000a/\"",
                true,
            ),
            (r#""a""#, r#""b""#, false),
            (r#""a""#, r#""a\u0000""#, false),
            ("0.001", "1E-3", true),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("0e5", "0", true),
            ("-1", "1", false),
            ("", "1", false),
            ("[1]", "[1,1]", false),
            (r#"{"a":1}"#, r#"{"b":1}"#, false),
            ("[1,2]", "[1.0,2e0]", true),
            ("[1,2]", "[2,1]", false),
            ("[1,2]", "[1,2,3]", false),
            ("[]", "{}", false),
            (
                r#"{"a":1,"b":[{"c":"]}"}]}"#,
                r#"{ "\u0062": [{"c":"]}"}], "a":1.0 }"#,
                true,
            ),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"c":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (&up, &down, true),
            (&up, &down.replace(":77,", ":78,"), false),
        ] {
            assert_eq!(equal_by_value(a, b), expected, "{a} and {b}");
            assert_eq!(equal_by_value(b, a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn the_elements_of_an_array_are_counted() {
        for (value, expected) in [
            ("[]", Some(0)),
            ("[ ]", Some(0)),
            ("[1]", Some(1)),
            (r#"[[1,2],{"a":[3,4]},"]\",\"",null]"#, Some(4)),
            ("{}", None),
            ("\"[1]\"", None),
        ] {
            assert_eq!(array_len(value), expected, "{value}");
        }
    }

    #[test]
    fn text_that_is_no_json_is_read_without_a_panic() {
        for text in [
            "", "{", "[", "\"", "\"\\", "{\"a", "{\"a\":", "[1,", "}", "\"\\u12", "{é",
        ] {
            for other in ["{\"a\":1}", "[1,2]", "\"x\\n\"", "{", "[é"] {
                equal_by_value(text, other);
                equal_by_value(other, text);
            }
        }
    }
}

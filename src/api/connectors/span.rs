//! Finds where the values of a JSON text begin and end without checking them.
//!
//! A source's answer may hold one bad item among good ones: `NaN`, an unpaired surrogate, a number
//! beyond a double's range. The strict scanner stops at the first fault, so this module separates
//! the items first, and the scanner then judges each of them by itself. It looks at quotes,
//! brackets and commas only: an answer whose brackets or quotes are out of balance can't be
//! separated. What it returns is not valid JSON until the scanner has accepted it.

use super::pointer::Pointer;
use crate::api::json::Scanner;

/// The elements of an array, in order; at most `max` of them are kept, and all are counted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elements<'a> {
    /// The first elements, without the white space around them.
    pub(super) kept: Vec<&'a [u8]>,
    /// The number of all elements.
    pub(super) count: usize,
}

/// The elements of the array that `text` is; `None` if it is no array, or one that does not end.
pub(super) fn elements(text: &[u8], max: usize) -> Option<Elements<'_>> {
    let mut found = Elements {
        kept: Vec::new(),
        count: 0,
    };
    let mut pieces = Pieces::of(text, b'[', b']')?;
    while let Some(piece) = pieces.next()? {
        if found.count < max {
            found.kept.push(piece);
        }
        found.count = found.count.saturating_add(1);
    }
    Some(found)
}

/// What `pointer` points to in `text`; of repeated members the last. `None` if there is nothing.
pub(super) fn find<'a>(text: &'a [u8], pointer: &Pointer) -> Option<&'a [u8]> {
    let mut value = text.trim_ascii();
    for step in pointer.steps() {
        value = match value.first()? {
            b'{' => member(value, &step)?,
            b'[' => element(value, &step)?,
            _ => return None,
        };
    }
    Some(value)
}

fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    let mut pieces = Pieces::of(object, b'{', b'}')?;
    while let Some(piece) = pieces.next()? {
        let Some((key, value)) = split_member(piece) else {
            continue;
        };
        let key = Scanner::new(key).and_then(|mut scanner| scanner.string());
        if key.is_ok_and(|key| key.to_cow() == name) {
            found = Some(value);
        }
    }
    found
}

fn element<'a>(array: &'a [u8], index: &str) -> Option<&'a [u8]> {
    let mut pieces = Pieces::of(array, b'[', b']')?;
    let mut at = 0_usize;
    while let Some(piece) = pieces.next()? {
        if at.to_string() == index {
            return Some(piece);
        }
        at = at.saturating_add(1);
    }
    None
}

fn split_member(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = piece.split_at_checked(string_end(piece, 0)?)?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some((key, value.trim_ascii()))
}

/// What lies between the commas of a container.
#[derive(Debug)]
struct Pieces<'a> {
    text: &'a [u8],
    at: usize,
    closing: u8,
    is_first: bool,
    is_over: bool,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a [u8], opening: u8, closing: u8) -> Option<Self> {
        let text = text.trim_ascii();
        (text.first() == Some(&opening)).then_some(Self {
            text,
            at: 1,
            closing,
            is_first: true,
            is_over: false,
        })
    }

    /// The next piece; the inner `None` at the container's end, the outer one if it has none.
    #[expect(clippy::option_option, reason = "a missing end is not an end")]
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        if self.is_over {
            return Some(None);
        }
        let end = piece_end(self.text, self.at)?;
        let piece = self.text.get(self.at..end)?.trim_ascii();
        self.at = end.saturating_add(1);
        if self.text.get(end) != Some(&b',') {
            let is_closed = self.text.get(end) == Some(&self.closing);
            let is_last_byte = self.at == self.text.len();
            if !is_closed || !is_last_byte {
                return None;
            }
            self.is_over = true;
            if self.is_first && piece.is_empty() {
                return Some(None);
            }
        }
        self.is_first = false;
        Some(Some(piece))
    }
}

/// The offset of the comma or bracket that ends the piece that starts at `start`.
fn piece_end(text: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth = depth.saturating_add(1),
            b',' | b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = at.saturating_add(1);
    }
}

/// The offset behind the string whose opening quote is at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    if text.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start.saturating_add(1);
    loop {
        match text.get(at)? {
            b'\\' => at = at.saturating_add(2),
            b'"' => return Some(at.saturating_add(1)),
            _ => at = at.saturating_add(1),
        }
    }
}

/// The most containers that lie within each other in `text`, which is valid JSON.
pub(super) fn nesting(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at).unwrap_or(bytes.len());
                continue;
            }
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        at = at.saturating_add(1);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_separated_whatever_they_are() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let found = elements(text.as_bytes(), 10).map(|it| it.kept);
            let expected = expected.map(|all| all.iter().map(|it| it.as_bytes()).collect());
            assert_eq!(found, expected, "{text}");
        };
        check("[]", Some(&[]));
        check(" [ ] ", Some(&[]));
        check("[1]", Some(&["1"]));
        check(
            r#"[ {"a":[1,2]} , "]\",[" ]"#,
            Some(&[r#"{"a":[1,2]}"#, r#""]\",[""#]),
        );
        check("[NaN,oops here,1]", Some(&["NaN", "oops here", "1"]));
        check("[1,]", Some(&["1", ""]));
        check("[,]", Some(&["", ""]));
        for text in [
            "", "1", "{}", "[", "[1", "[1,", "[\"a]", "[1] 2", "[1}", "[[1]",
        ] {
            check(text, None);
        }
        let found = elements(b"[1,2,3]", 2).unwrap();
        assert_eq!((found.kept.len(), found.count), (2, 3));
    }

    #[test]
    fn a_pointer_leads_past_what_is_bad() {
        let text = r#"{"a":NaN,"list":[0],"b":{"l\u0069st":[1,{"x":2}]},"list":[3]}"#;
        let at = |pointer: &str| {
            let pointer = Pointer::parse(pointer).unwrap();
            find(text.as_bytes(), &pointer).map(|it| str::from_utf8(it).unwrap())
        };
        assert_eq!(at(""), Some(text));
        assert_eq!(at("/list"), Some("[3]"), "the last of repeated members");
        assert_eq!(at("/b/list/1/x"), Some("2"));
        for pointer in [
            "/c",
            "/b/list/2",
            "/b/list/01",
            "/b/list/-",
            "/list/0/x",
            "/a/x",
        ] {
            assert_eq!(at(pointer), None, "{pointer}");
        }
    }

    #[test]
    fn nesting_counts_containers_and_not_texts() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"[":["]"]}"#, 2), ("[[],[[]]]", 3)] {
            assert_eq!(nesting(text), depth, "{text}");
        }
    }
}

//! Finds where the values of a JSON text begin and end without checking them.
//!
//! It looks at quotes, brackets and commas only. What it returns is not valid JSON until a parser
//! has accepted it.

/// The elements of an array, in order; at most `max` of them are kept, and all are counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    /// The first elements, without the white space around them.
    pub kept: Vec<&'a [u8]>,
    /// The number of all elements.
    pub count: usize,
}

/// The elements of the array that `text` is; `None` if it is no array, or one that does not end.
pub fn elements(text: &[u8], max: usize) -> Option<Elements<'_>> {
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

/// What lies between the commas of a container.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    text: &'a [u8],
    at: usize,
    closing: u8,
    is_first: bool,
    is_over: bool,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(text: &'a [u8], opening: u8, closing: u8) -> Option<Self> {
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
    pub(super) fn next(&mut self) -> Option<Option<&'a [u8]>> {
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
pub(super) fn string_end(text: &[u8], start: usize) -> Option<usize> {
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
    fn nesting_counts_containers_and_not_texts() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"[":["]"]}"#, 2), ("[[],[[]]]", 3)] {
            assert_eq!(nesting(text), depth, "{text}");
        }
    }
}

//! JSON strings: where one ends, its text, and how a text is written as one (RFC 8259 §7).
//!
//! Most strings are short and hold neither an escape nor a character that needs one, so both
//! directions look for the next such byte eight at a time; a vector search loses more by its
//! start-up on ten bytes than it gains.

use std::borrow::Cow;

use super::JsonError;

/// A checked string of the body, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> JsonStr<'a> {
    /// The text between the quotes as it was sent, escapes and all.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// The string's text if it was sent without an escape.
    pub const fn plain(&self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// The string's text, escapes undone. What `scratch` held is lost; it stays unused if there
    /// is no escape.
    pub fn decode<'b>(&self, scratch: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        if !self.escaped {
            return self.raw;
        }
        scratch.clear();
        self.decode_onto(scratch);
        scratch
    }

    /// A string whose text needs no escapes.
    pub(in crate::api) const fn plain_of(text: &'a str) -> Self {
        Self {
            raw: text,
            escaped: false,
        }
    }

    /// The string's text, escapes undone; allocates only if there is one.
    pub fn to_cow(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        self.decode_onto(&mut text);
        Cow::Owned(text)
    }

    /// Appends the string's text, escapes undone, to `out`.
    pub fn decode_onto(&self, out: &mut String) {
        let mut rest = self.raw;
        while let Some((before, after)) = rest.split_once('\\') {
            out.push_str(before);
            rest = decode_escape(after, out);
        }
        out.push_str(rest);
    }
}

/// Appends the character of one escape, whose backslash is already taken, and returns what follows
/// it.
fn decode_escape<'a>(escape: &'a str, out: &mut String) -> &'a str {
    let mut rest = escape.chars();
    let letter = rest.next().expect("the scanner checked every escape");
    let character = match letter {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let (character, len) = unicode_escape(escape.as_bytes())
                .expect("the scanner checked every escape and its surrogates");
            out.push(character);
            return escape.get(len..).expect("an escape is ASCII");
        }
        itself => itself,
    };
    out.push(character);
    rest.as_str()
}

/// Why a `\u` escape has no character.
#[derive(Debug)]
enum BadUnicode {
    Digits,
    Surrogate,
}

/// The character of a `\u` escape and the bytes it takes. `escape` starts at the `u`.
fn unicode_escape(escape: &[u8]) -> Result<(char, usize), BadUnicode> {
    const ONE: usize = 5;
    const PAIR: usize = 11;
    let high = hex4(escape.get(1..ONE)).ok_or(BadUnicode::Digits)?;
    if let Some(character) = char::from_u32(high) {
        return Ok((character, ONE));
    }
    if escape.get(ONE..ONE.wrapping_add(2)) != Some(b"\\u") {
        return Err(BadUnicode::Surrogate);
    }
    let low = hex4(escape.get(ONE.wrapping_add(2)..PAIR)).ok_or(BadUnicode::Surrogate)?;
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return Err(BadUnicode::Surrogate);
    }
    // Added, not or-ed: the high half counts planes from U+10000.
    let scalar = ((high & 0x3ff) << 10 | low & 0x3ff).wrapping_add(0x1_0000);
    char::from_u32(scalar)
        .map(|character| (character, PAIR))
        .ok_or(BadUnicode::Surrogate)
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0_u32, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | digit)
    })
}

/// Checks the string whose opening quote is just before `start`, and returns it with the offset
/// behind its closing quote.
///
/// # Errors
/// `End`, `Control`, `Escape` or `Surrogate`.
#[inline]
pub(super) fn scan(text: &str, start: usize) -> Result<(JsonStr<'_>, usize), JsonError> {
    let (end, escaped) = find_end(text, start)?;
    let raw = text.get(start..end).expect("a quote is a whole character");
    Ok((JsonStr { raw, escaped }, end.wrapping_add(1)))
}

/// The offset of the closing quote of such a string, and whether there is an escape before it.
///
/// # Errors
/// As of [`scan`].
#[inline]
pub(super) fn find_end(text: &str, start: usize) -> Result<(usize, bool), JsonError> {
    let at = find_special(text.as_bytes(), start);
    if text.as_bytes().get(at) == Some(&b'"') {
        return Ok((at, false));
    }
    find_end_behind(text, at)
}

/// The same of one that holds an escape, or is bad, at `at`. Out of line, so that the way of most
/// strings is short enough to be inlined.
#[inline(never)]
fn find_end_behind(text: &str, mut at: usize) -> Result<(usize, bool), JsonError> {
    let bytes = text.as_bytes();
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok((at, true)),
            Some(b'\\') => at = scan_escape(bytes, at)?,
            Some(_) => return Err(JsonError::Control { offset: at }),
            None => return Err(JsonError::End { offset: at }),
        }
        at = find_special(bytes, at);
    }
}

/// The offset behind the escape whose backslash is at `at`.
fn scan_escape(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    let escape = bytes.get(at.wrapping_add(1)..).unwrap_or_default();
    let len = match escape.first() {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
        Some(b'u') => match unicode_escape(escape) {
            Ok((_, len)) => len,
            Err(BadUnicode::Digits) => return Err(JsonError::Escape { offset: at }),
            Err(BadUnicode::Surrogate) => return Err(JsonError::Surrogate { offset: at }),
        },
        Some(_) => return Err(JsonError::Escape { offset: at }),
        None => {
            return Err(JsonError::End {
                offset: bytes.len(),
            });
        }
    };
    Ok(at.wrapping_add(1).wrapping_add(len))
}

/// The offset of the first quote, backslash or control character at or after `start`; the length of
/// `bytes` if there is none.
#[inline]
pub(super) fn find_special(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = special_bytes(u64::from_le_bytes(*word));
        if found != 0 {
            return at.wrapping_add((found.trailing_zeros() >> 3) as usize);
        }
        at = at.wrapping_add(8);
    }
    find_special_at_end(bytes, start, at)
}

/// The same for what is shorter than a word from `at` on; from `start` to there nothing is special.
#[inline(never)]
fn find_special_at_end(bytes: &[u8], start: usize, mut at: usize) -> usize {
    // The last word overlaps what was looked at, if there is a whole one.
    if at.wrapping_sub(start) >= 8
        && let Some(word) = bytes.last_chunk::<8>()
    {
        let found = special_bytes(u64::from_le_bytes(*word));
        let clear = (found.trailing_zeros() >> 3) as usize;
        return bytes.len().wrapping_sub(8).wrapping_add(clear);
    }
    while bytes.get(at).is_some_and(|&byte| !is_special(byte)) {
        at = at.wrapping_add(1);
    }
    at
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Sets the top bit of each byte of `word` that is special. A borrow may set bits above the lowest
/// one that is right, so only the lowest counts, which is the first byte of a little-endian word.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = 0x2222_2222_2222_2222;
    const BACKSLASHES: u64 = 0x5c5c_5c5c_5c5c_5c5c;
    const SPACES: u64 = 0x2020_2020_2020_2020;
    let quotes = word ^ QUOTES;
    let backslashes = word ^ BACKSLASHES;
    let quote = quotes.wrapping_sub(ONES) & !quotes;
    let backslash = backslashes.wrapping_sub(ONES) & !backslashes;
    let control = word.wrapping_sub(SPACES) & !word;
    (quote | backslash | control) & TOPS
}

/// Appends `text` as a JSON string, quotes included. Escapes only what must be; the common text is
/// one copy.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len().saturating_add(2));
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = find_special(bytes, start);
        out.extend_from_slice(bytes.get(start..end).unwrap_or_default());
        let Some(&byte) = bytes.get(end) else { break };
        write_escape(out, byte);
        start = end.wrapping_add(1);
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const fn hex(digit: u8) -> u8 {
        if digit < 10 {
            b'0'.wrapping_add(digit)
        } else {
            b'a'.wrapping_add(digit).wrapping_sub(10)
        }
    }
    let letter = match byte {
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_word_search_finds_what_a_byte_search_finds() {
        const FILLERS: &[u8] = &[
            b'a', b' ', 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff,
        ];
        const SPECIALS: &[u8] = &[0, 1, 0x1f, b'"', b'\\', b'\n'];
        let check = |filler: u8, special: u8, at: usize| {
            for second in at..24 {
                let mut bytes = [filler; 24];
                (bytes[at], bytes[second]) = (special, special);
                assert_eq!(find_special(&bytes, 0), at, "{special} in {filler}");
                assert_eq!(find_special(&bytes, at), at);
                let expected = if second > at { second } else { 24 };
                assert_eq!(find_special(&bytes, at + 1), expected);
            }
        };
        for &filler in FILLERS {
            for &special in SPECIALS {
                (0..24).for_each(|at| check(filler, special, at));
            }
        }
    }

    #[test]
    fn every_character_comes_back_however_it_was_escaped() {
        for character in '\0'..=char::MAX {
            let mut units = [0; 2];
            let mut body = String::new();
            for unit in character.encode_utf16(&mut units) {
                write!(body, "\\u{unit:04X}").unwrap();
            }
            body.push('"');
            let (string, end) = scan(&body, 0).unwrap();
            assert_eq!(end, body.len());
            let mut scratch = String::new();
            assert_eq!(string.decode(&mut scratch), character.to_string());
        }
    }

    #[test]
    fn short_escapes_are_undone() {
        let body = r#"\"\\\/\b\f\n\r\tx\u00e9\uD83D\uDE00é""#;
        let (string, end) = scan(body, 0).unwrap();
        assert_eq!((string.plain(), end), (None, body.len()));
        assert_eq!(string.raw(), &body[..body.len() - 1]);
        assert_eq!(
            string.to_cow(),
            "\"\\/\u{8}\u{c}\n\r\tx\u{e9}\u{1f600}\u{e9}"
        );
    }

    #[test]
    fn a_string_without_escapes_is_borrowed() {
        let (string, _) = scan("plain é text\"", 0).unwrap();
        assert_eq!(string.plain(), Some("plain é text"));
        assert!(matches!(string.to_cow(), Cow::Borrowed(_)));
        let mut scratch = "kept".to_owned();
        assert_eq!(string.decode(&mut scratch), "plain é text");
        assert_eq!(scratch, "kept");
    }

    #[test]
    fn bad_strings_are_refused_where_they_break() {
        let check =
            |body: &str, expected| assert_eq!(scan(body, 0).unwrap_err(), expected, "{body}");
        check("abc", JsonError::End { offset: 3 });
        check("abc\\", JsonError::End { offset: 4 });
        check("a\nb\"", JsonError::Control { offset: 1 });
        check("a\0\"", JsonError::Control { offset: 1 });
        check("a\\x\"", JsonError::Escape { offset: 1 });
        check("\\U0041\"", JsonError::Escape { offset: 0 });
        check("\\u12g4\"", JsonError::Escape { offset: 0 });
        check("\\u+123\"", JsonError::Escape { offset: 0 });
        check("\\u12", JsonError::Escape { offset: 0 });
        check("\\ud800\"", JsonError::Surrogate { offset: 0 });
        check("\\udc00\"", JsonError::Surrogate { offset: 0 });
        check("\\udc00\\ud800\"", JsonError::Surrogate { offset: 0 });
        check("\\ud800\\ud800\"", JsonError::Surrogate { offset: 0 });
        check("\\ud800\\u0041\"", JsonError::Surrogate { offset: 0 });
        check("\\ud800x\"", JsonError::Surrogate { offset: 0 });
        check("\\ud800\\n\"", JsonError::Surrogate { offset: 0 });
    }

    #[test]
    fn written_strings_read_back_as_the_text() {
        let all: String = ('\0'..'\u{100}').collect();
        for text in [
            "",
            "plain",
            "two \"quotes\"",
            "back\\slash",
            "é\u{1f600}",
            &all,
        ] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            let body = str::from_utf8(&out).unwrap();
            assert_eq!(scan(body, 1).unwrap().0.to_cow(), text);
        }
        let mut out = b"x".to_vec();
        write_string(&mut out, "a\u{1f}\n\u{7f}/");
        assert_eq!(out, b"x\"a\\u001f\\n\x7f/\"");
    }
}

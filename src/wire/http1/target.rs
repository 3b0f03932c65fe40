//! Percent escapes of paths and queries (RFC 3986 §2.1), for `api`: the codec hands targets on as
//! sent.

use std::borrow::Cow;

/// Why a path or query cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A `%` without two hexadecimal digits.
    #[error("a percent escape is malformed")]
    Escape,
    /// The decoded bytes are no text.
    #[error("percent-decoded text is not UTF-8")]
    NotUtf8,
}

/// Undoes percent escapes; borrows if there are none. `+` is a plus sign.
///
/// # Errors
///
/// [`TargetError`]: a malformed escape, or bytes that are not UTF-8.
pub fn percent_decode(text: &str) -> Result<Cow<'_, str>, TargetError> {
    let Some(first) = memchr::memchr(b'%', text.as_bytes()) else {
        return Ok(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text
        .as_bytes()
        .split_at_checked(first)
        .ok_or(TargetError::Escape)?;
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    loop {
        match rest {
            [] => break,
            [b'%', high, low, tail @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = digit(*high).zip(digit(*low)).ok_or(TargetError::Escape)?;
                let byte = u8::try_from(high << 4 | low).or(Err(TargetError::Escape))?;
                decoded.push(byte);
                rest = tail;
            }
            [b'%', ..] => return Err(TargetError::Escape),
            [byte, tail @ ..] => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .or(Err(TargetError::NotUtf8))
}

/// Appends `text` to `out` so that it can stand in a path or query: everything but the unreserved
/// characters (RFC 3986 §2.3) as an escape.
pub fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                out.push(digit.to_ascii_uppercase());
            }
        }
    }
}

/// The parameters of a query, decoded, in order; see [`QueryPairs`].
pub fn query_pairs(query: &str) -> QueryPairs<'_> {
    QueryPairs { rest: Some(query) }
}

/// Iterates over `name=value&name=value`. A parameter without `=` has the value `""`; empty ones
/// (`a=1&&b=2`) are passed over.
#[derive(Debug, Clone)]
pub struct QueryPairs<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), TargetError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest.take()?;
            let (pair, tail) = match rest.split_once('&') {
                Some((pair, tail)) => (pair, Some(tail)),
                None => (rest, None),
            };
            self.rest = tail;
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decode(name).and_then(|name| Ok((name, percent_decode(value)?)));
            return Some(decoded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_plus_is_plus() {
        let check = |text: &str, expected| {
            assert_eq!(
                percent_decode(text).as_deref().map_err(|error| *error),
                expected,
                "{text:?}"
            );
        };
        check("", Ok(""));
        check("/api/a+b", Ok("/api/a+b"));
        check("ns%2Froom", Ok("ns/room"));
        check("%41%6a%6A", Ok("Ajj"));
        check("%C3%A4\u{e4}", Ok("\u{e4}\u{e4}"));
        check("%2525", Ok("%25"));
        check("%00", Ok("\0"));
        check("%", Err(TargetError::Escape));
        check("a%4", Err(TargetError::Escape));
        check("%zz", Err(TargetError::Escape));
        check("%+1", Err(TargetError::Escape));
        check("%4\u{e4}", Err(TargetError::Escape));
        check("%ff", Err(TargetError::NotUtf8));
        check("%C3", Err(TargetError::NotUtf8));
        check("%ED%A0%80", Err(TargetError::NotUtf8));
    }

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(
            percent_decode("/api/events"),
            Ok(Cow::Borrowed(_))
        ));
    }

    #[test]
    fn escapes_cover_all_but_unreserved_characters() {
        let mut out = String::new();
        percent_encode("a-Z_0.~ /%&+ä", &mut out);
        assert_eq!(out, "a-Z_0.~%20%2F%25%26%2B%C3%A4");
        assert_eq!(percent_decode(&out).unwrap(), "a-Z_0.~ /%&+ä");
    }

    #[test]
    fn pairs_come_in_order_and_decoded() {
        let check = |query: &str, expected: &[(&str, &str)]| {
            let pairs = query_pairs(query).collect::<Result<Vec<_>, _>>().unwrap();
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(pairs, expected, "{query:?}");
        };
        check("", &[]);
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a", &[("a", "")]);
        check("a=", &[("a", "")]);
        check("=x", &[("", "x")]);
        check("a=b=c", &[("a", "b=c")]);
        check("&&a=1&", &[("a", "1")]);
        check("a%26=%3D+&a=2", &[("a&", "=+"), ("a", "2")]);
    }

    #[test]
    fn a_bad_pair_is_an_error_and_the_rest_still_comes() {
        let pairs: Vec<_> = query_pairs("a=%f&%ff=1&b=2").collect();
        assert_eq!(pairs.first(), Some(&Err(TargetError::Escape)));
        assert_eq!(pairs.get(1), Some(&Err(TargetError::NotUtf8)));
        assert!(pairs.get(2).is_some_and(Result::is_ok));
    }
}

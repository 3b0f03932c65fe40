//! Which trace an event is a part of: a `traceparent` of W3C Trace Context.
//!
//! ```text
//! 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//! version, trace id (16 bytes), parent id (8 bytes), flags: hexadecimal, lower case
//! ```
//!
//! Version 00 is what is kept. Source: <https://www.w3.org/TR/trace-context-1/>, section 3.2.

/// A trace, and the operation in it that led to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent([u8; Self::LEN]);

impl TraceParent {
    /// Bytes of its stored form: trace id, parent id, flags.
    pub const LEN: usize = 25;
    /// Characters of its text.
    pub const TEXT_LEN: usize = 55;
    /// What a text has to be.
    pub const RULE: &str = "a traceparent of W3C Trace Context, such as \
        00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Parses a text of version 00.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fields = text.strip_prefix(b"00-")?;
        Self::parse_fields(fields)
    }

    /// Parses the field of a request. Of a later version what version 00 has is taken, as the
    /// standard says (section 3.2.4).
    pub fn parse_field(field: &[u8]) -> Option<Self> {
        let (version, rest) = field.split_first_chunk::<2>()?;
        let version = hex(*version)?;
        let fields = rest.strip_prefix(b"-")?;
        match version {
            0 => Self::parse_fields(fields),
            0xff => None,
            _ => {
                let (fields, more) = fields.split_at_checked(Self::TEXT_LEN - 3)?;
                let is_whole = more.is_empty() || more.starts_with(b"-");
                is_whole.then(|| Self::parse_fields(fields))?
            }
        }
    }

    /// Everything behind the version and its dash.
    fn parse_fields(fields: &[u8]) -> Option<Self> {
        if fields.len() != Self::TEXT_LEN - 3 {
            return None;
        }
        let (trace_id, rest) = fields.split_at_checked(32)?;
        let (parent_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let flags = rest.strip_prefix(b"-")?;
        let mut bytes = [0; Self::LEN];
        let pairs = [trace_id, parent_id, flags].into_iter().flat_map(|part| {
            let (pairs, _) = part.as_chunks::<2>();
            pairs
        });
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = hex(*pair)?;
        }
        Self::from_bytes(bytes)
    }

    /// From its stored form; `None` if no trace has it.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_at(16);
        let is_set = |id: &[u8]| id.iter().any(|byte| *byte != 0);
        let parent_id = rest.get(..8)?;
        (is_set(trace_id) && is_set(parent_id)).then_some(Self(bytes))
    }

    /// Its stored form.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Appends its text.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"00");
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 0 | 16 | 24) {
                out.push(b'-');
            }
            for digit in [byte >> 4, byte & 0xf] {
                out.push(match digit {
                    0..=9 => b'0' + digit,
                    _ => b'a' + digit - 10,
                });
            }
        }
    }
}

/// Two hexadecimal digits, lower case.
fn hex(pair: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let [high, low] = pair;
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn text(parent: Option<TraceParent>) -> Option<String> {
        let mut out = Vec::new();
        parent?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_text_comes_back_and_what_is_none_is_refused() {
        assert_eq!(text(TraceParent::parse(GOOD.as_bytes())), Some(GOOD.into()));
        let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        let no_trace = GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let no_parent = GOOD.replace("b7ad6b7169203331", &"0".repeat(16));
        let bad = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}0"),
            format!("{GOOD}-"),
            format!(" {GOOD}"),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("01", "0g"),
            format!("01-{ids}-01"),
            format!("ff-{ids}-01"),
            no_trace,
            no_parent,
        ];
        for bad in &bad {
            assert_eq!(text(TraceParent::parse(bad.as_bytes())), None, "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_a_field_gives_what_is_known() {
        let check = |field: String, is_taken: bool| {
            let parsed = text(TraceParent::parse_field(field.as_bytes()));
            assert_eq!(parsed, is_taken.then(|| GOOD.into()), "{field}");
        };
        check(GOOD.to_owned(), true);
        check(GOOD.replacen("00", "01", 1), true);
        check(
            GOOD.replacen("00", "cc", 1) + "-what-the-future-brings",
            true,
        );
        check(GOOD.replacen("00", "cc", 1) + ".what", false);
        check(GOOD.replacen("00", "ff", 1), false);
        check(GOOD.replacen("00", "C0", 1), false);
        check(GOOD.to_owned() + "-more", false);
        check("01-".to_owned(), false);
    }
}

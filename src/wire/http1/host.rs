//! Whether a `Host` value, or the authority of an absolute target, is `uri-host [":" port]` (RFC
//! 9110 §7.2, RFC 3986 §3.2).
//!
//! Nothing here routes by host, so the name is not decoded; it is checked because a proxy in front
//! may.

/// True for a valid value; an empty one is valid (RFC 9112 §3.2).
pub(super) fn is_valid(value: &[u8]) -> bool {
    let port = if let Some(literal) = value.strip_prefix(b"[") {
        let mut parts = literal.splitn(2, |&byte| byte == b']');
        let address = parts.next().unwrap_or_default();
        let Some(after) = parts.next() else {
            return false;
        };
        if address.is_empty() || !address.iter().all(|&byte| is_address_byte(byte)) {
            return false;
        }
        after
    } else {
        let colon = memchr::memchr(b':', value).unwrap_or(value.len());
        let (name, port) = value.split_at_checked(colon).unwrap_or((value, b""));
        if !is_name(name) {
            return false;
        }
        port
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// IPv6 and future literals, by their characters only.
fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'-' | b'_' | b'~')
}

/// `reg-name`: unreserved, sub-delims and whole percent escapes (RFC 3986 §3.2.2).
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        let valid = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' => true,
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(u8::is_ascii_hexdigit)),
            _ => b"_~!$&'()*+,;=".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_name_or_address_with_an_optional_port() {
        let check = |value: &str, valid| assert_eq!(is_valid(value.as_bytes()), valid, "{value:?}");
        for value in [
            "",
            "localhost",
            "localhost:3000",
            "localhost:",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:3000",
            "a.b-c_d~e",
            "%41bc",
            "a!$&'()*+,;=b",
            "x:65535",
            "[v1.a:b]",
            ":80",
        ] {
            check(value, true);
        }
        for value in [
            "a b",
            "a/b",
            "user@host",
            "a:b",
            "a:1:2",
            "a?b",
            "a#b",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "a[b]",
            "%4",
            "%zz",
            "a\\b",
            "h\u{e4}",
            "a:123456",
            "a\tb",
            "\"a\"",
            "a<b",
        ] {
            check(value, false);
        }
    }
}

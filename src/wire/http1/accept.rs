//! Lists of what a client accepts: `Accept`, `Accept-Encoding` (RFC 9110 §12.5).

/// Whether the client takes `wanted`: `None` if the list does not name it, false if it names it
/// with weight 0. Ranges such as `text/*` name only themselves.
pub fn accepts(list: &[u8], wanted: &[u8]) -> Option<bool> {
    weight(list, wanted).map(|weight| weight > 0)
}

/// The weight that the list gives to `wanted`, in thousandths: `None` if it does not name it.
/// Ranges such as `text/*` name only themselves.
pub fn weight(list: &[u8], wanted: &[u8]) -> Option<u16> {
    list.split(|&byte| byte == b',').find_map(|member| {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(wanted) {
            return None;
        }
        Some(parts.find_map(weight_of).unwrap_or(1000))
    })
}

/// The weight that a parameter is (RFC 9110 §12.4.2), in thousandths. One that can't be read
/// counts as 1.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', weight @ ..] = parameter else {
        return None;
    };
    let digits: &[u8] = match weight {
        b"0" => b"",
        [b'0', b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return Some(1000),
    };
    let digits = digits.iter().chain(b"000").take(3);
    Some(digits.fold(0_u16, |weight, digit| {
        let digit = u16::from(digit.saturating_sub(b'0'));
        weight.saturating_mul(10).saturating_add(digit)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_it_names_and_refuses_what_has_no_weight() {
        let check = |list: &str, wanted: &str, expected| {
            assert_eq!(
                accepts(list.as_bytes(), wanted.as_bytes()),
                expected,
                "{list}"
            );
        };
        check("gzip", "gzip", Some(true));
        check("br, GZIP ;q=0.5", "gzip", Some(true));
        check("gzip;q=0", "gzip", Some(false));
        check("gzip; q=0.000", "gzip", Some(false));
        check("gzip;q=0.001", "gzip", Some(true));
        check("", "gzip", None);
        check("xgzip, gzipx", "gzip", None);
        check("*", "gzip", None);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        check(browser, "text/html", Some(true));
        check(
            "application/json, text/html;level=1;q=0",
            "text/html",
            Some(false),
        );
        check("*/*", "text/html", None);
    }

    #[test]
    fn a_weight_is_in_thousandths() {
        let check = |list: &str, expected| {
            assert_eq!(weight(list.as_bytes(), b"text/html"), expected, "{list}");
        };
        check("text/html", Some(1000));
        check("text/html;q=1.000", Some(1000));
        check("text/html;level=1;q=0.25", Some(250));
        check("*/*;q=0.9, TEXT/HTML ; Q=0.001", Some(1));
        check("text/html;q=0.", Some(0));
        check("text/html;q=.2", Some(1000));
        check("text/html;q=x", Some(1000));
        check("text/*;q=0.5", None);
    }
}

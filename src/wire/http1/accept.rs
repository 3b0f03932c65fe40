//! Lists of what a client accepts: `Accept`, `Accept-Encoding` (RFC 9110 §12.5).

/// Whether the client takes `wanted`: `None` if the list does not name it, false if it names it
/// with weight 0. Ranges such as `text/*` name only themselves.
pub fn accepts(list: &[u8], wanted: &[u8]) -> Option<bool> {
    list.split(|&byte| byte == b',').find_map(|member| {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(wanted) {
            return None;
        }
        Some(!parts.any(is_weight_of_zero))
    })
}

/// True of `q=0`, `q=0.0` and so on.
fn is_weight_of_zero(parameter: &[u8]) -> bool {
    let Some([b'q' | b'Q', b'=', weight @ ..]) = parameter.get(..) else {
        return false;
    };
    weight.first() == Some(&b'0') && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
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
}

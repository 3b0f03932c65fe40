//! Dropping the white space between tokens, so that what is stored and answered holds none.

use super::string::find_special;

/// Appends `text` to `out` without the white space outside its strings.
///
/// `text` is JSON that the scanner has accepted; other text gives some text, and no panic. Cost: linear, one
/// copy.
pub fn minify(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at.wrapping_add(1)),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(text.get(copied..at).unwrap_or_default());
                at = at.wrapping_add(1);
                copied = at;
            }
            _ => at = at.wrapping_add(1),
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
}

/// The offset behind the closing quote of the string whose text begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        at = find_special(bytes, at);
        match bytes.get(at) {
            Some(b'\\') => at = at.wrapping_add(2),
            Some(b'"') | None => return at.wrapping_add(1),
            Some(_) => at = at.wrapping_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_outside_strings_goes() {
        let check = |text, expected| {
            let mut out = "kept".to_owned();
            minify(text, &mut out);
            assert_eq!(out, format!("kept{expected}"));
        };
        check("", "");
        check("1", "1");
        check(" {\t\"a b\" : [ 1 ,\r\n2 ] } ", "{\"a b\":[1,2]}");
        check(r#"[ "\" " , "\\" , "\\\" " ]"#, r#"["\" ","\\","\\\" "]"#);
        check("{ \"é \" : null }", "{\"é \":null}");
    }

    #[test]
    fn text_that_was_never_checked_does_not_panic() {
        for text in ["\"", "\"\\", " \" ", "\"\n", "\"\\\u{e9}", "\\\""] {
            minify(text, &mut String::new());
        }
    }
}

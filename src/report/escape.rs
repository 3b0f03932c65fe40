//! Texts that came from others → texts for a line: nothing in them ends the line, steers a
//! terminal, or turns the direction of what follows.

/// Appends `text` with every such character as `\n`, `\t`, `\r` or `\u{1b}`.
pub(super) fn text(out: &mut String, text: &str) {
    for character in text.chars() {
        if is_hidden(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

/// The same for a text between quotation marks.
pub(super) fn quoted(out: &mut String, text: &str) {
    for character in text.chars() {
        if is_hidden(character) || matches!(character, '"' | '\\') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

/// Appends `text` as a JSON string.
pub(super) fn json(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ if is_hidden(character) => {
                // All of them lie in the first plane.
                out.push_str("\\u");
                for digit in (0..4).rev() {
                    let digit = (u32::from(character) >> (4 * digit)) & 0xf;
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Control characters, and what Unicode has for ends of lines and directions of text.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\nflux: error: b\r\t\u{1b}[2J\0\u{7f}\u{9b}\u{2028}\u{202e}\"\\ä";

    #[test]
    fn a_text_stays_on_its_line_and_steers_nothing() {
        let mut out = String::new();
        text(&mut out, HOSTILE);
        assert_eq!(
            out,
            "a\\nflux: error: b\\r\\t\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}\\u{2028}\\u{202e}\"\\ä"
        );
    }

    #[test]
    fn a_json_string_holds_the_same_text_and_no_control_character() {
        let mut out = String::new();
        json(&mut out, HOSTILE);
        assert!(!out.chars().any(is_hidden), "{out}");
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), HOSTILE);
    }
}

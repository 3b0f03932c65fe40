//! The rules that the texts of an event keep (API contract §2).

use super::error::ApiError;
use crate::limits;

/// The rule for a text's length.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub(super) fn check_len(
    field: &'static str,
    text: &str,
    max: usize,
    rule: &'static str,
) -> Result<(), ApiError> {
    if text.len() > max {
        Err(ApiError::InvalidField { field, rule })
    } else {
        Ok(())
    }
}

/// The rule for streams.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub fn check_stream(stream: &str) -> Result<(), ApiError> {
    // What lies before the first character is as a dot: no other may follow, and none may end it.
    let mut after_dot = true;
    let allowed = stream.bytes().all(|byte| {
        let is_dot = byte == b'.';
        let fits = byte.is_ascii_lowercase() || byte.is_ascii_digit() || is_dot && !after_dot;
        after_dot = is_dot;
        fits
    });
    if allowed && !after_dot && stream.len() <= limits::STREAM_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::InvalidField {
        field: "stream",
        rule: "1 to 256 of a-z, 0-9 and '.', without a leading, trailing or double dot",
    })
}

/// Whether every byte is a printable character of ASCII, eight at a time.
fn is_printable_ascii(text: &[u8]) -> bool {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    // Zero if every byte is one: a carry or a borrow comes only out of a byte that is none.
    let others = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        (word.wrapping_sub(SPACES) | word.wrapping_add(ONES) | word) & TOPS
    };
    let Some(last) = text.last_chunk() else {
        return text.iter().all(|byte| (0x20..0x7f).contains(byte));
    };
    let (words, _) = text.as_chunks();
    // The last word overlaps the one before it.
    words
        .iter()
        .fold(others(last), |found, word| found | others(word))
        == 0
}

/// The rule for every entity id that a client may name in a write.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub fn check_entity_id(id: &str) -> Result<(), ApiError> {
    let clean = is_printable_ascii(id.as_bytes()) || !id.chars().any(char::is_control);
    if clean && !id.is_empty() && id.len() <= limits::ENTITY_ID_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::InvalidField {
        field: "payload.entity_id",
        rule: "1 to 512 bytes without control characters",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_printable_characters_as_bytes_do() {
        for len in 1..=20 {
            for (at, byte) in (0..len).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
                let mut text = vec![b'~'; len];
                text[at] = byte;
                let expected = (0x20..0x7f).contains(&byte);
                assert_eq!(
                    is_printable_ascii(&text),
                    expected,
                    "{byte} at {at} of {len}"
                );
            }
        }
    }

    #[test]
    fn an_id_has_no_control_character_of_any_kind() {
        let check = |id: &str, allowed| assert_eq!(check_entity_id(id).is_ok(), allowed, "{id:?}");
        check("house/room", true);
        check("house/\u{e9}", true);
        check("house/r\u{7f}om", false);
        check("house/room\u{85}", false);
        check("\n", false);
        check("", false);
    }
}

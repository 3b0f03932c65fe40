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

/// The rule for every entity id that a client may name in a write.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub fn check_entity_id(id: &str) -> Result<(), ApiError> {
    // Without an early end, so that it takes many bytes at a time.
    let plain = id
        .bytes()
        .fold(true, |plain, byte| plain & (0x20..0x7f).contains(&byte));
    let clean = plain || !id.chars().any(char::is_control);
    if clean && !id.is_empty() && id.len() <= limits::ENTITY_ID_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::InvalidField {
        field: "payload.entity_id",
        rule: "1 to 512 bytes without control characters",
    })
}

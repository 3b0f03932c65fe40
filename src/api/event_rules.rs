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
    let characters = stream
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.'));
    let dots = stream.starts_with('.') || stream.ends_with('.') || stream.contains("..");
    if characters && !dots && !stream.is_empty() && stream.len() <= limits::STREAM_BYTES_MAX {
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
    let plain = id.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let clean = plain || !id.chars().any(char::is_control);
    if clean && !id.is_empty() && id.len() <= limits::ENTITY_ID_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::InvalidField {
        field: "payload.entity_id",
        rule: "1 to 512 bytes without control characters",
    })
}

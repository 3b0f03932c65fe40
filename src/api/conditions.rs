//! Conditions on a write in the head of its request (API contract §14).
//!
//! This server does not evaluate them yet. A condition that is ignored would let a write through
//! that its sender meant to be refused, so a write that carries one is refused.

use super::error::ApiError;
use crate::wire::http1::{Field, Head};

/// Refuses a write whose head carries a condition.
///
/// # Errors
/// [`ApiError::NotSupported`], which names the field.
pub fn check_write(head: &Head<'_>) -> Result<(), ApiError> {
    let conditions = [
        ("If-Match", head.if_match),
        ("If-None-Match", head.if_none_match),
    ];
    match conditions.iter().find(|(_, field)| *field != Field::Absent) {
        None => Ok(()),
        Some((feature, _)) => Err(ApiError::NotSupported { feature }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Next, RequestReader};

    fn check(fields: &str, expected: Option<&str>) {
        let mut reader = RequestReader::default();
        let head = format!("DELETE /api/state/entities/x HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        reader.receive(head.as_bytes());
        let Ok(Next::Request(request)) = reader.next(|_| 0) else {
            panic!("{fields}");
        };
        let expected = match expected {
            None => Ok(()),
            Some("If-Match") => Err(ApiError::NotSupported {
                feature: "If-Match",
            }),
            Some(_) => Err(ApiError::NotSupported {
                feature: "If-None-Match",
            }),
        };
        assert_eq!(check_write(&request.head), expected, "{fields}");
    }

    #[test]
    fn a_write_with_a_condition_is_refused() {
        check("", None);
        check("If-Modified-Since: x\r\n", None);
        check("If-Match: \"1\"\r\n", Some("If-Match"));
        check("If-Match:\r\n", Some("If-Match"));
        check("if-match: *\r\nIf-Match: *\r\n", Some("If-Match"));
        check("If-None-Match: *\r\n", Some("If-None-Match"));
    }
}

//! The beginning of a JSON body.

use super::error::ApiError;
use super::json::{Kind, Scanner};

/// A scanner that stands behind the opening brace of a body.
///
/// # Errors
/// [`ApiError::Json`] for what is not JSON, [`ApiError::Shape`] with `rule` for what is no object.
pub(super) fn object<'b>(body: &'b [u8], rule: &'static str) -> Result<Scanner<'b>, ApiError> {
    let mut scanner = Scanner::new(body)?;
    if scanner.kind()? != Kind::Object {
        scanner.raw_value()?;
        scanner.finish()?;
        return Err(ApiError::Shape { rule });
    }
    scanner.begin_object()?;
    Ok(scanner)
}

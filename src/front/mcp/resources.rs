//! Entities as resources: `flux://entity/<id>`, the id percent-encoded except for the characters
//! that RFC 6570 leaves as they are in `{+id}`.

use super::rpc::{Code, Era, RpcError, result};
use super::shape;
use crate::api::ApiError;
use crate::api::json::{JsonError, write_string};
use crate::wire::http1::percent_decode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What every URI of a resource begins with.
const SCHEME: &str = "flux://entity/";

/// The result's members of `resources/templates/list`.
pub(super) const TEMPLATES: &str = r#""resourceTemplates":[{"uriTemplate":"flux://entity/{+id}","name":"entity","title":"Entity","description":"An entity of the shared world state, by its id","mimeType":"application/json"}],"#;

/// The members that say how long a result of an entity may be kept: not at all, and for nobody
/// else.
const FRESH: &[u8] = b"\"ttlMs\":0,\"cacheScope\":\"private\",";

/// The id of the entity that a URI names; `None` if it names none.
pub(super) fn id_of(uri: &str) -> Option<String> {
    let raw = uri.strip_prefix(SCHEME)?;
    let id = percent_decode(raw).ok()?;
    (!id.is_empty()).then(|| id.into_owned())
}

/// The URI of an entity.
fn uri_of(id: &str) -> String {
    let mut uri = String::from(SCHEME);
    for byte in id.bytes() {
        // RFC 3986 §2.2 and §2.3: reserved and unreserved characters.
        if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                uri.push(digit.to_ascii_uppercase());
            }
        }
    }
    uri
}

/// Where a list goes on, of the id after which that is.
fn cursor_of(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// The id of such a cursor.
///
/// # Errors
/// If it is none.
pub(super) fn after(cursor: &str) -> Result<String, RpcError> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = id.and_then(|id| String::from_utf8(id).ok());
    id.ok_or_else(|| RpcError::new(Code::Params, "invalid `cursor`").answered())
}

/// Writes the result of `resources/read`.
pub(super) fn read(
    out: &mut Vec<u8>,
    asker: (&str, Era),
    (uri, json): (&str, &str),
) -> Result<(), JsonError> {
    let mut text = Vec::new();
    shape::bounded_entity(&mut text, json)?;
    let text = String::from_utf8(text).unwrap_or_default();
    result(out, asker, |out| {
        out.extend_from_slice(b"\"contents\":[{\"uri\":");
        write_string(out, uri);
        out.extend_from_slice(b",\"mimeType\":\"application/json\",\"text\":");
        write_string(out, &text);
        out.extend_from_slice(b"}],");
        fresh(out, asker.1);
    });
    Ok(())
}

/// Writes the result of `resources/list`. `next`: the id after which the next page begins.
pub(super) fn listed(
    out: &mut Vec<u8>,
    asker: (&str, Era),
    (json, next): (&str, Option<&str>),
) -> Result<(), JsonError> {
    let entities = shape::elements(json)?;
    result(out, asker, |out| {
        out.extend_from_slice(b"\"resources\":[");
        let mut is_first = true;
        for id in entities
            .iter()
            .filter_map(|it| shape::text_member(it.text, "id"))
        {
            if !std::mem::replace(&mut is_first, false) {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"uri\":");
            write_string(out, &uri_of(&id));
            out.extend_from_slice(b",\"name\":");
            write_string(out, &id);
            out.extend_from_slice(b",\"mimeType\":\"application/json\"}");
        }
        out.extend_from_slice(b"],");
        if let Some(next) = next {
            out.extend_from_slice(b"\"nextCursor\":");
            write_string(out, &cursor_of(next));
            out.push(b',');
        }
        fresh(out, asker.1);
    });
    Ok(())
}

fn fresh(out: &mut Vec<u8>, era: Era) {
    if era == Era::Modern {
        out.extend_from_slice(FRESH);
    }
}

/// Why a resource, or a list of them, can't be read.
pub(super) fn refused(asker: (&str, Era), error: &ApiError, uri: Option<&str>) -> RpcError {
    let code = match (error, asker.1) {
        (ApiError::NoEntity, Era::Legacy) => Code::NoResource,
        _ if error.status() < 429 => Code::Params,
        _ => Code::Internal,
    };
    let message = match error {
        ApiError::NoEntity => "Resource not found".to_owned(),
        error => error.to_string(),
    };
    let mut data = Vec::from(b"{\"code\":");
    write_string(&mut data, error.code());
    shape::string_member(&mut data, "uri", uri);
    data.push(b'}');
    RpcError {
        data: String::from_utf8(data).ok(),
        ..RpcError::new(code, message).answered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_the_entity_that_it_was_made_of() {
        for (id, uri) in [
            ("board/task-1", "flux://entity/board/task-1"),
            ("a b%", "flux://entity/a%20b%25"),
            ("zoë", "flux://entity/zo%C3%AB"),
            ("a?b=c#d", "flux://entity/a?b=c#d"),
        ] {
            assert_eq!(uri_of(id), uri);
            assert_eq!(id_of(uri).as_deref(), Some(id));
        }
        for uri in [
            "flux://entity/",
            "flux://other/a",
            "file:///a",
            "flux://entity/%zz",
        ] {
            assert_eq!(id_of(uri), None, "{uri}");
        }
        assert_eq!(after(&cursor_of("é/1")).unwrap(), "é/1");
        assert!(after("!").is_err());
    }
}

//! Which version of the protocol a request is of, and whether its head agrees with its body.
//!
//! A request with the modern `_meta`, or with a version in its head that is none of the earlier
//! ones, is modern; all others are not. So a modern request that lacks something is refused as the
//! specification says, and hosts that begin with `initialize` are served on the same path.

use super::message::{Message, text};
use super::rpc::{Code, Era, RpcError};
use crate::api::json::Kind;
use crate::wire::http1::{Field, Head};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// The modern version.
pub(super) const MODERN: &str = "2026-07-28";
/// The earlier versions, the newest first.
pub(super) const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// What the head of a request says of its message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Headers<'h> {
    /// `MCP-Protocol-Version`
    pub(super) version: Field<'h>,
    /// `Mcp-Method`
    pub(super) method: Field<'h>,
    /// `Mcp-Name`
    pub(super) name: Field<'h>,
}

impl<'h> Headers<'h> {
    /// Of a head.
    pub(super) fn of(head: &Head<'h>) -> Self {
        Self {
            version: head.field("mcp-protocol-version"),
            method: head.field("mcp-method"),
            name: head.field("mcp-name"),
        }
    }

    /// The era of a message, if its head agrees with it.
    ///
    /// # Errors
    /// As the specification says (Streamable HTTP, "Server Validation"; Overview, "`_meta`").
    pub(super) fn judge(&self, message: &Message<'_>) -> Result<Era, RpcError> {
        let version = message.params.meta.as_ref().and_then(|meta| meta.version);
        let is_legacy = match self.version {
            Field::Absent => true,
            Field::One(version) => LEGACY.iter().any(|legacy| legacy.as_bytes() == version),
            Field::Repeated => false,
        };
        if is_legacy && version.is_none() {
            return Ok(Era::Legacy);
        }
        if message.id.is_none() {
            // Nothing is defined of the head of a notification.
            return Ok(Era::Modern);
        }
        let unknown = match self.version {
            Field::One(sent) => Some(sent).filter(|sent| *sent != MODERN.as_bytes()),
            Field::Absent | Field::Repeated => None,
        };
        let Some(version) = version else {
            // An earlier client of a version that this server does not know says no more than that.
            return match unknown {
                Some(sent) => Err(unsupported(&String::from_utf8_lossy(sent))),
                None => Err(missing("protocolVersion")),
            };
        };
        let Some(version) = text(Some(&version)) else {
            return Err(missing("protocolVersion"));
        };
        let is_object = |kind| kind == Kind::Object;
        let meta = message.params.meta.as_ref();
        if !meta
            .and_then(|meta| meta.capabilities)
            .is_some_and(|it| is_object(it.kind))
        {
            return Err(missing("clientCapabilities"));
        }
        if meta
            .and_then(|meta| meta.client)
            .is_some_and(|it| !is_object(it.kind))
        {
            return Err(missing("clientInfo"));
        }
        check("MCP-Protocol-Version", self.version, &version)?;
        if version != MODERN {
            return Err(unsupported(&version));
        }
        check("Mcp-Method", self.method, &message.method)?;
        let name = match &*message.method {
            "tools/call" | "prompts/get" => text(message.params.name.as_ref()),
            "resources/read" => text(message.params.uri.as_ref()),
            _ => None,
        };
        if let Some(name) = name {
            check("Mcp-Name", self.name, &name)?;
        }
        Ok(Era::Modern)
    }
}

fn missing(member: &str) -> RpcError {
    let message = format!(
        "a request needs `params._meta` with `io.modelcontextprotocol/protocolVersion`, a string, \
         and `io.modelcontextprotocol/clientCapabilities`, an object: {member} is missing or of \
         another type"
    );
    RpcError::new(Code::Params, message)
}

fn unsupported(requested: &str) -> RpcError {
    let supported: Vec<String> = [MODERN]
        .iter()
        .chain(&LEGACY)
        .map(|version| format!("\"{version}\""))
        .collect();
    let mut data = format!("{{\"supported\":[{}],\"requested\":", supported.join(",")).into_bytes();
    crate::api::json::write_string(&mut data, requested);
    data.push(b'}');
    RpcError {
        data: String::from_utf8(data).ok(),
        ..RpcError::new(Code::Version, "Unsupported protocol version")
    }
}

fn check(name: &str, field: Field<'_>, expected: &str) -> Result<(), RpcError> {
    let problem = match field {
        Field::Absent => "is missing",
        Field::Repeated => "was sent more than once",
        Field::One(value) => match decoded(value) {
            Some(sent) if sent == expected => return Ok(()),
            Some(_) => "does not match the body",
            None => "holds invalid characters",
        },
    };
    let message = format!("Header mismatch: the header {name} {problem}");
    Err(RpcError::new(Code::HeaderMismatch, message))
}

/// The value of a field, which may be sent in Base64 (Streamable HTTP, "Value Encoding").
fn decoded(value: &[u8]) -> Option<Cow<'_, str>> {
    let encoded = value.strip_prefix(b"=?base64?");
    if let Some(encoded) = encoded.and_then(|rest| rest.strip_suffix(b"?=")) {
        let bytes = STANDARD.decode(encoded).ok()?;
        return String::from_utf8(bytes).ok().map(Cow::Owned);
    }
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    value
        .iter()
        .all(is_plain)
        .then(|| str::from_utf8(value).ok())?
        .map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn headers<'h>(version: &'h str, method: &'h str, name: &'h str) -> Headers<'h> {
        let field = |value: &'h str| match value {
            "" => Field::Absent,
            value => Field::One(value.as_bytes()),
        };
        Headers {
            version: field(version),
            method: field(method),
            name: field(name),
        }
    }

    fn judge(headers: Headers<'_>, method: &str, params: &str) -> Result<Era, Code> {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
        let Ok(message) = Message::read(body.as_bytes()) else {
            panic!("no message: {body}");
        };
        headers.judge(&message).map_err(|error| error.code)
    }

    #[test]
    fn a_request_is_modern_by_its_meta_or_its_header() {
        for version in ["", "2025-11-25", "2025-06-18", "2025-03-26"] {
            let legacy = judge(headers(version, "", ""), "tools/list", "");
            assert_eq!(legacy, Ok(Era::Legacy), "{version}");
        }
        let modern = headers(MODERN, "tools/list", "");
        assert_eq!(judge(modern, "tools/list", META), Ok(Era::Modern));
        assert_eq!(judge(modern, "tools/list", ""), Err(Code::Params));
        let unknown = judge(headers("2024-11-05", "", ""), "tools/list", "");
        assert_eq!(unknown, Err(Code::Version));
        let other = META.replace("2026-07-28", "2027-01-01");
        let unknown = judge(
            headers("2027-01-01", "tools/list", ""),
            "tools/list",
            &other,
        );
        assert_eq!(unknown, Err(Code::Version));
        let partial = META.replace("clientCapabilities", "x");
        assert_eq!(judge(modern, "tools/list", &partial), Err(Code::Params));
    }

    #[test]
    fn the_head_of_a_modern_request_agrees_with_its_body() {
        let params = format!(r#""name":"flux_get",{META}"#);
        let call =
            |version, method, name| judge(headers(version, method, name), "tools/call", &params);
        assert_eq!(call(MODERN, "tools/call", "flux_get"), Ok(Era::Modern));
        let base64 = "=?base64?Zmx1eF9nZXQ=?=";
        assert_eq!(call(MODERN, "tools/call", base64), Ok(Era::Modern));
        for (version, method, name) in [
            ("", "tools/call", "flux_get"),
            ("2025-11-25", "tools/call", "flux_get"),
            (MODERN, "", "flux_get"),
            (MODERN, "tools/list", "flux_get"),
            (MODERN, "TOOLS/CALL", "flux_get"),
            (MODERN, "tools/call", ""),
            (MODERN, "tools/call", "flux_list"),
            (MODERN, "tools/call", "=?base64?!?="),
            (MODERN, "tools/call", "flux_g\u{e9}t"),
        ] {
            let mismatch = Err(Code::HeaderMismatch);
            assert_eq!(
                call(version, method, name),
                mismatch,
                "{version} {method} {name}"
            );
        }
    }
}

//! JSON-RPC answers: results and errors, with the HTTP status that each has.

use crate::api::json::write_string;

/// Why a message is refused by the protocol, not by a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// It is not JSON.
    Parse,
    /// It is no message.
    Request,
    /// No such method.
    Method,
    /// A parameter is missing or not as it must be.
    Params,
    /// The headers say otherwise than the body.
    HeaderMismatch,
    /// A version that this server does not speak.
    Version,
    /// No such resource, to clients of the earlier versions.
    NoResource,
    /// The server can't answer.
    Internal,
}

impl Code {
    /// The number of the JSON-RPC error (specification 2026-07-28, Overview, "Error Codes").
    pub(super) const fn number(self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::Request => -32600,
            Self::Method => -32601,
            Self::Params => -32602,
            Self::Internal => -32603,
            Self::HeaderMismatch => -32020,
            Self::Version => -32022,
            Self::NoResource => -32002,
        }
    }
}

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RpcError {
    /// Which.
    pub(super) code: Code,
    /// What is wrong.
    pub(super) message: String,
    /// JSON text of `data`.
    pub(super) data: Option<String>,
    /// The HTTP status that it has.
    pub(super) status: u16,
}

impl RpcError {
    /// An error whose message could not be understood: status 400, or 404 of a method.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
            status: if code == Code::Method { 404 } else { 400 },
        }
    }

    /// The same as the answer to a call that was understood: status 200.
    #[must_use]
    pub(super) fn answered(self) -> Self {
        Self {
            status: 200,
            ..self
        }
    }

    /// Writes it; `id`: JSON text, `None` if it could not be read.
    pub(super) fn write(&self, out: &mut Vec<u8>, id: Option<&str>) {
        begin(out, id);
        out.extend_from_slice(b",\"error\":{\"code\":");
        out.extend_from_slice(self.code.number().to_string().as_bytes());
        out.extend_from_slice(b",\"message\":");
        write_string(out, &self.message);
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
        out.extend_from_slice(b"}}");
    }
}

fn begin(out: &mut Vec<u8>, id: Option<&str>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_bytes());
    }
}

/// What every result of the modern version says of itself.
const COMPLETE: &[u8] = concat!(
    r#""resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"flux","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
)
.as_bytes();

/// Whether a result says of itself what modern clients expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// 2026-07-28: each request says all that there is to know.
    Modern,
    /// 2025-03-26 to 2025-11-25: begun by `initialize`.
    Legacy,
}

/// Writes a result, whose members `write` writes, each with a comma behind it.
pub(super) fn result(out: &mut Vec<u8>, (id, era): (&str, Era), write: impl FnOnce(&mut Vec<u8>)) {
    begin(out, Some(id));
    out.extend_from_slice(b",\"result\":{");
    write(out);
    match era {
        Era::Modern => out.extend_from_slice(COMPLETE),
        Era::Legacy => {
            out.pop_if(|last| *last == b',');
        }
    }
    if era == Era::Modern {
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Writes the result of a tool: `json` as a structure and as text, and whether it refuses.
pub(super) fn tool_result(out: &mut Vec<u8>, asker: (&str, Era), (json, is_error): (&str, bool)) {
    result(out, asker, |out| {
        out.extend_from_slice(b"\"content\":[{\"type\":\"text\",\"text\":");
        write_string(out, json);
        out.extend_from_slice(b"}],\"structuredContent\":");
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(if is_error {
            b",\"isError\":true,"
        } else {
            b",\"isError\":false,"
        });
    });
}

/// Writes a notification of a method with these JSON members of its `params`.
pub(super) fn notification(out: &mut Vec<u8>, method: &str, params: &str) {
    begin(out, None);
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":{");
    out.extend_from_slice(params.as_bytes());
    out.extend_from_slice(b"}}");
}

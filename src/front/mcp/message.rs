//! One JSON-RPC message of a client: bytes ↔ what it asks for, nothing else.
//!
//! The walk takes the members that some method looks at, as spans of the body, and checks all of
//! it. Arguments stay JSON text, so that numbers are kept digit for digit.

use super::rpc::{Code, RpcError};
use crate::api::json::{Kind, RawValue, Scanner};
use crate::limits::MESSAGE_ID_BYTES_MAX;
use std::borrow::Cow;

/// A message as it was sent.
#[derive(Debug, Default)]
pub(super) struct Message<'m> {
    /// The JSON text of its `id`, a string or an integer.
    pub(super) id: Option<&'m str>,
    /// Its `method`.
    pub(super) method: Cow<'m, str>,
    /// Its `params`.
    pub(super) params: Params<'m>,
    /// It answers what a server asked: a `result` or an `error` and no method.
    pub(super) is_response: bool,
}

/// The members of `params` that some method looks at.
#[derive(Debug, Default)]
pub(super) struct Params<'m> {
    /// Of a tool or a prompt.
    pub(super) name: Option<RawValue<'m>>,
    /// Of a resource.
    pub(super) uri: Option<RawValue<'m>>,
    /// Where a list goes on.
    pub(super) cursor: Option<RawValue<'m>>,
    /// Of a tool or a prompt.
    pub(super) arguments: Option<RawValue<'m>>,
    /// What `initialize` asks for.
    pub(super) protocol_version: Option<RawValue<'m>>,
    /// What `subscriptions/listen` asks for.
    pub(super) notifications: Option<RawValue<'m>>,
    /// `_meta`; `None` if there is none.
    pub(super) meta: Option<Meta<'m>>,
}

/// The members of `_meta` that are looked at.
#[derive(Debug, Default)]
pub(super) struct Meta<'m> {
    /// `io.modelcontextprotocol/protocolVersion`
    pub(super) version: Option<RawValue<'m>>,
    /// `io.modelcontextprotocol/clientCapabilities`
    pub(super) capabilities: Option<RawValue<'m>>,
    /// `io.modelcontextprotocol/clientInfo`
    pub(super) client: Option<RawValue<'m>>,
    /// `progressToken`
    pub(super) progress_token: Option<RawValue<'m>>,
}

/// A string or a number that the client may use as an id.
pub(super) fn is_token(value: &RawValue<'_>) -> bool {
    let is_integer = || !value.text.contains(['.', 'e', 'E']);
    value.text.len() <= MESSAGE_ID_BYTES_MAX
        && (value.kind == Kind::String || value.kind == Kind::Number && is_integer())
}

/// The text of a JSON string; `None` of another value.
pub(super) fn text<'m>(value: Option<&RawValue<'m>>) -> Option<Cow<'m, str>> {
    let value = value.filter(|value| value.kind == Kind::String)?;
    let mut scanner = Scanner::of_text(value.text).ok()?;
    Some(scanner.string().ok()?.to_cow())
}

impl<'m> Message<'m> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not JSON, or no message; then `id` is what could be read of it.
    pub(super) fn read(body: &'m [u8]) -> Result<Self, Box<(Option<&'m str>, RpcError)>> {
        let mut message = Self::default();
        let mut broken = None;
        match message.walk(body, &mut broken) {
            Err(error) => Err(Box::new((
                None,
                RpcError::new(Code::Parse, error.to_string()),
            ))),
            Ok(()) => match broken {
                Some(rule) => Err(Box::new((message.id, RpcError::new(Code::Request, rule)))),
                None => Ok(message),
            },
        }
    }

    fn walk(
        &mut self,
        body: &'m [u8],
        broken: &mut Option<&'static str>,
    ) -> Result<(), crate::api::json::JsonError> {
        let mut scanner = Scanner::new(body)?;
        if scanner.kind()? != Kind::Object {
            scanner.raw_value()?;
            *broken = Some("one message is a JSON object; batches are not taken");
            return scanner.finish();
        }
        let mut scratch = String::new();
        let (mut version, mut method, mut id) = (None, None, None);
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            match key.decode(&mut scratch) {
                "jsonrpc" => version = Some(scanner.raw_value()?),
                "id" => id = Some(scanner.raw_value()?),
                "method" => method = Some(scanner.raw_value()?),
                "params" if scanner.kind()? == Kind::Object => {
                    self.params = Params::walk(&mut scanner)?;
                }
                "params" => {
                    scanner.raw_value()?;
                    *broken = Some("`params` must be an object");
                }
                "result" | "error" => {
                    self.is_response = true;
                    scanner.raw_value()?;
                }
                _ => {
                    scanner.raw_value()?;
                }
            }
        }
        scanner.finish()?;
        self.id = id.as_ref().filter(|id| is_token(id)).map(|id| id.text);
        if id.is_some() && self.id.is_none() {
            *broken = Some("`id` must be a string or an integer of at most 256 bytes");
        }
        match text(method.as_ref()) {
            Some(method) => {
                self.method = method;
                self.is_response = false;
            }
            None if self.is_response => {}
            None => *broken = Some("`method` must be a string"),
        }
        if text(version.as_ref()).as_deref() != Some("2.0") {
            *broken = Some("`jsonrpc` must be \"2.0\"");
        }
        Ok(())
    }
}

impl<'m> Params<'m> {
    fn walk(scanner: &mut Scanner<'m>) -> Result<Self, crate::api::json::JsonError> {
        let mut params = Self::default();
        let mut scratch = String::new();
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            let slot = match key.decode(&mut scratch) {
                "name" => &mut params.name,
                "uri" => &mut params.uri,
                "cursor" => &mut params.cursor,
                "arguments" => &mut params.arguments,
                "protocolVersion" => &mut params.protocol_version,
                "notifications" => &mut params.notifications,
                "_meta" if scanner.kind()? == Kind::Object => {
                    params.meta = Some(Meta::walk(scanner)?);
                    continue;
                }
                _ => {
                    scanner.raw_value()?;
                    continue;
                }
            };
            *slot = Some(scanner.raw_value()?);
        }
        Ok(params)
    }
}

impl<'m> Meta<'m> {
    fn walk(scanner: &mut Scanner<'m>) -> Result<Self, crate::api::json::JsonError> {
        let mut meta = Self::default();
        let mut scratch = String::new();
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            let slot = match key.decode(&mut scratch) {
                "io.modelcontextprotocol/protocolVersion" => &mut meta.version,
                "io.modelcontextprotocol/clientCapabilities" => &mut meta.capabilities,
                "io.modelcontextprotocol/clientInfo" => &mut meta.client,
                "progressToken" => &mut meta.progress_token,
                _ => {
                    scanner.raw_value()?;
                    continue;
                }
            };
            *slot = Some(scanner.raw_value()?);
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_with_what_its_method_looks_at() {
        let body = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a",
            "arguments":{"n":1.50},"_meta":{"progressToken":"p","x":{}}}}"#;
        let message = Message::read(body).unwrap();
        assert_eq!((message.id, &*message.method), (Some("7"), "tools/call"));
        let params = message.params;
        assert_eq!(params.arguments.unwrap().text, r#"{"n":1.50}"#);
        let token = params.meta.unwrap().progress_token.unwrap();
        assert_eq!(token.text, "\"p\"");
    }

    #[test]
    fn what_is_no_message_is_told_from_what_is_no_json() {
        let code = |body: &str| Message::read(body.as_bytes()).unwrap_err().1.code;
        for body in ["", "{", "x", r#"{"jsonrpc":"2.0","id":1e999}"#, "{}{}"] {
            assert_eq!(code(body), Code::Parse, "{body}");
        }
        for body in [
            "[]",
            "1",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":2}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"a"}]"#,
        ] {
            assert_eq!(code(body), Code::Request, "{body}");
        }
    }
}

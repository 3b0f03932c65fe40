//! What holds of every message, whatever its bytes are: the fuzz target's part of this front.
//!
//! Nothing here is called by the server.

use super::arguments::{Arguments, Refused};
use super::era::Headers;
use super::message::{Message, Params, text};
use super::rpc::{Code, Era, RpcError};
use super::tools::{TOOLS, Tool};
use super::{call, prompts, resources};
use crate::api::ApiError;
use crate::api::event::{EventDecoder, EventIds};
use crate::api::history::EventsQuery;
use crate::api::json::{Kind, Scanner};
use crate::api::query::{ListQuery, ReadQuery};
use crate::api::stream_query::ChangesQuery;
use crate::limits::{MCP_WAIT_DEFAULT_MS, MCP_WAIT_MAX_MS};
use crate::wire::http1::{Field, query_pairs};

/// Reads a body as every tool does, and panics if something does not hold: what is refused is
/// answered by one JSON object, and what the arguments come to is what the parsers of
/// [`crate::api`] read.
pub fn check_message(body: &[u8]) {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(refused) => {
            assert!(matches!(refused.1.code, Code::Parse | Code::Request));
            return check_error(&refused.1, refused.0);
        }
    };
    let id = message.id;
    if let Some(id) = id {
        let kind = kind_of(id).expect("an id is JSON");
        assert!(matches!(kind, Kind::String | Kind::Number), "{id}");
    }
    check_era(&message);
    let uri = text(message.params.uri.as_ref());
    if let Some(Err(error)) = uri.as_deref().map(resources::after) {
        check_error(&error, id);
    }
    if let Some(entity) = uri.as_deref().and_then(resources::id_of) {
        assert!(!entity.is_empty());
    }
    match prompts::get(&message) {
        Ok(members) => check_json(&[b"{", members.trim_ascii_end(), b"\"last\":0}"].concat()),
        Err(error) => check_error(&error, id),
    }
    for tool in TOOLS {
        check_tool(tool, &message.params);
    }
}

/// A message with the head that it asks for is of an era; without one it is refused or an earlier
/// client's.
fn check_era(message: &Message<'_>) {
    let bare = Headers::default().judge(message);
    let meta = message.params.meta.as_ref();
    let version = meta.and_then(|meta| text(meta.version.as_ref()));
    match &bare {
        Ok(Era::Legacy) => assert!(meta.is_none_or(|meta| meta.version.is_none())),
        Ok(Era::Modern) => assert!(message.id.is_none()),
        Err(error) => check_error(error, message.id),
    }
    let name = message.params.name.as_ref().or(message.params.uri.as_ref());
    let name = text(name).unwrap_or_default();
    let version = version.unwrap_or_default();
    let headers = Headers {
        version: Field::One(version.as_bytes()),
        method: Field::One(message.method.as_bytes()),
        name: Field::One(name.as_bytes()),
    };
    if let Err(error) = headers.judge(message) {
        check_error(&error, message.id);
    }
}

fn check_tool(tool: Tool, params: &Params<'_>) {
    let arguments = match Arguments::read(tool, params.arguments.as_ref()) {
        Ok(arguments) => arguments,
        Err(refused) => return check_refused(&refused),
    };
    check_query(arguments.read_query(), |query| {
        ReadQuery::parse(query).map(drop)
    });
    check_query(arguments.list_query(), |query| {
        ListQuery::parse(query).map(drop)
    });
    check_query(arguments.events_query(), |query| {
        EventsQuery::parse(query).map(drop)
    });
    check_query(arguments.changes_query(), |query| {
        ChangesQuery::parse(query).map(drop)
    });
    match arguments.timeout_ms(MCP_WAIT_DEFAULT_MS, MCP_WAIT_MAX_MS) {
        Ok(ms) => assert!(ms <= MCP_WAIT_MAX_MS, "{ms}"),
        Err(refused) => check_refused(&refused),
    }
    match arguments.event() {
        Ok(body) => check_event(&body),
        Err(refused) => check_refused(&refused),
    }
}

/// A query that arguments come to has each parameter once, and is refused by a rule if at all.
fn check_query(
    query: Result<String, Refused>,
    parse: impl FnOnce(Option<&str>) -> Result<(), ApiError>,
) {
    let query = match query {
        Ok(query) => query,
        Err(refused) => return check_refused(&refused),
    };
    let mut names: Vec<String> = query_pairs(&query)
        .map(|pair| pair.expect("it is percent-encoded").0.into_owned())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{query}");
    if let Err(error) = parse(Some(&query)) {
        check_refused(&Refused::Call(error));
    }
}

/// The body of an event is JSON, so that it is refused by a rule of events if at all.
fn check_event(body: &[u8]) {
    check_json(body);
    let mut scanner = Scanner::new(body).expect("it is JSON");
    let mut ids = EventIds::new(1);
    let mut decoder = EventDecoder::default();
    let decoded = decoder.decode(&mut scanner, &mut ids, 1_700_000_000_000, |_| ());
    assert!(decoded.is_ok(), "{}", String::from_utf8_lossy(body));
}

fn check_refused(refused: &Refused) {
    let mut json = Vec::new();
    match refused {
        Refused::Call(error) => json.extend_from_slice(call::refusal(error).as_bytes()),
        Refused::Argument { name, rule } => {
            call::argument_refusal(&mut json, (name, rule), call::INVALID_ARGUMENT);
        }
    }
    check_json(&json);
}

fn check_error(error: &RpcError, id: Option<&str>) {
    let mut json = Vec::new();
    error.write(&mut json, id);
    check_json(&json);
}

fn check_json(json: &[u8]) {
    let text = str::from_utf8(json).expect("JSON is text");
    assert_eq!(kind_of(text), Some(Kind::Object), "{text}");
}

/// What a text is as JSON.
fn kind_of(text: &str) -> Option<Kind> {
    let mut scanner = Scanner::of_text(text).ok()?;
    let kind = scanner.raw_value().ok()?.kind;
    scanner.finish().ok().map(|()| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_messages_hold() {
        for body in [
            "",
            "{",
            "[]",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"flux_publish",
                "arguments":{"id":"a","properties":{"n":1.50},"expect":{"absent":true}}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"flux_coordinate",
                "arguments":{"goal":"g","goal":"h"}}}"#,
        ] {
            check_message(body.as_bytes());
        }
    }
}

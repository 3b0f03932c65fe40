//! Holds what a server says against its descriptions, `openapi.json` and `asyncapi.json`.
//!
//! The clients of the tests do that with every answer and every message that they receive, so each
//! integration test checks the descriptions too. An answer is checked if the client knows what was
//! asked: a request that it sent in one piece, on a connection that had only such ones.

use super::http::Response;
use super::schema::{Document, members};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Answers with longer bodies are checked by their status alone.
const BODY_BYTES_CHECKED: usize = 1 << 20;

/// `openapi.json`.
pub(crate) fn openapi() -> &'static Document {
    static TEXT: &str = include_str!("../../src/pages/openapi.json");
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document(serde_json::from_str(TEXT).expect("openapi.json is JSON")))
}

/// `asyncapi.json`.
pub(crate) fn asyncapi() -> &'static Document {
    static TEXT: &str = include_str!("../../src/pages/asyncapi.json");
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document(serde_json::from_str(TEXT).expect("asyncapi.json is JSON")))
}

/// The payload schemas of the messages of a channel, by `type`. One that only a client sends is
/// among them.
fn messages(channel: &str) -> &'static HashMap<String, &'static Value> {
    type Schemas = HashMap<String, &'static Value>;
    static CHANNELS: OnceLock<HashMap<String, Schemas>> = OnceLock::new();
    let channels = CHANNELS.get_or_init(|| {
        let document = asyncapi();
        let channels = members(&document.0["channels"]).iter();
        channels
            .map(|(name, channel)| {
                let messages = members(&channel["messages"]).iter();
                let schemas = messages
                    .map(|(name, message)| (name.clone(), &document.resolved(message)["payload"]));
                (name.clone(), schemas.collect())
            })
            .collect()
    });
    &channels[channel]
}

/// Checks a message that a server sent over a WebSocket.
pub(crate) fn check_message(message: &Value) {
    check_on("ws", message);
}

/// Checks the data of a server-sent event.
pub(crate) fn check_event(message: &Value) {
    check_on("stream", message);
}

fn check_on(channel: &str, message: &Value) {
    let kind = message["type"].as_str().unwrap_or_default();
    let schema = messages(channel).get(kind);
    let schema = schema.unwrap_or_else(|| panic!("asyncapi.json has no `{kind}`: {message}"));
    if let Err(error) = asyncapi().check(schema, message) {
        panic!("asyncapi.json describes `{kind}` otherwise: message{error} in {message}");
    }
}

/// The path of the description that a path of a request belongs to.
pub(crate) fn described_path(path: &str) -> Option<&'static str> {
    let paths = members(&openapi().0["paths"]);
    if let Some((exact, _)) = paths.get_key_value(path) {
        return Some(exact);
    }
    let templates = paths.keys().filter(|path| path.contains('{'));
    let mut fits = templates.filter(|template| is_of(template, path));
    fits.next().map(String::as_str)
}

fn is_of(template: &str, path: &str) -> bool {
    // An entity's id may hold slashes.
    if let Some(folder) = template.strip_suffix("/entities/{id}") {
        let rest = path.strip_prefix(folder).unwrap_or_default();
        return rest
            .strip_prefix("/entities/")
            .is_some_and(|id| !id.is_empty());
    }
    let (parts, wanted) = (path.split('/'), template.split('/'));
    parts.clone().count() == wanted.clone().count()
        && wanted
            .zip(parts)
            .all(|(wanted, part)| match wanted.strip_prefix('{') {
                Some(_) => !part.is_empty(),
                None => wanted == part,
            })
}

/// The description of what a request asks for.
pub(crate) fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = described_path(path)?;
    let method = if method == "HEAD" { "GET" } else { method };
    // A template and a path without may be the same to a server: an entity may be named `delete`.
    let of = |path: &str| openapi().0["paths"][path].get(method.to_ascii_lowercase());
    of(path).or_else(|| {
        of("/api/state/entities/{id}").filter(|_| path.starts_with("/api/state/entities/"))
    })
}

/// Checks the answer to a request.
pub(crate) fn check_answer(method: &str, target: &str, answer: &Response) {
    let path = target.split('?').next().unwrap_or_default();
    let Some(operation) = operation(method, path) else {
        return;
    };
    let what = || {
        format!(
            "{method} {target}: {} {}",
            answer.status_line,
            shown(answer)
        )
    };
    let response = operation["responses"].get(answer.status.to_string());
    let response =
        response.unwrap_or_else(|| panic!("openapi.json lacks the status of {}", what()));
    let response = openapi().resolved(response);
    let is_checked = method != "HEAD" && answer.body.len() <= BODY_BYTES_CHECKED;
    let Some(content) = response.get("content").filter(|_| is_checked) else {
        return;
    };
    let media = answer.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    let described = content.get(media);
    let described = described.unwrap_or_else(|| panic!("openapi.json has no {media}: {}", what()));
    if media != "application/json" {
        return;
    }
    if let Err(error) = openapi().check(&described["schema"], &answer.json()) {
        panic!(
            "openapi.json describes the answer otherwise: body{error} in {}",
            what()
        );
    }
}

fn shown(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body)
        .chars()
        .take(500)
        .collect()
}

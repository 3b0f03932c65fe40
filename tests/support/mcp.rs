//! A client of `POST /mcp`: requests of both eras, and calls of tools.

use super::http::{Connection, Response, request};
use serde_json::{Value, json};

pub(crate) const MODERN: &str = "2026-07-28";

/// The request of a message; `fields` are header fields besides those of the protocol.
pub(crate) fn modern(method: &str, params: &Value, fields: &[&str]) -> String {
    let mut params = params.as_object().cloned().unwrap_or_default();
    let name = params.get("name").or_else(|| params.get("uri"));
    let name = name
        .and_then(Value::as_str)
        .map(|name| format!("Mcp-Name: {name}"));
    let meta = params.entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "t", "version": "1"});
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let (version, method) = (
        format!("MCP-Protocol-Version: {MODERN}"),
        format!("Mcp-Method: {method}"),
    );
    let mut all = vec![&*version, &method];
    all.extend(name.as_deref());
    all.extend(fields);
    request("POST", "/mcp", &all, &body.to_string())
}

pub(crate) fn legacy(method: &str, params: &Value) -> String {
    let body = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params});
    let version = "MCP-Protocol-Version: 2025-06-18";
    request("POST", "/mcp", &[version], &body.to_string())
}

pub(crate) fn ask(connection: &mut Connection, request: &str) -> Response {
    connection.send(request);
    connection.response()
}

/// Calls a tool; the result, whose text says the same as its structure.
pub(crate) fn call_as(
    connection: &mut Connection,
    (tool, arguments): (&str, Value),
    token: &str,
) -> Value {
    let mut params = json!({"name": tool});
    params["arguments"] = arguments;
    let fields = [format!("Authorization: Bearer {token}")];
    let fields: Vec<&str> = match token {
        "" => Vec::new(),
        _ => fields.iter().map(String::as_str).collect(),
    };
    let answer = ask(connection, &modern("tools/call", &params, &fields));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = answer.json()["result"].clone();
    let text = result["content"][0]["text"].as_str().expect("text");
    assert!(text.len() <= 40_000, "{tool}: {} bytes", text.len());
    let told: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(told, result["structuredContent"], "{tool}");
    assert_eq!(result["resultType"], "complete", "{tool}");
    result
}

/// The same of a call that is not refused.
pub(crate) fn call(connection: &mut Connection, tool: &str, arguments: Value) -> Value {
    let result = call_as(connection, (tool, arguments), "");
    assert_eq!(result["isError"], false, "{tool}: {result}");
    result["structuredContent"].clone()
}

/// The same of one that is refused; its code, and what else it says.
pub(crate) fn refused(
    connection: &mut Connection,
    tool: &str,
    arguments: Value,
) -> (String, Value) {
    let result = call_as(connection, (tool, arguments), "");
    assert_eq!(result["isError"], true, "{tool}: {result}");
    let said = result["structuredContent"].clone();
    (said["code"].as_str().expect("a code").to_owned(), said)
}

pub(crate) fn publish(connection: &mut Connection, id: &str, properties: Value) -> Value {
    let mut arguments = json!({"id": id});
    arguments["properties"] = properties;
    call(connection, "flux_publish", arguments)
}

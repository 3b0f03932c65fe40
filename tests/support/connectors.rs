//! Calls about connectors that several tests make.

use super::http::Response;
use super::server::Server;
use super::wait_for;
use serde_json::{Value, json};

/// 32 bytes as base64.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(crate) fn definition(name: &str, url: &str) -> Value {
    json!({"name": name, "url": url, "poll_interval_seconds": 5, "entity_id": format!("{name}/{{city}}")})
}

pub(crate) fn define(server: &Server, definition: &Value) -> Response {
    server.post("/api/connectors", &definition.to_string())
}

pub(crate) fn show(server: &Server, name: &str) -> Value {
    let answer = server.get(&format!("/api/connectors/{name}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

pub(crate) fn wait_for_status(server: &Server, name: &str, status: &str) -> Value {
    wait_for(&format!("{name} to be {status}"), || {
        let shown = show(server, name);
        (shown["status"] == status).then_some(shown)
    })
}

pub(crate) fn store(server: &Server, name: &str, token: &str) -> Response {
    let target = format!("/api/connectors/{name}/token");
    server.post(&target, &json!({ "token": token }).to_string())
}

pub(crate) fn remove(server: &Server, name: &str) {
    let gone = server.request("DELETE", &format!("/api/connectors/{name}"), "");
    assert_eq!(gone.status, 204, "{}", gone.text());
}

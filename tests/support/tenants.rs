//! A server with tokens in force and three namespaces, and calls about their tokens.

use super::server::{Server, Setup};
use super::watch::Watcher;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;

/// The operator's token.
pub(crate) const ADMIN: &str = "operator-secret-0123456789";

/// See the module.
#[derive(Debug)]
pub(crate) struct Tenants {
    pub(crate) server: Server,
    /// How it was started.
    pub(crate) setup: Setup,
    /// The tokens of the registrations, by namespace.
    pub(crate) first: BTreeMap<&'static str, String>,
    _dir: TempDir,
}

/// A token that was made, and its id.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) token: String,
    pub(crate) id: String,
}

fn text(json: &Value, member: &str) -> String {
    json[member].as_str().expect("a string").to_owned()
}

impl Tenants {
    /// Starts a server with `house`, `garden` and `shed`.
    pub(crate) fn start(shards: u32) -> Self {
        Self::start_with_private(shards, &[])
    }

    /// The same, with these of them private.
    pub(crate) fn start_with_private(shards: u32, private: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let setup = Setup::new(dir.path(), shards)
            .env("FLUX_AUTH_ENABLED", "true")
            .env("FLUX_ADMIN_TOKEN", ADMIN);
        let mut tenants = Self {
            server: setup.start(),
            setup,
            first: BTreeMap::new(),
            _dir: dir,
        };
        let is_private = |name: &&str| private.contains(name);
        let names = ["house", "garden", "shed"];
        names
            .into_iter()
            .filter(|name| !is_private(name))
            .for_each(|name| tenants.register(name));
        if !private.is_empty() {
            tenants.setup = tenants.setup.env("FLUX_NAMESPACES_PRIVATE", "true");
            tenants = tenants.restart();
            let private = names.into_iter().filter(is_private);
            private.for_each(|name| tenants.register(name));
        }
        tenants
    }

    fn register(&mut self, name: &'static str) {
        let body = json!({ "name": name }).to_string();
        let call = ("POST", "/api/namespaces");
        let answer = self.server.with_token(call, ADMIN, &body);
        self.first.insert(name, text(&answer.json(), "token"));
    }

    /// Stops the server and starts it again.
    pub(crate) fn restart(self) -> Self {
        self.server.stop();
        Self {
            server: self.setup.start(),
            ..self
        }
    }

    /// Makes a token of a namespace.
    pub(crate) fn make(&self, namespace: &str, body: &Value) -> Made {
        let target = format!("/api/namespaces/{namespace}/tokens");
        let call = ("POST", target.as_str());
        let answer = self.server.with_token(call, ADMIN, &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        Made {
            token: text(&answer.json(), "token"),
            id: text(&answer.json(), "id"),
        }
    }

    /// Revokes a token.
    pub(crate) fn revoke(&self, namespace: &str, id: &str) {
        let target = format!("/api/namespaces/{namespace}/tokens/{id}");
        let answer = self.server.with_token(("DELETE", &target), ADMIN, "");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

/// Sends a message. The code of the error that it is answered with; empty: it succeeds.
pub(crate) fn ask(watcher: &mut Watcher, message: &Value) -> String {
    watcher.send(&message.to_string());
    let answer = watcher.next();
    assert_eq!(answer["id"], message["id"], "{message}: {answer}");
    answer["code"].as_str().unwrap_or_default().to_owned()
}

/// The message that publishes an event.
pub(crate) fn published(id: &str, properties: &str) -> Value {
    let event: Value = serde_json::from_str(&super::event(id, properties)).expect("JSON");
    json!({"type": "publish", "id": 1, "event": event})
}

/// Publishes over a WebSocket, as [`ask`] does.
pub(crate) fn publish(watcher: &mut Watcher, id: &str) -> String {
    ask(watcher, &published(id, "{}"))
}

/// Adds a token to a WebSocket, as [`ask`] does.
pub(crate) fn auth(watcher: &mut Watcher, token: &str) -> String {
    ask(watcher, &json!({"type": "auth", "id": "a", "token": token}))
}

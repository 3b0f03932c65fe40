//! Clients with random tokens and subscriptions, while tokens are revoked, replaced and expire, and
//! namespaces are deleted: what is published after the answer to such a call
//! reaches nobody who has lost the right to read it (API contract §16).
//!
//! Each event carries a number that rises. A client may get one of a private namespace only if it
//! had the right, and only up to the number at which it lost it.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::event;
use support::tenants::{ADMIN, Made, Tenants, ask, auth};
use support::wait_for;
use support::watch::Watcher;
use tungstenite::Message;

const NAMESPACES: [&str; 3] = ["house", "garden", "shed"];
const PATTERNS: [&str; 8] = [
    "*",
    "house/*",
    "garden/*",
    "shed/*",
    "h*",
    "house/a/*",
    "house/a/1",
    "garden/b/2",
];
const CLIENTS: usize = 12;
const ROUNDS: u64 = 80;
/// The token that expires.
const EXPIRING: usize = 9;

/// A client, and the tokens that it has.
struct Client {
    watcher: Watcher,
    /// Places among the tokens of the world.
    tokens: Vec<usize>,
    /// By namespace, the last number that it may have seen. None: any.
    last: BTreeMap<&'static str, u64>,
}

struct Token {
    namespace: &'static str,
    made: Made,
    expires: bool,
    is_alive: bool,
}

struct World {
    tenants: Tenants,
    tokens: Vec<Token>,
    private: Vec<&'static str>,
    clients: Vec<Client>,
    number: u64,
    random: Rng,
    story: Vec<String>,
}

fn id_of(random: &mut Rng, namespace: &str) -> String {
    let folder = if random.bool() { "a" } else { "b" };
    format!("{namespace}/{folder}/{}", random.u8(1..4))
}

impl World {
    fn start(seed: u64) -> Self {
        let private = vec!["house", "garden"];
        let shards = if seed.is_multiple_of(2) { 3 } else { 2 };
        let tenants = Tenants::start_with_private(shards, &private);
        let mut tokens = Vec::new();
        for namespace in ["house", "garden"].into_iter().cycle().take(EXPIRING + 1) {
            let expires = tokens.len() == EXPIRING;
            let seconds = expires.then_some(3);
            let body = json!({"scopes": ["read"], "expires_in_seconds": seconds});
            tokens.push(Token {
                namespace,
                made: tenants.make(namespace, &body),
                expires,
                is_alive: true,
            });
        }
        Self {
            tenants,
            tokens,
            private,
            clients: Vec::new(),
            number: 0,
            random: Rng::with_seed(seed),
            story: vec![format!("seed {seed}")],
        }
    }

    /// Connects a client with up to three of the tokens.
    fn connect(&mut self) {
        let mut watcher = Watcher::connect(&self.tenants.server);
        let mut tokens = Vec::new();
        for _ in 0..self.random.usize(..4) {
            let place = self.random.usize(..self.tokens.len());
            if auth(&mut watcher, &self.tokens[place].made.token).is_empty() {
                tokens.push(place);
            }
        }
        self.clients.push(Client {
            watcher,
            tokens,
            last: BTreeMap::new(),
        });
        // What it has no right to it never had.
        let number = std::mem::take(&mut self.number);
        self.note_lost_by(self.clients.len() - 1);
        self.number = number;
        let client = self.clients.last_mut().expect("the one just made");
        for _ in 0..self.random.usize(1..4) {
            let pattern = PATTERNS[self.random.usize(..PATTERNS.len())];
            let mode = ["property", "entity", "event"][self.random.usize(..3)];
            let mut message = json!({"type": "subscribe", "entity_id": pattern, "mode": mode});
            message["id"] = json!(pattern);
            if mode != "event" && self.random.bool() {
                message["max_hz"] = json!(0.5);
            }
            if self.random.bool() {
                message["snapshot"] = json!(true);
            }
            client.watcher.send(&message.to_string());
        }
    }

    /// Notes which clients have no right to what is published from now on.
    fn note_lost(&mut self) {
        for index in 0..self.clients.len() {
            self.note_lost_by(index);
        }
    }

    fn note_lost_by(&mut self, index: usize) {
        let client = &mut self.clients[index];
        for name in &self.private {
            let mut own = client.tokens.iter().map(|place| &self.tokens[*place]);
            let may_read = own.any(|it| it.is_alive && it.namespace == *name);
            if !may_read {
                client.last.entry(name).or_insert(self.number);
            }
        }
    }

    fn publish(&mut self) {
        for _ in 0..4 {
            self.number += 1;
            let name = NAMESPACES[self.random.usize(..3)];
            let id = id_of(&mut self.random, name);
            let body = event(&id, &format!(r#"{{"n":{}}}"#, self.number));
            let call = ("POST", "/api/events");
            let token = &self.tenants.first[name];
            self.tenants.server.with_token(call, token, &body);
        }
    }

    /// Takes some right away.
    fn take_away(&mut self) {
        let place = self.random.usize(..self.tokens.len());
        match self.random.u8(..10) {
            0..=3 if self.tokens[place].is_alive && !self.tokens[place].expires => {
                let token = &mut self.tokens[place];
                token.is_alive = false;
                self.tenants.revoke(token.namespace, &token.made.id);
                self.story.push(format!("{}: revoke {place}", self.number));
            }
            4 if self.tokens[EXPIRING].is_alive => {
                let call = ("GET", "/health");
                let (server, token) = (&self.tenants.server, &self.tokens[EXPIRING].made.token);
                wait_for("the token to expire", || {
                    (server.with_token(call, token, "").status == 401).then_some(())
                });
                self.tokens[EXPIRING].is_alive = false;
                self.story.push(format!("{}: expired", self.number));
            }
            6 => {
                let call = ("POST", "/api/namespaces/garden/token");
                let answer = self.tenants.server.with_token(call, ADMIN, "");
                assert_eq!(answer.status, 200);
                let token = answer.json()["token"].as_str().expect("one").to_owned();
                self.tenants.first.insert("garden", token);
            }
            _ => {}
        }
        self.note_lost();
    }

    /// Holds what each client was sent against what it may have seen.
    fn check(self) {
        let mut seen = 0;
        for mut client in self.clients {
            let close = client.watcher.socket.send(Message::Close(None));
            close.expect("the server takes a close");
            for message in client.watcher.rest().0 {
                for (id, number) in entities_of(&message) {
                    seen += 1;
                    let (namespace, _) = id.split_once('/').expect("a namespace");
                    let last = client.last.get(namespace).copied().unwrap_or(u64::MAX);
                    let story = &self.story;
                    assert!(number <= last, "{story:?}, last {last}: {message}");
                }
            }
        }
        assert!(seen > 500, "{:?}: {seen} messages", self.story);
    }
}

/// The entities that a message shows, each with its number.
fn entities_of(message: &Value) -> Vec<(&str, u64)> {
    let rows = message["entities"].as_array().into_iter().flatten();
    let rows = rows.map(|row| (&row["id"], &row["properties"]["n"]));
    let (id, payload) = (&message["entity_id"], &message["payload"]);
    let change = [
        (id, &message["properties"]["n"]),
        (id, &message["value"]),
        (&payload["entity_id"], &payload["properties"]["n"]),
    ];
    rows.chain(change)
        .filter_map(|(id, number)| Some((id.as_str()?, number.as_u64()?)))
        .collect()
}

#[test]
fn nothing_that_is_published_after_a_right_is_lost_reaches_who_has_lost_it() {
    for seed in 1..=4 {
        let mut world = World::start(seed);
        for round in 0..ROUNDS {
            if world.clients.len() < CLIENTS {
                world.connect();
            }
            world.publish();
            if round > 20 && round % 4 == 0 {
                world.take_away();
            }
        }
        // Garden goes last, and is the operator's alone then.
        let call = ("DELETE", "/api/namespaces/garden");
        assert_eq!(world.tenants.server.with_token(call, ADMIN, "").status, 204);
        for token in &mut world.tokens {
            token.is_alive &= token.namespace != "garden";
        }
        world.note_lost();
        world.publish();
        let mut operator = Watcher::connect_with_token(&world.tenants.server, ADMIN);
        let wide = json!({"type": "subscribe", "id": 1, "entity_id": "garden/*"});
        assert_eq!(ask(&mut operator, &wide), "");
        world.check();
    }
}

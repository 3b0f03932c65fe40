//! Each error code stands in the responses of the calls that can carry it, and in no others.
//!
//! The table says for each code which calls those are. `openapi.json` says for each call which
//! codes: two columns of one ledger, which have to agree. That the program has no other codes, and
//! that each stands at its status, is checked in `src/api/description_test.rs`.
//!
//! What a table claims, a server has to confirm: each code is provoked here, unless that takes more
//! than a request ([`ELSEWHERE`]). The client of these tests refuses an answer whose code its call
//! does not list.

use super::support::described::openapi;
use super::support::http::Response;
use super::support::schema::members;
use super::support::server::Setup;
use super::world::{OPERATOR, World, text};
use super::{Call, calls};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

/// Calls that can carry a code.
enum Of {
    /// Every call.
    Every,
    /// All but these.
    AllBut(&'static [&'static [&'static str]]),
    /// These groups together.
    These(&'static [&'static [&'static str]]),
}
use Of::{AllBut, Every, These};

const PAGES: &[&str] = &["getRoot", "getOpenapi", "getAsyncapi", "getDocs", "getLlms"];
/// What the server answers in every state. Of `callMcp` refusals of calls are no answers of HTTP.
const SERVES_ANYWAY: &[&str] = &[
    "callMcp",
    "getHealth",
    "getMetrics",
    "getRoot",
    "getOpenapi",
    "getAsyncapi",
    "getDocs",
    "getLlms",
];
const PUBLISHES: &[&str] = &["publishEvent", "publishBatch"];
const DELETES_ONE: &[&str] = &["deleteEntity", "deleteEntityById"];
const DELETES_MANY: &[&str] = &["deleteEntities"];
const READS: &[&str] = &["getEntity", "getEntityById", "listEntities"];
const HISTORY: &[&str] = &["listEvents"];
const FOLLOWS: &[&str] = &["openStream", "pollChanges"];
const MANAGES: &[&str] = &[
    "makeToken",
    "revokeToken",
    "replaceToken",
    "setNamespaceVisibility",
];
const CONNECTORS_CHANGE: &[&str] = &[
    "defineConnector",
    "removeConnector",
    "storeCredential",
    "removeCredential",
];
const CONNECTORS_SHOW: &[&str] = &["listConnectors", "getConnector"];
const OPERATES: &[&str] = &["listNamespaces", "deleteNamespace"];

/// What it takes to provoke a code that is not provoked here. Most have a test of their own.
const ELSEWHERE: &[(&str, &str)] = &[
    ("filter_too_costly", "entities of megabytes"),
    ("history_too_long", "half a million events"),
    ("history_unreadable", "a damaged log"),
    ("not_ready", "a long log, while it is replayed"),
    ("overloaded", "all of the memory for clients"),
    (
        "record_too_large",
        "a body limit that is larger than a segment",
    ),
    ("request_timeout", "time"),
    ("shutting_down", "a server that stops meanwhile"),
    ("state_damaged", "a damaged checkpoint"),
    ("storage_fault", "a disk that fails"),
    ("storage_full", "a full disk"),
    ("storage_read_only", "a disk that becomes read-only"),
    ("storage_unavailable", "a disk that makes no files"),
    ("tls_required", "a certificate"),
    (
        "too_many_connections",
        "as many connections as there may be",
    ),
    ("too_many_connectors", "2,000 connectors"),
    (
        "too_many_subscriptions",
        "as many subscriptions as there may be",
    ),
    ("too_many_tickets", "1,000 tickets"),
    ("too_many_tokens", "1,000 tokens"),
];

const CODES: &[(&str, Of)] = &[
    // Of HTTP, before a call is looked at.
    ("bad_chunk", Every),
    ("bad_framing", Every),
    ("bad_host", Every),
    ("body_too_large", Every),
    ("head_too_large", Every),
    ("malformed_request", Every),
    ("request_line_too_long", Every),
    ("request_timeout", Every),
    ("tls_required", Every),
    ("too_many_connections", Every),
    ("too_many_header_fields", Every),
    ("trailers_too_large", Every),
    ("unsupported_content_encoding", Every),
    // Of every call.
    ("host_refused", Every),
    ("invalid_encoding", Every),
    ("invalid_header", Every),
    // Pages pass over every parameter.
    ("invalid_query", AllBut(&[PAGES])),
    ("origin_refused", Every),
    ("overloaded", Every),
    ("token_malformed", Every),
    ("token_unknown", Every),
    ("shutting_down", AllBut(&[SERVES_ANYWAY])),
    (
        "not_ready",
        AllBut(&[
            SERVES_ANYWAY,
            &["getConfig", "listTokens", "makeTicket"],
            CONNECTORS_SHOW,
        ]),
    ),
    // Of what is asked with a token.
    (
        "token_missing",
        AllBut(&[
            SERVES_ANYWAY,
            READS,
            &["getReady", "getConfig", "getNamespace", "openWebSocket"],
        ]),
    ),
    ("ticket_unknown", These(&[&["openWebSocket", "openStream"]])),
    ("not_readable", These(&[HISTORY, FOLLOWS])),
    (
        "not_namespace_owner",
        These(&[
            PUBLISHES,
            DELETES_ONE,
            DELETES_MANY,
            MANAGES,
            &["listTokens"],
            CONNECTORS_CHANGE,
            CONNECTORS_SHOW,
        ]),
    ),
    (
        "scope_missing",
        These(&[
            PUBLISHES,
            DELETES_ONE,
            DELETES_MANY,
            MANAGES,
            &["listTokens"],
            CONNECTORS_CHANGE,
        ]),
    ),
    (
        "outside_prefix",
        These(&[PUBLISHES, DELETES_ONE, DELETES_MANY, CONNECTORS_CHANGE]),
    ),
    (
        "token_exceeded",
        These(&[&["makeToken", "replaceToken", "setNamespaceVisibility"]]),
    ),
    ("admin_only", These(&[OPERATES, &["registerNamespace"]])),
    ("admin_disabled", These(&[OPERATES, &["changeConfig"]])),
    (
        "reserved_namespace",
        These(&[
            PUBLISHES,
            DELETES_ONE,
            DELETES_MANY,
            MANAGES,
            &["listTokens"],
            &["registerNamespace", "deleteNamespace", "defineConnector"],
        ]),
    ),
    // Of what is published.
    (
        "namespace_required",
        These(&[PUBLISHES, DELETES_ONE, DELETES_MANY]),
    ),
    ("entity_too_large", These(&[PUBLISHES])),
    ("operation_conflict", These(&[PUBLISHES])),
    ("operation_limit", These(&[PUBLISHES])),
    ("operation_type", These(&[PUBLISHES])),
    ("event_id_reused", These(&[PUBLISHES])),
    ("record_too_large", These(&[PUBLISHES])),
    ("batch_too_costly", These(&[&["publishBatch"]])),
    ("precondition_failed", These(&[PUBLISHES, DELETES_ONE])),
    (
        "rate_limited",
        These(&[
            PUBLISHES,
            DELETES_ONE,
            &["setNamespaceVisibility", "replaceToken", "makeToken"],
            &["defineConnector", "storeCredential"],
        ]),
    ),
    ("filter_too_costly", These(&[PUBLISHES, &["pollChanges"]])),
    (
        "invalid_filter",
        These(&[PUBLISHES, &["listEntities"], FOLLOWS]),
    ),
    // Of bodies.
    ("invalid_json", These(BODIES)),
    ("invalid_body", These(BODIES)),
    ("invalid_field", These(BODIES)),
    (
        "missing_field",
        These(&[
            PUBLISHES,
            &[
                "makeToken",
                "setNamespaceVisibility",
                "defineConnector",
                "storeCredential",
            ],
        ]),
    ),
    // Of what is read.
    (
        "entity_not_found",
        These(&[&["getEntity", "getEntityById"], DELETES_ONE]),
    ),
    ("history_too_long", These(&[READS])),
    ("history_removed", These(&[READS, HISTORY, FOLLOWS])),
    ("history_unreadable", These(&[READS, HISTORY, FOLLOWS])),
    ("invalid_cursor", These(&[HISTORY, FOLLOWS])),
    ("cursor_too_narrow", These(&[HISTORY, FOLLOWS])),
    ("too_many_subscriptions", These(&[FOLLOWS])),
    ("too_many_matches", These(&[DELETES_MANY])),
    ("bad_websocket_handshake", These(&[&["openWebSocket"]])),
    (
        "unsupported_websocket_version",
        These(&[&["openWebSocket"]]),
    ),
    // Of namespaces and their tokens.
    (
        "not_found",
        These(&[
            OPERATES,
            MANAGES,
            &[
                "listTokens",
                "registerNamespace",
                "getNamespace",
                "makeTicket",
            ],
        ]),
    ),
    (
        "namespace_not_found",
        These(&[
            MANAGES,
            &["listTokens", "getNamespace", "deleteNamespace"],
            CONNECTORS_CHANGE,
            CONNECTORS_SHOW,
        ]),
    ),
    ("namespace_taken", These(&[&["registerNamespace"]])),
    ("namespace_not_empty", These(&[&["registerNamespace"]])),
    ("too_many_registrations", These(&[&["registerNamespace"]])),
    ("token_not_found", These(&[&["revokeToken"]])),
    ("too_many_tokens", These(&[&["makeToken"]])),
    ("too_many_tickets", These(&[&["makeTicket"]])),
    // Of connectors.
    (
        "connector_not_found",
        These(&[&[
            "getConnector",
            "removeConnector",
            "storeCredential",
            "removeCredential",
        ]]),
    ),
    ("connector_taken", These(&[&["defineConnector"]])),
    ("too_many_connectors", These(&[&["defineConnector"]])),
    ("connector_built_in", These(&[&["removeConnector"]])),
    ("credential_not_found", These(&[&["removeCredential"]])),
    ("encryption_key_missing", These(&[&["storeCredential"]])),
    // Of the disk.
    ("storage_full", These(STORES)),
    ("storage_read_only", These(STORES)),
    ("storage_unavailable", These(STORES)),
    (
        "storage_fault",
        These(&[
            STORES[0],
            STORES[1],
            STORES[2],
            STORES[3],
            STORES[4],
            STORES[5],
            READS,
            HISTORY,
            &["getNamespace", "listNamespaces"],
        ]),
    ),
    (
        "state_damaged",
        These(&[
            PUBLISHES,
            DELETES_ONE,
            DELETES_MANY,
            READS,
            HISTORY,
            FOLLOWS,
            &["registerNamespace", "deleteNamespace"],
        ]),
    ),
];

const BODIES: &[&[&str]] = &[
    PUBLISHES,
    DELETES_MANY,
    &["registerNamespace", "setNamespaceVisibility", "makeToken"],
    &["changeConfig", "defineConnector", "storeCredential"],
];

const STORES: &[&[&str]] = &[
    PUBLISHES,
    DELETES_ONE,
    DELETES_MANY,
    MANAGES,
    CONNECTORS_CHANGE,
    &["registerNamespace", "deleteNamespace", "changeConfig"],
];

/// The codes that a call lists.
fn listed(call: &Call) -> BTreeSet<&'static str> {
    let responses = members(&call.operation["responses"]).values();
    let codes = responses.flat_map(|response| {
        let response = openapi().resolved(response);
        let schema = &response["content"]["application/json"]["schema"];
        schema["properties"]["code"]["enum"]
            .as_array()
            .into_iter()
            .flatten()
    });
    codes.map(|code| code.as_str().expect("a code")).collect()
}

#[test]
fn each_code_stands_where_it_can_come() {
    let calls = calls();
    let ids: BTreeSet<&str> = calls.iter().map(Call::id).collect();
    let mut claimed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (code, of) in CODES {
        let of: BTreeSet<&str> = match of {
            Every => ids.clone(),
            AllBut(others) => {
                let is_other = |id: &str| others.iter().any(|group| group.contains(&id));
                ids.iter().copied().filter(|id| !is_other(id)).collect()
            }
            These(groups) => groups.iter().copied().flatten().copied().collect(),
        };
        assert!(of.is_subset(&ids), "{code}: {:?}", of.difference(&ids));
        claimed.insert(code, of);
    }
    let mut listed_at: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in &calls {
        for code in listed(call) {
            listed_at.entry(code).or_default().insert(call.id());
        }
    }
    for code in claimed.keys().chain(listed_at.keys()) {
        assert_eq!(
            listed_at.get(code),
            claimed.get(code),
            "{code}: listed, claimed"
        );
    }
}

/// Collects the codes of answers.
#[derive(Default)]
struct Provoked(BTreeSet<String>);

impl Provoked {
    fn note(&mut self, answer: &Response, code: &str) {
        assert_eq!(answer.json()["code"], code, "{}", answer.text());
        self.0.insert(code.to_owned());
    }
}

const EVENT: &str = r#"{"stream":"s","source":"t","payload":{"entity_id":"ID","properties":{}}}"#;

fn event(id: &str) -> String {
    EVENT.replace("ID", id)
}

fn with_payload(members: &str) -> String {
    event("dawn-coral/a").replace(r#""properties":{}"#, members)
}

/// A request and the code that it is refused with: method, target, body. A body `@<id>` is an event
/// about that entity, `+<members>` one with these in its payload, and `!<members>` one with these
/// beside it.
type Row = (&'static str, &'static str, &'static str, &'static str);

fn body_of(text: &str) -> String {
    let (first, rest) = text.split_at(text.len().min(1));
    match first {
        "@" => event(rest),
        "+" => with_payload(rest),
        "!" => event("dawn-coral/a").replacen('{', &format!("{{{rest},"), 1),
        _ => text.to_owned(),
    }
}

/// What whoever has all of `dawn-coral` is refused.
const OF_OWNER: &[Row] = &[
    ("POST", "/api/events", "{", "invalid_json"),
    ("POST", "/api/events", "[]", "invalid_body"),
    ("POST", "/api/events", "{}", "missing_field"),
    ("POST", "/api/events", r#"!"key":1"#, "invalid_field"),
    ("POST", "/api/events", "@a", "namespace_required"),
    (
        "POST",
        "/api/events",
        "@amber-reef/a",
        "not_namespace_owner",
    ),
    ("POST", "/api/events", "@flux-core/a", "reserved_namespace"),
    (
        "POST",
        "/api/events",
        r#"+"increment":{"t":"x"}"#,
        "operation_type",
    ),
    (
        "POST",
        "/api/events",
        r#"+"min":{"t":1},"max":{"t":1}"#,
        "operation_conflict",
    ),
    (
        "POST",
        "/api/events",
        r#"!"expect":{"filter":"x"}"#,
        "invalid_filter",
    ),
    (
        "POST",
        "/api/events",
        r#"!"expect":{"version":99}"#,
        "precondition_failed",
    ),
    (
        "POST",
        "/api/events",
        r#"!"eventId":"same","key":"other""#,
        "event_id_reused",
    ),
    ("POST", "/api/events/batch", "{}", "invalid_body"),
    (
        "POST",
        DELETE,
        r#"{"prefix":"dawn-coral/","namespace":"dawn-coral"}"#,
        "invalid_body",
    ),
    (
        "POST",
        DELETE,
        r#"{"entity_ids":["dawn-coral/a","dawn-coral/b"]}"#,
        "too_many_matches",
    ),
    (
        "DELETE",
        "/api/state/entities/dawn-coral/none",
        "",
        "entity_not_found",
    ),
    (
        "GET",
        "/api/state/entities/dawn-coral/none",
        "",
        "entity_not_found",
    ),
    ("GET", "/api/state/entities?limit=0", "", "invalid_query"),
    ("GET", "/api/state/entities?filter=x", "", "invalid_filter"),
    (
        "GET",
        "/api/state/entities?prefix=%zz",
        "",
        "invalid_encoding",
    ),
    (
        "GET",
        "/api/events?namespace=dawn-coral&before=x",
        "",
        "invalid_cursor",
    ),
    (
        "GET",
        "/api/changes?entity_id=*&since=CURSOR",
        "",
        "cursor_too_narrow",
    ),
    (
        "GET",
        "/api/changes?entity_id=dawn-coral/*&since=BEYOND",
        "",
        "history_removed",
    ),
    ("GET", "/api/ws", "", "bad_websocket_handshake"),
    ("GET", "/api/ws?ticket=x", "", "invalid_query"),
    ("GET", "/api/stream?mode=x", "", "invalid_query"),
    ("PUT", "/api/admin/config", "", "token_unknown"),
    ("GET", "/api/namespaces", "", "admin_only"),
    ("POST", "/api/connectors", WEATHER, "connector_taken"),
    ("GET", "/api/connectors/none", "", "connector_not_found"),
    ("DELETE", "/api/connectors/github", "", "connector_built_in"),
    (
        "DELETE",
        "/api/connectors/github/token",
        "",
        "credential_not_found",
    ),
];

/// What the operator is refused.
const OF_OPERATOR: &[Row] = &[
    (
        "POST",
        "/api/namespaces",
        r#"{"name":"dawn-coral"}"#,
        "namespace_taken",
    ),
    (
        "POST",
        "/api/namespaces",
        r#"{"name":"left-alone"}"#,
        "namespace_not_empty",
    ),
    ("GET", "/api/namespaces/nobody", "", "namespace_not_found"),
    (
        "DELETE",
        "/api/namespaces/dawn-coral/tokens/x",
        "",
        "token_not_found",
    ),
    (
        "POST",
        "/api/connectors?namespace=dawn-coral",
        "{}",
        "missing_field",
    ),
];

const DELETE: &str = "/api/state/entities/delete";
const WEATHER: &str = r#"{"name":"weather","url":"http://127.0.0.1:9/","poll_interval_seconds":60,"entity_id":"dawn-coral/a"}"#;

/// What is wrong with the bytes of a request.
fn provoke_by_bytes(world: &World, provoked: &mut Provoked) {
    let chunked = "POST /api/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let authorized = format!("{chunked}Authorization: Bearer {}\r\n\r\n", world.owner);
    let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(4000));
    let rows = [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            "bad_host",
        ),
        ("GET /health HTTP/1.1\r\n\r\n".to_owned(), "bad_host"),
        (
            "GET  /health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "malformed_request",
        ),
        (format!("{authorized}zz\r\n"), "bad_chunk"),
        (format!("{chunked}Content-Length: 1\r\n\r\n"), "bad_framing"),
        (format!("{authorized}{trailers}"), "trailers_too_large"),
        (
            "POST /api/tickets HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n".to_owned(),
            "body_too_large",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)),
            "request_line_too_long",
        ),
        (
            format!(
                "GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n",
                "x".repeat(17_000)
            ),
            "head_too_large",
        ),
        (
            format!(
                "GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(70)
            ),
            "too_many_header_fields",
        ),
        (
            "POST /api/tickets HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "unsupported_content_encoding",
        ),
    ];
    for (bytes, code) in rows {
        let mut connection = world.server.connect();
        connection.send_what_it_takes(&bytes);
        provoked.note(&connection.response(), code);
    }
}

/// What the tables have, and bodies that are too long for a table.
fn provoke_by_rows(world: &World, provoked: &mut Provoked) {
    let (owner, publish) = (world.owner.as_str(), ("POST", "/api/events"));
    let first = world.ask_as(owner, publish, &body_of(r#"!"eventId":"same""#));
    let cursor = text(&first.json(), "cursor");
    // The same place in a server that has seen more of this namespace.
    let ahead = World::start();
    let mut beyond = String::new();
    for _ in 0..50 {
        let answer = ahead.ask_as(&ahead.owner, publish, &event("dawn-coral/a"));
        beyond = text(&answer.json(), "cursor");
    }
    let left = world.register("left-alone");
    assert_eq!(
        world.ask_as(&left, publish, &event("left-alone/a")).status,
        200
    );
    assert_eq!(
        world.ask("DELETE", "/api/namespaces/left-alone", "").status,
        204
    );
    for (token, rows) in [(owner, OF_OWNER), (OPERATOR, OF_OPERATOR)] {
        for (method, target, body, code) in rows {
            let target = target.replace("CURSOR", &cursor).replace("BEYOND", &beyond);
            let answer = world.ask_as(token, (method, &target), &body_of(body));
            provoked.note(&answer, code);
        }
    }
    let many: Vec<String> = (0..10_001).map(|n| format!(r#""{n}":0"#)).collect();
    let many = with_payload(&format!(r#""properties":{{{}}}"#, many.join(",")));
    provoked.note(&world.ask_as(owner, publish, &many), "entity_too_large");
    let long = format!(r#""increment":{{"n":0.{}}}"#, "1".repeat(1001));
    let answer = world.ask_as(owner, publish, &with_payload(&long));
    provoked.note(&answer, "operation_limit");
    let atomic = [event("dawn-coral/a"), event("x")].join(",");
    let atomic = format!(r#"{{"atomic":true,"events":[{atomic}]}}"#);
    let answer = world.ask_as(owner, ("POST", "/api/events/batch"), &atomic);
    provoked.note(&answer, "namespace_required");
}

/// What tokens of less than all are refused, and what heads are.
fn provoke_by_tokens(world: &World, provoked: &mut Provoked) {
    let (_, reader) = world.token(&json!({"scopes": ["read"]}));
    let part = json!({"scopes": ["write", "manage"], "prefix": "dawn-coral/x"});
    let (_, part) = world.token(&part);
    let tokens = "/api/namespaces/dawn-coral/tokens";
    let rows: &[(&str, Row)] = &[
        (
            "",
            ("POST", "/api/events", "@dawn-coral/a", "token_missing"),
        ),
        ("nobody", ("GET", "/health", "", "token_unknown")),
        ("not a token", ("GET", "/health", "", "token_malformed")),
        (
            &reader,
            ("POST", "/api/events", "@dawn-coral/a", "scope_missing"),
        ),
        (
            &part,
            ("POST", "/api/events", "@dawn-coral/a", "outside_prefix"),
        ),
        (
            &part,
            ("POST", tokens, r#"{"scopes":["read"]}"#, "token_exceeded"),
        ),
        (
            &reader,
            ("GET", "/api/events?namespace=hidden", "", "not_readable"),
        ),
        ("", ("GET", "/api/ws?ticket=x", "", "ticket_unknown")),
    ];
    for (token, (method, target, body, code)) in rows {
        provoked.note(&world.ask_as(token, (method, target), &body_of(body)), code);
    }
    let fields = ["If-Match: \"1\"".to_owned()];
    let answer = world.ask_with("", ("GET", "/health"), (&fields, ""));
    provoked.note(&answer, "invalid_header");
    let fields = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 12",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let fields = fields.map(str::to_owned);
    let answer = world.ask_with("", ("GET", "/api/ws"), (&fields, ""));
    provoked.note(&answer, "unsupported_websocket_version");
}

/// What is refused because of how the server was started.
fn provoke_by_settings(provoked: &mut Provoked) {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1)
        .env("FLUX_OPEN", "false")
        .env("FLUX_ALLOWED_ORIGINS", "http://localhost");
    let server = setup.start();
    let ask = |fields: &str, target: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n"));
        connection.response()
    };
    provoked.note(&ask("Host: example.com", "/health"), "host_refused");
    let page = "Host: localhost\r\nOrigin: http://example.com";
    provoked.note(&ask(page, "/health"), "origin_refused");
    provoked.note(&ask("Host: localhost", "/api/namespaces"), "not_found");
    provoked.note(&ask("Host: localhost", "/nothing"), "not_found");
    let body = r#"{"token":"x"}"#;
    let answer = server.post("/api/connectors/github/token", body);
    provoked.note(&answer, "encryption_key_missing");
    provoked.note(
        &server.request("PUT", "/api/admin/config", "{}"),
        "admin_disabled",
    );
    provoked.note(&server.request("PUT", "/health", ""), "method_not_allowed");
    let open = TempDir::new().expect("a temporary directory");
    let open = Setup::new(open.path(), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_REGISTRATIONS_PER_ADDRESS_MAX", "1")
        .start();
    assert_eq!(open.post("/api/namespaces", "").status, 200);
    provoked.note(&open.post("/api/namespaces", ""), "too_many_registrations");
}

/// The rate of a namespace, and events about entities that are too large for one batch.
fn provoke_by_excess(world: &World, provoked: &mut Provoked) {
    let large = with_payload(&format!(
        r#""properties":{{"t":"{}"}}"#,
        "x".repeat(1 << 20)
    ));
    let publish = ("POST", "/api/events");
    let large = large.replace(&"x".repeat(1 << 20), &"x".repeat(1_000_000));
    assert_eq!(world.ask_as(&world.owner, publish, &large).status, 200);
    let events = vec![with_payload(r#""increment":{"n":1}"#); 30].join(",");
    let batch = format!(r#"{{"atomic":true,"events":[{events}]}}"#);
    let answer = world.ask_as(&world.owner, ("POST", "/api/events/batch"), &batch);
    provoked.note(&answer, "batch_too_costly");
    let one = r#"{"rate_limit_per_namespace_per_minute":1}"#;
    assert_eq!(world.ask("PUT", "/api/admin/config", one).status, 200);
    for _ in 0..2 {
        let answer = world.ask_as(&world.owner, publish, &event("dawn-coral/a"));
        if answer.status != 200 {
            provoked.note(&answer, "rate_limited");
        }
    }
}

#[test]
fn a_server_answers_with_each_code_where_it_is_described() {
    let world = World::with(&[("FLUX_CONNECTORS_ALLOW_PRIVATE", "true")]);
    let mut provoked = Provoked::default();
    world.register("hidden");
    let body = r#"{"read":"private"}"#;
    assert_eq!(
        world.ask("PATCH", "/api/namespaces/hidden", body).status,
        200
    );
    let text = with_payload(r#""properties":{"t":"text"}"#);
    assert_eq!(
        world
            .ask_as(&world.owner, ("POST", "/api/events"), &text)
            .status,
        200
    );
    let one = r#"{"max_batch_delete":1}"#;
    assert_eq!(world.ask("PUT", "/api/admin/config", one).status, 200);
    provoke_by_bytes(&world, &mut provoked);
    provoke_by_rows(&world, &mut provoked);
    provoke_by_tokens(&world, &mut provoked);
    provoke_by_settings(&mut provoked);
    provoke_by_excess(&world, &mut provoked);
    provoked.0.remove("method_not_allowed");
    let elsewhere = ELSEWHERE.iter().map(|(code, _)| (*code).to_owned());
    let elsewhere: BTreeSet<String> = elsewhere.collect();
    assert_eq!(
        provoked.0.intersection(&elsewhere).next(),
        None,
        "a row that is stale"
    );
    let all: BTreeSet<String> = CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    let seen: BTreeSet<String> = provoked.0.union(&elsewhere).cloned().collect();
    assert_eq!(seen, all);
}

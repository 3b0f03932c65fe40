//! Clients that try to fill the server's memory, from outside.
//!
//! Strangers send bodies without a token. Clients of every kind, from one address or from many, ask
//! for much and take nothing, or send much and never finish, while another goes on publishing and
//! reading.

mod support;

use rustix::net::{AddressFamily, SocketType, sockopt};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use support::http::{Connection, request};
use support::mcp::{legacy, modern};
use support::server::{Server, Setup};
use support::{PATIENCE, batch, event, now, wait_within};
use tempfile::TempDir;

const MIB: u64 = 1024 * 1024;
/// `FLUX_MEMORY_BYTES`.
const BUDGET: u64 = 64 * MIB;
/// What the server may take besides: of each connection, of one large answer in the making on each
/// core, and what the allocator keeps.
const BASE: u64 = 48 * MIB;
/// What the process keeps of memory that clients have given back: ends of heaps, and small buffers.
const KEPT: u64 = 16 * MIB;
/// The largest entity.
const LARGE_ENTITY: u64 = 4 * MIB;

/// Sends the head of a publish whose body never comes, and returns the connection.
fn begin_publish(server: &Server, fields: &str) -> Connection {
    let mut connection = server.connect();
    let head = format!("POST /api/events HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    connection.send(head);
    connection
}

#[test]
fn a_write_without_a_known_token_is_refused_before_its_body() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "operator-secret-0123456789")
        .start();
    for framing in [
        "Content-Length: 1000000",
        "Transfer-Encoding: chunked",
        "Content-Length: 100\r\nExpect: 100-continue",
    ] {
        for token in ["", "Authorization: Bearer x\r\n"] {
            let mut connection = begin_publish(&server, &format!("{token}{framing}"));
            connection.response().expect_error(401, framing);
            connection.expect_closed();
        }
    }
    let too_long = "Content-Length: 99999999";
    let mut connection = begin_publish(&server, too_long);
    connection.response().expect_error(413, too_long);
}

/// A server whose clients may hold so many bytes.
fn with_budget(dir: &TempDir, bytes: u64) -> Server {
    Setup::new(dir.path(), 2)
        .env("FLUX_MEMORY_BYTES", &bytes.to_string())
        .start()
}

/// Its account of memory.
fn memory_of(server: &Server) -> Value {
    server.get("/health?detail").json()["memory"].clone()
}

/// A server with 16 MiB of events, an entity of 3 MiB and a list of 8 MiB, and the cursor before
/// all of it.
fn with_large_answers(dir: &TempDir) -> (Server, String) {
    let server = with_budget(dir, BUDGET);
    let polled = server.get("/api/changes").json();
    let since = polled["cursor"].as_str().expect("a cursor").to_owned();
    let text = "x".repeat(16 * 1024);
    for round in 0..16 {
        let events: Vec<String> = (0..64)
            .map(|number| {
                event(
                    &format!("alice/{number}"),
                    &format!(r#"{{"p{round}":"{text}"}}"#),
                )
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let text = "y".repeat(900 * 1024);
    for number in 0..3 {
        let properties = format!(r#"{{"part{number}":"{text}"}}"#);
        assert_eq!(server.publish("alice/large", &properties).status, 200);
    }
    (server, since)
}

/// A connection from an address of this machine, whose kernel takes little of what is sent to it.
fn connect_from(server: &Server, address: Ipv4Addr) -> Connection {
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
    rustix::net::bind(&socket, &SocketAddrV4::new(address, 0)).expect("an address of loopback");
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port);
    rustix::net::connect(&socket, &server).expect("the server accepts connections");
    Connection::over(TcpStream::from(socket)).expect("a socket")
}

/// Sends what the server takes of these bytes, without waiting for it to take all.
fn pour(server: &Server, address: Ipv4Addr, bytes: &[u8]) -> Connection {
    let mut connection = connect_from(server, address);
    connection.stream.set_nonblocking(true).expect("a socket");
    // What does not fit the socket's buffers is not missed.
    let mut rest = bytes;
    while let Ok(count) = connection.stream.write(rest) {
        rest = &rest[count..];
        if rest.is_empty() {
            break;
        }
    }
    connection
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A client's handshake, and these frames behind it, each masked with zeros.
fn websocket(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = b"GET /api/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    for (first, payload) in frames {
        bytes.push(*first);
        if payload.len() < 126 {
            bytes.push(0x80 | u8::try_from(payload.len()).expect("a short one"));
        } else if let Ok(length) = u16::try_from(payload.len()) {
            bytes.push(0xfe);
            bytes.extend_from_slice(&length.to_be_bytes());
        } else {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// The longest that a ping carries.
const PING: [u8; 125] = [b'p'; 125];

/// A kind of hostile client: its name, and what it sends.
type Kind = (&'static str, Vec<u8>);

fn kind(name: &'static str, request: &str, times: usize) -> Kind {
    (name, request.repeat(times).into_bytes())
}

fn post(target: &str, body: &str) -> String {
    request("POST", target, &[], body)
}

/// Who reads what there is, and what has been. `since`: the cursor before all of it.
fn readers(since: &str) -> Vec<Kind> {
    let at = "at=2999-01-01T00:00:00Z";
    let described = ["/docs", "/openapi.json", "/asyncapi.json", "/llms.txt", "/"].map(get);
    let past = get("/api/events?namespace=alice&limit=500");
    let list = get(&format!("/api/state/entities?limit=10000&{at}"));
    let poll = get(&format!("/api/changes?since={since}&wait=60"));
    let wait = get("/api/changes?entity_id=*&wait=60");
    vec![
        kind("pages of history", &past, 16),
        kind("lists", &list, 16),
        kind("pages", &get("/api/state/entities?limit=10000"), 16),
        kind(
            "large entities",
            &get("/api/state/entities/alice/large"),
            64,
        ),
        kind("polls", &wait, 16),
        kind("polls with much to tell", &poll, 16),
        kind("descriptions", &described.concat(), 64),
        kind("metrics", &get("/metrics"), 256),
        kind("health", &get("/health?detail"), 256),
    ]
}

/// Who writes, or never finishes to.
fn writers() -> Vec<Kind> {
    let half = |len: usize| {
        let head = format!(
            "POST /api/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n"
        );
        [head.into_bytes(), vec![b' '; len - 1]].concat()
    };
    let refused = event("alice/large", "{}").replacen('{', r#"{"expect":{"version":999},"#, 1);
    let nothing = format!(r#""events":[{}{{}}]}}"#, "{},".repeat(20_000));
    let batch = post("/api/events/batch", &format!("{{{nothing}"));
    let by_message = format!(r#"{{"type":"publish_batch","id":1,{nothing}"#);
    vec![
        kind("conditions that fail", &post("/api/events", &refused), 64),
        kind("batches of nothing", &batch, 4),
        (
            "batches of nothing by message",
            websocket(&[(0x81, by_message.as_bytes()); 4]),
        ),
        ("unfinished bodies", half(10 * 1024 * 1024)),
        (
            "unfinished messages",
            websocket(&[(0x01, &vec![b' '; 1_000_000])]),
        ),
        ("pings", websocket(&vec![(0x89, &PING[..]); 40_000])),
    ]
}

/// Who is pushed to, and takes nothing.
fn subscribers() -> Vec<Kind> {
    let subscribe: &[u8] = br#"{"type":"subscribe","entity_id":"*"}"#;
    let rarely: &[u8] =
        br#"{"type":"subscribe","id":1,"entity_id":"*","max_hz":0.1,"snapshot":true}"#;
    let events: &[u8] = br#"{"type":"subscribe","id":2,"entity_id":"*","mode":"event"}"#;
    let stream = get("/api/stream?entity_id=*&snapshot=true");
    vec![
        ("slow subscribers", websocket(&[(0x81, subscribe)])),
        (
            "subscribers who want little at a time",
            websocket(&[(0x81, rarely), (0x81, events)]),
        ),
        kind("slow streams", &stream, 1),
    ]
}

/// Who asks as an agent does.
fn agents() -> Vec<Kind> {
    let call = |name: &str, arguments: &Value| {
        let params = json!({"name": name, "arguments": arguments});
        legacy("tools/call", &params)
    };
    let time = "2999-01-01T00:00:00Z";
    let at = call("flux_at", &json!({"prefix": "alice/", "time": time}));
    let list = call("flux_list", &json!({"prefix": "alice/"}));
    let past = call("flux_history", &json!({"id": "alice/1"}));
    let uris: Vec<String> = (0..20)
        .map(|number| format!("flux://entity/healthy/{number}"))
        .collect();
    let listen = json!({"notifications": {"resourceSubscriptions": uris}});
    let listen = modern("subscriptions/listen", &listen, &[]);
    vec![
        kind("lists of tools", &legacy("tools/list", &json!({})), 256),
        kind("lists of the past by tool", &at, 64),
        kind("lists by tool", &list, 64),
        kind("events by tool", &past, 64),
        kind("waits by tool", &wait_for("healthy/"), 64),
        kind("notifications", &listen, 64),
    ]
}

/// A call that waits for a change of entities, and tells meanwhile that it does.
fn wait_for(prefix: &str) -> String {
    let params = json!({
        "name": "flux_wait_for",
        "arguments": {"prefix": prefix, "timeout_seconds": 50},
        "_meta": {"progressToken": 1},
    });
    modern("tools/call", &params, &[])
}

/// Every kind of hostile client. `since`: the cursor before all that there is.
fn attacks(since: &str) -> Vec<Kind> {
    let kinds = [readers(since), writers(), subscribers(), agents()];
    kinds.concat()
}

/// Waits until all memory of clients that have gone is given back.
fn give_back(server: &Server) {
    let until = now() + PATIENCE;
    loop {
        let memory = memory_of(server);
        if memory["used"].as_u64() < Some(MIB) {
            return;
        }
        assert!(now() < until, "this is not given back: {memory}");
    }
}

/// Lets hostile clients come from so many addresses while another client publishes and reads. They
/// may be counted for `used_max` bytes.
fn besiege(addresses: u8, used_max: u64) {
    let dir = TempDir::new().expect("a temporary directory");
    let (server, since) = with_large_answers(&dir);
    let memory = || memory_of(&server);
    let before = server.memory_bytes();
    let (mut most, mut most_used) = (0, 0);
    let attacks = attacks(&since);
    let mut hostile = Vec::new();
    let mut healthy = server.connect();
    let text = "z".repeat(2 * 1024);
    for round in 0..60 {
        if round < 12 {
            let last = 1 + round % addresses;
            for (_, bytes) in &attacks {
                hostile.push(pour(&server, Ipv4Addr::new(127, 0, 0, last), bytes));
            }
        }
        for number in 0..20 {
            let id = format!("healthy/{number}");
            let body = event(&id, &format!(r#"{{"round":{round},"text":"{text}"}}"#));
            let published = healthy.request("POST", "/api/events", &body);
            assert_eq!(published.status, 200, "{}", published.text());
            let read = format!("/api/state/entities/{id}?fields=round");
            let read = healthy.request("GET", &read, "");
            assert_eq!(read.json()["properties"]["round"], round);
        }
        most = most.max(server.memory_bytes());
        let bound = before + BUDGET * 11 / 10 + BASE;
        assert!(most <= bound, "{} MiB after {round} rounds", most / MIB);
        if round % 5 == 0 {
            let memory = memory();
            let used = memory["used"].as_u64().expect("a number of bytes");
            assert!(used <= used_max, "after {round} rounds: {memory}");
            most_used = most_used.max(used);
        }
    }
    assert_eq!(memory()["limit"], BUDGET);
    assert!(
        most_used > used_max / 4,
        "they did ask for much: {most_used}"
    );
    drop(hostile);
    give_back(&server);
    // What could not be had meanwhile can be had again.
    assert_eq!(server.get("/api/state/entities/alice/large").status, 200);
}

#[test]
fn hostile_clients_of_one_address_have_a_quarter_and_another_is_served() {
    // On each core a list may pass it by one large entity.
    besiege(1, BUDGET / 4 + 2 * LARGE_ENTITY);
}

#[test]
fn hostile_clients_of_many_addresses_stay_within_the_budget_and_another_is_served() {
    besiege(12, BUDGET * 11 / 10);
}

/// What connections took goes back: to the account when they end, and to the system too.
#[test]
fn memory_of_clients_that_have_gone_goes_back_to_the_system() {
    let dir = TempDir::new().expect("a temporary directory");
    let (server, _) = with_large_answers(&dir);
    let used = || server.get("/health?detail").json()["memory"]["used"].as_u64();
    let before = server.memory_bytes();
    // Buffers that grow by turns, a piece at a time.
    let unread = get("/api/state/entities/alice/1?fields=p0").repeat(256);
    let (mut hostile, mut most) = (Vec::new(), 0);
    for number in 0..600_u16 {
        let last = 1 + u8::try_from(number % 12).expect("an address");
        hostile.push(pour(
            &server,
            Ipv4Addr::new(127, 0, 0, last),
            unread.as_bytes(),
        ));
        most = most.max(server.memory_bytes());
    }
    wait_within(PATIENCE, "the memory to be full", || {
        most = most.max(server.memory_bytes());
        (used() > Some(BUDGET / 4 * 3)).then_some(())
    });
    let grown = most.saturating_sub(before);
    assert!(grown <= BUDGET * 11 / 10 + KEPT, "{} MiB", grown / MIB);
    drop(hostile);
    wait_within(PATIENCE, "the system to have it back", || {
        (server.memory_bytes() <= before + KEPT).then_some(())
    });
}

/// Clients that wait for changes by so many connections of twelve addresses, with these requests.
/// They take nothing while what they wait for changes. Asserts that no more is counted than there
/// may be.
fn waiting_clients_stay_within(budget: u64, connections: u16, request: &str) {
    let dir = TempDir::new().expect("a temporary directory");
    let server = with_budget(&dir, budget);
    let memory = || memory_of(&server);
    let requests = request.repeat(8);
    let waiting: Vec<Connection> = (0..connections)
        .map(|number| {
            let last = 1 + u8::try_from(number % 12).expect("an address");
            let address = Ipv4Addr::new(127, 0, 0, last);
            pour(&server, address, requests.as_bytes())
        })
        .collect();
    // A tool's answer says it twice, once within a string.
    let text = r#"\""#.repeat(3 * 1024);
    let mut most = 0;
    for round in 0..40 {
        let events: Vec<String> = (0..8)
            .map(|number| {
                let properties = format!(r#"{{"round":{round},"text":"{text}"}}"#);
                event(&format!("waited/{number}"), &properties)
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        let memory = memory();
        let used = memory["used"].as_u64().expect("a number of bytes");
        assert!(used <= budget * 11 / 10, "in round {round}: {memory}");
        most = most.max(used);
    }
    assert!(most > budget / 4, "they did ask for much: {most}");
    drop(waiting);
    give_back(&server);
}

#[test]
fn clients_that_wait_by_tool_and_take_nothing_stay_within_the_budget() {
    waiting_clients_stay_within(16 * MIB, 400, &wait_for("waited/"));
}

#[test]
fn clients_that_poll_and_take_nothing_stay_within_the_budget() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2).start();
    let polled = server.get("/api/changes?entity_id=waited/*").json();
    let since = polled["cursor"].as_str().expect("a cursor");
    let poll = format!("/api/changes?entity_id=waited/*&since={since}&wait=60");
    waiting_clients_stay_within(16 * MIB, 400, &get(&poll));
}

#[test]
fn pages_that_are_not_taken_are_held_by_no_connection() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2).start();
    let tools = legacy("tools/list", &json!({}));
    let (pages, before) = (get("/docs").repeat(12), server.memory_bytes());
    let hostile: Vec<Connection> = (0..300_u16)
        .map(|number| {
            let last = 1 + u8::try_from(number % 12).expect("an address");
            let address = Ipv4Addr::new(127, 0, 0, last);
            let requests = [&*pages, &*tools].concat();
            pour(&server, address, requests.as_bytes())
        })
        .collect();
    // Their kernel's buffers are full of the first pages.
    let mut one = server.connect();
    for _ in 0..200 {
        assert_eq!(one.request("GET", "/health", "").status, 200);
    }
    let used = server.get("/health?detail").json()["memory"]["used"].as_u64();
    assert!(used < Some(MIB), "{used:?}");
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < KEPT, "{} MiB", grown / MIB);
    drop(hostile);
    assert_eq!(server.get("/docs").status, 200);
}

/// Subscriptions take memory as long as they are there, also if nothing is ever told by them.
#[test]
fn subscriptions_are_counted_and_refused_when_one_address_has_too_many() {
    let dir = TempDir::new().expect("a temporary directory");
    let budget = 16 * MIB;
    let server = with_budget(&dir, budget);
    let memory = || memory_of(&server);
    let before = server.memory_bytes();
    let connections: Vec<Connection> = (0..30)
        .map(|connection| {
            let messages: Vec<String> = (0..1_000)
                .map(|number| {
                    let pattern = format!("z/{connection}/{number}/{}*", "a".repeat(400));
                    format!(r#"{{"type":"subscribe","entity_id":"{pattern}"}}"#)
                })
                .collect();
            let frames: Vec<(u8, &[u8])> = (messages.iter())
                .map(|message| (0x81, message.as_bytes()))
                .collect();
            let mut connection = server.connect();
            connection.send(websocket(&frames));
            connection
        })
        .collect();
    let mut most = 0;
    wait_within(
        PATIENCE,
        "the memory of subscriptions to be used up",
        || {
            let memory = memory();
            let used = memory["used"].as_u64().expect("a number of bytes");
            assert!(used <= budget * 11 / 10, "{memory}");
            most = most.max(server.memory_bytes());
            // One address has 12 MiB, and leaves some of that to small holdings.
            (memory["streams"].as_u64() > Some(8 * MIB)).then_some(())
        },
    );
    let grown = most.saturating_sub(before);
    assert!(grown <= budget * 11 / 10 + KEPT, "{} MiB", grown / MIB);
    drop(connections);
    wait_within(PATIENCE, "their memory to be given back", || {
        (memory()["streams"] == 0).then_some(())
    });
}

/// Pages of a snapshot, each with one large entity, come faster than a client takes them.
#[test]
fn snapshots_that_nobody_takes_stay_within_the_budget() {
    let dir = TempDir::new().expect("a temporary directory");
    let budget = 32 * MIB;
    let server = with_budget(&dir, budget);
    let text = "z".repeat(900 * 1024);
    for number in 0..4 {
        let properties = format!(r#"{{"text":"{text}"}}"#);
        assert_eq!(
            server
                .publish(&format!("b{number}/big"), &properties)
                .status,
            200
        );
    }
    let subscribe: &[u8] = br#"{"type":"subscribe","id":1,"entity_id":"*","snapshot":true}"#;
    let kinds = [
        get("/api/stream?entity_id=*&snapshot=true").into_bytes(),
        websocket(&[(0x81, subscribe)]),
    ];
    let mut hostile = Vec::new();
    for number in 0..240_u16 {
        let address = Ipv4Addr::new(
            127,
            0,
            0,
            1 + u8::try_from(number % 12).expect("an address"),
        );
        hostile.push(pour(&server, address, &kinds[usize::from(number % 2)]));
        let memory = memory_of(&server);
        let used = memory["used"].as_u64().expect("a number of bytes");
        assert!(used <= budget * 11 / 10, "{number}: {memory}");
    }
    drop(hostile);
    wait_within(PATIENCE, "the memory to be given back", || {
        let memory = memory_of(&server);
        (memory["used"].as_u64() < Some(MIB)).then_some(())
    });
}

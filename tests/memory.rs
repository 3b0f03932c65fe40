//! Clients that try to fill the server's memory, from outside.
//!
//! Strangers send bodies without a token. Clients of every kind, from one address or from many, ask
//! for much and take nothing, or send much and never finish, while another goes on publishing and
//! reading.

mod support;

use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use support::http::Connection;
use support::server::{Server, Setup};
use support::{PATIENCE, batch, event, wait_within};
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

/// A server with 16 MiB of events, an entity of 3 MiB and a list of 8 MiB.
fn with_large_answers(dir: &TempDir) -> Server {
    let server = Setup::new(dir.path(), 2)
        .env("FLUX_MEMORY_BYTES", &BUDGET.to_string())
        .start();
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
    server
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

/// What hostile clients send, by kind.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let at = "at=2999-01-01T00:00:00Z";
    let half = |len: usize| {
        let head = format!(
            "POST /api/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n"
        );
        [head.into_bytes(), vec![b' '; len - 1]].concat()
    };
    let post = |target: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let refused = event("alice/large", "{}").replacen('{', r#"{"expect":{"version":999},"#, 1);
    let nothing = format!(r#""events":[{}{{}}]}}"#, "{},".repeat(20_000));
    let by_message = format!(r#"{{"type":"publish_batch","id":1,{nothing}"#);
    let subscribe: &[u8] = br#"{"type":"subscribe","entity_id":"*"}"#;
    let past = get("/api/events?namespace=alice&limit=500").repeat(16);
    vec![
        ("pages of history", past.into_bytes()),
        (
            "lists",
            get(&format!("/api/state/entities?limit=10000&{at}"))
                .repeat(16)
                .into_bytes(),
        ),
        (
            "pages",
            get("/api/state/entities?limit=10000")
                .repeat(16)
                .into_bytes(),
        ),
        (
            "large entities",
            get("/api/state/entities/alice/large")
                .repeat(64)
                .into_bytes(),
        ),
        (
            "conditions that fail",
            post("/api/events", &refused).repeat(64).into_bytes(),
        ),
        (
            "batches of nothing",
            post("/api/events/batch", &format!("{{{nothing}"))
                .repeat(4)
                .into_bytes(),
        ),
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
        ("slow subscribers", websocket(&[(0x81, subscribe)])),
        (
            "slow streams",
            get("/api/stream?entity_id=*&snapshot=true").into_bytes(),
        ),
        (
            "polls",
            get("/api/changes?entity_id=*&wait=60")
                .repeat(16)
                .into_bytes(),
        ),
    ]
}

/// Lets hostile clients come from so many addresses while another client publishes and reads. They
/// may be counted for `used_max` bytes.
fn besiege(addresses: u8, used_max: u64) {
    let dir = TempDir::new().expect("a temporary directory");
    let server = with_large_answers(&dir);
    let memory = || server.get("/health?detail").json()["memory"].clone();
    let before = server.memory_bytes();
    let (mut most, mut most_used) = (0, 0);
    let mut hostile = Vec::new();
    let mut healthy = server.connect();
    for round in 0..60 {
        if round < 12 {
            let last = 1 + round % addresses;
            for (_, bytes) in attacks() {
                hostile.push(pour(&server, Ipv4Addr::new(127, 0, 0, last), &bytes));
            }
        }
        for number in 0..20 {
            let id = format!("healthy/{number}");
            let body = event(&id, &format!(r#"{{"round":{round}}}"#));
            let published = healthy.request("POST", "/api/events", &body);
            assert_eq!(published.status, 200, "{}", published.text());
            let read = healthy.request("GET", &format!("/api/state/entities/{id}"), "");
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
    wait_within(PATIENCE, "the memory to be given back", || {
        (memory()["used"].as_u64() < Some(MIB)).then_some(())
    });
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
    let server = with_large_answers(&dir);
    let used = || server.get("/health?detail").json()["memory"]["used"].as_u64();
    let before = server.memory_bytes();
    let pages = ["/docs", "/asyncapi.json", "/llms.txt", "/openapi.json"].map(get);
    let unread = pages.concat().repeat(64);
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

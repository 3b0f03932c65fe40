//! The port by TLS: HTTP, WebSocket and server-sent events are as without it, whatever breaks the
//! rules costs its own connection alone, and SIGHUP replaces the certificate under open
//! connections.
//!
//! Most tests let the plain clients of the harness reach the server through a tunnel.

mod support;

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use support::events::Events;
use support::http::{Connection, request};
use support::server::Setup;
use support::tls::{Authority, Sealed, Secure, client, setup, text, tunnel};
use support::watch::read_message;
use support::{event, wait_for};
use tempfile::TempDir;

/// Everything until the server ends its side in order: an end without `close_notify` is an error.
fn rest_of(stream: &mut Secure) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end in order");
    text(&rest)
}

/// The common name that a client is presented with.
fn presented(sealed: &Sealed) -> String {
    let mut stream = sealed.open();
    stream.write_all(b"x").expect("a handshake");
    common_name(&stream)
}

fn common_name(stream: &Secure) -> String {
    let certificates = stream.conn.peer_certificates().expect("a handshake");
    let der: &CertificateDer<'_> = &certificates[0];
    let found = ["first", "second"].into_iter().find(|name| {
        der.windows(name.len())
            .any(|window| window == name.as_bytes())
    });
    found.expect("a name that was issued").to_owned()
}

#[test]
fn http_is_as_without_tls() {
    for shards in [1, 2] {
        let sealed = Sealed::start(shards);
        sealed.publish("tls/a", r#"{"n":22.50}"#);
        let answer = sealed.ask("GET", "/api/state/entities/tls/a", "");
        assert!(answer.text().contains("22.50"), "{}", answer.text());
        assert_eq!(sealed.ask("GET", "/nothing", "").status, 404);
        let health = sealed.ask("GET", "/health", "").json();
        assert_eq!(health["scheme"], "https");
        let mut connection = sealed.connect();
        for number in 0..50 {
            let target = format!("/api/state/entities/tls/{number}");
            assert_eq!(connection.request("GET", &target, "").status, 404);
        }
        sealed.server.stop();
    }
}

#[test]
fn large_bodies_and_large_pipelined_answers_arrive_whole() {
    let sealed = Sealed::start(2);
    let value = "v".repeat(900_000);
    for number in 0..4 {
        sealed.publish(
            &format!("big/{number}"),
            &format!(r#"{{"text":"{value}"}}"#),
        );
    }
    let one = request("GET", "/api/state/entities/big/1", &[], "");
    let list = request("GET", "/api/state/entities?namespace=big", &[], "");
    let mut connection = sealed.connect();
    connection.send([one.repeat(20), list].concat());
    for _ in 0..20 {
        let answer = connection.response();
        assert_eq!(answer.json()["properties"]["text"], value.as_str());
    }
    let listed = connection.response().json();
    assert_eq!(listed.as_array().expect("an array").len(), 4);
}

#[test]
fn a_reader_that_stalls_holds_little_and_gets_all_in_the_end() {
    let sealed = Sealed::start(1);
    let value = "v".repeat(1_000_000);
    sealed.publish("slow/a", &format!(r#"{{"text":"{value}"}}"#));
    let before = sealed.server.memory_bytes();
    let mut stream = sealed.open();
    let one = request("GET", "/api/state/entities/slow/a", &[], "");
    let last = request("GET", "/health", &["Connection: close"], "");
    stream
        .write_all([one.repeat(60), last].concat().as_bytes())
        .expect("requests");
    // Others are served meanwhile.
    for _ in 0..20 {
        assert_eq!(sealed.ask("GET", "/health", "").status, 200);
    }
    let grown = sealed.server.memory_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for one that does not read");
    let rest = rest_of(&mut stream);
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 61);
    assert!(rest.len() > 60_000_000 && rest.ends_with('}'));
}

#[test]
fn every_split_of_records_gives_the_same_answers() {
    let sealed = Sealed::start(1);
    let mut stream = sealed.open();
    stream.flush().expect("a handshake");
    let body = event("split/a", r#"{"n":1}"#);
    let calls = [
        request("POST", "/api/events", &[], &body),
        request(
            "GET",
            "/api/state/entities/split/a",
            &["Connection: close"],
            "",
        ),
    ];
    let mut records = Vec::new();
    for piece in calls.concat().as_bytes().chunks(50) {
        stream.conn.writer().write_all(piece).expect("room");
        stream.conn.write_tls(&mut records).expect("room");
    }
    for byte in records.chunks(1) {
        stream.sock.write_all(byte).expect("the server reads");
    }
    let rest = rest_of(&mut stream);
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 2, "{rest}");
}

#[test]
fn a_websocket_and_server_sent_events_are_as_without_tls() {
    let sealed = Sealed::start(2);
    let stream = TcpStream::connect(("127.0.0.1", sealed.tunnel)).expect("the tunnel");
    let url = format!("ws://127.0.0.1:{}/api/ws?metrics=false", sealed.tunnel);
    let (mut socket, _) = tungstenite::client(url, stream).expect("the handshake succeeds");
    let subscribe = json!({"type": "subscribe", "entity_id": "live/*", "id": 1});
    socket.send(subscribe.to_string().into()).expect("sent");
    assert!(socket.read().expect("an ack").to_string().contains("ack"));
    let mut events = Events::open(sealed.tunnel, "/api/stream?entity_id=live/*", &[]);
    assert_eq!(events.next().kind, "ack");
    for number in 0..200 {
        sealed.publish(
            &format!("live/{}", number % 7),
            &format!(r#"{{"n":{number}}}"#),
        );
        let message = socket.read().expect("an update").to_string();
        read_message(&message);
        assert!(
            message.contains(&format!(r#""value":{number}"#)),
            "{message}"
        );
    }
    let mut seen = 0;
    while seen < 200 {
        let event = events.next();
        if event.kind == "entity" {
            assert_eq!(event.data["properties"]["n"], seen);
            seen += 1;
        }
    }
    let large = "x".repeat(700_000);
    let call = json!({"type": "publish", "id": 2,
        "event": {"stream": "s", "source": "t", "payload": {"entity_id": "live/large", "properties": {"t": large}}}});
    socket.send(call.to_string().into()).expect("sent");
    let (mut has_result, mut has_update) = (false, false);
    while !(has_result && has_update) {
        let message = socket.read().expect("a message").to_string();
        read_message(&message);
        has_result |= message.contains(r#""type":"result""#);
        has_update |= message.len() > 700_000;
    }
    socket.close(None).expect("a close frame");
    while socket.read().is_ok() {}
}

#[test]
fn plain_http_is_told_to_use_https_and_closed() {
    let sealed = Sealed::start(1);
    for call in [
        request("GET", "/health", &[], ""),
        request("POST", "/api/events", &[], &event("plain/a", "{}")),
        "get".to_owned(),
    ] {
        let mut connection = Connection::try_open(sealed.server.port).expect("it listens");
        connection.send(&call);
        let answer = connection.response();
        assert_eq!(answer.expect_error(400, "plain HTTP"), "tls_required");
        assert!(answer.text().contains("https://") && !answer.text().contains('\n'));
        assert_eq!(answer.header("connection"), Some("close"));
        connection.expect_closed();
    }
    assert_eq!(
        sealed.ask("GET", "/api/state/entities/plain/a", "").status,
        404
    );
}

#[test]
fn hostile_bytes_end_their_own_connection_alone() {
    let sealed = Sealed::start(2);
    let mut witness = sealed.connect();
    assert_eq!(witness.request("GET", "/health", "").status, 200);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", sealed.server.port)).expect("it listens");
        let count = random.usize(1..3000);
        let bytes = std::iter::repeat_with(|| random.u8(..)).take(count);
        let mut bytes: Vec<u8> = bytes.collect();
        match round % 3 {
            // A record of a handshake with anything in it.
            0 => {
                let len = u16::try_from(bytes.len()).expect("short").to_be_bytes();
                let header = [22, 3, 1, len[0], len[1]];
                bytes.splice(0..0, header);
            }
            // A hello with one bit turned over.
            1 => {
                bytes.clear();
                client(&sealed.client)
                    .write_tls(&mut bytes)
                    .expect("a hello");
                let at = random.usize(0..bytes.len());
                bytes[at] ^= 1 << random.u32(0..8);
            }
            _ => {}
        }
        // It may have been closed before all was sent.
        drop(stream.write_all(&bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        if round % 10 == 0 {
            assert_eq!(witness.request("GET", "/health", "").status, 200, "{round}");
        }
    }
    // Within a connection that is established.
    for round in 0..100 {
        let mut stream = sealed.open();
        let call = request("GET", "/health", &[], "");
        stream.write_all(call.as_bytes()).expect("a handshake");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        let mut record = Vec::new();
        stream
            .conn
            .writer()
            .write_all(call.as_bytes())
            .expect("room");
        stream.conn.write_tls(&mut record).expect("room");
        let at = random.usize(0..record.len());
        record[at] ^= 1 << random.u32(0..8);
        stream.sock.write_all(&record).expect("the server reads");
        let ended = stream.sock.shutdown(std::net::Shutdown::Write);
        drop(ended);
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        assert!(!text(&rest).contains("\r\nHTTP/1.1 200"), "{round}");
    }
    assert_eq!(witness.request("GET", "/health", "").status, 200);
    sealed.server.stop();
}

#[test]
fn a_handshake_that_takes_too_long_or_too_much_is_ended() {
    let sealed = Sealed::with(1, |setup| setup.env("FLUX_HEAD_TIMEOUT_SECONDS", "1"));
    let mut hello = Vec::new();
    client(&sealed.client)
        .write_tls(&mut hello)
        .expect("a hello");
    let whole = hello.len();
    for sent in [0, 1, 5, whole - 1, whole] {
        let mut stream = TcpStream::connect(("127.0.0.1", sealed.server.port)).expect("it listens");
        stream.write_all(&hello[..sent]).expect("the server reads");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the server ends it");
        assert_eq!(rest.is_empty(), sent < whole, "{sent}");
    }
    // A hello without end, in records that are not wrong.
    let mut stream = TcpStream::connect(("127.0.0.1", sealed.server.port)).expect("it listens");
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    let mut sent = 0;
    while stream.write_all(&record).is_ok() {
        sent += record.len();
        assert!(sent < 32 << 20, "a handshake of {sent} bytes");
    }
    assert_eq!(sealed.ask("GET", "/health", "").status, 200);
}

#[test]
fn the_end_is_told_behind_an_answer_of_any_size() {
    let sealed = Sealed::start(1);
    // Around what is sent to a connection in one go.
    for kib in (96..=300).step_by(4) {
        let value = "v".repeat(kib * 1024);
        sealed.publish("sized/a", &format!(r#"{{"text":"{value}"}}"#));
        let mut stream = sealed.open();
        let last = request(
            "GET",
            "/api/state/entities/sized%2Fa",
            &["Connection: close"],
            "",
        );
        stream.write_all(last.as_bytes()).expect("a request");
        let answer = rest_of(&mut stream);
        assert!(answer.contains(&value), "{kib} KiB");
    }
}

#[test]
fn both_sides_are_told_where_the_other_ends() {
    let sealed = Sealed::start(1);
    // The server says so behind its last answer; `rest_of` would fail otherwise.
    let mut stream = sealed.open();
    let last = request("GET", "/health", &["Connection: close"], "");
    stream.write_all(last.as_bytes()).expect("a request");
    assert!(rest_of(&mut stream).starts_with("HTTP/1.1 200"));
    // A client that says so is still answered.
    let mut stream = sealed.open();
    let call = request("GET", "/health", &[], "");
    stream.write_all(call.as_bytes()).expect("a request");
    stream.conn.send_close_notify();
    stream.flush().expect("an open connection");
    assert!(rest_of(&mut stream).starts_with("HTTP/1.1 200"));
    // What comes behind that counts for nothing.
    let mut stream = sealed.open();
    stream.flush().expect("a handshake");
    stream.conn.send_close_notify();
    let mut records = Vec::new();
    stream.conn.write_tls(&mut records).expect("room");
    let call = request("POST", "/api/events", &[], &event("late/a", "{}"));
    stream.sock.write_all(&records).expect("an open connection");
    drop(stream.sock.write_all(call.as_bytes()));
    assert_eq!(rest_of(&mut stream), "");
    // A request that breaks off is none.
    let body = event("half/a", "{}");
    let call = request("POST", "/api/events", &[], &body);
    let mut stream = sealed.open();
    stream
        .write_all(&call.as_bytes()[..call.len() - 1])
        .expect("a request");
    stream
        .sock
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    assert_eq!(rest_of(&mut stream), "");
    for id in ["half/a", "late/a"] {
        assert_eq!(
            sealed
                .ask("GET", &format!("/api/state/entities/{id}"), "")
                .status,
            404
        );
    }
}

#[test]
fn sighup_replaces_the_certificate_under_open_connections() {
    let sealed = Sealed::start(2);
    let hup = |words: &str| {
        let before = sealed.server.said().matches("SIGHUP").count();
        sealed.server.signal("HUP");
        let line = wait_for("a line about it", || {
            let said = sealed.server.said();
            let mut lines = said.lines().filter(|line| line.contains("SIGHUP"));
            lines.nth(before).map(str::to_owned)
        });
        assert!(line.contains(words), "{line}");
    };
    let mut old: Vec<Secure> = (0..6).map(|_| sealed.open()).collect();
    let call = request("GET", "/health", &[], "");
    let mut ask = |stream: &mut Secure| {
        stream
            .write_all(call.as_bytes())
            .expect("an open connection");
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).expect("an answer");
        assert!(text(&answer[..count]).starts_with("HTTP/1.1 200"));
    };
    old.iter_mut().for_each(&mut ask);
    sealed.authority.issue("server", "second");
    for _ in 0..6 {
        assert_eq!(presented(&sealed), "first", "not before it is told");
    }
    hup("read again");
    for _ in 0..6 {
        assert_eq!(presented(&sealed), "second", "every core");
    }
    old.iter_mut().for_each(&mut ask);
    assert_eq!(common_name(&old[0]), "first");
    // What can't be used is not, and is named.
    let key = std::fs::read_to_string(sealed.authority.path("server.key")).expect("a key");
    for (file, content, words) in [
        ("server.key", "no key", "FLUX_TLS_KEY_FILE"),
        ("server.pem", "no certificate", "FLUX_TLS_CERT_FILE"),
    ] {
        sealed.authority.write(file, content);
        hup(words);
        assert_eq!(presented(&sealed), "second");
        sealed.authority.issue("server", "first");
    }
    sealed.authority.write("server.key", &key);
    hup("does not belong");
    // Nor what has no end, and what nobody writes into: a signal to stop would wait for it.
    let certificate = sealed.authority.path("server.pem");
    for device in ["/dev/zero", "/dev/full"] {
        std::fs::remove_file(&certificate).expect("the file before");
        std::os::unix::fs::symlink(device, &certificate).expect("a symbolic link");
        hup("no regular file");
    }
    std::fs::remove_file(&certificate).expect("the file before");
    let made = Command::new("mkfifo").arg(&certificate).status();
    assert!(made.expect("mkfifo").success());
    hup("no regular file");
    std::fs::remove_file(&certificate).expect("the file before");
    sealed.authority.write("server.pem", &"x".repeat(2 << 20));
    hup("larger than");
    sealed.authority.issue_until("server", "first", 2025);
    hup("expired");
    assert_eq!(presented(&sealed), "second");
    old.iter_mut().for_each(&mut ask);
    sealed.server.stop();
}

#[test]
fn what_can_not_be_used_is_refused_at_start_in_one_line() {
    let authority = Authority::new();
    authority.issue("server", "first");
    authority.issue("other", "second");
    authority.issue_until("old", "first", 2025);
    let data = TempDir::new().expect("a temporary directory");
    let path = |name: &str| authority.path(name).to_string_lossy().into_owned();
    let refused = |certificate: &str, key: &str, words: &[&str]| {
        let set = |setup: Setup, name: &str, value: &str| match value {
            "" => setup,
            value => setup.env(name, &path(value)),
        };
        let setup = Setup::new(data.path(), 1);
        let setup = set(setup, "FLUX_TLS_CERT_FILE", certificate);
        let output = set(setup, "FLUX_TLS_KEY_FILE", key).run(0);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    let (certificate, key) = ("FLUX_TLS_CERT_FILE", "FLUX_TLS_KEY_FILE");
    refused("server.pem", "", &["missing", key]);
    refused("", "server.key", &["missing", certificate]);
    refused("nowhere.pem", "server.key", &[certificate, "nowhere.pem"]);
    refused("server.pem", "nowhere.key", &[key, "nowhere.key"]);
    refused("server.key", "server.key", &[certificate, "no certificate"]);
    refused("server.pem", "server.pem", &[key, "no private key"]);
    refused("server.pem", "other.key", &[key, "does not belong"]);
    refused(
        "old.pem",
        "old.key",
        &[certificate, "expired at 2025-12-31"],
    );
}

#[test]
fn a_killed_server_has_what_it_acknowledged_by_tls() {
    let authority = Authority::new();
    authority.issue("server", "first");
    let data = TempDir::new().expect("a temporary directory");
    let setup = setup(&authority, data.path(), 2);
    let server = setup.start();
    let port = tunnel(authority.client(), server.port);
    let mut connection = Connection::try_open(port).expect("the tunnel");
    for number in 0..100 {
        let body = event(&format!("kill/{number}"), "{}");
        assert_eq!(connection.request("POST", "/api/events", &body).status, 200);
    }
    server.kill();
    let server = setup.start();
    let port = tunnel(authority.client(), server.port);
    let mut connection = Connection::try_open(port).expect("the tunnel");
    let listed = connection.request("GET", "/api/state/entities?namespace=kill", "");
    assert_eq!(listed.json().as_array().expect("an array").len(), 100);
}

#[test]
fn the_version_is_the_newest_and_idle_connections_are_small() {
    const COUNT: u64 = 1000;
    let sealed = Sealed::start(1);
    let warm: Vec<Secure> = (0..50).map(|_| asked(&sealed)).collect();
    let before = sealed.server.memory_bytes();
    let idle: Vec<Secure> = (0..COUNT).map(|_| asked(&sealed)).collect();
    assert!(
        idle.iter()
            .all(|it| it.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3))
    );
    let each = wait_for("connections to give back what they don't need", || {
        let grown = sealed.server.memory_bytes().saturating_sub(before);
        (grown / COUNT < 20 << 10).then_some(grown / COUNT)
    });
    assert!(each < 20 << 10, "{each} bytes for each");
    drop((warm, idle));
}

/// A connection that has asked for something and was answered.
fn asked(sealed: &Sealed) -> Secure {
    let mut stream = sealed.open();
    let call = request("GET", "/health", &[], "");
    stream.write_all(call.as_bytes()).expect("a request");
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).expect("an answer");
    assert!(count > 0);
    stream
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_handshake_leaves_nothing() {
    let sealed = Sealed::start(1);
    let mut hello = Vec::new();
    client(&sealed.client)
        .write_tls(&mut hello)
        .expect("a hello");
    for round in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", sealed.server.port)).expect("it listens");
        drop(stream.write_all(&hello));
        if round % 2 == 0 {
            stream
                .set_read_timeout(Some(Duration::from_secs(9)))
                .expect("a socket");
            let first: io::Result<usize> = stream.read(&mut [0; 1]);
            assert_eq!(first.expect("a hello of the server"), 1);
        }
    }
    assert_eq!(sealed.ask("GET", "/health", "").status, 200);
    sealed.server.stop();
}

#[test]
fn who_is_one_too_many_is_told_so_by_tls() {
    let sealed = Sealed::with(1, |setup| {
        setup.env("FLUX_CONNECTIONS_PER_ADDRESS_MAX", "2")
    });
    let both = [asked(&sealed), asked(&sealed)];
    let mut stream = sealed.open();
    stream.flush().expect("a handshake");
    assert!(rest_of(&mut stream).starts_with("HTTP/1.1 429"));
    drop(both);
    wait_for("room", || {
        let mut stream = sealed.open();
        let last = request("GET", "/health", &["Connection: close"], "");
        stream.write_all(last.as_bytes()).ok()?;
        rest_of(&mut stream)
            .starts_with("HTTP/1.1 200")
            .then_some(())
    });
}

#[test]
fn idle_connections_end_in_order_by_the_clock_and_with_the_server() {
    let sealed = Sealed::with(1, |setup| setup.env("FLUX_IDLE_TIMEOUT_SECONDS", "1"));
    assert_eq!(rest_of(&mut asked(&sealed)), "");
    let mut last = asked(&sealed);
    sealed.server.signal("TERM");
    assert_eq!(rest_of(&mut last), "");
}

//! HTTP/1.1 as raw bytes: refusals, limits, and that no input ends the process (API contract §1,
//! RFC 9112).

mod support;

use fastrand::Rng;
use support::http::{Connection, answered, chunked, publish_request, request};
use support::server::Server;
use support::{event, namespace, on_each};

/// A request head of the largest size that is served.
const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADER_COUNT_MAX: usize = 64;

/// Sends bytes on a new connection and expects a refusal, after which the server closes: behind a
/// malformed request nobody knows where the next one begins.
fn refused(server: &Server, bytes: &[u8], status: u16, what: &str) {
    let mut connection = server.connect();
    connection.send_what_it_takes(bytes);
    let answer = connection
        .try_response()
        .unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
    answer.expect_error(status, what);
    connection.expect_closed();
}

#[test]
fn request_lines_and_heads_are_bounded() {
    on_each(|server| {
        let line = |len: usize| {
            let padding = len - "GET / HTTP/1.1".len();
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(padding))
        };
        // The limit may or may not count the two bytes that end the line.
        let longest = answered(
            server,
            line(REQUEST_LINE_BYTES_MAX - 2).as_bytes(),
            "the longest line",
        );
        assert_eq!(longest.status, 404);
        refused(
            server,
            line(REQUEST_LINE_BYTES_MAX + 1).as_bytes(),
            414,
            "a request line of one byte too many",
        );
        refused(
            server,
            "G".repeat(64 * 1024).as_bytes(),
            414,
            "a request line without end",
        );

        let head = |len: usize| {
            let frame = "GET /health HTTP/1.1\r\nHost: a\r\nX: \r\nY: \r\n\r\n".len();
            let half = (len - frame) / 2;
            let rest = len - frame - half;
            format!(
                "GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\nY: {}\r\n\r\n",
                "x".repeat(half),
                "y".repeat(rest)
            )
        };
        assert_eq!(
            answered(server, head(HEAD_BYTES_MAX).as_bytes(), "the longest head").status,
            200
        );
        refused(
            server,
            head(HEAD_BYTES_MAX + 1).as_bytes(),
            431,
            "a head of one byte too many",
        );
        let endless = format!(
            "GET /health HTTP/1.1\r\nHost: a\r\nX: {}",
            "x".repeat(64 * 1024)
        );
        refused(server, endless.as_bytes(), 431, "a head without end");

        let fields = |count: usize| {
            let more = (1..count)
                .map(|n| format!("X-{n}: 1\r\n"))
                .collect::<Vec<_>>()
                .concat();
            format!("GET /health HTTP/1.1\r\nHost: a\r\n{more}\r\n")
        };
        assert_eq!(
            answered(server, fields(HEADER_COUNT_MAX).as_bytes(), "64 fields").status,
            200
        );
        refused(
            server,
            fields(HEADER_COUNT_MAX + 1).as_bytes(),
            431,
            "65 fields",
        );
    });
}

#[test]
fn a_body_over_its_limit_is_refused_from_its_announcement_alone() {
    let table = [
        ("POST", "/api/events", 1_048_577_u64),
        ("POST", "/api/events", u64::MAX),
        ("POST", "/api/events/batch", 10_485_761),
        ("POST", "/api/state/entities/delete", 1_048_577),
    ];
    on_each(|server| {
        for (method, target, len) in table {
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
            let answer = answered(server, head.as_bytes(), target);
            answer.expect_error(413, &format!("{target} with {len} bytes"));
        }
        // Chunks do not announce the length of the body. The server counts them and refuses the
        // sum.
        let mut bytes = request("POST", "/api/events", &["Transfer-Encoding: chunked"], "");
        for _ in 0..=16 {
            bytes += "10000\r\n";
            bytes += &" ".repeat(0x10000);
            bytes += "\r\n";
        }
        refused(server, bytes.as_bytes(), 413, "chunks beyond the limit");
    });
}

/// Malformed requests, one in a line, behind a name. CR LF is drawn as ⏎, a lone LF as ↓, a lone CR
/// as ← and NUL as ␀; `POST` is the beginning of a request that has a body.
const MALFORMED: &str = r"
no Host: GET /health HTTP/1.1⏎⏎
two Hosts: GET /health HTTP/1.1⏎Host: a⏎Host: a⏎⏎
two Hosts apart: GET /health HTTP/1.1⏎Host: a⏎X: y⏎host: b⏎⏎
bare LF after the request line: GET /health HTTP/1.1↓Host: a⏎⏎
bare LF after a field: GET /health HTTP/1.1⏎Host: a↓X: y⏎⏎
bare LFs only: GET /health HTTP/1.1↓Host: a↓↓
bare CR in a value: GET /health HTTP/1.1⏎Host: a⏎X: a←b⏎⏎
NUL in a value: GET /health HTTP/1.1⏎Host: a⏎X: a␀b⏎⏎
space before the colon: GET /health HTTP/1.1⏎Host: a⏎X : y⏎⏎
no colon: GET /health HTTP/1.1⏎Host: a⏎X⏎⏎
no field name: GET /health HTTP/1.1⏎Host: a⏎: y⏎⏎
a folded line: GET /health HTTP/1.1⏎Host: a⏎X: a⏎ b⏎⏎
a space before the first field: GET /health HTTP/1.1⏎ Host: a⏎⏎
version 2.0: GET /health HTTP/2.0⏎Host: a⏎⏎
version 1.2.3: GET /health HTTP/1.2.3⏎Host: a⏎⏎
no version: GET /health⏎Host: a⏎⏎
a lower-case version: GET /health http/1.1⏎Host: a⏎⏎
two spaces: GET  /health HTTP/1.1⏎Host: a⏎⏎
a relative target: GET health HTTP/1.1⏎Host: a⏎⏎
a bad method: G(T /health HTTP/1.1⏎Host: a⏎⏎
no HTTP at all: ␀␀␀␀⏎⏎
two lengths: POST Content-Length: 2⏎Content-Length: 3⏎⏎{} 
two lengths in a list: POST Content-Length: 2, 3⏎⏎{} 
both framings: POST Content-Length: 2⏎Transfer-Encoding: chunked⏎⏎0⏎⏎
both framings, turned: POST Transfer-Encoding: chunked⏎Content-Length: 2⏎⏎0⏎⏎
a length of letters: POST Content-Length: two⏎⏎{}
a negative length: POST Content-Length: -2⏎⏎{}
a signed length: POST Content-Length: +2⏎⏎{}
a hexadecimal length: POST Content-Length: 0x2⏎⏎{}
an empty length: POST Content-Length:⏎⏎{}
chunked twice: POST Transfer-Encoding: chunked, chunked⏎⏎0⏎⏎
chunked in two fields: POST Transfer-Encoding: chunked⏎Transfer-Encoding: chunked⏎⏎0⏎⏎
chunked not last: POST Transfer-Encoding: chunked, gzip⏎⏎0⏎⏎
a transfer coding unknown here: POST Transfer-Encoding: gzip, chunked⏎⏎0⏎⏎
chunks in HTTP/1.0: POST /api/events HTTP/1.0⏎Transfer-Encoding: chunked⏎⏎0⏎⏎
no chunk size: POST Transfer-Encoding: chunked⏎⏎⏎⏎
a chunk size of letters: POST Transfer-Encoding: chunked⏎⏎zz⏎⏎
a signed chunk size: POST Transfer-Encoding: chunked⏎⏎+2⏎{}⏎0⏎⏎
a prefixed chunk size: POST Transfer-Encoding: chunked⏎⏎0x2⏎{}⏎0⏎⏎
a chunk size beyond 64 bits: POST Transfer-Encoding: chunked⏎⏎10000000000000002⏎{}⏎0⏎⏎
a chunk longer than it says: POST Transfer-Encoding: chunked⏎⏎2⏎{}}⏎0⏎⏎
a chunk ended by a bare LF: POST Transfer-Encoding: chunked⏎⏎2⏎{}↓0⏎⏎
a chunk size ended by a bare LF: POST Transfer-Encoding: chunked⏎⏎2↓{}⏎0⏎⏎
a bad trailer: POST Transfer-Encoding: chunked⏎⏎2⏎{}⏎0⏎no colon⏎⏎
";

#[test]
fn malformed_requests_are_400_and_end_the_connection() {
    let drawn = [("⏎", "\r\n"), ("↓", "\n"), ("←", "\r"), ("␀", "\0")];
    let lines = MALFORMED.lines().filter(|line| !line.is_empty());
    let mut table: Vec<(&str, String)> = lines
        .map(|line| {
            let (what, drawing) = line.split_once(": ").expect("a name and a request");
            let drawing = match drawing.strip_prefix("POST ") {
                Some(rest) if !rest.starts_with('/') => {
                    format!("POST /api/events HTTP/1.1⏎Host: a⏎{rest}")
                }
                _ => drawing.to_owned(),
            };
            let replace = |text: String, (sign, bytes): (&str, &str)| text.replace(sign, bytes);
            (what, drawn.into_iter().fold(drawing, replace))
        })
        .collect();
    assert_eq!(table.len(), 44);
    let endless = format!("2;{}", "x".repeat(64 * 1024));
    let chunked = request("POST", "/api/events", &["Transfer-Encoding: chunked"], "");
    table.push(("an endless chunk extension", chunked + &endless));
    on_each(|server| {
        for (what, bytes) in &table {
            refused(server, bytes.as_bytes(), 400, what);
        }
    });
}

#[test]
fn equal_lengths_and_a_length_of_many_digits_are_judged_by_their_value() {
    on_each(|server| {
        let id = format!("{}/a", namespace("length"));
        let body = event(&id, "{}");
        let padded = format!("{:0>40}", body.len());
        let head = format!(
            "POST /api/events HTTP/1.1\r\nHost: a\r\nContent-Length: {padded}\r\n\r\n{body}"
        );
        let status = answered(server, head.as_bytes(), "leading zeroes").status;
        assert!(matches!(status, 200 | 400), "leading zeroes: {status}");
        let huge = "POST /api/events HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n";
        let status = answered(server, huge.as_bytes(), "beyond 64 bits").status;
        assert!(matches!(status, 400 | 413), "beyond 64 bits: {status}");
    });
}

#[test]
fn what_came_before_a_malformed_request_is_still_answered() {
    on_each(|server| {
        let id = format!("{}/a", namespace("before"));
        let mut connection = server.connect();
        connection
            .send(publish_request(&id, &[]) + "nonsense\r\n\r\n" + &publish_request(&id, &[]));
        assert_eq!(connection.response().status, 200);
        connection
            .response()
            .expect_error(400, "nonsense in a pipeline");
        connection.expect_closed();
        assert_eq!(
            server.entity(&id).json()["version"],
            1,
            "what follows nonsense is not a request"
        );
    });
}

#[test]
fn a_body_cut_short_leaves_no_trace() {
    on_each(|server| {
        let ns = namespace("cut");
        let whole = publish_request(&format!("{ns}/length"), &[]);
        let lengths = whole.replace("\r\n\r\n", "9\r\n\r\n");
        // What arrived is valid JSON; only the framing shows that the end is missing.
        let truncated = [
            lengths.as_str(),
            &whole[..whole.len() - 1],
            &whole[..whole.len() / 2],
            &chunked(
                &format!("{ns}/chunks"),
                "LEN1\r\nDATA1\r\nLEN2\r\nDATA2\r\n",
                "",
            )
            .replace("0\r\n\r\n", ""),
        ]
        .map(str::to_owned);
        for bytes in truncated {
            let mut connection = server.connect();
            connection.send(&bytes);
            connection.finish_sending();
            if let Ok(answer) = connection.try_response() {
                answer.expect_error(400, &bytes);
            }
        }
        let list = server.get(&format!("/api/state/entities?namespace={ns}"));
        assert_eq!(list.text(), "[]");
    });
}

#[test]
fn mutated_requests_never_end_the_process() {
    const SEED: u64 = 0x5eed_0001;
    on_each(|server| {
        let ns = namespace("fuzz");
        let valid = [
            publish_request(&format!("{ns}/a"), &["Expect: 100-continue"]),
            chunked(
                &format!("{ns}/b"),
                "LEN1\r\nDATA1\r\nLEN2\r\nDATA2\r\n",
                "X: y\r\n",
            ),
            request(
                "GET",
                &format!("/api/state/entities/{ns}%2Fa?fields=n"),
                &["If-None-Match: \"x\""],
                "",
            ),
            request(
                "GET",
                "/api/ws",
                &[
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Sec-WebSocket-Version: 13",
                ],
                "",
            ),
            request(
                "POST",
                "/api/state/entities/delete",
                &[],
                r#"{"prefix":"nothing/"}"#,
            ),
        ];
        let mut random = Rng::with_seed(SEED);
        for round in 0..400 {
            let mut bytes = valid[round % valid.len()].clone().into_bytes();
            for _ in 0..=random.u64(..4) {
                mutate(&mut bytes, &mut random);
            }
            let Ok(mut connection) = Connection::try_open(server.port) else {
                panic!("seed {SEED:#x}, round {round}: the server is gone");
            };
            connection.send_what_it_takes(&bytes);
            // The end of input tells a server that waits for more bytes that there are none.
            drop(connection.stream.shutdown(std::net::Shutdown::Write));
            if let Ok(answer) = connection.try_response() {
                let text = String::from_utf8_lossy(&bytes);
                // 408 would mean that the server did not notice the end of input.
                let fair = !matches!(answer.status, 408 | 500);
                assert!(
                    fair,
                    "{} for seed {SEED:#x}, round {round}: {text}",
                    answer.status
                );
            }
        }
    });
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(..bytes.len());
    let byte = random.u8(..);
    match random.u64(..5) {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => bytes.truncate(at.max(1)),
        3 => drop(bytes.remove(at)),
        _ => {
            let piece = bytes[at..].to_vec();
            bytes.extend(piece);
        }
    }
    if bytes.is_empty() {
        bytes.push(byte);
    }
}

//! Clients that try to fill the server's memory, from outside.
//!
//! Strangers send bodies without a token.

mod support;

use support::http::Connection;
use support::server::{Server, Setup};
use tempfile::TempDir;

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

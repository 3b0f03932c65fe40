//! Chunked bodies (RFC 9112 §7.1), behind a head that announces one.
//!
//! Any split gives the same body, and a body is what a strict reading of the grammar gives: the
//! reference decoder here is short because it sees everything at once.

use super::http;
use flux::wire::http1::{Next, RequestReader};

/// Texts of chunked bodies.
pub const DICTIONARY: &[&[u8]] = &[
    b"0\r\n\r\n",
    b"0\r\n",
    b"5\r\nhello\r\n",
    b"a;name=value\r\n",
    b"a;x=\"y;z\"\r\n",
    b"\r\n",
    b"\n",
    b"00000000",
    b"ffffffffffffffff\r\n",
    b"Trailer: x\r\n",
    b";",
    b" ",
];

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Runs the target.
pub fn target(data: &[u8]) {
    let bytes = [HEAD, data].concat();
    http::target(&bytes);
    let mut reader = RequestReader::default();
    reader.receive(&bytes);
    if let Ok(Next::Request(request)) = reader.next(|_| usize::MAX) {
        let expected = decode(data).expect("the reader accepts nothing that the grammar refuses");
        assert_eq!(request.body, expected);
    }
}

/// The chunks of a body, joined; `None` if its sizes and line ends are not as the grammar has them.
fn decode(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_len = data.windows(2).position(|it| it == b"\r\n")?;
        let (line, rest) = data.split_at(line_len);
        let digits = line.iter().take_while(|it| it.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        data = &rest[2..];
        if size == 0 {
            return Some(body);
        }
        let (chunk, rest) = data.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        data = rest.strip_prefix(b"\r\n")?;
    }
}

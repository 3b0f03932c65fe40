//! Redis: `HSET key p0 … p1 … p2 …` (RESP2), one `:<integer>` for each.

use super::Dialect;
use anyhow::{Result, bail};
use std::io::Write as _;
use std::net::TcpStream;

#[derive(Debug)]
pub(super) struct Redis {
    pub(super) properties: usize,
}

fn bulk(out: &mut Vec<u8>, text: &str) {
    // A `Vec` takes all that is written.
    drop(write!(out, "${}\r\n{text}\r\n", text.len()));
}

impl Dialect for Redis {
    fn greet(&self, _: &mut TcpStream, _: usize) -> Result<()> {
        Ok(())
    }

    fn request(&self, out: &mut Vec<u8>, _: usize, entity: u64, value: u64) {
        drop(write!(out, "*{}\r\n", 2 + 2 * self.properties));
        bulk(out, "HSET");
        bulk(out, &format!("load-{:04}/e-{entity:08}", entity % 16));
        for index in 0..self.properties {
            bulk(out, &format!("p{index}"));
            if index == 0 {
                bulk(out, &value.to_string());
            } else {
                bulk(out, "abcdefghijklmnop");
            }
        }
    }

    fn acknowledged(&self, input: &[u8]) -> Result<(usize, usize)> {
        let mut count = 0;
        let mut consumed = 0;
        for end in memchr::memchr_iter(b'\n', input) {
            let line = &input[consumed..end];
            if !line.starts_with(b":") {
                bail!("the server answered {}", String::from_utf8_lossy(line));
            }
            consumed = end + 1;
            count += 1;
        }
        Ok((consumed, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        Redis { properties: 2 }.request(&mut out, 0, 17, 5);
        let text = "*6\r\n$4\r\nHSET\r\n$20\r\nload-0001/e-00000017\r\n$2\r\np0\r\n$1\r\n5\r\n$2\r\np1\r\n$16\r\nabcdefghijklmnop\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn whole_replies_are_counted_and_errors_end_it() {
        let redis = Redis { properties: 1 };
        assert_eq!(redis.acknowledged(b":3\r\n:0\r\n:").unwrap(), (8, 2));
        assert_eq!(redis.acknowledged(b":").unwrap(), (0, 0));
        assert!(redis.acknowledged(b"-ERR no\r\n").is_err());
    }
}

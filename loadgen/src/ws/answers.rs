//! Answers to requests over a WebSocket, as the workloads take them.

use super::frame::{Frame, next_frame};
use crate::http::Answer;
use anyhow::{Result, bail};
use memchr::memmem;

/// Follows the answers of one connection.
#[derive(Debug)]
pub(crate) struct RequestAnswers {
    id: memmem::Finder<'static>,
}

impl RequestAnswers {
    pub(crate) fn new() -> Self {
        Self {
            id: memmem::Finder::new(b"\"id\":"),
        }
    }

    /// Consumes from `input` up to the end of the next answer; `None` when that has not arrived. An
    /// error is an answer with status 400: a message has none.
    ///
    /// # Errors
    /// When the server sends what is no answer.
    pub(crate) fn next<'a>(&self, input: &mut &'a [u8]) -> Result<Option<Answer<'a>>> {
        loop {
            let text = match next_frame(input)? {
                None => return Ok(None),
                // The server pings silent clients only.
                Some(Frame::Ping(_) | Frame::Pong) => continue,
                Some(Frame::Close(code)) => bail!("closed by the server with {code}"),
                Some(Frame::Text(text)) => text,
            };
            let Some(at) = self.id.find(text) else {
                bail!("the server sent a message without an id");
            };
            let digits = &text[at + self.id.needle().len()..];
            let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
            let id = digits.fold(0u64, |id, digit| {
                id.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
            });
            let is_result = text.starts_with(b"{\"type\":\"result\"");
            return Ok(Some(Answer {
                status: if is_result { 200 } else { 400 },
                body_start: &[],
                body_len: text.len(),
                id: Some(id),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_and_an_error_are_told_apart_and_carry_their_id() {
        let mut bytes = Vec::new();
        for text in [
            r#"{"type":"result","id":17,"eventId":"x"}"#,
            r#"{"type":"error","id":18}"#,
        ] {
            bytes.extend_from_slice(&[0x81, u8::try_from(text.len()).unwrap()]);
            bytes.extend_from_slice(text.as_bytes());
        }
        let mut input = &bytes[..];
        let answers = RequestAnswers::new();
        let mut next = || {
            let answer = answers.next(&mut input).unwrap();
            answer.map(|answer| (answer.id, answer.status))
        };
        assert_eq!(next(), Some((Some(17), 200)));
        assert_eq!(next(), Some((Some(18), 400)));
        assert_eq!(next(), None);
    }
}

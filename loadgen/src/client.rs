//! A blocking connection for what is not measured: setting up and verifying.

use crate::http::AnswerReader;
use crate::net::{Stream, Target};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::time::Duration;

/// How long an answer may take: a batch of a setup on a slow disk takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest body that is kept, bytes: one entity with many properties, or the results of one batch.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
    reader: AnswerReader,
    /// Received and not consumed: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Client {
    /// # Errors
    /// When the server does not accept.
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let stream = target.connect()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let reader = AnswerReader::new(BODY_BYTES_MAX);
        Ok(Self {
            stream,
            reader,
            buffer: vec![0; 256 * 1024],
            start: 0,
            end: 0,
        })
    }

    /// Sends requests; their answers are read in order by [`Self::receive`].
    pub(crate) fn send(&mut self, requests: &[u8]) -> Result<()> {
        self.stream
            .write_all(requests)
            .context("cannot send to the server")
    }

    /// # Errors
    /// When the connection ends before a whole answer has come, or thirty seconds pass without a
    /// byte of it.
    pub(crate) fn receive(&mut self) -> Result<Reply> {
        loop {
            let mut input = &self.buffer[self.start..self.end];
            let offered = input.len();
            if let Some(answer) = self.reader.next(&mut input)? {
                let reply = Reply {
                    status: answer.status,
                    body: answer.body_start.to_vec(),
                };
                self.start += offered - input.len();
                return Ok(reply);
            }
            self.start += offered - input.len();
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let received = self
                .stream
                .read(&mut self.buffer[self.end..])
                .context("no answer from the server")?;
            if received == 0 {
                bail!("the server closed the connection before answering");
            }
            self.end += received;
        }
    }

    /// The connection, when every answer has been read.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}

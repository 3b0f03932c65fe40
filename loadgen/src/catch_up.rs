//! Subscribers that catch up: how long snapshots and missed changes take to arrive, and how much
//! that is.
//!
//! Every connection subscribes at the same time and reads until the server says that what follows
//! is live. Messages are not kept: a page of a snapshot has a quarter of a megabyte. The cursor of
//! the last connection is in the report, so that a later run can go on from there.

use crate::affinity;
use crate::clock::{Clock, Moment};
use crate::net::{Poller, Stream, Target};
use crate::options::{CatchUpOptions, Mode};
use crate::report::Report;
use crate::stats::new_histogram;
use crate::ws;
use anyhow::{Context, Result, bail};
use memchr::memmem;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// Of each message so many bytes are kept: more than any that says that all has come.
const START_BYTES_MAX: usize = 1_500;
/// Frame header of a server (RFC 6455 §5.2), bytes.
const HEADER_BYTES_MAX: usize = 10;
/// Opcode of a ping (RFC 6455 §5.5.2).
const PING: u8 = 9;
/// How long a connection may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What has come on one connection.
#[derive(Debug)]
struct Subscriber {
    stream: Stream,
    frames: Frames,
    is_done: bool,
}

/// Frames of which the start is kept.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes of the payload that are still to come.
    left: u64,
    start: Vec<u8>,
    /// The server wants to hear of the client.
    is_pinged: bool,
}

/// What all connections got.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    bytes: u64,
    resyncs: u64,
    cursor: String,
}

/// # Errors
/// When the server cannot be reached, refuses a subscription, closes, or says nothing for a minute.
pub(crate) fn run(options: &CatchUpOptions) -> Result<()> {
    affinity::settle(&options.cpu, 0)?;
    let clock = Clock::start();
    let target = Target::new(&options.url)?;
    let mut poller = Poller::new()?;
    let mut subscribers = Vec::new();
    for index in 0..options.clients {
        let stream = ws::open(&target, "/api/ws?metrics=false")
            .with_context(|| format!("cannot open connection {index}"))?;
        poller.add(&stream, subscribers.len())?;
        subscribers.push(Subscriber {
            stream,
            frames: Frames::default(),
            is_done: false,
        });
    }
    let begin = clock.now();
    let mut subscription = Vec::new();
    ws::write_text(&options.subscription(), &mut subscription);
    for subscriber in &mut subscribers {
        subscriber.stream.write_all(&subscription)?;
        subscriber.stream.set_nonblocking(true)?;
    }
    let mut counts = Counts::default();
    let mut times = new_histogram();
    let mut left = subscribers.len();
    let mut input = vec![0; READ_BYTES];
    let mut heard = begin;
    while left > 0 {
        poller.wait(Duration::from_millis(20))?;
        let now = clock.now();
        for number in 0.. {
            let Some(ready) = poller.ready(number) else {
                break;
            };
            heard = now;
            let subscriber = &mut subscribers[ready.index];
            if subscriber.receive(&mut input, &mut counts)? && !subscriber.is_done {
                subscriber.is_done = true;
                left -= 1;
                times.saturating_record(now.nanos_since(begin));
            }
        }
        if now.since(heard) > SILENCE_MAX {
            bail!("{left} connections wait in vain");
        }
    }
    describe(options, &counts, (begin, clock.now()), &times);
    Ok(())
}

fn describe(
    options: &CatchUpOptions,
    counts: &Counts,
    (begin, end): (Moment, Moment),
    times: &hdrhistogram::Histogram<u64>,
) {
    let mut report = Report::new("catch-up");
    report.count("clients", u64::from(options.clients));
    report.ratio("seconds", end.since(begin).as_secs_f64());
    report.count("messages", counts.messages);
    report.count("bytes", counts.bytes);
    report.rate("bytes_per_second", counts.bytes, end.since(begin));
    report.latencies("caught_up_", times);
    report.count("resyncs", counts.resyncs);
    report.text("cursor", &counts.cursor);
    report.print(options.json);
}

impl CatchUpOptions {
    fn subscription(&self) -> String {
        let start = match &self.since {
            Some(cursor) => format!(r#""since":"{cursor}""#),
            None => r#""snapshot":true"#.to_owned(),
        };
        let mode = match self.mode {
            Mode::Property => "property",
            Mode::Entity => "entity",
            Mode::Event => "event",
        };
        format!(
            r#"{{"type":"subscribe","id":1,"entity_id":"{}","mode":"{mode}",{start}}}"#,
            self.pattern
        )
    }
}

impl Subscriber {
    /// Reads what has come; true once all has.
    fn receive(&mut self, input: &mut [u8], counts: &mut Counts) -> Result<bool> {
        match self.stream.read(input) {
            Ok(0) => bail!("closed by the server"),
            Ok(len) => {
                let is_done = self.frames.take(&input[..len], counts)?;
                if std::mem::take(&mut self.frames.is_pinged) {
                    let mut pong = Vec::new();
                    ws::write_pong(&[], &mut pong);
                    self.stream.write_all(&pong)?;
                }
                Ok(is_done)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Frames {
    /// Takes bytes; true if one of the messages in them says that all has come.
    fn take(&mut self, mut bytes: &[u8], counts: &mut Counts) -> Result<bool> {
        let mut is_done = false;
        counts.bytes += bytes.len() as u64;
        loop {
            while self.left == 0 {
                let Some((first, rest)) = bytes.split_first() else {
                    return Ok(is_done);
                };
                self.header.push(*first);
                bytes = rest;
                if let Some(len) = payload_len(&self.header) {
                    self.is_pinged |= self.header[0] & 0xf == PING;
                    self.header.clear();
                    self.left = len;
                }
            }
            let taken = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (payload, rest) = bytes.split_at(taken);
            bytes = rest;
            self.left -= taken as u64;
            let kept = START_BYTES_MAX.saturating_sub(self.start.len()).min(taken);
            self.start.extend_from_slice(&payload[..kept]);
            if self.left > 0 {
                return Ok(is_done);
            }
            counts.messages += 1;
            is_done |= counts.read(&self.start)?;
            self.start.clear();
        }
    }
}

/// The length of a payload, once the header that tells it is there.
fn payload_len(header: &[u8]) -> Option<u64> {
    assert!(header.len() <= HEADER_BYTES_MAX, "the server does not mask");
    let (&len, rest) = header.get(1..)?.split_first()?;
    match len {
        0x7e => Some(u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        0x7f => Some(u64::from_be_bytes(*rest.first_chunk()?)),
        len => Some(u64::from(len)),
    }
}

impl Counts {
    /// True if a message that begins so says that all has come.
    fn read(&mut self, start: &[u8]) -> Result<bool> {
        let is = |kind: &str| start.starts_with(format!(r#"{{"type":"{kind}""#).as_bytes());
        if is("error") {
            bail!("refused: {}", String::from_utf8_lossy(start));
        }
        self.resyncs += u64::from(is("resync"));
        let is_done = is("snapshot_end") || is("caught_up");
        if is_done && let Some(at) = memmem::find(start, br#""cursor":""#) {
            let cursor = &start[at + br#""cursor":""#.len()..];
            let end = memchr::memchr(b'"', cursor).unwrap_or(cursor.len());
            self.cursor = String::from_utf8_lossy(&cursor[..end]).into_owned();
        }
        Ok(is_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        let len = u16::try_from(text.len())
            .expect("a short message")
            .to_be_bytes();
        [&[0x81, 0x7e][..], &len, text.as_bytes()].concat()
    }

    #[test]
    fn the_end_is_found_however_the_bytes_are_split() {
        let page = format!(
            r#"{{"type":"snapshot","entities":["{}"]}}"#,
            "x".repeat(5_000)
        );
        let end = r#"{"type":"snapshot_end","id":1,"cursor":"AbC_-"}"#;
        let bytes = [&[0x89, 0][..], &frame(&page), &frame(end)].concat();
        for split in [1, 2, 3, 7, 1_000, bytes.len()] {
            let (mut frames, mut counts) = (Frames::default(), Counts::default());
            let mut ends = 0;
            for piece in bytes.chunks(split) {
                ends += u32::from(frames.take(piece, &mut counts).unwrap());
            }
            assert_eq!((ends, counts.messages), (1, 2), "{split}");
            assert_eq!(
                (counts.bytes, &*counts.cursor),
                (bytes.len() as u64, "AbC_-")
            );
        }
    }

    #[test]
    fn a_refusal_ends_it_and_a_resync_is_counted() {
        let mut counts = Counts::default();
        assert!(!counts.read(br#"{"type":"resync","id":1}"#).unwrap());
        assert_eq!(counts.resyncs, 1);
        assert!(counts.read(br#"{"type":"error","code":"x"}"#).is_err());
    }
}

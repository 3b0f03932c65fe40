//! Events in batches, `POST /api/events/batch`; what counts is the events that the server says it
//! took.

use super::event::EventText;
use super::{Achieved, Ticket, Workload};
use crate::clock::{Clock, Moment, unix_micros};
use crate::drive::{self, Plan};
use crate::entities::{COUNTER_DIGITS, Entities, write_digits};
use crate::http::Answer;
use crate::keys::Keys;
use crate::net::Target;
use crate::options::{BatchOptions, EntityOptions};
use crate::report::Report;
use anyhow::Result;
use fastrand::Rng;
use memchr::memmem;

/// The batches of one connection.
#[derive(Debug)]
pub(crate) struct Batch {
    head: Vec<u8>,
    text: EventText,
    random: Rng,
    keys: Keys,
    size: u64,
    counter: u64,
}

impl Batch {
    /// `size` is at least 1; `connection` tells apart the random choices of several.
    pub(crate) fn new(
        options: &EntityOptions,
        size: u64,
        target: &Target,
        (seed, connection): (u64, usize),
    ) -> Result<Self> {
        let entities = Entities::new(options)?;
        let keys = Keys::new(entities.count, options.skew);
        let mut random = crate::random::stream(seed, connection);
        let text = EventText::new(entities, options, &mut random);
        Ok(Self {
            head: target.head("POST /api/events/batch", Some(body_len(&text, size))),
            text,
            random,
            keys,
            size,
            counter: unix_micros(),
        })
    }

    /// The next event's first property is `value`, and each further one's is one more.
    pub(crate) fn count_from(&mut self, value: u64) {
        self.counter = value - 1;
    }

    /// Appends a batch of the events for which `number` gives the entity.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, mut number: impl FnMut(&mut Rng) -> u64) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(BODY_START);
        for item in 0..self.size {
            if item > 0 {
                out.push(b',');
            }
            self.counter += 1;
            let (entity, value) = (number(&mut self.random), self.counter);
            self.text
                .write(entity, out, |out| write_digits(value, COUNTER_DIGITS, out));
        }
        out.extend_from_slice(BODY_END);
    }
}

const BODY_START: &[u8] = br#"{"events":["#;
const BODY_END: &[u8] = b"]}";

fn body_len(text: &EventText, size: u64) -> usize {
    let events = (text.len(COUNTER_DIGITS) + 1) * crate::numbers::index(size) - 1;
    BODY_START.len() + events + BODY_END.len()
}

/// The number behind `"name":` at the start of a body.
pub(crate) fn member(body_start: &[u8], name: &str) -> Option<u64> {
    let key = format!("\"{name}\":");
    let after = memmem::find(body_start, key.as_bytes())? + key.len();
    let rest = body_start[after..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

impl Workload for Batch {
    const BODY_BYTES_READ: usize = 64;

    fn write_request(&mut self, _due: Moment, out: &mut Vec<u8>) -> Ticket {
        let keys = self.keys.clone();
        self.write(out, |random| keys.pick(random));
        Ticket::default()
    }

    fn read_answer(&mut self, _ticket: Ticket, answer: &Answer<'_>) -> Achieved {
        let units = member(answer.body_start, "successful")
            .unwrap_or(0)
            .min(self.size);
        Achieved {
            units,
            refused: self.size - units,
        }
    }
}

/// # Errors
/// When the server cannot be reached or answers nothing.
pub(crate) fn run(options: &BatchOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    let plan = Plan::new(clock, &target, &options.load);
    let outcome = drive::run(&plan, |connection| {
        let stream = (options.load.seed, connection);
        Batch::new(&options.entities, u64::from(options.size), &target, stream)
    })?;
    let mut report = Report::new("batch");
    report.count("batch_size", u64::from(options.size));
    report.load(&outcome.stats, "events", options.load.duration);
    report.print(options.load.json);
    drive::judge(&outcome.stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::event::tests::test_options;

    #[test]
    fn a_batch_is_as_long_as_its_head_says() {
        for size in [1, 2, 10] {
            let target = Target::new("http://127.0.0.1:1").unwrap();
            let mut batch = Batch::new(&test_options(), size, &target, (1, 0)).unwrap();
            let mut out = Vec::new();
            batch.write(&mut out, |random| random.u64(..10));
            let head_len = batch.head.len();
            let head = String::from_utf8(out[..head_len].to_vec()).unwrap();
            let body_len = out.len() - head_len;
            assert!(
                head.contains(&format!("Content-Length: {body_len}\r\n")),
                "{head}"
            );
            let body: serde_json::Value = serde_json::from_slice(&out[head_len..]).unwrap();
            assert_eq!(body["events"].as_array().unwrap().len() as u64, size);
        }
    }

    #[test]
    fn a_member_is_found_with_or_without_spaces() {
        assert_eq!(
            member(br#"{"successful":12,"failed":3"#, "successful"),
            Some(12)
        );
        assert_eq!(
            member(br#"{ "successful": 12, "failed": 3"#, "failed"),
            Some(3)
        );
        assert_eq!(member(br#"{"error":"x"}"#, "successful"), None);
    }
}

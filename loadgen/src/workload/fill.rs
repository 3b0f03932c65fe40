//! A given number of events in batches, entities in turn: what a benchmark starts from.
//!
//! Entity `n` is set by event `n`, by event `n + entities` and so on, and the first property of
//! each event is its number after 10^15, so a reader of an entity knows the value that it must
//! have. One thread keeps a batch in flight on each connection, so that the server always has one
//! to work on.

use super::batch::{Batch, member};
use crate::affinity;
use crate::client::Client;
use crate::clock::Clock;
use crate::net::Target;
use crate::options::FillOptions;
use crate::report::Report;
use anyhow::{Result, bail};
use std::collections::VecDeque;

/// What the first property of the first event is set to: sixteen digits, like all others.
const VALUE_FIRST: u64 = 1_000_000_000_000_000;

/// # Errors
/// When the server cannot be reached or refuses an event.
pub(crate) fn run(options: &FillOptions) -> Result<()> {
    let clock = Clock::start();
    affinity::settle(&options.cpu, 0)?;
    let target = Target::new(&options.url)?;
    let events = options.events.unwrap_or(options.entities.entities);
    let mut fill = Fill::new(options, &target, events)?;
    let begin = clock.now();
    let mut in_flight = VecDeque::new();
    for _ in 0..options.connections {
        let mut client = Client::connect(&target)?;
        if let Some(count) = fill.send(&mut client)? {
            in_flight.push_back((client, count));
        }
    }
    while let Some((mut client, count)) = in_flight.pop_front() {
        receive(&mut client, count)?;
        if let Some(count) = fill.send(&mut client)? {
            in_flight.push_back((client, count));
        }
    }
    let taken = clock.now().since(begin);
    let mut report = Report::new("fill");
    report.count("entities", options.entities.entities);
    report.count("events", events);
    report.rate("events_per_second", events, taken);
    report.print(options.json);
    Ok(())
}

/// What is left to send.
struct Fill<'a> {
    options: &'a FillOptions,
    target: &'a Target,
    batch: Batch,
    /// Events of `batch`.
    batch_size: u64,
    events: u64,
    sent: u64,
    request: Vec<u8>,
}

impl<'a> Fill<'a> {
    fn new(options: &'a FillOptions, target: &'a Target, events: u64) -> Result<Self> {
        let batch_size = u64::from(options.size);
        Ok(Self {
            options,
            target,
            batch: Batch::new(&options.entities, batch_size, target, (1, 0))?,
            batch_size,
            events,
            sent: 0,
            request: Vec::new(),
        })
    }

    /// Sends the next batch and returns how many events it has; `None` where all are sent.
    fn send(&mut self, client: &mut Client) -> Result<Option<u64>> {
        let count = self.batch_size.min(self.events - self.sent);
        if count == 0 {
            return Ok(None);
        }
        if count < self.batch_size {
            self.batch = Batch::new(&self.options.entities, count, self.target, (1, 0))?;
            self.batch_size = count;
        }
        self.batch.count_from(VALUE_FIRST + self.sent);
        self.request.clear();
        let (sent, entity_count) = (&mut self.sent, self.options.entities.entities);
        self.batch.write(&mut self.request, |_| {
            *sent += 1;
            (*sent - 1) % entity_count
        });
        client.send(&self.request)?;
        Ok(Some(count))
    }
}

fn receive(client: &mut Client, count: u64) -> Result<()> {
    let reply = client.receive()?;
    if reply.status == 200 && member(&reply.body, "successful") == Some(count) {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]).into_owned();
    bail!("the server refused events: {} {body}", reply.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::event::tests::test_options;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers as Flux does, and returns the bodies.
    fn serve(listener: &TcpListener, batches: &[usize]) -> Vec<serde_json::Value> {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bodies = Vec::new();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        for events in batches {
            let body = loop {
                let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
                let body = head
                    .map(|at| at + 4)
                    .filter(|&start| bytes[start..].ends_with(b"]}"));
                if let Some(start) = body {
                    break serde_json::from_slice(&bytes[start..]).unwrap();
                }
                let received = stream.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..received]);
            };
            bodies.push(body);
            bytes.clear();
            let answer = format!("{{\"successful\":{events},\"failed\":0}}");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
        bodies
    }

    #[test]
    fn every_entity_is_set_in_turn_until_the_events_are_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = FillOptions {
            url: format!("http://{}", listener.local_addr().unwrap()),
            entities: test_options(),
            events: Some(23),
            connections: 1,
            size: 10,
            cpu: Vec::new(),
            json: true,
        };
        let bodies = std::thread::scope(|scope| {
            let server = scope.spawn(|| serve(&listener, &[10, 10, 3]));
            run(&options).unwrap();
            server.join().unwrap()
        });
        let events: Vec<_> = bodies
            .iter()
            .flat_map(|body| body["events"].as_array().unwrap())
            .collect();
        assert_eq!(events.len(), 23);
        for (number, event) in (0_u64..).zip(events) {
            let payload = &event["payload"];
            let id = format!("load-{:04}/e-{:08}", number % 10 % 2, number % 10);
            assert_eq!(payload["entity_id"], id);
            assert_eq!(payload["properties"]["p0"], VALUE_FIRST + number);
        }
    }
}

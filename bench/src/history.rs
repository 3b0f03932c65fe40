//! How long it takes to find one entity's last events in a long log.
//!
//! Each look-up is a `GET /api/events?entity=…&limit=…` of its own entity. *Cold*: the server was
//! started with its files out of the page cache, so records and indexes come from the disk; *warm*:
//! the same look-ups again.

use crate::cache::evict;
use crate::clock::Clock;
use crate::flux::{Flux, FluxOptions};
use crate::http::Client;
use crate::numbers::{Times, millis};
use crate::{entities, output};
use anyhow::{Result, bail};
use clap::Args;
use memchr::memmem;

#[derive(Debug, Args)]
pub(crate) struct HistoryOptions {
    #[command(flatten)]
    flux: FluxOptions,
    /// Entities that are looked up
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    lookups: u64,
    /// Events of each that are asked for
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

/// # Errors
/// When the server does not start, or does not answer.
pub(crate) fn run(options: &HistoryOptions) -> Result<()> {
    evict(&options.flux.data)?;
    let mut flux = Flux::start(&options.flux, &[])?;
    flux.wait()?;
    let mut client = flux.connect()?;
    output::result(&format!(
        "{:5} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8}",
        "cache", "lookups", "events", "first ms", "p50 ms", "p90 ms", "max ms"
    ));
    for cache in ["cold", "warm"] {
        let Some(lookups) = look_up_all(&mut client, options)? else {
            output::result("GET /api/events is not available");
            break;
        };
        let first = lookups.nanos.first().copied().unwrap_or(0);
        let times = Times::new(lookups.nanos);
        output::result(&format!(
            "{cache:5} {:>8} {:>7} {:>9.2} {:>8.2} {:>8.2} {:>8.2}",
            times.count(),
            lookups.events,
            millis(first),
            millis(times.median()),
            millis(times.quantile(900)),
            millis(times.most())
        ));
    }
    drop(client);
    flux.stop()
}

#[derive(Debug)]
struct Lookups {
    /// In the order in which they were made.
    nanos: Vec<u64>,
    /// In each answer.
    events: usize,
}

/// `None` if the server has no history.
fn look_up_all(client: &mut Client, options: &HistoryOptions) -> Result<Option<Lookups>> {
    let mut lookups = Lookups {
        nanos: Vec::new(),
        events: 0,
    };
    for lookup in 0..options.lookups {
        // Spread over all of them, and the last not next to the first.
        let number = (lookup * 2 + 1) * options.flux.entities / (options.lookups * 2);
        let id = entities::id(number);
        let path = format!("/api/events?entity={id}&limit={}", options.limit);
        let clock = Clock::start();
        let reply = client.get(&path)?;
        lookups.nanos.push(clock.nanos());
        match reply.status {
            200 => {}
            404 => return Ok(None),
            status => bail!(
                "the server answered {path} with {status}: {}",
                String::from_utf8_lossy(&reply.body)
            ),
        }
        let events = memmem::find_iter(&reply.body, id.as_bytes()).count();
        if lookup > 0 && events != lookups.events {
            bail!("{id} has {events} events, others have {}", lookups.events);
        }
        lookups.events = events;
    }
    Ok(Some(lookups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;

    /// Looks up two entities at a server that gives these answers.
    fn check(answers: &[(u16, String)]) -> Result<Option<usize>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let flux = FluxOptions {
            data: PathBuf::new(),
            entities: 4,
            server_cpu: 0,
            load_cpu: 0,
        };
        let options = HistoryOptions {
            flux,
            lookups: 2,
            limit: 100,
        };
        let mut client = Client::connect(listener.local_addr()?.port())?;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                for (status, body) in answers {
                    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                    let len = body.len();
                    write!(
                        stream,
                        "HTTP/1.1 {status} x\r\nContent-Length: {len}\r\n\r\n{body}"
                    )
                    .unwrap();
                }
            });
            let found = look_up_all(&mut client, &options);
            // The server's thread must not wait for a request that does not come.
            drop(client);
            Ok(found?.map(|lookups| lookups.events))
        })
    }

    #[test]
    fn the_events_of_each_entity_are_counted() {
        let events = |number: u64, count| (200, entities::id(number).repeat(count));
        assert_eq!(check(&[events(1, 3), events(3, 3)]).unwrap(), Some(3));
        assert!(check(&[events(1, 3), events(3, 2)]).is_err());
    }

    #[test]
    fn a_server_without_history_is_told_from_one_that_fails() {
        assert_eq!(check(&[(404, String::new())]).unwrap(), None);
        assert!(check(&[(503, String::new())]).is_err());
    }
}

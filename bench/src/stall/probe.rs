//! Requests that are due at fixed times, one connection each.

use crate::clock::Clock;
use crate::entities;
use crate::http::Client;
use crate::random::Random;
use anyhow::{Result, bail};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    /// An entity.
    Read,
    /// That one event be taken.
    Publish,
    /// That as many be taken.
    Batch(u64),
}

/// When.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) clock: Clock,
    /// Nanoseconds from one request to the next.
    pub(super) interval: u64,
    /// Nothing is due from here on.
    pub(super) until: u64,
}

/// One request that was answered; nanoseconds all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) due: u64,
    /// From `due` to the answer.
    pub(super) latency: u64,
    /// Of that, how long the request waited to be sent though the one before it was answered.
    pub(super) late: u64,
}

/// Sends each request when it is due, or as soon as the one before it is answered; those of random
/// entities.
///
/// # Errors
/// When one is refused.
pub(super) fn run(
    probe: Probe,
    client: &mut Client,
    entity_count: u64,
    schedule: Schedule,
) -> Result<Vec<Answer>> {
    let Schedule {
        clock,
        interval,
        until,
    } = schedule;
    let mut random = Random::new(interval);
    let mut answers = Vec::new();
    let mut due = clock.nanos();
    let mut free = due;
    while due < until {
        clock.wait_until(due);
        let mut number = || random.below(entity_count);
        let sent = clock.nanos();
        let reply = match probe {
            Probe::Read => {
                let path = format!("/api/state/entities/{}", entities::id(number()));
                client.get(&path)?
            }
            Probe::Publish => client.post("/api/events", &entities::event(number()))?,
            Probe::Batch(count) => {
                let numbers = (0..count).map(|_| number());
                client.post("/api/events/batch", &entities::batch(numbers))?
            }
        };
        if reply.status != 200 {
            bail!("the server answered {probe:?} with {}", reply.status);
        }
        let answered = clock.nanos();
        answers.push(Answer {
            due,
            latency: answered - due,
            late: sent.saturating_sub(due.max(free)),
        });
        free = answered;
        due += interval;
    }
    Ok(answers)
}

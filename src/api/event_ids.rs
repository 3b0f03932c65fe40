//! Ids for events that come without one.

/// Makes the ids of events that come without one: version 7 UUIDs (RFC 9562 §5.7), from the event's
/// time and a generator that is seeded once per core; an id must be unique, not secret.
#[derive(Debug)]
pub struct EventIds {
    random: fastrand::Rng,
}

impl EventIds {
    /// A source of ids that differs for different seeds.
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Another source, for another thread: its ids differ from these.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self {
            random: self.random.fork(),
        }
    }

    /// The next id. `now_ms`: Unix milliseconds.
    pub fn next(&mut self, now_ms: i64) -> uuid::Uuid {
        let mut random = [0; 10];
        self.random.fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(now_ms.max(0).unsigned_abs(), &random).into_uuid()
    }
}

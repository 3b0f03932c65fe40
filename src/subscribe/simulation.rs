//! A slow reader against a model.
//!
//! A seeded server applies random changes to a small world and pushes each of them. A reader takes
//! random amounts of bytes, cuts them into frames, and applies those in the order in which they
//! come. Whatever the outbox leaves out, the reader's world must be one that follows the log, and
//! in the end the server's.

use fastrand::Rng;
use std::collections::BTreeMap;

use super::{Outbox, OutboxLimits, Overflow};

/// Entity, property: life of the entity, value.
type World = BTreeMap<u32, BTreeMap<u32, (u64, u64)>>;

#[derive(Clone, Copy)]
enum Message {
    Update {
        entity: u32,
        property: u32,
        life: u64,
    },
    Deleted {
        entity: u32,
    },
    Control,
    Metrics,
    Close,
}

/// `len u16 | kind u8 | entity u32 | property u32 | life u64 | sequence u64 | padding`
const HEAD_LEN: usize = 27;

fn encode(message: Message, sequence: u64, padding: usize) -> Vec<u8> {
    let (kind, entity, property, life) = match message {
        Message::Update {
            entity,
            property,
            life,
        } => (0, entity, property, life),
        Message::Deleted { entity } => (1, entity, 0, 0),
        Message::Control => (2, 0, 0, 0),
        Message::Metrics => (3, 0, 0, 0),
        Message::Close => (4, 0, 0, 0),
    };
    let len = u16::try_from(HEAD_LEN + padding).unwrap();
    let mut frame = Vec::new();
    frame.extend_from_slice(&len.to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(&u32::to_le_bytes(entity));
    frame.extend_from_slice(&u32::to_le_bytes(property));
    frame.extend_from_slice(&u64::to_le_bytes(life));
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.resize(HEAD_LEN + padding, 0xee);
    frame
}

#[derive(Default)]
struct Reader {
    received: Vec<u8>,
    world: World,
    event_sequence: u64,
    metrics_sequence: u64,
    controls: Vec<u64>,
    /// Updates received.
    updates: usize,
    closed: bool,
}

impl Reader {
    /// Takes up to `bytes_max` bytes off the outbox, in pieces as a socket does.
    fn read(&mut self, outbox: &mut Outbox, mut bytes_max: usize) {
        while bytes_max > 0 && !outbox.is_empty() {
            let len = outbox.pending().len().min(bytes_max);
            assert!(len > 0, "what is owed can be written");
            self.received.extend_from_slice(&outbox.pending()[..len]);
            outbox.advance(len);
            bytes_max -= len;
            self.apply_whole_frames();
        }
    }

    fn apply_whole_frames(&mut self) {
        let mut at = 0;
        while let Some(head) = self.received.get(at..at + 2) {
            let len = usize::from(u16::from_le_bytes(head.try_into().unwrap()));
            let Some(frame) = self.received.get(at..at + len) else {
                break;
            };
            assert!(frame[HEAD_LEN..].iter().all(|byte| *byte == 0xee));
            let frame = frame[..HEAD_LEN].to_vec();
            self.apply(&frame);
            at += len;
        }
        self.received.drain(..at);
    }

    fn apply(&mut self, frame: &[u8]) {
        assert!(!self.closed, "nothing follows the close frame");
        let number = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().unwrap());
        let (entity, property, life, sequence) = (number(3), number(7), long(11), long(19));
        match frame[2] {
            0 | 1 => {
                assert!(sequence >= self.event_sequence, "events never go back");
                self.event_sequence = sequence;
            }
            2 => self.controls.push(sequence),
            3 => {
                assert!(sequence > self.metrics_sequence, "metrics never go back");
                self.metrics_sequence = sequence;
            }
            4 => self.closed = true,
            kind => panic!("kind {kind}: a frame was cut or mixed with another"),
        }
        if frame[2] == 0 {
            self.updates += 1;
            let properties = self.world.entry(entity).or_default();
            properties.insert(property, (life, sequence));
            let mut lives = properties.values().map(|(life, _)| *life);
            assert!(lives.all(|other| other == life), "two lives never mix");
        } else if frame[2] == 1 {
            self.world.remove(&entity);
        }
    }
}

struct Server {
    random: Rng,
    world: World,
    sequence: u64,
    controls: Vec<u64>,
    metrics_sequence: u64,
    /// Updates pushed.
    pushed: usize,
}

impl Server {
    fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            world: World::new(),
            sequence: 0,
            controls: Vec::new(),
            metrics_sequence: 0,
            pushed: 0,
        }
    }

    /// One random change of the world, or another message, pushed.
    fn step(&mut self, outbox: &mut Outbox, entities: u32) -> Result<(), Overflow> {
        self.sequence += 1;
        let padding = self.random.usize(..120);
        match self.random.u32(..100) {
            0..85 => self.update(outbox, entities),
            85..95 => {
                let entity = self.random.u32(..entities);
                if self.world.remove(&entity).is_none() {
                    return Ok(());
                }
                let frame = encode(Message::Deleted { entity }, self.sequence, padding);
                outbox.push_deleted(&format!("ns/{entity}"), &frame)
            }
            95..98 => {
                self.controls.push(self.sequence);
                outbox.push_control(&encode(Message::Control, self.sequence, padding))
            }
            _ => {
                self.metrics_sequence = self.sequence;
                outbox.push_metrics(&encode(Message::Metrics, self.sequence, padding))
            }
        }
    }

    /// An event with one to three properties.
    fn update(&mut self, outbox: &mut Outbox, entities: u32) -> Result<(), Overflow> {
        let entity = self.random.u32(..entities);
        let sequence = self.sequence;
        let alive = self.world.get(&entity).and_then(|it| it.values().next());
        let life = alive.map_or(sequence, |(life, _)| *life);
        for _ in 0..=self.random.u32(..3) {
            self.pushed += 1;
            let property = self.random.u32(..8);
            let update = Message::Update {
                entity,
                property,
                life,
            };
            let properties = self.world.entry(entity).or_default();
            properties.insert(property, (life, sequence));
            let frame = encode(update, sequence, self.random.usize(..120));
            outbox.push_update(&format!("ns/{entity}"), &format!("p{property}"), &frame)?;
        }
        Ok(())
    }
}

/// Frames of the simulation are shorter than the direct buffer. Lengths of units are the only
/// memory that no limit names: at most one for each half unit of the direct buffer, in a table that
/// doubles.
fn assert_bounded(outbox: &Outbox, limits: OutboxLimits) {
    let units_max = 4 + 2 * (1 + limits.direct_bytes_max / 512);
    let bound = limits.direct_bytes_max + units_max * 4 + limits.conflated_bytes_max;
    let heap_bytes = outbox.heap_bytes();
    assert!(heap_bytes <= bound, "{heap_bytes} of {bound}");
}

/// Names the seed when a check fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(
        clippy::print_stderr,
        reason = "a failed test says which seed repeats it"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[test]
fn a_slow_reader_ends_with_the_latest_state() {
    let mut left_out = 0;
    for seed in 1..=60 {
        let _named = Seed(seed);
        let mut server = Server::new(seed);
        let limits = OutboxLimits {
            direct_bytes_max: 256 + server.random.usize(..4000),
            conflated_bytes_max: 256 * 1024,
            conflated_entries_max: 2000,
        };
        let mut outbox = Outbox::new(limits);
        let mut reader = Reader::default();
        for _ in 0..1500 {
            server
                .step(&mut outbox, 1 + u32::try_from(seed % 20).unwrap())
                .unwrap();
            assert_bounded(&outbox, limits);
            if server.random.u32(..100) < 30 {
                let bytes_max = server.random.usize(..600);
                reader.read(&mut outbox, bytes_max);
                assert_bounded(&outbox, limits);
            }
        }
        reader.read(&mut outbox, usize::MAX);
        assert!(reader.received.is_empty(), "no frame is cut short");
        assert_eq!(reader.world, server.world);
        assert_eq!(reader.controls, server.controls);
        assert_eq!(reader.metrics_sequence, server.metrics_sequence);
        outbox.trim();
        assert_eq!(outbox.heap_bytes(), 0);
        left_out += server.pushed - reader.updates;
    }
    assert!(
        left_out > 0,
        "the reader was slow enough to be conflated for"
    );
}

#[test]
fn a_reader_that_overflows_its_outbox_gets_whole_frames_and_the_close_frame() {
    let mut overflows = BTreeMap::new();
    for seed in 1..=60 {
        let _named = Seed(seed);
        let mut server = Server::new(seed);
        let limits = OutboxLimits {
            direct_bytes_max: 1000,
            conflated_bytes_max: 6_000 + server.random.usize(..40_000),
            conflated_entries_max: 20 + server.random.usize(..300),
        };
        let mut outbox = Outbox::new(limits);
        let mut reader = Reader::default();
        let overflow = loop {
            let pushed = server.step(&mut outbox, 1000);
            assert_bounded(&outbox, limits);
            assert_eq!(outbox.overflowed(), pushed.is_err());
            if let Err(overflow) = pushed {
                break overflow;
            }
            let bytes_max = server.random.usize(..60);
            reader.read(&mut outbox, bytes_max);
        };
        *overflows.entry(overflow.to_string()).or_insert(0) += 1;
        assert!(outbox.heap_bytes() <= 4096, "what was owed is given back");
        outbox.close(&encode(Message::Close, server.sequence, 0));
        for _ in 0..10 {
            server.step(&mut outbox, 1000).unwrap();
        }
        reader.read(&mut outbox, usize::MAX);
        assert!(reader.received.is_empty(), "no frame is cut short");
        assert!(reader.closed);
    }
    assert_eq!(overflows.len(), 2, "both limits were met: {overflows:?}");
}

//! Shards on a real data directory, under a seed: events, flushes, checkpoints, retention, and then
//! an end (orderly, killed, or a power cut that loses what was not flushed), perhaps with another
//! number of shards afterwards, and perhaps with somebody at work on the files of the checkpoints
//! meanwhile. The wall clock is set now and then, far ahead or back.
//!
//! After every start the state is the model's, entity for entity: version, properties, time and
//! sequence. The times of a namespace never fall, and no clock that was wrong dates another
//! namespace. If files of checkpoints were tampered with, a start may be refused instead, if the
//! state can't be made from anything else; the rejection names a file of the directory, and with
//! that file put back the state is the model's again.

use super::advance_base;
use super::recovery::{RecoverError, Recovered, RecoveryProgress, finish_repartition, recover};
use crate::engine::{Engine, Write};
use crate::log::{LocalLog, Log as _, Removal, RetentionPlan as _, WriteSpeed};
use crate::model::{
    EventDraft, EventId, EventView, PackedEvent, Property, Timestamp, place, placement_key,
};
use crate::state::{Query, is_packed_body};
use flux_storage::{
    CheckpointDir, CheckpointKind, DataDir, LogOptions, PendingCheckpoint, RetirePlan,
    SealedGeneration, Sequence, StorageError,
};
use std::collections::BTreeMap;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_initial: 8192,
    segment_bytes_max: 16384,
    index_key: flux_storage::IndexKey::NONE,
};

/// An entity: version, time, sequence, properties.
type ModelEntity = (u64, i64, u64, BTreeMap<String, String>);
type Model = BTreeMap<String, ModelEntity>;
/// The times of last events, by placement key.
type LastTimes = BTreeMap<String, i64>;

/// One event as it was accepted.
#[derive(Debug, Clone)]
struct Accepted {
    shard: u16,
    sequence: Sequence,
    time_micros: i64,
    bytes: Vec<u8>,
}

fn apply_to_model(model: &mut Model, accepted: &Accepted) {
    let event = EventView::decode(&accepted.bytes).unwrap();
    if event.tombstone {
        model.remove(event.entity_id);
        return;
    }
    let entity = model.entry(event.entity_id.to_owned()).or_default();
    entity.0 += 1;
    entity.1 = accepted.time_micros;
    entity.2 = accepted.sequence.get();
    for property in event.properties() {
        let (name, value) = (property.name.to_owned(), property.value.to_owned());
        entity.3.insert(name, value);
    }
}

fn note_time(last_times: &mut LastTimes, accepted: &Accepted) {
    let event = EventView::decode(&accepted.bytes).unwrap();
    last_times.insert(
        placement_key(event.entity_id).to_owned(),
        accepted.time_micros,
    );
}

fn dump(engine: &Engine, into: &mut Model) {
    for entity in engine.state().list(&Query::default()) {
        let entity = entity.unwrap();
        let properties = entity.properties();
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (time, sequence) = (entity.last_updated().as_micros(), entity.sequence().get());
        let seen = (entity.version(), time, sequence, properties.collect());
        let before = into.insert(entity.id().to_owned(), seen);
        assert!(before.is_none(), "{} is in two shards", entity.id());
    }
}

/// A shard that runs.
struct Running {
    engine: Engine,
    log: LocalLog,
    checkpoints: CheckpointDir,
    base: CheckpointDir,
    pending: Option<PendingCheckpoint>,
    /// What a durable checkpoint covers.
    covered: Sequence,
    /// If its log is, and how that was when it was last flushed.
    log_path: PathBuf,
    flushed: Image,
}

/// The files of a directory.
type Image = Vec<(PathBuf, Vec<u8>)>;

fn image(path: &Path) -> Image {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(path) else {
        return files;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(image(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// Makes a directory what it was.
fn restore(path: &Path, image: &Image) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
    for (path, bytes) in image {
        put(path, bytes);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that tampers with files")]
fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn keep_going(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl Running {
    fn publish(&mut self, now: Timestamp, bytes: &[u8]) -> Sequence {
        let write = Write {
            packed: PackedEvent::plain(bytes),
            sent: None,
        };
        if let Ok(published) = self.engine.publish(&mut self.log, now, write) {
            return published.stored.sequence;
        }
        let job = self.log.next_segment_job(0).unwrap();
        let segment = job.run(&mut |_| WriteSpeed::Full).unwrap();
        self.log.install_next_segment(segment);
        let published = self.engine.publish(&mut self.log, now, write);
        published.unwrap().stored.sequence
    }

    fn flush(&mut self) {
        self.log.flush_blocking().unwrap();
        self.flushed = image(&self.log_path);
    }

    /// Freezes and writes, unless a checkpoint is pending. It may cover what is not durable.
    fn begin_checkpoint(&mut self) {
        if self.pending.is_some() || self.engine.is_frozen() {
            return;
        }
        let snapshot = self.engine.freeze(self.log.appended());
        let written = snapshot.write(&mut self.checkpoints, &mut keep_going);
        self.pending = Some(written.unwrap());
    }

    /// Publishes the pending checkpoint if the log is durable that far.
    fn finish_checkpoint(&mut self) {
        let durable = self.log.durable();
        let Some(pending) = self.pending.take_if(|it| it.meta().through <= durable) else {
            return;
        };
        let layers = pending.stack().clone();
        self.covered = pending.meta().through;
        self.checkpoints.publish(pending).unwrap();
        drop(self.engine.install_checkpoint(layers));
        self.checkpoints.remove_unreferenced().unwrap();
    }

    /// Removes old segments, as the server does. `crash`: it ends before the first file goes.
    fn retire(&mut self, count: usize, crash: bool) -> Result<(), RecoverError> {
        self.flush();
        let everything = Removal {
            excess_bytes: u64::MAX,
            before_micros: i64::MIN,
        };
        let Some(removable) = self.log.removable(self.covered.next(), count) else {
            return Ok(());
        };
        let Some(plan) = removable.choose(everything)? else {
            return Ok(());
        };
        let reader = self.log.reader(self.log.durable()).unwrap();
        let through = plan.first_kept().previous();
        advance_base(&mut self.base, &reader, through, &mut keep_going)?;
        if !crash {
            self.log.retire(plan).run()?;
        }
        self.flush();
        Ok(())
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Killed,
    PowerCut,
}

struct Simulation {
    random: fastrand::Rng,
    /// Few of them leave shards without events.
    namespaces: u8,
    /// Of a property.
    value_bytes: Range<usize>,
    dir: TempDir,
    data: DataDir,
    shards: Vec<Running>,
    /// Files of checkpoints may not be what they were.
    tampered: bool,
    /// What is in the log since the start, in order.
    accepted: Vec<Accepted>,
    /// The state at the start.
    before: Model,
    /// What the next events must not fall below, at the start and now.
    times_before: LastTimes,
    times: LastTimes,
    /// Events, those of earlier runs included.
    events: u64,
    now: i64,
}

/// What opening the directory gave.
struct Opened {
    data: DataDir,
    shards: Vec<Running>,
    /// Events that were replayed.
    replayed: u64,
    /// The same for a start from nothing but the newest checkpoints.
    tail: u64,
}

/// What a start says that is refused.
fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

fn open(path: &Path, shards: u16) -> Result<Opened, String> {
    let storage = |error: StorageError| story(&error);
    let mut data = DataDir::open(path, u32::from(shards), OPTIONS).map_err(storage)?;
    // What can't be finished is not needed, or recovery says why it is.
    drop(finish_repartition(&data));
    let mut opened = Vec::new();
    let (mut replayed, mut tail) = (0, 0);
    for shard in 0..shards {
        let log = data.take_log(u32::from(shard));
        let name = format!("{:06}/{shard:03}-of-{shards:03}", log.generation());
        let log_path = path.join("log").join(name);
        let mut last = RecoveryProgress::default();
        let recovered = recover(&data, log, (shard, shards), &mut |progress| {
            assert!(progress.events >= last.events && progress.bytes >= last.bytes);
            last = progress;
        });
        let Recovered {
            engine,
            log,
            checkpoints,
            base,
            through,
            ..
        } = recovered.map_err(|error| story(&error))?;
        assert!(engine.absence_point().is_reached(log.appended()));
        replayed += last.events;
        tail += log.appended().get() - through.get();
        opened.push(Running {
            engine,
            checkpoints,
            base,
            pending: None,
            covered: through,
            flushed: image(&log_path),
            log_path,
            log,
        });
    }
    Ok(Opened {
        data,
        shards: opened,
        replayed,
        tail,
    })
}

impl Simulation {
    fn new(seed: u64, shards: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path(), shards).unwrap();
        Self {
            random: fastrand::Rng::with_seed(seed),
            namespaces: 1,
            value_bytes: 0..200,
            dir,
            data: opened.data,
            shards: opened.shards,
            tampered: false,
            accepted: Vec::new(),
            before: Model::new(),
            times_before: LastTimes::new(),
            times: LastTimes::new(),
            events: 0,
            now: 1_000_000_000,
        }
    }

    fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap()
    }

    fn event(&mut self) -> (u16, Vec<u8>) {
        let namespace = self.random.u8(..self.namespaces);
        let number = self.random.u8(..9);
        let id = match number {
            0 | 1 => format!("e{number}"),
            _ => format!("n{namespace}/e{number}"),
        };
        let value = format!(
            "\"{}\"",
            "x".repeat(self.random.usize(self.value_bytes.clone()))
        );
        let names = ["a", "b", "c"];
        let properties: Vec<_> = names[..self.random.usize(..=names.len())]
            .iter()
            .map(|name| Property {
                name,
                value: &value,
            })
            .collect();
        let mut bytes = Vec::new();
        EventDraft {
            entity_id: &id,
            event_id: EventId::Text("e"),
            stream: "s",
            source: "simulation",
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: self.random.u8(..5) == 0,
            properties: &properties,
        }
        .encode(&mut bytes);
        (place(&id, self.shard_count()), bytes)
    }

    fn publish(&mut self) {
        let (shard, bytes) = self.event();
        self.now += match self.random.u8(..60) {
            0 => 1_000_000,
            1 => -900_000,
            _ => self.random.i64(0..500),
        };
        let running = &mut self.shards[usize::from(shard)];
        let sequence = running.publish(Timestamp::from_micros(self.now), &bytes);
        let event = EventView::decode(&bytes).unwrap();
        let last = self.times.get(placement_key(event.entity_id)).copied();
        let accepted = Accepted {
            shard,
            sequence,
            time_micros: last.map_or(self.now, |last| last.max(self.now)),
            bytes,
        };
        note_time(&mut self.times, &accepted);
        self.accepted.push(accepted);
    }

    fn step(&mut self, retention: bool) {
        let any = self.random.usize(..self.shards.len());
        match self.random.u8(..40) {
            0..=31 => self.publish(),
            32..=34 => self.shards[any].flush(),
            35 | 36 => self.shards[any].begin_checkpoint(),
            37 | 38 => self.shards[any].finish_checkpoint(),
            _ if retention => {
                let (count, crash) = (self.random.usize(1..4), self.random.u8(..4) == 0);
                let retired = self.shards[any].retire(count, crash);
                self.excuse(retired);
            }
            _ => {}
        }
    }

    /// Nothing is removed if the base that has to take it in was tampered with.
    fn excuse(&self, retired: Result<(), RecoverError>) {
        if !self.tampered {
            retired.unwrap();
        }
    }

    /// Removes history of earlier generations.
    fn retire_sealed(&mut self) {
        for generation in self.data.sealed_generations() {
            for log in generation.logs() {
                if self.random.bool() {
                    continue;
                }
                let segments = log.closed_segments().unwrap();
                let everything = Removal {
                    excess_bytes: self.random.u64(..40_000),
                    before_micros: i64::MIN,
                };
                let Some(plan) = RetirePlan::choose(&segments, everything).unwrap() else {
                    continue;
                };
                let (path, owner) = (log.base_path(), log.origin().unwrap().owner);
                let mut base =
                    CheckpointDir::new(path, owner, CheckpointKind::Base, is_packed_body);
                let through = plan.log_start().first_sequence.previous();
                let reader = log.reader().unwrap();
                let advanced = advance_base(&mut base, &reader, through, &mut keep_going);
                let is_whole = advanced.is_ok();
                self.excuse(advanced);
                if is_whole {
                    log.retire(plan).run().unwrap();
                }
            }
        }
    }

    /// Ends the run, and says what has to be there after the next start.
    fn end(mut self, end: End) -> Stopped {
        let mut durable = Vec::new();
        for mut running in self.shards {
            if self.random.bool() {
                running.log.write_out().unwrap();
            }
            if end == End::Orderly {
                durable.push(running.log.appended());
                running.log.close().unwrap();
            } else {
                durable.push(match end {
                    End::PowerCut => running.log.durable(),
                    End::Orderly | End::Killed => running.log.written(),
                });
                drop(running.log);
                if end == End::PowerCut {
                    restore(&running.log_path, &running.flushed);
                }
            }
        }
        drop(self.data);
        for accepted in &self.accepted {
            if accepted.sequence <= durable[usize::from(accepted.shard)] {
                apply_to_model(&mut self.before, accepted);
                note_time(&mut self.times_before, accepted);
                self.events += 1;
            }
        }
        Stopped {
            random: self.random,
            dir: self.dir,
            tampered: self.tampered,
            model: self.before,
            times: self.times_before,
            events: self.events,
            now: self.now,
        }
    }
}

/// A data directory that is not open, and what is in it.
struct Stopped {
    random: fastrand::Rng,
    dir: TempDir,
    tampered: bool,
    model: Model,
    times: LastTimes,
    events: u64,
    now: i64,
}

impl Stopped {
    /// Starts, and insists on the state and the number of events.
    fn start(self, shards: u16) -> Result<(Simulation, u64, u64), Box<(Self, String)>> {
        let opened = match open(self.dir.path(), shards) {
            Ok(opened) => opened,
            Err(story) => return Err(Box::new((self, story))),
        };
        let mut found = Model::new();
        for running in &opened.shards {
            dump(&running.engine, &mut found);
        }
        let differs = |id: &&String| found.get(*id) != self.model.get(*id);
        if let Some(id) = found.keys().chain(self.model.keys()).find(differs) {
            let (found, model) = (found.get(id), self.model.get(id));
            panic!("{id}: found {found:?} instead of {model:?}");
        }
        let entities: usize = opened.shards.iter().map(|it| it.engine.entities()).sum();
        assert_eq!(entities, self.model.len());
        let events: u64 = opened.shards.iter().map(|it| it.engine.events()).sum();
        assert_eq!(events, self.events, "events of all shards");
        let simulation = Simulation {
            random: self.random,
            namespaces: 1,
            value_bytes: 0..200,
            dir: self.dir,
            data: opened.data,
            shards: opened.shards,
            tampered: self.tampered,
            accepted: Vec::new(),
            before: self.model,
            times_before: self.times.clone(),
            times: self.times,
            events: self.events,
            now: self.now,
        };
        Ok((simulation, opened.replayed, opened.tail))
    }

    fn must_start(self, shards: u16) -> (Simulation, u64, u64) {
        self.start(shards)
            .unwrap_or_else(|stopped| panic!("{}", stopped.1))
    }

    /// The files of checkpoints and bases.
    fn files(&self) -> Vec<PathBuf> {
        let parts = ["checkpoints", "base"].map(|part| image(&self.dir.path().join(part)));
        parts.concat().into_iter().map(|(path, _)| path).collect()
    }

    /// Does something to one or a few files of checkpoints. Says what.
    fn tamper(&mut self) -> String {
        let files = self.files();
        let mut done = String::new();
        if files.is_empty() {
            return done;
        }
        for _ in 0..self.random.usize(1..4) {
            let path = &files[self.random.usize(..files.len())];
            let other = &files[self.random.usize(..files.len())];
            let (Ok(mut bytes), Ok(others)) = (fs::read(path), fs::read(other)) else {
                continue;
            };
            let at = self.random.usize(..bytes.len().max(1));
            let what = match self.random.u8(..7) {
                0 => "delete",
                1 => "delete all of the directory of",
                2 => "swap with another",
                3 => "replace by another",
                4 => "cut short",
                5 => "zero a part of",
                _ => "flip a bit of",
            };
            done = format!(
                "{done}{what} {} at {at} ({}); ",
                path.display(),
                other.display()
            );
            match what {
                "delete" => fs::remove_file(path).unwrap(),
                "delete all of the directory of" => {
                    fs::remove_dir_all(path.parent().unwrap()).unwrap();
                }
                "swap with another" => {
                    put(path, &others);
                    put(other, &bytes);
                }
                "replace by another" => put(path, &others),
                "cut short" => put(path, &bytes[..at]),
                "zero a part of" => {
                    let end = bytes.len().min(at + 512);
                    bytes[at..end].fill(0);
                    put(path, &bytes);
                }
                _ => {
                    bytes[at] ^= 1 << self.random.u8(..8);
                    put(path, &bytes);
                }
            }
        }
        done
    }

    /// Starts over files that were tampered with: right, or refused and then right with the files
    /// put back.
    fn start_tampered(mut self, shards: u16) -> Simulation {
        let [checkpoints, base] = ["checkpoints", "base"].map(|part| self.dir.path().join(part));
        let images = [image(&checkpoints), image(&base)];
        let done = self.tamper();
        self.tampered |= !done.is_empty();
        let root = self.dir.path().display().to_string();
        match self.start(shards) {
            Ok((simulation, ..)) => simulation,
            Err(failed) => {
                let (stopped, story) = *failed;
                assert!(story.contains(&root), "after {done}: no file in: {story}");
                restore(&checkpoints, &images[0]);
                restore(&base, &images[1]);
                stopped.must_start(shards).0
            }
        }
    }
}

/// What a simulation may do beside publishing and ending.
#[derive(Debug, Clone, Copy)]
struct Story {
    retention: bool,
    tampering: bool,
}

fn simulate(
    seed: u64,
    Story {
        retention,
        tampering,
    }: Story,
) {
    let mut shards = 1 + u16::try_from(seed % 4).unwrap();
    let mut simulation = Simulation::new(seed, shards);
    for _ in 0..8 {
        simulation.namespaces = 1 + u8::try_from(seed % 9).unwrap();
        for _ in 0..simulation.random.usize(..250) {
            simulation.step(retention);
        }
        if retention && simulation.random.u8(..3) == 0 {
            simulation.retire_sealed();
        }
        let end = [End::Orderly, End::Killed, End::PowerCut][simulation.random.usize(..3)];
        let before = shards;
        if simulation.random.bool() {
            shards = simulation.random.u16(1..4);
        }
        let stopped = simulation.end(end);
        if tampering {
            simulation = stopped.start_tampered(shards);
        } else {
            let (started, replayed, tail) = stopped.must_start(shards);
            if shards == before {
                assert_eq!(replayed, tail, "nothing but the tail is replayed");
            }
            simulation = started;
        }
    }
}

fn simulate_all(seeds: Range<u64>, story: Story) {
    for seed in seeds {
        let run = std::panic::catch_unwind(|| simulate(seed, story));
        assert!(run.is_ok(), "failed with seed {seed}, {story:?}");
    }
}

#[test]
fn a_start_finds_the_state_that_the_log_leads_to_wherever_checkpoints_fell() {
    let story = Story {
        retention: false,
        tampering: false,
    };
    simulate_all(0..12, story);
}

#[test]
fn a_start_finds_the_same_state_after_history_was_removed() {
    let story = Story {
        retention: true,
        tampering: false,
    };
    simulate_all(100..160, story);
}

#[test]
fn damaged_checkpoints_cost_time_and_never_the_state() {
    let story = Story {
        retention: false,
        tampering: true,
    };
    simulate_all(200..216, story);
}

#[test]
fn damaged_checkpoints_over_removed_history_are_done_without_or_named() {
    let story = Story {
        retention: true,
        tampering: true,
    };
    simulate_all(300..324, story);
}

#[test]
fn an_interrupted_change_of_shards_is_finished_and_retention_goes_on() {
    for has_first_base in [false, true] {
        let mut simulation = Simulation::new(7, 1);
        for _ in 0..200 {
            simulation.step(false);
        }
        let stopped = simulation.end(End::Orderly);
        // The process was killed when the new generation had its name, and at most one shard its
        // base.
        let mut data = DataDir::open(stopped.dir.path(), 2, OPTIONS).unwrap();
        if has_first_base {
            let log = data.take_log(0);
            drop(recover(&data, log, (0, 2), &mut |_| ()).unwrap());
        }
        drop(data);
        let (mut simulation, ..) = stopped.must_start(1);
        for _ in 0..20 {
            simulation.publish();
            simulation.retire_sealed();
        }
        let segments = simulation.data.sealed_generations().iter();
        let segments = segments.flat_map(SealedGeneration::logs);
        let left: usize = segments.map(|it| it.closed_segments().unwrap().len()).sum();
        assert_eq!(left, 0, "history of both generations was removed");
        let (simulation, ..) = simulation.end(End::Orderly).must_start(3);
        drop(simulation.end(End::Killed).must_start(2));
    }
}

#[test]
fn a_first_segment_without_events_is_removed_and_retention_goes_on_after_it() {
    let mut simulation = Simulation::new(7, 1);
    // The first event has no place in the first segment, which is closed without one.
    simulation.value_bytes = 9_000..9_001;
    let mut bases = Vec::new();
    for _ in 0..3 {
        for _ in 0..4 {
            simulation.publish();
        }
        let shard = &mut simulation.shards[0];
        shard.flush();
        shard.begin_checkpoint();
        shard.finish_checkpoint();
        shard.retire(1, false).unwrap();
        let base = shard.base.view().newest().unwrap().unwrap();
        bases.push(base.meta.through);
    }
    assert_eq!(bases[0], Sequence::ZERO, "nothing was removed");
    assert!(bases.is_sorted() && bases[2] > bases[0], "{bases:?}");
    // Without its checkpoint the shard begins with its base.
    let path = simulation.dir.path().join("checkpoints");
    let stopped = simulation.end(End::Orderly);
    fs::remove_dir_all(path).unwrap();
    drop(stopped.must_start(1));
}

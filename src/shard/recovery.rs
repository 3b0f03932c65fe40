//! A data directory → the state of one shard: the newest checkpoint that is whole, and the log's
//! tail over it.
//!
//! ```text
//! checkpoint, newest, else the older      ┐ whichever is found first covers
//! base: the state where history begins    ├ the log through some sequence;
//! earlier generations of logs             ┘ the log is replayed from there
//! ```
//!
//! If the number of shards has changed, the state is repartitioned: each shard of the new
//! generation takes its part of what the old ones held, and keeps it as its *base*. From then on
//! the older generations are needed for history alone.
//!
//! A checkpoint that is damaged or foreign is set aside by its directory, which says so; with all
//! of them gone the state comes from the log. Only where retention has removed the log's beginning
//! is there no way around a base.

use crate::engine::{Batch, Engine, RecentIds, ReplayFault, Target};
use crate::log::{LocalLog, Log as _};
use crate::model::{
    DedupWindow, RECORD_KIND_EVENT, Sent, StoredChange, Timestamp, place, place_bytes, place_key,
};
use crate::state::{Bookkeeping, entity_of, is_packed_body};
use flux_storage::{
    Checkpoint, CheckpointDir, CheckpointError, CheckpointKind, DataDir, LayerError, LogDir,
    LogOrigin, LogReader, Owner, Quarantined, Recovery, ReplayError, SealedGeneration, SealedLog,
    Sequence, StorageError,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Why a shard can't be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log is damaged or can't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record can't be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayFault),
    /// A checkpoint can't be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Nothing holds the state that the removed part of the log led to.
    #[error(
        "retention removed the events before {first}, and neither a checkpoint nor the base in {} is whole: restore \
         a backup", base.display()
    )]
    NoBase {
        /// Where its base should be.
        base: Box<Path>,
        /// The first event that is left.
        first: u64,
    },
}

impl From<ReplayError<ReplayFault>> for RecoverError {
    fn from(error: ReplayError<ReplayFault>) -> Self {
        match error {
            ReplayError::Storage(error) => Self::Storage(error),
            ReplayError::Visit(fault) => Self::Replay(fault),
        }
    }
}

impl From<LayerError> for RecoverError {
    fn from(error: LayerError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// How far recovery has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Events replayed.
    pub events: u64,
    /// About the bytes of the log that they take.
    pub bytes: u64,
    /// About the bytes that there are to replay; 0 while that is not known.
    pub bytes_total: u64,
}

/// A shard that is whole again.
#[derive(Debug)]
pub struct Recovered {
    /// Its state.
    pub engine: Engine,
    /// Its log, to go on with.
    pub log: LocalLog,
    /// What opening the log found.
    pub recovery: Recovery,
    /// Where its checkpoints go.
    pub checkpoints: CheckpointDir,
    /// If its base is, or will be once retention needs one.
    pub base: CheckpointDir,
    /// What the checkpoint or base covers that the state was taken from.
    pub through: Sequence,
    /// The first event of the log that is still there.
    pub first: Sequence,
    /// Logs of earlier generations with events whose ids are known and which have operations.
    pub earlier: Vec<LogReader>,
    /// Files of checkpoints that can't be used.
    pub quarantined: Vec<Quarantined>,
}

/// Recovers a shard. Blocks.
///
/// # Errors
/// [`RecoverError`]. Nothing but damaged checkpoints was touched if the log is damaged.
#[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
pub fn recover(
    data: &DataDir,
    log: LogDir,
    (shard, shards): (u16, u16),
    progress: &mut dyn FnMut(RecoveryProgress),
) -> Result<Recovered, RecoverError> {
    let mut attempt = Attempt {
        shard,
        shards,
        so_far: RecoveryProgress::default(),
        progress,
        quarantined: Vec::new(),
    };
    let origin = log.origin()?;
    let mut checkpoints = directory(log.checkpoint_path(), origin.owner, CheckpointKind::Cache);
    let mut base = directory(log.base_path(), origin.owner, CheckpointKind::Base);
    let (mut engine, through) = match attempt.start(&mut checkpoints, &origin)? {
        Some(started) => started,
        None => attempt.begin(data, &mut base, &origin)?,
    };
    attempt.so_far.bytes_total = attempt.so_far.bytes + log.tail_bytes(through.next())?;
    let mut batch = Batch::default();
    let (log, recovery) = {
        let mut report = attempt.reporter();
        let mut target = Target {
            engine: &mut engine,
            shard,
            shards: 1,
            progress: &mut report,
        };
        let opened = LocalLog::open_from(log, through.next(), |record| {
            batch.push(&mut target, &record)
        })?;
        batch.apply(&mut target)?;
        opened
    };
    Ok(Recovered {
        engine,
        log,
        recovery,
        checkpoints,
        base,
        through,
        first: origin.first_sequence,
        earlier: Vec::new(),
        quarantined: attempt.quarantined,
    })
}

/// Remembers the ids that producers gave to the last events of a shard, as far back as they are
/// known at `now`. If its log is younger than that, the logs of earlier generations are read too.
/// Calls `seen` for each event that is read. Blocks.
///
/// # Errors
/// [`RecoverError`].
pub fn recall_ids(
    data: &DataDir,
    recovered: &mut Recovered,
    (shard, shards): (u16, u16),
    (window, now): (DedupWindow, Timestamp),
    seen: &mut dyn FnMut(),
) -> Result<(), RecoverError> {
    let mut ids = RecentIds::new(window);
    let (first, since) = (window.first(recovered.log.appended()), window.since(now));
    let is_own = |payload: &[u8]| {
        let id = StoredChange::entity_id_of(RECORD_KIND_EVENT, payload);
        id.is_some_and(|id| shards == 1 || place_bytes(id, shards) == shard)
    };
    let generations = data.sealed_generations();
    for (index, generation) in generations.iter().enumerate() {
        // All records of a generation come before the first of the next.
        let next = match generations
            .get(index + 1)
            .and_then(|next| next.logs().first())
        {
            Some(log) => log.origin()?.first_sequence,
            None => recovered.first,
        };
        if next <= first || !window.is_open() {
            continue;
        }
        for log in generation.logs() {
            let reader = log.reader()?;
            let mut has_operations = false;
            let noted = reader.read_forward(first, |record| {
                seen();
                if record.time_micros >= since.as_micros() && is_own(record.payload) {
                    ids.note(&record);
                    let sent = Sent::of(record.payload);
                    has_operations |= sent.is_some_and(|sent| sent.decided.has_operations());
                }
                Ok::<_, ReplayFault>(ControlFlow::Continue(()))
            });
            noted?;
            if has_operations {
                recovered.earlier.push(reader);
            }
        }
    }
    Ok(recovered
        .engine
        .remember_ids(&mut recovered.log, ids, now, seen)?)
}

/// Finishes a change of the number of shards that a start left unfinished: gives every log of a
/// sealed generation its base, which retention needs before it can remove anything of that log.
/// Blocks; if nothing is unfinished, while names and manifests are read. No other thread may use
/// the directory's bases meanwhile.
///
/// # Errors
/// [`RecoverError`]. What was finished until then stays, and the next call goes on.
pub fn finish_repartition(data: &DataDir) -> Result<(), RecoverError> {
    let generations = data.sealed_generations();
    for (index, generation) in generations.iter().enumerate().skip(1) {
        let shards = u16::try_from(generation.logs().len()).unwrap_or(u16::MAX);
        for (shard, log) in (0..).zip(generation.logs()) {
            let origin = log.origin()?;
            let mut base = directory(log.base_path(), origin.owner, CheckpointKind::Base);
            // A base that is there and damaged is reported by whoever needs it.
            if origin.removed.is_some() || base.view().newest().map_or(true, |it| it.is_some()) {
                continue;
            }
            let mut attempt = Attempt {
                shard,
                shards,
                so_far: RecoveryProgress::default(),
                progress: &mut |_| (),
                quarantined: Vec::new(),
            };
            let mut engine = attempt.repartition(&generations[..index])?;
            base.load()?;
            write_base(&mut engine, &mut base, origin.first_sequence.previous())?;
        }
    }
    Ok(())
}

/// Makes the state of an engine the base of a log that begins after `through`.
fn write_base(
    engine: &mut Engine,
    base: &mut CheckpointDir,
    through: Sequence,
) -> Result<(), RecoverError> {
    let throttle = &mut |_| ControlFlow::Continue(());
    let pending = engine.freeze(through).write(base, throttle)?;
    let layers = pending.stack().clone();
    base.publish(pending)?;
    drop(engine.install_checkpoint(layers));
    Ok(())
}

/// Through where a log is covered by a checkpoint that is whole; [`Sequence::ZERO`] if there is
/// none. For a log whose generation is about to be sealed: what is covered need not be read.
/// Blocks.
pub fn covered(log: &LogDir) -> Sequence {
    let Ok(origin) = log.origin() else {
        // Opening the log will say what is wrong with it.
        return Sequence::ZERO;
    };
    let mut dir = directory(log.checkpoint_path(), origin.owner, CheckpointKind::Cache);
    match dir.load() {
        Ok(load) => load
            .checkpoint
            .map(|checkpoint| checkpoint.meta.through)
            .filter(|through| through.next() >= origin.first_sequence)
            .unwrap_or(Sequence::ZERO),
        Err(_) => Sequence::ZERO,
    }
}

fn directory(path: PathBuf, owner: Owner, kind: CheckpointKind) -> CheckpointDir {
    CheckpointDir::new(path, owner, kind, is_packed_body)
}

fn start_from(checkpoint: Checkpoint) -> Result<(Engine, Sequence), LayerError> {
    let Checkpoint { stack, meta } = checkpoint;
    stack.prefetch_files();
    Ok((Engine::from_checkpoint(stack, &meta)?, meta.through))
}

fn no_base(path: &Path, origin: &LogOrigin) -> RecoverError {
    RecoverError::NoBase {
        base: path.into(),
        first: origin.first_sequence.get(),
    }
}

/// One recovery, under way.
struct Attempt<'p> {
    shard: u16,
    shards: u16,
    so_far: RecoveryProgress,
    progress: &'p mut dyn FnMut(RecoveryProgress),
    quarantined: Vec<Quarantined>,
}

impl Attempt<'_> {
    /// The newest checkpoint of a directory that is whole, and from which the log can be replayed.
    fn load(
        &mut self,
        dir: &mut CheckpointDir,
        origin: &LogOrigin,
    ) -> Result<Option<Checkpoint>, RecoverError> {
        let load = dir.load()?;
        self.quarantined.extend(load.quarantined);
        let reaches =
            |checkpoint: &Checkpoint| checkpoint.meta.through.next() >= origin.first_sequence;
        Ok(load.checkpoint.filter(reaches))
    }

    /// The state that the newest checkpoint holds that is whole, and through where it goes.
    fn start(
        &mut self,
        checkpoints: &mut CheckpointDir,
        origin: &LogOrigin,
    ) -> Result<Option<(Engine, Sequence)>, RecoverError> {
        loop {
            let Some(checkpoint) = self.load(checkpoints, origin)? else {
                return Ok(None);
            };
            match start_from(checkpoint) {
                // A large layer is not checked as a whole before it is used. Set aside, it is not
                // found again; one that could not be read stays, and the log leads to its state.
                Err(error) => {
                    let quarantined = Quarantined::of(error);
                    let is_moved = quarantined.moved_to.is_some();
                    self.quarantined.push(quarantined);
                    if !is_moved {
                        return Ok(None);
                    }
                }
                Ok(started) => return Ok(Some(started)),
            }
        }
    }

    /// The state at the beginning of a log that has no checkpoint, and through where it goes.
    fn begin(
        &mut self,
        data: &DataDir,
        base: &mut CheckpointDir,
        origin: &LogOrigin,
    ) -> Result<(Engine, Sequence), RecoverError> {
        if let Some(checkpoint) = self.load_base(base, origin)? {
            return Ok(start_from(checkpoint)?);
        }
        let through = origin.first_sequence.previous();
        if data.sealed_generations().is_empty() {
            return Ok((Engine::default(), through));
        }
        let mut engine = self.repartition(data.sealed_generations())?;
        write_base(&mut engine, base, through)?;
        Ok((engine, through))
    }

    /// The base of a log. One that is damaged is done without if it can be made again.
    fn load_base(
        &mut self,
        base: &mut CheckpointDir,
        origin: &LogOrigin,
    ) -> Result<Option<Checkpoint>, RecoverError> {
        let loaded = match self.load(base, origin) {
            Err(RecoverError::Checkpoint(CheckpointError::Layer(error)))
                if origin.removed.is_none() && error.is_damage() =>
            {
                self.quarantined.push(Quarantined::of(error));
                None
            }
            loaded => loaded?,
        };
        if loaded.is_none() && origin.removed.is_some() {
            return Err(no_base(base.path(), origin));
        }
        Ok(loaded)
    }

    /// This shard's part of what the earlier generations add up to.
    fn repartition(&mut self, generations: &[SealedGeneration]) -> Result<Engine, RecoverError> {
        let mut engine = Engine::default();
        let mut batch = Batch::default();
        let (first, states) = self.newest_states(generations)?;
        for (index, generation) in generations.iter().enumerate().skip(first) {
            for (position, log) in generation.logs().iter().enumerate() {
                let is_counted_here = self.is_counted_here(log.shard(), &generations[index + 1..]);
                let state = states.get(position).filter(|_| index == first);
                let state = state.and_then(Option::as_ref);
                let from = match state {
                    None => log.origin()?.first_sequence,
                    Some(state) => self.take_entities(&mut engine, state, is_counted_here)?,
                };
                let (shard, shards) = (self.shard, self.shards);
                let mut events = engine.events();
                let mut report = self.reporter();
                let mut target = Target {
                    engine: &mut engine,
                    shard,
                    shards,
                    progress: &mut report,
                };
                log.replay_from(from, |record| {
                    events += u64::from(is_counted_here);
                    batch.push(&mut target, &record)
                })?;
                batch.apply(&mut target)?;
                engine.correct_events(events);
            }
        }
        Ok(engine)
    }

    /// The newest generation whose logs can be replayed without the generations before it, and the
    /// state that each of its logs is replayed over. The first generation begins with nothing.
    fn newest_states(
        &mut self,
        generations: &[SealedGeneration],
    ) -> Result<(usize, Vec<Option<Checkpoint>>), RecoverError> {
        for (index, generation) in generations.iter().enumerate().rev() {
            let states = generation.logs().iter().map(|log| self.load_sealed(log));
            let states = states.collect::<Result<Vec<_>, _>>()?;
            let Some(lacking) = states.iter().position(Option::is_none) else {
                return Ok((index, states));
            };
            if index == 0 {
                return Ok((index, states));
            }
            // Older generations lead to the beginning of this one, if it is still there.
            for log in generation.logs() {
                let origin = log.origin()?;
                if origin.removed.is_some() {
                    let lacking = generation.logs().get(lacking).unwrap_or(log);
                    return Err(no_base(&lacking.base_path(), &origin));
                }
            }
        }
        Ok((0, Vec::new()))
    }

    /// The state that a log of an earlier generation can be replayed over.
    fn load_sealed(&mut self, log: &SealedLog) -> Result<Option<Checkpoint>, RecoverError> {
        let origin = log.origin()?;
        let mut checkpoints = directory(log.checkpoint_path(), origin.owner, CheckpointKind::Cache);
        if let Some(checkpoint) = self.load(&mut checkpoints, &origin)? {
            return Ok(Some(checkpoint));
        }
        let mut base = directory(log.base_path(), origin.owner, CheckpointKind::Base);
        self.load_base(&mut base, &origin)
    }

    /// True if the events of an old shard's log are this shard's to count. Who of the new shards
    /// counts them does not matter, as long as it is one, and the same one by whichever checkpoints
    /// each of them came here: so it follows from the shard counts of the generations since.
    fn is_counted_here(&self, shard: u32, since: &[SealedGeneration]) -> bool {
        let counts = since.iter().map(|generation| generation.logs().len());
        let counts = counts.filter_map(|count| u32::try_from(count).ok());
        let counter = counts.fold(shard, |shard, count| shard % count.max(1));
        counter % u32::from(self.shards) == u32::from(self.shard)
    }

    /// Takes over the entities of `state` that are this shard's by now. Returns where the log goes
    /// on.
    fn take_entities(
        &self,
        engine: &mut Engine,
        state: &Checkpoint,
        is_counted_here: bool,
    ) -> Result<Sequence, RecoverError> {
        let mut has_floor = false;
        let mut cursor = state.stack.list(|_| false);
        while let Some(entity) = cursor.next()? {
            if let Some(about) = Bookkeeping::of(entity.id) {
                if entity.body.is_some() && self.concerns(about) {
                    has_floor |= about == Bookkeeping::Unknown;
                    let time = Timestamp::from_micros(entity.time_micros);
                    let last = (time, entity.sequence);
                    engine.namespaces_mut().install(about, entity.version, last);
                }
            } else if let Some(entity) = entity_of(entity)
                && place(entity.id(), self.shards) == self.shard
            {
                engine.install(entity)?;
            }
        }
        if !has_floor {
            // Of before floors were kept: what is unknown may have had the newest event.
            let latest = Timestamp::from_micros(state.meta.time_micros);
            let names = engine.namespaces_mut();
            names.install(Bookkeeping::Unknown, 0, (latest, Sequence::ZERO));
        }
        engine.merge_meta(
            &state.meta,
            if is_counted_here {
                state.meta.events
            } else {
                0
            },
        );
        Ok(state.meta.through.next())
    }

    /// True if what a bookkeeping record says is this shard's to know by now.
    fn concerns(&self, about: Bookkeeping<'_>) -> bool {
        match about {
            Bookkeeping::Namespace(key) | Bookkeeping::AbsentId(key) => {
                place_key(key, self.shards) == self.shard
            }
            Bookkeeping::Unknown => true,
            Bookkeeping::Lifetime => false,
        }
    }

    /// Counts what is replayed, and passes it on.
    fn reporter(&mut self) -> impl FnMut(u64, u64) {
        let (so_far, progress) = (&mut self.so_far, &mut *self.progress);
        |events, bytes| {
            so_far.events += events;
            so_far.bytes += bytes;
            progress(*so_far);
        }
    }
}

//! An engine from a checkpoint, and a snapshot of one for the next checkpoint.

use super::Engine;
use crate::model::Timestamp;
use crate::state::{
    BookkeepingView, Entity, ImmutableMemtable, LifetimeRecords, NamespaceStatistics, Replaced,
    State,
};
use flux_storage::{
    Checkpoint, CheckpointDir, CheckpointError, CheckpointMeta, CheckpointThrottle, LayerError,
    LayerStack, PendingCheckpoint, Sequence,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a checkpoint is made of: the state at a position of the log.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What changed since the last checkpoint.
    pub immutable: Arc<ImmutableMemtable>,
    /// What the last checkpoint left.
    pub layers: LayerStack,
    /// The position, and what else an engine knows there.
    pub meta: CheckpointMeta,
    bookkeeping: BookkeepingView,
    /// The same as `layers` keep it.
    bookkeeping_before: BookkeepingView,
}

impl Snapshot {
    /// Writes it as a checkpoint, not to be published before the log is durable that far. Blocks.
    ///
    /// # Errors
    /// See [`CheckpointDir::write`].
    pub fn write(
        &self,
        dir: &mut CheckpointDir,
        pace: &mut CheckpointThrottle<'_>,
    ) -> Result<PendingCheckpoint, CheckpointError> {
        let names = self.bookkeeping.changes_since(&self.bookkeeping_before);
        let mut rest = || match pace(0) {
            // One that has to end is told so again when it writes.
            ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
        };
        let lifetimes = LifetimeRecords::of(&self.immutable, &mut rest);
        let entities = self.immutable.entities(&mut rest);
        let others = names.records().chain(lifetimes.records());
        let records = Records {
            len: names.len() + lifetimes.len() + self.immutable.len(),
            records: others.chain(entities),
        };
        dir.write(records, &self.layers, self.meta, pace)
    }
}

/// An iterator over records that knows their number.
struct Records<I> {
    records: I,
    len: usize,
}

impl<I: Iterator> Iterator for Records<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.records.next();
        self.len = self.len.saturating_sub(usize::from(next.is_some()));
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<I: Iterator> ExactSizeIterator for Records<I> {}

impl Engine {
    /// The engine that a checkpoint holds.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn from_checkpoint(layers: LayerStack, meta: &CheckpointMeta) -> Result<Self, LayerError> {
        let latest_time = Timestamp::from_micros(meta.time_micros);
        let names = NamespaceStatistics::from_layers(&layers, latest_time)?;
        Ok(Self {
            bookkeeping_stored: names.bookkeeping(),
            namespaces: names,
            state: State::from_layers(layers, usize::try_from(meta.entities).unwrap_or(usize::MAX)),
            latest_time,
            last_delete: meta.last_delete,
            events: meta.events,
            checkpoint: Some(*meta),
            ..Self::default()
        })
    }

    /// Freezes the state after the event `through`, for a helper thread to write. Cost: constant.
    ///
    /// # Panics
    /// If the snapshot before is not installed.
    pub fn freeze(&mut self, through: Sequence) -> Snapshot {
        let (immutable, layers) = self.state.freeze();
        let meta = CheckpointMeta {
            through,
            time_micros: self.latest_time.as_micros(),
            events: self.events,
            entities: self.state.len() as u64,
            last_delete: self.last_delete,
        };
        self.frozen_meta = Some(meta);
        self.bookkeeping_frozen = self.namespaces.bookkeeping();
        Snapshot {
            immutable,
            layers,
            meta,
            bookkeeping: self.bookkeeping_frozen.clone(),
            bookkeeping_before: self.bookkeeping_stored.clone(),
        }
    }

    /// True while a snapshot is not installed.
    pub fn is_frozen(&self) -> bool {
        self.state.is_frozen()
    }

    /// Goes on over the layers of the checkpoint that was made of the snapshot.
    pub fn install_checkpoint(&mut self, layers: LayerStack) -> Replaced {
        self.checkpoint = self.frozen_meta.take();
        self.bookkeeping_stored = std::mem::take(&mut self.bookkeeping_frozen);
        self.state.install_checkpoint(layers)
    }

    /// The newest checkpoint, if the state lies over one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let stack = self.state.layers().clone();
        self.checkpoint.map(|meta| Checkpoint { stack, meta })
    }

    /// Takes in an entity of an earlier generation, when the number of shards has changed. Its
    /// namespace is counted by itself.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn install(&mut self, entity: Entity<'_>) -> Result<(), LayerError> {
        self.state.install(entity)
    }

    /// Takes in what an engine of an earlier generation knew beside its entities. `events`: those
    /// of its events that count here.
    pub fn merge_meta(&mut self, meta: &CheckpointMeta, events: u64) {
        self.latest_time = self
            .latest_time
            .max(Timestamp::from_micros(meta.time_micros));
        self.last_delete = self.last_delete.max(meta.last_delete);
        self.events += events;
    }
}

//! Any history with checkpoints anywhere in it, over real files: the state is the model's while a
//! checkpoint is pending, after it is installed, and after the files are opened anew.

use std::sync::Arc;

use flux_storage::{
    CheckpointDir, CheckpointKind, CheckpointMeta, DataDir, LogOptions, PendingCheckpoint,
};

use super::model_test::{
    Model, apply, check_query, dump, encode, encode_event, random_history, seen, step,
};
use super::*;
use fastrand::Rng;

/// A state, its checkpoints, and what is pending of them.
pub(super) struct Stack {
    pub(super) state: State,
    checkpoints: CheckpointDir,
    files: Files,
    /// What is frozen, until it is installed.
    pub(super) immutable: Option<(Arc<ImmutableMemtable>, LayerStack, CheckpointMeta)>,
    /// The last event applied.
    pub(super) last: Sequence,
}

/// Directories that vanish with the test.
struct Files {
    dir: tempfile::TempDir,
    _data: DataDir,
    log: flux_storage::LogDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_initial: 8192,
            segment_bytes_max: 8192,
            ..LogOptions::default()
        };
        let mut data = DataDir::open(dir.path(), 1, options).unwrap();
        let log = data.take_log(0);
        Self {
            dir,
            _data: data,
            log,
        }
    }

    /// The directory of checkpoints, as after a start.
    fn checkpoints(&self) -> CheckpointDir {
        let owner = self.log.origin().unwrap().owner;
        let path = self.log.checkpoint_path();
        CheckpointDir::new(path, owner, CheckpointKind::Cache, is_packed_body)
    }
}

impl Stack {
    pub(super) fn new() -> Self {
        let files = Files::new();
        let mut checkpoints = files.checkpoints();
        assert!(checkpoints.load().unwrap().checkpoint.is_none());
        Self {
            state: State::default(),
            checkpoints,
            files,
            immutable: None,
            last: Sequence::ZERO,
        }
    }

    pub(super) fn freeze(&mut self) {
        let (frozen, layers) = self.state.freeze();
        let meta = CheckpointMeta {
            through: self.last,
            entities: self.state.len() as u64,
            ..CheckpointMeta::default()
        };
        self.immutable = Some((frozen, layers, meta));
    }

    /// Writes what is frozen, as a helper thread would.
    pub(super) fn write(&mut self) -> PendingCheckpoint {
        let (frozen, layers, meta) = self.immutable.as_ref().unwrap();
        let pace = &mut |_| std::ops::ControlFlow::Continue(());
        let lifetimes = LifetimeRecords::of(frozen, &mut || {});
        let entities = frozen.entities(&mut || {});
        let mut records = Vec::with_capacity(lifetimes.len() + frozen.len());
        records.extend(lifetimes.records());
        records.extend(entities);
        self.checkpoints
            .write(records.into_iter(), layers, *meta, pace)
            .unwrap()
    }

    pub(super) fn install_checkpoint(&mut self) {
        let pending = self.write();
        let layers = pending.stack().clone();
        self.checkpoints.publish(pending).unwrap();
        self.immutable = None;
        drop(self.state.install_checkpoint(layers));
        self.checkpoints.remove_unreferenced().unwrap();
    }

    pub(super) fn checkpoint(&mut self) {
        self.freeze();
        self.install_checkpoint();
    }

    /// Starts anew from the files. Returns what the newest checkpoint covers.
    pub(super) fn reload(&mut self) -> Sequence {
        self.checkpoints = self.files.checkpoints();
        self.immutable = None;
        let load = self.checkpoints.load().unwrap();
        assert_eq!(load.quarantined, []);
        let Some(checkpoint) = load.checkpoint else {
            self.state = State::default();
            return Sequence::ZERO;
        };
        let len = usize::try_from(checkpoint.meta.entities).unwrap();
        self.state = State::from_layers(checkpoint.stack, len);
        checkpoint.meta.through
    }

    fn apply(&mut self, number: u64, bytes: &[u8]) -> Applied {
        self.last = Sequence::new(number);
        apply(&mut self.state, number, bytes)
    }

    /// Entities and tombstones that the layers hold.
    pub(super) fn records(&self) -> u64 {
        self.state.layers.records()
    }
}

/// One history under a seed; `checkpoint_odds`: one event in so many is followed by a step of a
/// checkpoint.
fn any_history(seed: u64, checkpoint_odds: usize) {
    let mut random = Rng::with_seed(seed);
    let (mut stack, mut model) = (Stack::new(), Model::default());
    let history = random_history(&mut random);
    for (index, (sequence, time, bytes)) in history.iter().enumerate() {
        let event = EventView::decode(bytes).unwrap();
        // Sometimes for several events to come, as of a batch; the places of new ones may be stale
        // when they come.
        if random.usize(..6) == 0 {
            let ahead = &history[index..history.len().min(index + random.usize(..40))];
            let events = ahead
                .iter()
                .map(|(.., bytes)| EventView::decode(bytes).unwrap());
            let mut ids: Vec<&[u8]> = events.map(|event| event.entity_id.as_bytes()).collect();
            ids.extend([&b"absent"[..], b""]);
            stack.state.prefetch_positions_from(20);
            stack.state.prefetch(&ids);
        }
        let applied = step(&mut stack.state, *sequence, *time, &event);
        stack.last = *sequence;
        assert_eq!(
            applied,
            model.apply(*sequence, *time, &event),
            "{sequence:?}"
        );
        assert_eq!(stack.state.len(), model.len(), "{sequence:?}");
        if random.usize(..4) == 0 {
            check_query(&stack.state, &model, &mut random);
        }
        if random.usize(..checkpoint_odds) != 0 {
            continue;
        }
        match (stack.immutable.is_some(), random.usize(..5)) {
            (false, _) => stack.freeze(),
            // It was written, and then something failed: it is tried again later, with what was
            // frozen then.
            (true, 0) => drop(stack.write()),
            (true, 1) => {
                let through = stack.reload();
                let after = history[..=index].partition_point(|(at, ..)| *at <= through);
                for (sequence, time, bytes) in &history[after..=index] {
                    let event = EventView::decode(bytes).unwrap();
                    let _: Applied = step(&mut stack.state, *sequence, *time, &event);
                }
            }
            (true, _) => stack.install_checkpoint(),
        }
        assert_eq!(dump(&stack.state), model.list(&Query::default()));
    }
    assert_eq!(dump(&stack.state), model.list(&Query::default()));
}

#[test]
fn any_history_with_checkpoints_leaves_the_state_that_the_model_says() {
    for seed in 200..205 {
        for checkpoint_odds in [12, 100] {
            let run = std::panic::catch_unwind(|| any_history(seed, checkpoint_odds));
            assert!(
                run.is_ok(),
                "failed with seed {seed}, odds {checkpoint_odds}"
            );
        }
    }
}

#[test]
fn markers_of_deleted_entities_vanish_with_what_they_hide() {
    let mut stack = Stack::new();
    for number in 1..=500 {
        stack.apply(number, &encode(&format!("n/{number}"), &[("a", "1")]));
    }
    stack.checkpoint();
    assert_eq!((stack.records(), stack.state.len()), (500, 500));
    for number in 1..=500 {
        let tombstone = encode_event(&format!("n/{number}"), &[], true);
        assert_eq!(stack.apply(500 + number, &tombstone), Applied::Deleted);
    }
    stack.freeze();
    assert!(stack.state.is_empty() && dump(&stack.state).is_empty());
    stack.install_checkpoint();
    assert_eq!(
        stack.records(),
        0,
        "nothing is left that a marker would hide"
    );
    stack.apply(1001, &encode("n/1", &[("b", "2")]));
    stack.checkpoint();
    assert_eq!(stack.records(), 1);
    assert_eq!(stack.state.get("n/1").unwrap().unwrap().version(), 1);
    assert_eq!(stack.reload(), Sequence::new(1001));
    assert_eq!((stack.state.len(), dump(&stack.state).len()), (1, 1));
}

#[test]
fn an_entity_deleted_and_created_while_a_checkpoint_is_pending_is_the_new_one() {
    let mut stack = Stack::new();
    let (event, tombstone) = (encode("x", &[("a", "1")]), encode_event("x", &[], true));
    stack.apply(1, &event);
    stack.checkpoint();
    // In the layer; deleted in what is frozen; created and deleted again above.
    assert_eq!(stack.apply(2, &tombstone), Applied::Deleted);
    stack.freeze();
    assert!(stack.state.get("x").unwrap().is_none());
    assert_eq!(stack.apply(3, &tombstone), Applied::Absent);
    assert_eq!(stack.apply(4, &event), Applied::Created);
    assert_eq!(stack.apply(5, &tombstone), Applied::Deleted);
    assert_eq!(stack.apply(6, &tombstone), Applied::Absent);
    stack.install_checkpoint();
    assert!(stack.state.get("x").unwrap().is_none() && stack.state.is_empty());
    assert_eq!(
        stack.apply(7, &encode("x", &[("b", "2")])),
        Applied::Created
    );
    stack.freeze();
    assert_eq!(
        stack.apply(8, &encode("x", &[("c", "3")])),
        Applied::Updated
    );
    stack.install_checkpoint();
    for _ in 0..2 {
        let (_, entity) = seen(stack.state.get("x").unwrap().unwrap());
        let names: Vec<_> = entity.properties.keys().map(String::as_str).collect();
        assert_eq!((entity.version, names), (2, vec!["b", "c"]));
        stack.checkpoint();
    }
}

#[test]
fn a_checkpoint_that_is_never_written_costs_nothing_but_memory() {
    let mut stack = Stack::new();
    stack.apply(1, &encode("x", &[("a", "1")]));
    stack.freeze();
    // A file stands where the directory should be, until somebody takes it away.
    let parent = stack.files.dir.path().join("checkpoints");
    std::fs::File::create(&parent).unwrap();
    let (frozen, layers, meta) = stack.immutable.as_ref().unwrap();
    let pace = &mut |_| std::ops::ControlFlow::Continue(());
    for _ in 0..3 {
        let written = stack
            .checkpoints
            .write(frozen.entities(&mut || {}), layers, *meta, pace);
        assert!(written.is_err());
    }
    for number in 2..100 {
        assert_eq!(stack.apply(number, &encode("x", &[])), Applied::Updated);
    }
    std::fs::remove_file(&parent).unwrap();
    stack.install_checkpoint();
    assert_eq!(stack.state.get("x").unwrap().unwrap().version(), 99);
    assert_eq!(stack.reload(), Sequence::new(1), "what was frozen then");
    assert_eq!(stack.state.get("x").unwrap().unwrap().version(), 1);
}

#[test]
fn an_installed_entity_is_as_the_other_state_had_it() {
    let mut source = Stack::new();
    for number in 1..=50 {
        let id = format!("n/{}", number % 10);
        source.apply(number, &encode(&id, &[("a", "1"), ("b", "\"é\"")]));
    }
    source.checkpoint();
    source.apply(51, &encode("n/3", &[("b", "2")]));
    let mut target = Stack::new();
    for entity in source.state.list(&Query::default()) {
        target.state.install(entity.unwrap()).unwrap();
    }
    target.last = source.last;
    let expected = dump(&source.state);
    assert_eq!(target.state.len(), 10);
    assert_eq!(dump(&target.state), expected);
    target.checkpoint();
    assert_eq!(dump(&target.state), expected);
    assert_eq!(target.reload(), Sequence::new(51));
    assert_eq!(dump(&target.state), expected);
    let tombstone = encode_event("n/3", &[], true);
    assert_eq!(target.apply(52, &tombstone), Applied::Deleted);
    assert_eq!(target.state.len(), 9);
}

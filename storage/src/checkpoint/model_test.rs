//! Checkpoints against a map: whatever was written, merged, published and loaded, a stack holds
//! what the map holds.

use super::dir::LAYERS_MAX;
use super::testing::{
    Entities, Owned, Random, checkpoint, contents, deleted, dir_at, files, go_on, live, loaded,
    meta, names, numbered, view,
};
use super::{CheckpointDir, CheckpointKind, LayerStack};
use crate::{CheckpointError, PREFETCH_GROUP_IDS_MAX, Sequence};
use std::collections::BTreeSet;

/// A random change of up to `count` entities of a few hundred, a third of them deletions.
fn change(random: &mut Random, version: u64) -> Entities {
    let size = [1, 5, 40, 300][usize::try_from(random.below(4)).unwrap()];
    let mut changed = Entities::new();
    for _ in 0..=random.below(size) {
        let depth = random.below(3);
        let id = format!(
            "{}/{}",
            "ab".repeat(usize::try_from(depth).unwrap()),
            random.below(200)
        );
        let len = if random.below(50) == 0 {
            40_000
        } else {
            random.below(300)
        };
        let body = "é{\"x\":1}".repeat(usize::try_from(len / 9).unwrap());
        let owned = if random.below(3) == 0 {
            deleted(version)
        } else {
            live(version, &body)
        };
        changed.insert(id, owned);
    }
    changed
}

/// What exists, by the model.
fn existing(entities: &Entities) -> Entities {
    let mut existing = entities.clone();
    existing.retain(|_, owned| owned.body.is_some());
    existing
}

/// If all of a stack was looked at before, prefetching tells what is missing from what is there.
fn check_looking_ahead(stack: &LayerStack, model: &Entities, context: &str) {
    let absent: Vec<String> = model.keys().map(|id| format!("{id}-")).collect();
    let ids = model.keys().chain(&absent).map(String::as_bytes);
    let mut ids: Vec<&[u8]> = ids.collect();
    let before: BTreeSet<&[u8]> = ids.iter().copied().collect();
    let mut missing = BTreeSet::new();
    for ids in ids.chunks_mut(PREFETCH_GROUP_IDS_MAX) {
        missing.extend(stack.prefetch_ids(ids).iter().copied());
    }
    assert_eq!(
        ids.into_iter().collect::<BTreeSet<_>>(),
        before,
        "{context}"
    );
    for id in model.keys() {
        let is_there = stack.find(id).unwrap().is_some();
        assert!(
            !is_there || !missing.contains(id.as_bytes()),
            "{context}: {id}"
        );
    }
    // Once in some hundred thousand an id looks as if it were there.
    let unseen = absent.iter().filter(|id| !missing.contains(id.as_bytes()));
    assert!(unseen.count() <= 1, "{context}");
}

fn check_same(stack: &LayerStack, model: &Entities, random: &mut Random, context: &str) {
    let listed = contents(stack).unwrap();
    assert_eq!(existing(&listed), existing(model), "{context}");
    for (id, owned) in model {
        let found = stack.find(id).unwrap();
        match (found, &owned.body) {
            // A merge with the oldest layer leaves nothing of a deleted entity.
            (None, None) => {}
            (found, _) => assert_eq!(found, Some(view((id, owned))), "{context}: {id}"),
        }
        let absent = format!("{id}-");
        assert_eq!(stack.find(&absent).unwrap(), None, "{context}: {absent}");
    }
    check_looking_ahead(stack, model, context);
    for _ in 0..20 {
        let from = format!(
            "{}/{}",
            "ab".repeat(usize::try_from(random.below(3)).unwrap()),
            random.below(999)
        );
        let mut cursor = stack.list(|id| id < from.as_str());
        let expected = listed.range(from.clone()..).next().map(view);
        assert_eq!(cursor.peek().unwrap(), expected, "{context}: from {from}");
        assert_eq!(cursor.next().unwrap(), expected, "{context}: from {from}");
    }
}

#[test]
fn a_stack_holds_what_the_map_holds_through_writes_merges_and_loads() {
    for seed in 0..12 {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/checkpoints");
        let mut random = Random(seed);
        let mut dir = loaded(&path);
        let mut stack = LayerStack::default();
        let mut model = Entities::new();
        for step in 1..=25 {
            let context = format!("seed {seed} step {step}");
            let changed = change(&mut random, step);
            stack = checkpoint(&mut dir, &changed, &stack, step).unwrap();
            model.extend(changed);
            assert!(stack.layer_count() <= LAYERS_MAX, "{context}");
            if random.below(3) == 0 {
                dir = dir_at(&path);
                let load = dir.load().unwrap();
                assert_eq!(load.quarantined, [], "{context}");
                let found = load.checkpoint.unwrap();
                assert_eq!(found.meta, meta(step), "{context}");
                stack = found.stack;
                let report = dir.verify(&mut |_| ()).unwrap();
                assert_eq!(report.findings, [], "{context}");
                assert_eq!(report.manifests, step.min(2), "{context}");
            }
            check_same(&stack, &model, &mut random, &context);
        }
    }
}

#[test]
fn an_empty_stack_holds_nothing() {
    let stack = LayerStack::default();
    assert_eq!(stack.find("a").unwrap(), None);
    assert_eq!(stack.list(|_| false).next().unwrap(), None);
    assert_eq!(
        (stack.layer_count(), stack.bytes(), stack.records()),
        (0, 0, 0)
    );
}

#[test]
fn tombstones_stay_while_something_lies_below_and_go_with_the_oldest_layer() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let base = checkpoint(&mut dir, &numbered(100, 1), &LayerStack::default(), 1).unwrap();
    let gone: Entities = [("fleet/robot-000007".to_owned(), deleted(2))].into();
    let two = checkpoint(&mut dir, &gone, &base, 2).unwrap();
    assert_eq!((two.layer_count(), two.records()), (2, 101));
    let found = two.find("fleet/robot-000007").unwrap().unwrap();
    assert_eq!((found.body, found.sequence), (None, Sequence::new(4)));
    let one = checkpoint(&mut dir, &numbered(100, 3), &two, 3).unwrap();
    assert_eq!((one.layer_count(), one.records()), (1, 100));
    let all_gone: Entities = numbered(100, 4)
        .into_keys()
        .map(|id| (id, deleted(4)))
        .collect();
    let none = checkpoint(&mut dir, &all_gone, &one, 4).unwrap();
    assert_eq!(none.layer_count(), 0);
    assert_eq!(
        names(root.path()),
        "00000005.layer 00000006.manifest 00000008.manifest"
    );
    let load = dir_at(root.path()).load().unwrap();
    assert_eq!(load.checkpoint.unwrap().stack.layer_count(), 0);
}

#[test]
fn a_checkpoint_without_changes_writes_a_manifest_and_no_layer() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let stack = checkpoint(&mut dir, &numbered(10, 1), &LayerStack::default(), 1).unwrap();
    let same = checkpoint(&mut dir, &Entities::new(), &stack, 9).unwrap();
    assert_eq!(contents(&same), contents(&stack));
    assert_eq!(
        names(root.path()),
        "00000001.layer 00000002.manifest 00000003.manifest"
    );
    let load = dir_at(root.path()).load().unwrap();
    assert_eq!(load.checkpoint.unwrap().meta, meta(9));
}

#[test]
fn what_is_written_follows_what_changed() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let all = numbered(100_000, 1);
    let mut stack = checkpoint(&mut dir, &all, &LayerStack::default(), 1).unwrap();
    let whole_bytes = stack.bytes();
    let rounds = 32;
    let mut written = 0;
    let mut largest = 0;
    for round in 0..rounds {
        let changed: Entities = all
            .keys()
            .skip(round * 1000)
            .take(1000)
            .map(|id| (id.clone(), live(2, "changed")))
            .collect();
        let pending = dir
            .write(changed.iter().map(view), &stack, meta(2), &mut go_on)
            .unwrap();
        written += pending.written_bytes();
        largest = largest.max(pending.written_bytes());
        stack = pending.stack().clone();
        dir.publish(pending).unwrap();
    }
    // 32,000 changed entities in 32 rounds; each is rewritten at most about log2(32) times.
    let changed_bytes = whole_bytes * 32 / 100;
    assert!(written < changed_bytes * 6, "{written} of {whole_bytes}");
    assert!(largest < whole_bytes / 2, "{largest} of {whole_bytes}");
    assert!(stack.layer_count() <= LAYERS_MAX);
}

#[test]
fn there_are_never_more_layers_than_the_bound() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let mut stack = LayerStack::default();
    let mut model = Entities::new();
    for step in 0..LAYERS_MAX + 4 {
        // Each half of the one before: none of them takes in another by its size.
        let count = 1_u64 << (LAYERS_MAX + 3 - step);
        let changed = numbered(count, step as u64 + 1);
        stack = checkpoint(&mut dir, &changed, &stack, 1).unwrap();
        model.extend(changed);
        if step < LAYERS_MAX {
            assert_eq!(stack.layer_count(), step + 1);
        }
        assert!(stack.layer_count() <= LAYERS_MAX, "step {step}");
    }
    assert_eq!(contents(&stack).unwrap(), model);
}

#[test]
fn the_two_newest_checkpoints_of_a_cache_are_kept_and_one_base() {
    for (kind, kept) in [
        (
            CheckpointKind::Cache,
            "00000007.layer 00000008.manifest 00000009.layer 00000010.manifest",
        ),
        (CheckpointKind::Base, "00000009.layer 00000010.manifest"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut dir = CheckpointDir::new(root.path(), super::testing::OWNER, kind, |_| true);
        dir.load().unwrap();
        let mut stack = LayerStack::default();
        for step in 1..=5 {
            stack = checkpoint(&mut dir, &numbered(10, step), &stack, step).unwrap();
        }
        assert_eq!(names(root.path()), kept);
    }
}

#[test]
fn layers_of_another_directory_are_copied() {
    let root = tempfile::tempdir().unwrap();
    let [base, cache] = ["base", "cache"].map(|name| root.path().join(name));
    let mut base_dir = loaded(&base);
    let stack = checkpoint(&mut base_dir, &numbered(1000, 1), &LayerStack::default(), 1).unwrap();
    let before = files(&base);
    let mut dir = loaded(&cache);
    let changed: Entities = [("z".to_owned(), live(2, "new"))].into();
    let copied = checkpoint(&mut dir, &changed, &stack, 2).unwrap();
    let mut expected = numbered(1000, 1);
    expected.extend(changed);
    assert_eq!(contents(&copied).unwrap(), expected);
    assert_eq!(names(&cache), "00000001.layer 00000002.manifest");
    let copied = checkpoint(
        &mut loaded(&root.path().join("third")),
        &Entities::new(),
        &copied,
        2,
    );
    assert_eq!(contents(&copied.unwrap()).unwrap(), expected);
    assert!(files(&base) == before);
}

#[test]
fn a_removed_layer_stays_readable_to_who_holds_it() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let first = checkpoint(&mut dir, &numbered(500, 1), &LayerStack::default(), 1).unwrap();
    let mut stack = first.clone();
    for step in 2..=4 {
        stack = checkpoint(&mut dir, &numbered(500, step), &stack, step).unwrap();
    }
    assert!(!root.path().join("00000001.layer").exists());
    assert_eq!(contents(&first).unwrap(), numbered(500, 1));
}

#[test]
fn an_entity_larger_than_a_block_has_one_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let mut model = numbered(300, 1);
    let large = "7".repeat(3_000_000);
    model.insert("fleet/robot-000100-large".to_owned(), live(9, &large));
    let stack = checkpoint(&mut dir, &model, &LayerStack::default(), 1).unwrap();
    assert_eq!(contents(&stack).unwrap(), model);
    let found = stack.find("fleet/robot-000100-large").unwrap().unwrap();
    assert_eq!(found.body, Some(large.as_str()));
}

#[test]
fn the_writer_stops_when_told_to_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let old = checkpoint(&mut dir, &numbered(10, 1), &LayerStack::default(), 1).unwrap();
    let before = files(root.path());
    let all = numbered(20_000, 2);
    let mut calls = 0;
    let mut pace = |bytes: usize| {
        assert!((1..=256 * 1024).contains(&bytes));
        calls += 1;
        if calls == 3 {
            std::ops::ControlFlow::Break(())
        } else {
            go_on(bytes)
        }
    };
    let error = dir
        .write(all.iter().map(view), &old, meta(2), &mut pace)
        .unwrap_err();
    assert!(matches!(error, CheckpointError::Cancelled), "{error:?}");
    assert_eq!(calls, 3);
    assert!(files(root.path()) == before);
    let stack = checkpoint(&mut dir, &all, &old, 2).unwrap();
    assert_eq!(contents(&stack).unwrap(), all);
}

#[test]
fn a_body_that_is_not_well_formed_is_an_error_where_it_lies() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = loaded(root.path());
    let mut model = numbered(300, 1);
    model.insert(
        "fleet/robot-000100-bad".to_owned(),
        Owned {
            version: 1,
            body: Some("bad".to_owned()),
        },
    );
    let stack = checkpoint(&mut dir, &model, &LayerStack::default(), 1).unwrap();
    let error = stack.find("fleet/robot-000100-bad").unwrap_err();
    assert_eq!(error.fault, crate::LayerFault::Body);
    assert_eq!(contents(&stack).unwrap_err(), error);
    assert_eq!(
        stack
            .find("fleet/robot-000299")
            .unwrap()
            .map(|entity| entity.version),
        Some(1)
    );
}

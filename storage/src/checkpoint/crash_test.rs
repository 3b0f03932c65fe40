//! Crashes and full disks between any two operations on files.
//!
//! The story: a directory with two checkpoints, over which a third is written, published and tidied
//! up after. It is told once for every operation, which is the first not to reach the disk, or the
//! one that the disk refuses.

use std::collections::BTreeMap;
use std::path::Path;

use super::testing::{
    Entities, checkpoint, contents, dir_at, files, live, loaded, meta, names, numbered, put_files,
};
use super::{CheckpointDir, LayerStack};
use crate::disk::faults::{self, Plan};
use crate::{CheckpointError, StorageError};

const NO_SPACE: i32 = 28;
const IO: i32 = 5;

/// What each of the three checkpoints holds.
fn stories() -> [Entities; 3] {
    let old = numbered(3_000, 1);
    let mut middle = old.clone();
    middle.extend(numbered(2_000, 2));
    let mut new = middle.clone();
    new.extend(numbered(2_000, 3));
    new.insert("zebra".to_owned(), live(3, "{}"));
    [old, middle, new]
}

/// What changed from one checkpoint to the next.
fn changes(from: &Entities, to: &Entities) -> Entities {
    let changed = to.iter().filter(|(id, owned)| from.get(*id) != Some(owned));
    changed
        .map(|(id, owned)| (id.clone(), owned.clone()))
        .collect()
}

/// The files of the first two checkpoints.
fn before() -> BTreeMap<String, Vec<u8>> {
    let root = tempfile::tempdir().unwrap();
    let [old, middle, _] = stories();
    let mut dir = loaded(root.path());
    let stack = checkpoint(&mut dir, &old, &LayerStack::default(), 1).unwrap();
    checkpoint(&mut dir, &changes(&old, &middle), &stack, 2).unwrap();
    files(root.path())
}

/// The directory with these files, and what its newest checkpoint holds.
fn reopened(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> (CheckpointDir, LayerStack) {
    put_files(path, files);
    let mut dir = dir_at(path);
    let found = dir.load().unwrap().checkpoint.unwrap();
    (dir, found.stack)
}

/// Loads the directory: the number of the checkpoint that came back, with the right contents.
fn load(path: &Path, context: &str) -> u64 {
    let load = dir_at(path).load().unwrap();
    assert_eq!(load.quarantined, [], "{context}");
    let found = load.checkpoint.unwrap();
    let through = found.meta.through.get();
    assert_eq!(found.meta, meta(through), "{context}");
    let expected = &stories()[usize::try_from(through).unwrap() - 1];
    assert_eq!(&contents(&found.stack).unwrap(), expected, "{context}");
    through
}

#[test]
fn files_are_flushed_before_they_are_named_and_named_before_others_go() {
    let root = tempfile::tempdir().unwrap();
    let (mut dir, stack) = reopened(root.path(), &before());
    let [_, middle, new] = stories();
    faults::order(Plan::Pass);
    checkpoint(&mut dir, &changes(&middle, &new), &stack, 3).unwrap();
    let operations: Vec<String> = faults::operations()
        .into_iter()
        .map(|(op, name)| {
            let directory = root.path().file_name().unwrap().to_str().unwrap();
            format!("{op} {}", if name == directory { "" } else { &name })
                .trim_end()
                .to_owned()
        })
        .collect();
    let expected = [
        "create 00000005.layer.tmp",
        "write 00000005.layer.tmp",
        "write 00000005.layer.tmp",
        "flush 00000005.layer.tmp",
        "rename 00000005.layer.tmp",
        "flush directory",
        "create 00000006.manifest.tmp",
        "write 00000006.manifest.tmp",
        "flush 00000006.manifest.tmp",
        "rename 00000006.manifest.tmp",
        "flush directory",
        "remove 00000002.manifest",
        "flush directory",
        "remove 00000001.layer",
        "flush directory",
    ];
    assert_eq!(operations, expected);
}

#[test]
fn a_crash_between_any_two_operations_leaves_one_checkpoint_or_the_other() {
    let [_, middle, new] = stories();
    let changed = changes(&middle, &new);
    let files = before();
    let mut seen = Vec::new();
    for passes in 0.. {
        let context = format!("crash after {passes} operations");
        let root = tempfile::tempdir().unwrap();
        let (mut dir, stack) = reopened(root.path(), &files);
        faults::order(Plan::Crash(passes));
        let result = checkpoint(&mut dir, &changed, &stack, 3);
        faults::order(Plan::Pass);
        seen.push(load(root.path(), &context));

        // Life goes on, and nothing stays behind.
        let mut dir = loaded(root.path());
        let again = checkpoint(&mut dir, &new, &LayerStack::default(), 3).unwrap();
        assert_eq!(contents(&again).unwrap(), new, "{context}");
        checkpoint(&mut dir, &Entities::new(), &again, 3).unwrap();
        let left = names(root.path());
        assert_eq!(left.split(' ').count(), 3, "{context}: {left}");
        assert_eq!(load(root.path(), &context), 3);
        if result.is_ok() {
            break;
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(
        (seen.first(), seen.last(), seen.len()),
        (Some(&2), Some(&3), 16)
    );
}

#[test]
fn an_operation_that_the_disk_refuses_leaves_the_old_checkpoint_and_no_partial_file() {
    let [_, middle, new] = stories();
    let changed = changes(&middle, &new);
    let files = before();
    for (passes, code) in (0..).flat_map(|passes| [(passes, NO_SPACE), (passes, IO)]) {
        let context = format!("error {code} after {passes} operations");
        let root = tempfile::tempdir().unwrap();
        let (mut dir, stack) = reopened(root.path(), &files);
        faults::order(Plan::FailOnce(passes, code));
        let result = checkpoint(&mut dir, &changed, &stack, 3);
        faults::order(Plan::Pass);
        let Err(error) = result else {
            assert!(passes == 15, "{context}");
            break;
        };
        let CheckpointError::Storage(error) = error else {
            panic!("{context}: {error:?}")
        };
        assert_eq!(error.is_recoverable(), code == NO_SPACE, "{context}");
        assert_eq!(
            matches!(error, StorageError::OutOfSpace { .. }),
            code == NO_SPACE,
            "{context}"
        );
        let left = names(root.path());
        assert!(!left.contains(".tmp"), "{context}: {left}");
        load(root.path(), &context);

        // The same directory, when there is space again.
        let stack = checkpoint(&mut dir, &changed, &stack, 3).unwrap();
        assert_eq!(contents(&stack).unwrap(), new, "{context}");
        assert_eq!(load(root.path(), &context), 3);
        checkpoint(&mut dir, &Entities::new(), &stack, 3).unwrap();
        let left = names(root.path());
        let layers = stack.layer_count();
        assert_eq!(left.split(' ').count(), layers + 2, "{context}: {left}");
    }
}

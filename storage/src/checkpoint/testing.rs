//! What the tests of checkpoints share: a seeded generator, a model of the state, and ways to look
//! at a directory.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::{CheckpointDir, CheckpointKind, CheckpointMeta, LayerEntity, LayerStack};
use crate::format::Identity;
use crate::format::header::LogId;
use crate::format::slot::Owner;
use crate::{CheckpointError, LayerError, Sequence};

pub(super) const OWNER: Owner = Owner {
    log: LogId {
        generation: 1,
        shard: 0,
        shard_count: 1,
    },
    identity: Identity(0x5eed),
};

/// `SplitMix64`.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// An entity that owns its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) version: u64,
    pub(super) body: Option<String>,
}

pub(super) type Entities = BTreeMap<String, Owned>;

pub(super) fn view<'a>((id, owned): (&'a String, &'a Owned)) -> LayerEntity<'a> {
    LayerEntity {
        id,
        version: owned.version,
        time_micros: -i64::try_from(owned.version).unwrap(),
        sequence: Sequence::new(owned.version * 2),
        body: owned.body.as_deref(),
    }
}

pub(super) fn live(version: u64, body: &str) -> Owned {
    Owned {
        version,
        body: Some(body.to_owned()),
    }
}

pub(super) fn deleted(version: u64) -> Owned {
    Owned {
        version,
        body: None,
    }
}

/// Entities with ids `prefix-0` up to `prefix-count`.
pub(super) fn numbered(count: u64, version: u64) -> Entities {
    let entity = |number| {
        (
            format!("fleet/robot-{number:06}"),
            live(version, &"x".repeat(40)),
        )
    };
    (0..count).map(entity).collect()
}

pub(super) fn meta(through: u64) -> CheckpointMeta {
    CheckpointMeta {
        through: Sequence::new(through),
        time_micros: 1,
        events: through,
        entities: 3,
        last_delete: Sequence::new(2),
    }
}

pub(super) fn dir_at(path: &Path) -> CheckpointDir {
    CheckpointDir::new(path, OWNER, CheckpointKind::Cache, |body| body != "bad")
}

/// A directory in which `load` was called.
pub(super) fn loaded(path: &Path) -> CheckpointDir {
    let mut dir = dir_at(path);
    dir.load().unwrap();
    dir
}

pub(super) fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Writes, publishes and tidies up.
pub(super) fn checkpoint(
    dir: &mut CheckpointDir,
    changed: &Entities,
    stack: &LayerStack,
    through: u64,
) -> Result<LayerStack, CheckpointError> {
    let pending = dir.write(changed.iter().map(view), stack, meta(through), &mut go_on)?;
    let stack = pending.stack().clone();
    dir.publish(pending)?;
    dir.remove_unreferenced()?;
    Ok(stack)
}

/// Everything that a stack lists, tombstones included.
pub(super) fn contents(stack: &LayerStack) -> Result<Entities, LayerError> {
    let mut cursor = stack.list(|_| false);
    let mut entities = Entities::new();
    while let Some(entity) = cursor.next()? {
        let owned = Owned {
            version: entity.version,
            body: entity.body.map(str::to_owned),
        };
        assert_eq!(entity, view((&entity.id.to_owned(), &owned)));
        entities.insert(entity.id.to_owned(), owned);
    }
    Ok(entities)
}

/// The files of a directory and their bytes.
pub(super) fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// The names in a directory, joined.
pub(super) fn names(path: &Path) -> String {
    let names: Vec<String> = files(path).into_keys().collect();
    names.join(" ")
}

/// Makes a directory hold these files and no others.
pub(super) fn put_files(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
    fs::create_dir(path).unwrap();
    for (name, bytes) in files {
        put_file(&path.join(name), bytes);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests damage files")]
pub(super) fn put_file(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

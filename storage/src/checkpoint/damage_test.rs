//! Damage of every kind to the files of a checkpoint: what comes back is right, or there is an
//! error that names the file and the place. Never something else, and never a panic.
//!
//! The story: two checkpoints, the newer with a layer on top of the older's. The layers are small
//! enough to try every byte.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::layer::Layer;
use super::testing::{
    Entities, OWNER, Random, checkpoint, contents, deleted, dir_at, files, live, loaded, meta,
    names, numbered, put_file, put_files, view,
};
use super::{CheckpointDir, CheckpointKind, LayerStack, Quarantined};
use crate::error::{LayerFault, LayerPart};
use crate::format::header::LogId;
use crate::format::slot::Owner;
use crate::{CheckpointError, LayerError};

const OLD_LAYER: &str = "00000001.layer";
const OLD_MANIFEST: &str = "00000002.manifest";
const NEW_LAYER: &str = "00000003.layer";
const NEW_MANIFEST: &str = "00000004.manifest";

/// What the older and the newer checkpoint hold.
fn story() -> [Entities; 2] {
    let mut old = numbered(600, 1);
    old.insert("a".to_owned(), live(1, ""));
    let mut new = old.clone();
    new.extend(changes());
    [old, new]
}

fn changes() -> Entities {
    [
        ("fleet/robot-000003".to_owned(), deleted(2)),
        ("zebra".to_owned(), live(2, "{}")),
    ]
    .into()
}

/// The files of the two checkpoints.
fn two_checkpoints(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut dir = loaded(path);
    let [old, _] = story();
    let stack = checkpoint(&mut dir, &old, &LayerStack::default(), 1).unwrap();
    checkpoint(&mut dir, &changes(), &stack, 2).unwrap();
    files(path)
}

/// Loads a directory with these files: which of the two checkpoints came back, and what was
/// quarantined.
fn load_of(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> (Option<u64>, Vec<LayerError>) {
    put_files(path, files);
    let load = dir_at(path).load().unwrap();
    let through = load.checkpoint.map(|found| {
        let through = found.meta.through.get();
        let expected = &story()[usize::try_from(through).unwrap() - 1];
        assert_eq!(found.meta, meta(through));
        assert_eq!(&contents(&found.stack).unwrap(), expected);
        through
    });
    let errors = load.quarantined.into_iter().map(|quarantine| {
        let moved = quarantine.moved_to.expect("what is damaged is renamed");
        assert!(
            moved.exists() && !quarantine.error.path.exists(),
            "{moved:?}"
        );
        quarantine.error
    });
    (through, errors.collect())
}

fn names_of(errors: &[LayerError]) -> Vec<String> {
    let name = |error: &LayerError| {
        error
            .path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    errors.iter().map(name).collect()
}

/// Opens the layer and uses all of it: whatever it returns is right.
fn use_all(path: &Path, expected: &Entities) -> Result<(), LayerError> {
    let layer = Layer::open(path.into(), |_| true)?;
    let hasher = super::id_hash::IdHasher::of(OWNER);
    let mut failure = Ok(());
    for (id, owned) in expected.iter().step_by(7) {
        match layer.find(hasher.hash(id), id) {
            Ok(found) => assert_eq!(found, Some(view((id, owned)))),
            Err(error) => failure = Err(error),
        }
    }
    let absent = hasher.hash("absent");
    match layer.find(absent, "absent") {
        Ok(found) => assert_eq!(found, None),
        Err(error) => failure = Err(error),
    }
    layer.check_all().and(failure)
}

/// The part of a layer that a byte lies in, by the table of FORMAT.md, and where that part begins.
fn part_at(bytes: &[u8], offset: usize) -> (LayerPart, usize) {
    let field = |at: usize| {
        let bytes = bytes[bytes.len() - 48 + at..].first_chunk().unwrap();
        usize::try_from(u64::from_le_bytes(*bytes)).unwrap()
    };
    let footer = field(8);
    let pages = (footer - 4096) / 4096;
    // The test's layers have at most 320 entities in a page.
    let index = footer - 4096 * if bytes.len() > 60_000 { 2 } else { 1 };
    assert!(pages > 0);
    if offset < 64 {
        (LayerPart::Header, 0)
    } else if offset < index {
        (LayerPart::Block, 0)
    } else if offset < footer {
        (LayerPart::IndexPage, (offset - index) / 4096 * 4096 + index)
    } else if offset < bytes.len() - 48 {
        (LayerPart::Footer, footer)
    } else {
        (LayerPart::Trailer, bytes.len() - 48)
    }
}

#[test]
fn every_changed_byte_of_a_layer_is_noticed_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(root.path());
    let [old, _] = story();
    for (name, expected, step) in [(NEW_LAYER, &changes(), 1), (OLD_LAYER, &old, 61)] {
        let path = root.path().join(name);
        use_all(&path, expected).unwrap();
        let bytes = &files[name];
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for offset in (0..bytes.len()).step_by(step) {
            let bit = 1 << (offset % 8);
            file.write_all_at(&[bytes[offset] ^ bit], offset as u64)
                .unwrap();
            let Err(error) = use_all(&path, expected) else {
                panic!("{name}: byte {offset} was not missed");
            };
            file.write_all_at(&bytes[offset..=offset], offset as u64)
                .unwrap();
            let (part, start) = part_at(bytes, offset);
            assert_eq!(*error.path, *path);
            assert!(error.is_damage());
            let found = usize::try_from(error.offset).unwrap();
            match (part, error.fault) {
                (
                    LayerPart::Block,
                    LayerFault::Checksum(LayerPart::Block) | LayerFault::Padding,
                ) => {
                    assert!(
                        found <= offset && offset < found + 20_000,
                        "{name}: {error}"
                    );
                }
                (LayerPart::Header, LayerFault::Foreign | LayerFault::NewerVersion(_))
                | (LayerPart::Footer, LayerFault::Padding) => {}
                (part, fault) => {
                    assert_eq!(fault, LayerFault::Checksum(part), "{name} byte {offset}");
                    assert_eq!(found, start, "{name} byte {offset}");
                }
            }
        }
        use_all(&path, expected).unwrap();
    }
}

#[test]
fn a_layer_cut_to_any_length_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(root.path());
    let path = root.path().join(NEW_LAYER);
    let bytes = &files[NEW_LAYER];
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for len in (0..bytes.len()).rev() {
        file.set_len(len as u64).unwrap();
        use_all(&path, &changes()).expect_err(&format!("cut to {len}"));
    }
    let mut longer = bytes.clone();
    for extra in [1, 48, 4096] {
        longer.resize(bytes.len() + extra, 0);
        put_file(&path, &longer);
        use_all(&path, &changes()).expect_err(&format!("{extra} bytes longer"));
    }
}

#[test]
fn a_zeroed_sector_of_a_layer_is_noticed_unless_it_was_zero() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(root.path());
    let [old, _] = story();
    let path = root.path().join(OLD_LAYER);
    let bytes = &files[OLD_LAYER];
    for sectors in [1, 8] {
        for start in (0..bytes.len()).step_by(512 * sectors) {
            let mut changed = bytes.clone();
            let end = (start + 512 * sectors).min(bytes.len());
            changed[start..end].fill(0);
            let same = changed == *bytes;
            put_file(&path, &changed);
            assert_eq!(use_all(&path, &old).is_ok(), same, "sector at {start}");
        }
    }
}

#[test]
fn bytes_that_match_their_checksums_and_make_no_sense_are_no_panic() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(root.path());
    let path = root.path().join(OLD_LAYER);
    let bytes = &files[OLD_LAYER];
    let hasher = super::id_hash::IdHasher::of(OWNER);
    let mut refused = 0;
    for seed in 0..1500 {
        let mut random = Random(seed);
        let mut changed = bytes.clone();
        reseal_with(&mut changed, &mut random);
        put_file(&path, &changed);
        let Ok(layer) = Layer::open(path.as_path().into(), |_| true) else {
            refused += 1;
            continue;
        };
        // Whatever comes back can be read; what can't be is an error.
        let ids = story()[0].keys().step_by(29).cloned().collect::<Vec<_>>();
        let found = ids.iter().map(|id| layer.find(hasher.hash(id), id));
        let failures = found.filter(Result::is_err).count();
        let stack = LayerStack::new(hasher, vec![layer.into()]);
        let mut cursor = stack.list(|id| id < "fleet/robot-000100");
        let mut last = String::new();
        let failed = loop {
            match cursor.next() {
                Ok(Some(entity)) => {
                    assert!(entity.id > last.as_str() || last.is_empty(), "seed {seed}");
                    entity.id.clone_into(&mut last);
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        refused += usize::from(failed || failures > 0);
    }
    assert!(refused > 500, "{refused}");
}

/// Changes some bytes of a block, an index page or the footer, and mends every checksum above them.
fn reseal_with(bytes: &mut [u8], random: &mut Random) {
    let end = bytes.len();
    let trailer = end - 48;
    let number = |bytes: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())).unwrap()
    };
    let footer = number(bytes, trailer + 8);
    let footer_end = footer + number(bytes, trailer + 16);
    let index = footer - 2 * 4096;
    let first_block = 64..64 + 16_384.min(index - 64);
    let (range, checked) = match random.below(3) {
        0 => (first_block.clone(), true),
        1 => (index..index + 4096, true),
        _ => (footer..footer_end, false),
    };
    let places = bytes[footer..footer_end].to_vec();
    // A part's checksum is found in the footer by its value.
    let lens = if range == first_block {
        (1..=range.len()).rev().collect()
    } else {
        vec![range.len()]
    };
    let sealed = lens.into_iter().find_map(|len| {
        let crc = crc32fast::hash(&bytes[range.start..range.start + len]).to_le_bytes();
        let at = places.windows(4).position(|window| window == crc)?;
        Some((range.start..range.start + len, footer + at))
    });
    let range = sealed.as_ref().map_or(range, |(range, _)| range.clone());
    for _ in 0..=random.below(3) {
        let at = range.start + usize::try_from(random.below(range.len() as u64)).unwrap();
        bytes[at] = random.next().to_le_bytes()[0];
    }
    if checked {
        let (range, at) = sealed.expect("every part has its checksum in the footer");
        let crc = crc32fast::hash(&bytes[range]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
    }
    let crc = crc32fast::hash(&bytes[footer..footer_end]).to_le_bytes();
    bytes[trailer + 40..trailer + 44].copy_from_slice(&crc);
    let crc = crc32fast::hash(&bytes[trailer..trailer + 44]).to_le_bytes();
    bytes[end - 4..].copy_from_slice(&crc);
}

#[test]
fn what_is_damaged_is_set_aside_and_the_checkpoint_before_it_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(&root.path().join("made"));
    let path = root.path().join("damaged");
    assert_eq!(load_of(&path, &files), (Some(2), vec![]));
    let check = |damaged: &str, through: Option<u64>, quarantine: &[&str]| {
        let bytes = &files[damaged];
        for offset in (0..bytes.len()).step_by(bytes.len() / 20) {
            let mut files = files.clone();
            files.get_mut(damaged).unwrap()[offset] ^= 0x10;
            let (found, errors) = load_of(&path, &files);
            assert_eq!(found, through, "{damaged} byte {offset}");
            assert_eq!(names_of(&errors), quarantine, "{damaged} byte {offset}");
        }
        let mut files = files.clone();
        files.remove(damaged);
        let (found, errors) = load_of(&path, &files);
        let mut gone: Vec<String> = quarantine.iter().map(|name| (*name).to_owned()).collect();
        gone.retain(|name| name != damaged);
        assert_eq!(
            (found, names_of(&errors)),
            (through, gone),
            "{damaged} removed"
        );
    };
    check(NEW_MANIFEST, Some(1), &[NEW_MANIFEST]);
    check(NEW_LAYER, Some(1), &[NEW_LAYER, NEW_MANIFEST]);
    check(OLD_LAYER, None, &[OLD_LAYER, NEW_MANIFEST, OLD_MANIFEST]);
    check(OLD_MANIFEST, Some(2), &[]);
}

#[test]
fn every_changed_byte_of_the_newest_manifest_brings_back_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let mut files = two_checkpoints(&root.path().join("made"));
    let path = root.path().join("damaged");
    for offset in 0..files[NEW_MANIFEST].len() {
        files.get_mut(NEW_MANIFEST).unwrap()[offset] ^= 1;
        let (found, errors) = load_of(&path, &files);
        files.get_mut(NEW_MANIFEST).unwrap()[offset] ^= 1;
        assert_eq!(
            (found, names_of(&errors)),
            (Some(1), vec![NEW_MANIFEST.to_owned()]),
            "{offset}"
        );
    }
}

#[test]
fn swapped_duplicated_and_stale_files_are_noticed() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(&root.path().join("made"));
    // The same story told once more: the same numbers, other layers.
    let other = two_checkpoints(&root.path().join("other"));
    let check = |change: &[(&str, &[u8])], through: Option<u64>, faults: &[LayerFault]| {
        let path = root.path().join("damaged");
        let mut files = files.clone();
        for (name, bytes) in change {
            files.insert((*name).to_owned(), bytes.to_vec());
        }
        let (found, errors) = load_of(&path, &files);
        let found_faults: Vec<_> = errors.iter().map(|error| error.fault).collect();
        let found = (found, found_faults.as_slice());
        assert_eq!(found, (through, faults), "{}", change[0].0);
    };
    let wrong = LayerFault::WrongPlace;
    // Swapped.
    check(
        &[
            (OLD_MANIFEST, &files[NEW_MANIFEST]),
            (NEW_MANIFEST, &files[OLD_MANIFEST]),
        ],
        None,
        &[wrong, wrong],
    );
    check(
        &[
            (OLD_LAYER, &files[NEW_LAYER]),
            (NEW_LAYER, &files[OLD_LAYER]),
        ],
        None,
        &[
            wrong,
            LayerFault::UnusableLayer(3),
            wrong,
            LayerFault::UnusableLayer(1),
        ],
    );
    // Duplicated.
    check(
        &[("00000005.manifest", &files[NEW_MANIFEST])],
        Some(2),
        &[wrong],
    );
    check(&[("00000009.layer", &files[NEW_LAYER])], Some(2), &[]);
    // Stale, or from elsewhere, by the same name.
    check(
        &[(NEW_LAYER, &other[NEW_LAYER])],
        Some(1),
        &[LayerFault::OtherLayer(3)],
    );
    check(
        &[(NEW_MANIFEST, &other[NEW_MANIFEST])],
        Some(1),
        &[LayerFault::OtherLayer(3)],
    );
    check(
        &[(OLD_LAYER, &other[OLD_LAYER])],
        None,
        &[LayerFault::OtherLayer(1), LayerFault::OtherLayer(1)],
    );
    // Of another kind altogether.
    check(
        &[(NEW_MANIFEST, b"# notes")],
        Some(1),
        &[LayerFault::Foreign],
    );
    check(
        &[(NEW_LAYER, &[b'#'; 5000])],
        Some(1),
        &[LayerFault::Foreign, LayerFault::UnusableLayer(3)],
    );
}

#[test]
fn checkpoints_of_another_log_are_not_taken_for_its_own() {
    let root = tempfile::tempdir().unwrap();
    let files = two_checkpoints(&root.path().join("made"));
    let path = root.path().join("moved");
    let log = OWNER.log;
    for owner in [
        Owner {
            identity: crate::format::Identity(1),
            ..OWNER
        },
        Owner {
            log: LogId {
                generation: 2,
                ..log
            },
            ..OWNER
        },
        Owner {
            log: LogId { shard: 1, ..log },
            ..OWNER
        },
        Owner {
            log: LogId {
                shard_count: 2,
                ..log
            },
            ..OWNER
        },
    ] {
        put_files(&path, &files);
        let mut dir = CheckpointDir::new(&path, owner, CheckpointKind::Cache, |_| true);
        let load = dir.load().unwrap();
        assert!(load.checkpoint.is_none());
        let faults: Vec<_> = load
            .quarantined
            .iter()
            .map(|quarantine| quarantine.error.fault)
            .collect();
        assert_eq!(faults, [LayerFault::WrongPlace; 2], "{owner:?}");
    }
}

#[test]
fn what_can_not_be_read_is_passed_over_and_stays_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    for name in [NEW_LAYER, NEW_MANIFEST] {
        let path = root.path().join(name);
        two_checkpoints(&path);
        let newest = dir_at(&path).load().unwrap().checkpoint.unwrap().meta;
        let unreadable = path.join(name);
        fs::remove_file(&unreadable).unwrap();
        fs::create_dir(&unreadable).unwrap();
        let before = names_in(&path);
        let load = dir_at(&path).load().unwrap();
        let older = load.checkpoint.expect("an older one").meta;
        assert!(older.through < newest.through);
        let [Quarantined { error, moved_to }] = &load.quarantined[..] else {
            panic!("{:?}", load.quarantined)
        };
        assert!(!error.is_damage(), "{error:?}");
        assert_eq!((*error.path).file_name(), unreadable.file_name());
        assert_eq!(*moved_to, None, "nothing is known against it");
        assert_eq!(names_in(&path), before);
    }
    let path = root.path().join("not-a-directory");
    put_file(&path, b"");
    assert!(matches!(
        dir_at(&path).load(),
        Err(CheckpointError::Storage(_))
    ));
}

fn names_in(path: &Path) -> Vec<String> {
    crate::disk::files::names(path).unwrap()
}

#[test]
fn a_damaged_base_is_an_error_and_stays_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut files = two_checkpoints(&root.path().join("made"));
    files.get_mut(NEW_LAYER).unwrap()[100] ^= 1;
    let path = root.path().join("damaged");
    put_files(&path, &files);
    let mut base = CheckpointDir::new(&path, OWNER, CheckpointKind::Base, |_| true);
    let CheckpointError::Layer(error) = base.load().unwrap_err() else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        format!(
            "{}/{NEW_LAYER} at byte 64: block does not match its checksum",
            path.display()
        )
    );
    assert!(self::files(&path) == files);
}

#[test]
fn a_few_damaged_files_are_kept_and_temporary_ones_go() {
    let root = tempfile::tempdir().unwrap();
    let mut files = two_checkpoints(&root.path().join("made"));
    let path = root.path().join("damaged");
    for number in 10..17 {
        files.insert(format!("{number:08}.manifest"), b"?".to_vec());
    }
    for name in ["00000020.layer.tmp", "00000021.manifest.tmp", "notes.txt"] {
        files.insert(name.to_owned(), b"?".to_vec());
    }
    let (found, errors) = load_of_many(&path, &files);
    assert_eq!((found, errors), (Some(2), 7));
    let damaged = (13..17).map(|number| format!("{number:08}.manifest.damaged"));
    let kept = [OLD_LAYER, OLD_MANIFEST, NEW_LAYER, NEW_MANIFEST].map(str::to_owned);
    let expected: Vec<String> = kept
        .into_iter()
        .chain(damaged)
        .chain(["notes.txt".to_owned()])
        .collect();
    assert_eq!(names(&path), expected.join(" "));
    // A number that a temporary or damaged file had is not used again.
    let mut dir = loaded(&path);
    checkpoint(&mut dir, &story()[0], &LayerStack::default(), 1).unwrap();
    assert!(path.join("00000017.layer").exists());
}

fn load_of_many(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> (Option<u64>, usize) {
    put_files(path, files);
    let load = dir_at(path).load().unwrap();
    (
        load.checkpoint.map(|found| found.meta.through.get()),
        load.quarantined.len(),
    )
}

#[test]
fn verify_names_everything_that_is_wrong_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut files = two_checkpoints(&root.path().join("made"));
    let path = root.path().join("damaged");
    put_files(&path, &files);
    let mut read = 0;
    let report = dir_at(&path).verify(&mut |bytes| read += bytes).unwrap();
    assert_eq!((report.manifests, report.layers), (2, 2));
    assert_eq!(report.findings, []);
    let lens = [OLD_LAYER, NEW_LAYER].map(|name| files[name].len() as u64);
    assert_eq!(report.bytes, lens.iter().sum::<u64>());
    assert_eq!(read, report.bytes);

    let old = files.get_mut(OLD_LAYER).unwrap();
    for offset in [70, 20_000] {
        old[offset] ^= 1;
    }
    let last_page = old.len() - old.len() % 4096 - 4096;
    old[last_page] ^= 1;
    files.get_mut(NEW_MANIFEST).unwrap()[40] ^= 1;
    put_files(&path, &files);
    let report = dir_at(&path).verify(&mut |_| ()).unwrap();
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            (
                finding.path.file_name().unwrap().to_str().unwrap(),
                finding.fault,
            )
        })
        .collect();
    let expected = [
        (OLD_LAYER, LayerFault::Checksum(LayerPart::Block)),
        (OLD_LAYER, LayerFault::Checksum(LayerPart::Block)),
        (OLD_LAYER, LayerFault::Checksum(LayerPart::IndexPage)),
        (OLD_MANIFEST, LayerFault::UnusableLayer(1)),
        (NEW_MANIFEST, LayerFault::Checksum(LayerPart::Manifest)),
    ];
    assert_eq!(found, expected);
    assert_eq!((report.manifests, report.layers), (0, 1));
    assert!(self::files(&path) == files);
}

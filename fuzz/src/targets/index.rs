//! Damaged index files: a look-up finds exactly the records of its key, as if the index were whole,
//! or fails.

use super::store::{Image, KEYS, Owned, lay_out, open_log};
use crate::edits;
use flux_storage::Sequence;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Runs the target.
pub fn target(data: &[u8]) {
    let image = IMAGE.get_or_init(Image::make);
    let mut files = image.files.clone();
    edits::apply(data, &mut files, |path| {
        Path::new(path).extension() == Some("idx".as_ref())
    });
    let root = lay_out(&files);
    let opened = open_log(root.path(), |_| {});
    let (_data, mut log) = opened.expect("a log opens without its indexes");
    let reader = log.reader(log.durable());
    for key in 0..KEYS {
        let before = Sequence::new(u64::MAX - 1);
        let mut found = Vec::new();
        let read = reader.read_backward::<Infallible>(key..=key, before, |record| {
            found.push(Owned::of(&record));
            Ok(ControlFlow::Continue(()))
        });
        let expected = image.records.iter().rev().filter(|it| it.key() == key);
        if read.is_ok() {
            assert!(found.iter().eq(expected), "key {key}: {found:?}");
        }
    }
    for sequence in [0, 5, 9, 18, 30] {
        let time = i64::from(sequence) * 1000;
        let expected = image.records.iter().find(|it| it.time_micros > time);
        let expected = expected.map_or(19, |it| it.sequence);
        if let Ok(found) = reader.after_time(time) {
            assert_eq!(found.get(), expected);
        }
    }
}

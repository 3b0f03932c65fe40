//! Damaged segments: every reader of a log gives what was written, or an error. No reader gives
//! anything else, nor a part of a group.
//!
//! The readers are all that there are: the check of a directory at rest, the reader beside a
//! server, recovery, the reader of a running log, and recovery after a repair.

use super::store::{Image, Owned, lay_out, open_log};
use crate::edits;
use flux_storage::{DataView, Inspection, Log, Record, Repair, Sequence};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Runs the target.
pub fn target(data: &[u8]) {
    let image = IMAGE.get_or_init(Image::make);
    let mut files = image.files.clone();
    edits::apply(data, &mut files, |path| !path.ends_with("LOCK"));
    let root = lay_out(&files);
    let damaged = inspect(root.path());
    read_beside(image, root.path());
    let records = recover(image, root.path());
    if files == image.files {
        assert_eq!(
            records.as_ref(),
            Some(&image.records),
            "nothing was damaged"
        );
    }
    if records.is_none() && damaged {
        repair(image, root.path());
    }
}

/// Whether the check of the directory finds damage.
fn inspect(root: &Path) -> bool {
    let Ok(inspection) = Inspection::open(root, |_| true) else {
        return true;
    };
    let reports = inspection.logs().map(|log| log.verify(&mut |_| {}));
    reports.fold(false, |damaged, report| {
        damaged | report.is_ok_and(|report| report.is_damaged())
    })
}

/// Reads as an export does, while a server may run.
fn read_beside(image: &Image, root: &Path) {
    let Ok(view) = DataView::open(root) else {
        return;
    };
    for log in view.logs() {
        let Ok(mut cursor) = log.cursor() else {
            continue;
        };
        let mut last = 0;
        let mut records = Vec::new();
        let mut see = |record: Record<'_>| {
            if record.gap().is_none() {
                let record = Owned::of(&record);
                image.check(&record);
                assert!(record.sequence > last, "sequences ascend");
                last = record.sequence;
                records.push(record);
            }
        };
        while let Ok(Some(())) = cursor.next(&mut see) {}
        image.check_groups(&records);
    }
}

/// The records that recovery finds; `None` if it refuses the log.
fn recover(image: &Image, root: &Path) -> Option<Vec<Owned>> {
    let mut records = Vec::new();
    let (_data, mut log) = open_log(root, |record| {
        if record.gap().is_none() {
            records.push(Owned::of(record));
        }
    })?;
    for record in &records {
        image.check(record);
    }
    image.check_groups(&records);
    assert!(
        records.is_sorted_by(|a, b| a.sequence < b.sequence),
        "sequences ascend"
    );
    assert_eq!(read(&mut log), records, "a reader sees what recovery saw");
    Some(records)
}

fn read(log: &mut Log) -> Vec<Owned> {
    let through = log.durable();
    let mut records = Vec::new();
    let read = log
        .reader(through)
        .read_forward::<Infallible>(Sequence::ZERO, |record| {
            records.push(Owned::of(&record));
            Ok(ControlFlow::Continue(()))
        });
    read.expect("recovery has read all of it");
    records
}

/// What a repair leaves is a log that opens, with records that were written.
fn repair(image: &Image, root: &Path) {
    let Ok(repair) = Repair::plan(root, |_| true, &mut |_| {}) else {
        return;
    };
    if repair.is_needed() && repair.is_possible() {
        repair
            .run(&root.join("aside"))
            .expect("a repair that is possible succeeds");
        let records = recover(image, root);
        assert!(records.is_some(), "what was repaired opens");
    }
}

//! What goes along with a log and follows from it: its checkpoints, its base, the history indexes
//! of its segments.

use std::path::Path;
use std::sync::Arc;

use super::finding::{Fault, ScrubFinding, Severity};
use super::log::{Item, LogScrub, Verdict};
use crate::disk::layout;
use crate::index::IndexFile;
use crate::sequence::Span;
use crate::{CheckpointError, LayerError, StorageError};

/// Reads all of it and adds to a scrub what is wrong with it. `progress` is told of bytes read.
/// Blocks.
pub(crate) fn check(
    scrub: &mut LogScrub,
    progress: &mut dyn FnMut(u64),
) -> Result<(), StorageError> {
    let Some(owner) = scrub.listing.owner() else {
        return Ok(());
    };
    let [checkpoints, base] = scrub.listing.place.checkpoint_dirs(owner);
    let found = errors(checkpoints.verify(progress).map(|report| report.findings))?;
    for error in found {
        let fault = Fault::Checkpoint(error.fault);
        note(scrub, error, fault);
    }
    let (_, first) = scrub.listing.start();
    let is_last = first > scrub.listing.first_sequence;
    let found = errors(base.verify(progress).map(|report| report.findings))?;
    for error in found {
        scrub.is_obscure |= is_last;
        let fault = error.fault;
        note(scrub, error, Fault::Base { fault, is_last });
    }
    check_indexes(scrub);
    Ok(())
}

fn errors(
    found: Result<Vec<LayerError>, CheckpointError>,
) -> Result<Vec<LayerError>, StorageError> {
    match found {
        Ok(findings) => Ok(findings),
        Err(CheckpointError::Storage(error)) => Err(error),
        Err(CheckpointError::Layer(error)) => Ok(vec![error]),
        Err(CheckpointError::Cancelled | CheckpointError::TooLarge { .. }) => Ok(Vec::new()),
    }
}

fn note(scrub: &mut LogScrub, error: LayerError, fault: Fault) {
    let path: Arc<Path> = error.path;
    let is_damage = fault.severity() == Severity::Damage && path.exists();
    if is_damage && scrub.useless.last().map(AsRef::as_ref) != Some(&*path) {
        scrub.useless.push(path.as_ref().into());
    }
    scrub.findings.push(ScrubFinding {
        path: path.as_ref().into(),
        offset: (error.offset != 0).then_some(error.offset),
        fault,
    });
}

fn check_indexes(scrub: &mut LogScrub) {
    let kept = scrub.listing.slots.iter().zip(&scrub.segments);
    let kept = kept.filter(|(_, segment)| segment.verdict == Verdict::Keep);
    for (slot, segment) in kept {
        let index = layout::index_path(&slot.path);
        let header = slot.source.as_ref().and_then(|source| source.header);
        let (Some(header), Some(Item::Run(last))) = (header, segment.items.last()) else {
            continue;
        };
        let span = Span {
            base: segment.base,
            next: last.last.next(),
        };
        if index.exists() && !IndexFile::is_whole(&slot.path, &header, span) {
            scrub.findings.push(ScrubFinding {
                path: index.into(),
                offset: None,
                fault: Fault::StaleIndex,
            });
        }
    }
}

//! What is in a segment's bytes, whatever happened to them: every valid record, and where the bytes
//! between make no sense.
//!
//! ```text
//! | header | run | bad | run | zero ... | bad | zero ... |
//! ```
//!
//! A *run* is records that follow each other without a hole. After bytes that are no record, the
//! next one is looked for at every aligned offset, among the sequences that could be here; so one
//! damaged record costs that record only, or its group: what is left of a group counts as no
//! record. Pure: bytes in, places out.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::{ControlFlow, Range};

use crate::Sequence;
use crate::format::CrcSeed;
use crate::format::header::HEADER_BYTES;
use crate::format::record::{RECORD_ALIGN, StoredRecord, decode, peek_sequence};

/// The sequences that records of a segment can have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plausible {
    /// Records before this one are elsewhere, so bytes that look like one are a stale copy.
    pub(crate) lowest: Sequence,
    pub(crate) highest: Sequence,
}

/// Records that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they lie in the segment.
    pub(crate) bytes: Range<usize>,
    /// The first sequence that the first of them stands for.
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    /// How many there are, gaps not counted.
    pub(crate) records: u64,
    /// Sequences that gaps among them stand for.
    pub(crate) lost: u64,
    pub(crate) first_micros: i64,
    pub(crate) last_micros: i64,
}

/// What was found in one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    /// Ascending, by offset and by sequence.
    pub(crate) runs: Vec<Run>,
    /// Where the last byte that is not zero ends; the header's where there is none after it.
    pub(crate) used: usize,
    /// The highest sequence that any record says was durable.
    pub(crate) durable: Sequence,
}

impl Content {
    pub(crate) fn records(&self) -> u64 {
        self.runs
            .iter()
            .fold(0, |sum, run| run.records.saturating_add(sum))
    }
}

/// Reads a segment.
pub(crate) fn read(bytes: &[u8], seed: CrcSeed, plausible: Plausible) -> Content {
    let mut content = Content {
        used: HEADER_BYTES,
        ..Content::default()
    };
    let mut group = Vec::new();
    let mut lowest = plausible.lowest;
    let mut offset = HEADER_BYTES;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let step = match record_at(rest, seed, lowest..=plausible.highest) {
            Some((first, stored)) => {
                content.durable = content.durable.max(stored.durable);
                if stored.record.group.is_none() {
                    content.add(offset, first, &stored);
                } else if hold_back(&mut group, (offset, stored)) {
                    for (offset, stored) in group.drain(..) {
                        content.add(offset, stored.record.sequence, &stored);
                    }
                }
                lowest = stored.record.sequence.next();
                stored.bytes
            }
            None => RECORD_ALIGN,
        };
        let word = rest.get(..step.min(rest.len())).unwrap_or_default();
        offset = offset.saturating_add(step);
        if word.iter().any(|&byte| byte != 0) {
            content.used = offset.min(bytes.len());
        }
    }
    content
}

/// Adds a record of a group to those before it in the group, and says whether all are there.
/// Records of a group that has a hole are forgotten.
fn hold_back<'a>(
    group: &mut Vec<(usize, StoredRecord<'a>)>,
    (offset, stored): (usize, StoredRecord<'a>),
) -> bool {
    let Some(place) = stored.record.group else {
        return false;
    };
    let continues = match group.last() {
        None => place.index == 0,
        Some((at, before)) => {
            at.saturating_add(before.bytes) == offset
                && before.record.sequence.next() == stored.record.sequence
                && before
                    .record
                    .group
                    .is_some_and(|it| it.precedes(Some(place)))
        }
    };
    if !continues {
        group.clear();
        if place.index > 0 {
            return false;
        }
    }
    group.push((offset, stored));
    place.is_last()
}

/// The record at the start of `bytes`, if it has a sequence that could be there, with the first
/// sequence that it stands for. Looks at the checksum last, so that a search stays linear whatever
/// the payloads are.
fn record_at(
    bytes: &[u8],
    seed: CrcSeed,
    plausible: std::ops::RangeInclusive<Sequence>,
) -> Option<(Sequence, StoredRecord<'_>)> {
    if !plausible.contains(&peek_sequence(bytes)?) {
        return None;
    }
    let stored = decode(bytes, seed)?;
    let first = stored.record.first()?;
    plausible.contains(&first).then_some((first, stored))
}

impl Content {
    fn add(&mut self, offset: usize, first: Sequence, stored: &StoredRecord<'_>) {
        let record = stored.record;
        let end = offset.saturating_add(stored.bytes);
        let (records, lost) = match record.gap() {
            Some(gap) => (0, gap.lost()),
            None => (1, 0),
        };
        let last = self.runs.last_mut();
        match last.filter(|run| run.bytes.end == offset && run.last.next() == first) {
            Some(run) => {
                run.bytes.end = end;
                run.last = record.sequence;
                run.records = run.records.saturating_add(records);
                run.lost = run.lost.saturating_add(lost);
                run.last_micros = record.time_micros;
            }
            None => self.runs.push(Run {
                bytes: offset..end,
                first,
                last: record.sequence,
                records,
                lost,
                first_micros: record.time_micros,
                last_micros: record.time_micros,
            }),
        }
    }
}

/// Visits the records of a run again.
pub(crate) fn visit_run<B>(
    bytes: &[u8],
    seed: CrcSeed,
    run: &Run,
    mut visit: impl FnMut(&StoredRecord<'_>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut rest = bytes.get(run.bytes.clone()).unwrap_or_default();
    while let Some(stored) = decode(rest, seed) {
        visit(&stored)?;
        rest = rest.get(stored.bytes..).unwrap_or_default();
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;
    use crate::format::Salt;
    use crate::format::gap::{Gap, RECORD_KIND_GAP};
    use crate::format::record::append;

    const SALT: Salt = Salt(77);

    fn put(bytes: &mut [u8], offset: usize, sequence: u64, payload: &[u8]) -> usize {
        let kind = if payload.len() == 16 {
            RECORD_KIND_GAP
        } else {
            1
        };
        let record = Record {
            sequence: Sequence::new(sequence),
            time_micros: i64::try_from(sequence).unwrap(),
            kind,
            group: None,
            payload,
        };
        let mut encoded = Vec::new();
        let durable = record.sequence.previous();
        append(&mut encoded, SALT.seed(), record, durable);
        let end = offset.saturating_add(encoded.len());
        bytes[offset..end].copy_from_slice(&encoded);
        end
    }

    /// Records 5, 6, 7, a gap to 20, and 21.
    fn sample() -> (Vec<u8>, [usize; 6]) {
        let mut bytes = vec![0; 8192];
        let gap = Gap {
            first: Sequence::new(8),
            last: Sequence::new(20),
        };
        let mut ends = [HEADER_BYTES; 6];
        let records: [(u64, &[u8]); 5] = [
            (5, b"five"),
            (6, &[6; 100]),
            (7, b"seven"),
            (20, &gap.encode()),
            (21, b"twenty-one"),
        ];
        for (index, (sequence, payload)) in records.into_iter().enumerate() {
            let end = put(&mut bytes, ends[index], sequence, payload);
            ends[index.saturating_add(1)] = end;
        }
        (bytes, ends)
    }

    fn content(bytes: &[u8]) -> Content {
        let plausible = Plausible {
            lowest: Sequence::new(5),
            highest: Sequence::new(100),
        };
        read(bytes, SALT.seed(), plausible)
    }

    fn ranges(content: &Content) -> Vec<(u64, u64)> {
        let range = |run: &Run| (run.first.get(), run.last.get());
        content.runs.iter().map(range).collect()
    }

    #[test]
    fn whole_records_are_one_run_and_gaps_continue_it() {
        let (bytes, ends) = sample();
        let found = content(&bytes);
        let expected = Run {
            bytes: HEADER_BYTES..ends[5],
            first: Sequence::new(5),
            last: Sequence::new(21),
            records: 4,
            lost: 13,
            first_micros: 5,
            last_micros: 21,
        };
        assert_eq!(found.runs, [expected]);
        assert_eq!((found.used, found.durable.get()), (ends[5], 20));
    }

    #[test]
    fn a_changed_byte_costs_its_record_only() {
        let (whole, ends) = sample();
        for (index, lost) in [(0, 5), (1, 6), (2, 7), (3, 20), (4, 21)] {
            for offset in ends[index]..ends[index + 1] {
                let mut bytes = whole.clone();
                bytes[offset] ^= 0x10;
                let found = content(&bytes);
                let has = |sequence| {
                    let covers = |run: &Run| (run.first.get()..=run.last.get()).contains(&sequence);
                    found.runs.iter().any(covers)
                };
                for sequence in [5, 6, 7, 20, 21] {
                    assert_eq!(has(sequence), sequence != lost, "{sequence} at {offset}");
                }
                assert_eq!(found.used, ends[5]);
            }
        }
    }

    #[test]
    fn records_that_could_not_be_here_are_none() {
        let (bytes, _) = sample();
        let plausible = Plausible {
            lowest: Sequence::new(7),
            highest: Sequence::new(20),
        };
        let found = read(&bytes, SALT.seed(), plausible);
        assert_eq!(ranges(&found), [(7, 20)]);
        let other = read(&bytes, Salt(78).seed(), plausible);
        assert_eq!((ranges(&other), other.records()), (vec![], 0));
    }

    #[test]
    fn a_run_is_visited_as_it_was_read() {
        let (bytes, _) = sample();
        let found = content(&bytes);
        let mut sequences = Vec::new();
        let ended = visit_run(&bytes, SALT.seed(), &found.runs[0], |stored| {
            sequences.push((stored.record.sequence.get(), stored.record.gap().is_none()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(ended, ControlFlow::Continue(()));
        let expected = [(5, true), (6, true), (7, true), (20, false), (21, true)];
        assert_eq!(sequences, expected);
    }

    #[test]
    fn any_bytes_have_some_content() {
        for len in [0, 1, HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 27] {
            assert_eq!(content(&vec![0xff; len]).runs, []);
        }
    }
}

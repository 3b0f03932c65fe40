//! One log, scrubbed: every record that can be read, in order, and every hole, judged.
//!
//! A scrub goes on where a server would refuse. It decides by the same evidence (FORMAT.md §4): a
//! hole before something that was durable once is damage, and what follows it is still the log's; a
//! hole after everything that was durable is the torn tail, and ends the log. Nothing is modified.
//! The result says what each segment should hold, which is what a repair makes of it.
//!
//! Files are read, not mapped: a server may be writing to them. Then only what was durable before
//! the scrub began is missed if it is not found; everything after it is the end that the log
//! happened to have.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::ControlFlow;

use super::content::{self, Plausible, Run};
use super::finding::{Fault, ScrubFinding};
use super::listing::{Listing, ScrubPlace, Usage};
use super::load::Loaded;
use super::log::{Item, LogScrub, LogSummary, Mark, Seen, SegmentScrub, Verdict, Watch};
use crate::format::gap::Gap;
use crate::format::header::HEADER_BYTES;
use crate::format::walk::record_count_max;
use crate::{Sequence, StorageError};

/// Why the walk does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// What follows was never durable.
    Torn,
    /// The visitor has seen enough.
    Visitor,
}

struct ScrubWalk<'v> {
    watch: Watch<'v>,
    scrub: LogScrub,
    /// The highest sequence that any record seen so far says was durable.
    seen_durable: Sequence,
    /// The highest sequence that surely was durable, once it had to be known.
    durable: Option<Sequence>,
    /// No record of this log can have a higher sequence.
    highest: Sequence,
    /// Segments at the beginning that are not looked at.
    skipped: usize,
}

/// Scrubs a log. Blocks while all of it is read.
pub(crate) fn scrub(place: &ScrubPlace, watch: Watch<'_>) -> Result<LogScrub, StorageError> {
    let mut listing = Listing::read(place, watch.usage)?;
    let (_, next) = listing.start();
    let mut walk = ScrubWalk {
        watch,
        seen_durable: Sequence::ZERO,
        durable: None,
        highest: highest(&listing),
        skipped: 0,
        scrub: LogScrub {
            findings: std::mem::take(&mut listing.findings),
            is_obscure: listing.is_obscure,
            useless: Vec::new(),
            segments: Vec::new(),
            summary: LogSummary::default(),
            next,
            listing,
        },
    };
    if walk.scrub.is_obscure {
        walk.note_headers();
        return Ok(walk.scrub);
    }
    let ended = walk.run()?;
    if ended != Some(Ended::Visitor) {
        walk.finish(ended)?;
    }
    Ok(walk.scrub)
}

/// No record of the log has a higher sequence: as many as fit, after the highest that anything says
/// there is.
fn highest(listing: &Listing) -> Sequence {
    let sources = listing.slots.iter().filter_map(|slot| slot.source.as_ref());
    let bases = sources.clone().filter_map(|source| source.activation);
    let stated = bases
        .map(|activation| activation.base)
        .chain([listing.hint, listing.start().1, listing.place.known_durable])
        .max()
        .unwrap_or_default();
    let room = sources.fold(0_u64, |sum, source| sum.saturating_add(source.size));
    let records_max = record_count_max(usize::try_from(room).unwrap_or(usize::MAX));
    Sequence::new(stated.get().saturating_add(records_max))
}

impl ScrubWalk<'_> {
    fn run(&mut self) -> Result<Option<Ended>, StorageError> {
        self.skipped = self.skip();
        for index in 0..self.scrub.listing.slots.len() {
            if index < self.skipped {
                self.push(&Loaded::default());
            } else if let ControlFlow::Break(ended) = self.segment(index)? {
                return Ok(Some(ended));
            }
        }
        let durable = self.durable(self.scrub.segments.len())?;
        if durable < self.scrub.next {
            return Ok(None);
        }
        // The last records are gone, with the segment that was to hold them or out of it.
        let begun = |index: &usize| self.base_of(*index) == Some(self.scrub.next);
        let last = (0..self.scrub.listing.slots.len()).rfind(begun);
        let last = last.unwrap_or_else(|| self.end_index());
        Ok(match self.hole(last, durable)? {
            ControlFlow::Break(ended) => Some(ended),
            ControlFlow::Continue(()) => None,
        })
    }

    /// How many segments end before what is of interest, by headers that are all whole.
    fn skip(&mut self) -> usize {
        let mut skipped = (0, self.scrub.next);
        for (index, slot) in self.scrub.listing.slots.iter().enumerate() {
            let source = slot.source.as_ref();
            match source.and_then(|source| source.activation) {
                Some(part) if part.base <= self.watch.from => skipped = (index, part.base),
                Some(_) | None => break,
            }
        }
        self.scrub.next = self.scrub.next.max(skipped.1);
        skipped.0
    }

    fn push(&mut self, loaded: &Loaded) {
        self.scrub.segments.push(SegmentScrub {
            seed: loaded.seed,
            base: self.scrub.next,
            items: Vec::new(),
            verdict: Verdict::Keep,
            end: HEADER_BYTES,
            used: loaded.content.used.max(HEADER_BYTES),
            is_faulty: !loaded.faults.is_empty(),
        });
    }

    /// Notes what is wrong with a segment's file as a whole.
    fn note(&mut self, index: usize, fault: Fault) {
        let Some(slot) = self.scrub.listing.slots.get(index) else {
            return;
        };
        let file = slot.source.as_ref().filter(|_| fault != Fault::Missing);
        let path = file.map_or(&slot.path, |source| &source.path);
        // What is wrong with the file of that name was told already.
        let is_told = |finding: &ScrubFinding| finding.path == *path;
        if fault == Fault::Missing && self.scrub.findings.iter().any(is_told) {
            return;
        }
        let dir = &self.scrub.listing.place.log.dir;
        let is_all_missing = fault == Fault::Missing && !dir.is_dir();
        self.scrub.findings.push(ScrubFinding {
            path: if is_all_missing {
                dir.as_ref().into()
            } else {
                path.clone()
            },
            offset: None,
            fault,
        });
    }

    /// Reads a segment as the next of the scrub.
    fn open(&mut self, index: usize) -> Result<Loaded, StorageError> {
        let loaded = self.load(index)?;
        for fault in &loaded.faults {
            self.note(index, fault.clone());
        }
        self.push(&loaded);
        Ok(loaded)
    }

    /// Walks one segment, and whatever is missing between it and the next.
    fn segment(&mut self, index: usize) -> Result<ControlFlow<Ended>, StorageError> {
        let loaded = self.open(index)?;
        self.seen_durable = self.seen_durable.max(loaded.content.durable);
        for run in &loaded.content.runs {
            let judged = if run.first > self.scrub.next {
                self.hole(index, run.first.previous())?
            } else {
                self.check_place(index, run)?
            };
            if let ControlFlow::Break(ended) = judged {
                return Ok(ControlFlow::Break(ended));
            }
            if self.take(index, run, &loaded).is_break() {
                return Ok(ControlFlow::Break(Ended::Visitor));
            }
        }
        let claim = match self.base_of(index.saturating_add(1)) {
            None if loaded.content.runs.is_empty() => self.claim_after(index)?,
            stated => stated,
        };
        match claim.filter(|claim| *claim > self.scrub.next) {
            Some(claim) => self.hole(index, claim.previous()),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// A run that goes on where the log is.
    fn take(&mut self, index: usize, run: &Run, loaded: &Loaded) -> ControlFlow<()> {
        let summary = &mut self.scrub.summary;
        summary.records = summary.records.saturating_add(run.records);
        summary.bytes = summary.bytes.saturating_add(run.bytes.len() as u64);
        summary.first.get_or_insert(Mark {
            sequence: run.first,
            time_micros: run.first_micros,
        });
        summary.last = Some(Mark {
            sequence: run.last,
            time_micros: run.last_micros,
        });
        self.scrub.next = run.last.next();
        if let Some(segment) = self.scrub.segments.get_mut(index) {
            summary.segments = summary
                .segments
                .saturating_add(u64::from(segment.end == HEADER_BYTES));
            segment.end = run.bytes.end;
            segment.items.push(Item::Run(run.clone()));
        }
        let from = self.watch.from;
        match (&mut self.watch.visit, loaded.seed) {
            (Some(visit), Some(seed)) if run.last >= from => {
                content::visit_run(&loaded.bytes, seed, run, |stored| {
                    if stored.record.sequence < from {
                        return ControlFlow::Continue(());
                    }
                    visit(Seen::Record(stored.record))
                })
            }
            _ => ControlFlow::Continue(()),
        }
    }

    /// A run that goes on where the log is must lie where the last one ended: recovery looks for
    /// its first record there and nowhere else. Elsewhere it is damage if that record was durable,
    /// else it is in the torn tail.
    fn check_place(&mut self, index: usize, run: &Run) -> Result<ControlFlow<Ended>, StorageError> {
        let end = self.scrub.segments.get(index).map(|segment| segment.end);
        if end == Some(run.bytes.start) {
            return Ok(ControlFlow::Continue(()));
        }
        if self.durable(index)? < run.first {
            return Ok(ControlFlow::Break(Ended::Torn));
        }
        if let Some(segment) = self.scrub.segments.get_mut(index) {
            segment.is_faulty = true;
        }
        let first = run.first;
        self.find_at_end(index, Fault::Displaced { first });
        Ok(ControlFlow::Continue(()))
    }

    /// The records up to `last` are not where they should be: damage if they were durable, else the
    /// torn tail.
    fn hole(&mut self, index: usize, last: Sequence) -> Result<ControlFlow<Ended>, StorageError> {
        let first = self.scrub.next;
        if self.durable(index)? < first {
            return Ok(ControlFlow::Break(Ended::Torn));
        }
        let (Some(slot), Some(segment)) = (
            self.scrub.listing.slots.get(index),
            self.scrub.segments.get_mut(index),
        ) else {
            return Ok(ControlFlow::Continue(()));
        };
        segment.items.push(Item::Gap(Gap { first, last }));
        segment.is_faulty = true;
        let source = slot.source.as_ref();
        let finding = ScrubFinding {
            path: source.map_or_else(|| slot.path.clone(), |source| source.path.clone()),
            offset: source.map(|_| segment.end as u64),
            fault: Fault::Lost { first, last },
        };
        let lost = Gap { first, last }.lost();
        self.scrub.summary.lost = self.scrub.summary.lost.saturating_add(lost);
        self.scrub.next = last.next();
        let seen = match &mut self.watch.visit {
            Some(visit) => visit(Seen::Damage(&finding)),
            None => ControlFlow::Continue(()),
        };
        self.scrub.findings.push(finding);
        Ok(match seen {
            ControlFlow::Break(()) => ControlFlow::Break(Ended::Visitor),
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
        })
    }
}

/// Evidence: what is known without walking there.
impl ScrubWalk<'_> {
    fn load(&mut self, index: usize) -> Result<Loaded, StorageError> {
        let Some(slot) = self.scrub.listing.slots.get(index) else {
            return Ok(Loaded::default());
        };
        let plausible = Plausible {
            lowest: self.scrub.next,
            highest: self.highest,
        };
        let identity = self.scrub.listing.identity;
        let loaded = Loaded::read(slot, identity, plausible)?;
        (self.watch.progress)(loaded.bytes.len() as u64);
        Ok(loaded)
    }

    /// The base that a segment's activation part states.
    fn base_of(&self, index: usize) -> Option<Sequence> {
        let source = self.scrub.listing.slots.get(index)?.source.as_ref()?;
        source.activation.map(|activation| activation.base)
    }

    /// Where the first later segment begins that says so or holds a record. For each segment before
    /// it that is gone as well, a sequence is left: it held a record at least, and has to hold
    /// something again.
    fn claim_after(&mut self, index: usize) -> Result<Option<Sequence>, StorageError> {
        for later in index.saturating_add(1)..self.scrub.listing.slots.len() {
            let claim = match self.base_of(later) {
                None => self.load(later)?.content.runs.first().map(|run| run.first),
                stated => stated,
            };
            if let Some(claim) = claim {
                let gone = later.saturating_sub(index).saturating_sub(1) as u64;
                return Ok(Some(Sequence::new(claim.get().saturating_sub(gone))));
            }
        }
        Ok(None)
    }

    /// The highest sequence that was surely durable once, by everything up to segment `index`,
    /// which has been read, and after it, which is read now.
    fn durable(&mut self, index: usize) -> Result<Sequence, StorageError> {
        if let Some(durable) = self.durable {
            return Ok(durable);
        }
        let listing = &self.scrub.listing;
        if self.watch.usage == Usage::InUse {
            // Records that come later say what became durable after these were read.
            return Ok(listing.hint.max(listing.place.known_durable));
        }
        let sources = listing.slots.iter().filter_map(|slot| slot.source.as_ref());
        let stated = sources.filter_map(|source| source.activation);
        let mut durable = stated
            .map(|activation| activation.durable)
            .chain([listing.hint, listing.place.known_durable, self.seen_durable])
            .max()
            .unwrap_or_default();
        for later in index.saturating_add(1)..self.scrub.listing.slots.len() {
            durable = durable.max(self.load(later)?.content.durable);
        }
        self.durable = Some(durable);
        Ok(durable)
    }

    /// The index of the segment that the log ends in: the last that holds anything, else the first.
    fn end_index(&self) -> usize {
        let holds = |segment: &SegmentScrub| !segment.items.is_empty();
        self.scrub.segments.iter().rposition(holds).unwrap_or(0)
    }

    /// Looks at what follows the end, and says what is to become of each file.
    fn finish(&mut self, ended: Option<Ended>) -> Result<(), StorageError> {
        if ended.is_some() {
            for index in self.scrub.segments.len()..self.scrub.listing.slots.len() {
                self.open(index)?;
            }
        }
        let end = self.end_index();
        let is_sealed = self.scrub.listing.place.sealed;
        let tail_bytes = self.note_rests(end);
        if tail_bytes > 0 {
            let bytes = tail_bytes as u64;
            let fault = if is_sealed {
                Fault::DamagedTail { bytes }
            } else {
                Fault::TornTail { bytes }
            };
            self.find_at_end(end, fault);
        }
        let is_cut = is_sealed && tail_bytes > 0;
        let mut is_quarantined = is_cut;
        for (index, segment) in self.scrub.segments.iter_mut().enumerate() {
            is_quarantined |= index > end && segment.is_faulty;
            segment.verdict = if index > end && is_quarantined {
                Verdict::Quarantine
            } else if segment.is_faulty || (is_cut && index == end) {
                Verdict::Remake
            } else {
                Verdict::Keep
            };
        }
        self.note_gaps();
        Ok(())
    }

    /// Notes bytes that belong to no record in closed segments, and closed segments without any
    /// record. Returns how many bytes follow the end.
    fn note_rests(&mut self, end: usize) -> usize {
        let scrub = &mut self.scrub;
        let mut tail_bytes = 0_usize;
        for (index, (segment, slot)) in scrub.segments.iter().zip(&scrub.listing.slots).enumerate()
        {
            let rest = segment.used.saturating_sub(segment.end);
            if index >= end {
                tail_bytes = tail_bytes.saturating_add(rest);
                continue;
            }
            let fault = if index < self.skipped {
                continue;
            } else if segment.items.is_empty() && index > 0 {
                // Of the first, the first record may have been too large for it.
                scrub.is_obscure = true;
                Fault::NoRecords
            } else if rest > 0 && !segment.is_faulty {
                Fault::StrayBytes { bytes: rest as u64 }
            } else {
                continue;
            };
            scrub.findings.push(ScrubFinding {
                path: slot.path.clone(),
                offset: Some(segment.end as u64),
                fault,
            });
        }
        tail_bytes
    }

    fn find_at_end(&mut self, end: usize, fault: Fault) {
        let (Some(slot), Some(segment)) = (
            self.scrub.listing.slots.get(end),
            self.scrub.segments.get(end),
        ) else {
            return;
        };
        self.scrub.findings.push(ScrubFinding {
            path: slot.path.clone(),
            offset: Some(segment.end as u64),
            fault,
        });
    }

    fn note_gaps(&mut self) {
        let items = self
            .scrub
            .segments
            .iter()
            .flat_map(|segment| &segment.items);
        let lost = items.fold(0_u64, |sum, item| match item {
            Item::Run(run) => sum.saturating_add(run.lost),
            Item::Gap(_) => sum,
        });
        if lost > 0 {
            self.scrub.findings.push(ScrubFinding {
                path: self.scrub.listing.place.log.dir.as_ref().into(),
                offset: None,
                fault: Fault::RepairedGap { lost },
            });
        }
    }

    /// A log that is not to be judged: only what its headers say.
    fn note_headers(&mut self) {
        let sources = self.scrub.listing.slots.iter();
        for source in sources.filter_map(|slot| slot.source.as_ref()) {
            self.scrub
                .findings
                .extend(source.fault.clone().map(|fault| ScrubFinding {
                    path: source.path.clone(),
                    offset: None,
                    fault,
                }));
        }
    }
}

//! Is a data directory whole? What a look at all of it finds, log by log.
//!
//! Reads everything and changes nothing, so it may run beside a server. Of a log in use, only what
//! was durable when the look began can be missed. What else a server does meanwhile, as removing a
//! file between two reads, can still look like damage; so what is found in a directory in use
//! counts only if a second look finds it too.

use std::fs;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};

use crate::log::place::LogPlace;
use crate::offline::scrub::caches;
use crate::offline::scrub::directory::{self, Directory};
use crate::offline::scrub::finding::{Fault, ScrubFinding, Severity};
use crate::offline::scrub::listing::{ScrubPlace, Usage};
use crate::offline::scrub::log::{LogScrub, LogSummary, Seen, Watch};
use crate::offline::scrub::walk;
use crate::{BodyCheck, Sequence, StorageError};

/// Looks at a log that a server may be writing to.
const LOOKS_MAX: u32 = 5;

/// A data directory to be looked at.
#[derive(Debug)]
pub struct Inspection {
    root: PathBuf,
    directory: Directory,
}

/// One log of a data directory, to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct InspectedLog<'i> {
    root: &'i Path,
    place: &'i ScrubPlace,
}

/// What a look at a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    /// What it holds.
    pub summary: LogSummary,
    /// In the order of the log.
    pub findings: Vec<ScrubFinding>,
}

impl LogReport {
    /// Whether any finding is damage.
    pub fn is_damaged(&self) -> bool {
        let is_damage = |finding: &ScrubFinding| finding.fault.severity() == Severity::Damage;
        self.findings.iter().any(is_damage)
    }

    fn new(scrub: LogScrub) -> Self {
        Self {
            summary: scrub.summary,
            findings: scrub.findings,
        }
    }
}

impl Inspection {
    /// Lists the logs of a data directory. `body_check` is asked of the entities in checkpoints.
    /// Blocks; changes nothing.
    ///
    /// # Errors
    ///
    /// `Missing` if it holds no logs; `Io`.
    pub fn open(root: impl AsRef<Path>, body_check: BodyCheck) -> Result<Self, StorageError> {
        let root = root.as_ref().to_path_buf();
        let directory = Directory::read(&root, body_check)?;
        Ok(Self { root, directory })
    }

    /// Whether a server has it open now.
    pub fn is_in_use(&self) -> bool {
        directory::is_in_use(&self.root)
    }

    /// What is wrong with the directory itself.
    pub fn findings(&self) -> &[ScrubFinding] {
        &self.directory.findings
    }

    /// Its logs, older generations first, missing ones included; the control log last.
    pub fn logs(&self) -> impl Iterator<Item = InspectedLog<'_>> {
        let root = self.root.as_path();
        let places = self.directory.places.iter();
        places.map(move |place| InspectedLog { root, place })
    }

    /// Bytes of all files: what a look at everything reads, about.
    pub fn bytes(&self) -> u64 {
        self.logs().map(|log| log.bytes()).sum()
    }
}

impl Deref for InspectedLog<'_> {
    type Target = LogPlace;

    fn deref(&self) -> &LogPlace {
        &self.place.log
    }
}

impl InspectedLog<'_> {
    /// That it begins after all of the generation before, whose reports are `before`. The control
    /// log comes after none.
    pub fn check_start(&self, before: &[LogReport]) -> Option<ScrubFinding> {
        if self.is_control() {
            return None;
        }
        let previous_last = before
            .iter()
            .filter_map(|report| report.summary.last.map(|mark| mark.sequence))
            .max()?;
        let found = self.place.first_sequence?;
        (found <= previous_last).then(|| ScrubFinding {
            path: self.place.log.dir.as_ref().into(),
            offset: None,
            fault: Fault::WrongStart {
                found,
                previous_last,
            },
        })
    }

    /// Bytes of its files, those of its checkpoints included.
    pub fn bytes(&self) -> u64 {
        let log = &self.place.log;
        let dirs = [
            log.dir.to_path_buf(),
            log.checkpoint_path(),
            log.base_path(),
        ];
        let entries = dirs.into_iter().filter_map(|dir| fs::read_dir(dir).ok());
        let files = entries
            .flatten()
            .filter_map(|entry| entry.ok()?.metadata().ok());
        files.map(|file| file.len()).sum()
    }

    /// Reads all of it. `progress` is told of bytes as they are read. Blocks; changes nothing.
    ///
    /// # Errors
    ///
    /// `Io` if a file can't be read for another reason than a bad spot of the disk.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<LogReport, StorageError> {
        let mut previous: Option<LogReport> = None;
        let mut look = 0;
        loop {
            look += 1;
            let watch = Watch {
                usage: self.usage(),
                from: Sequence::ZERO,
                visit: None,
                progress,
            };
            let scrub = walk::scrub(self.place, watch).and_then(|mut scrub| {
                caches::check(&mut scrub, progress)?;
                Ok(scrub)
            });
            let is_last_look = look == LOOKS_MAX;
            let report = match scrub.map(LogReport::new) {
                // A server removes files that are not needed any more.
                Err(StorageError::Io { .. }) if self.is_in_use() && !is_last_look => continue,
                Err(error) => return Err(error),
                Ok(report) => report,
            };
            if !report.is_damaged() || !self.is_in_use() || is_last_look {
                return Ok(report);
            }
            if previous.is_some_and(|previous| damage(&previous) == damage(&report)) {
                return Ok(report);
            }
            previous = Some(report);
        }
    }

    /// Shows every record from `from` on, in order, and every place where some are lost, until the
    /// visitor breaks. Blocks; changes nothing.
    ///
    /// # Errors
    ///
    /// As [`InspectedLog::verify`].
    pub fn visit(
        &self,
        mut from: Sequence,
        visit: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<LogReport, StorageError> {
        let mut look = 0;
        loop {
            look += 1;
            let is_last_look = look == LOOKS_MAX;
            let mut looks_again = false;
            let start = from;
            let mut show = |seen: Seen<'_>| {
                looks_again = match &seen {
                    Seen::Record(record) => {
                        from = record.sequence.next();
                        false
                    }
                    Seen::Damage(_) => !is_last_look && self.is_in_use(),
                };
                if looks_again {
                    return ControlFlow::Break(());
                }
                visit(seen)
            };
            let watch = Watch {
                usage: self.usage(),
                from: start,
                visit: Some(&mut show),
                progress: &mut |_| {},
            };
            match walk::scrub(self.place, watch).map(LogReport::new) {
                // A server removes files that are not needed any more.
                Err(StorageError::Io { .. }) if !is_last_look && self.is_in_use() => {}
                report if !looks_again => return report,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn usage(&self) -> Usage {
        if self.is_in_use() {
            Usage::InUse
        } else {
            Usage::AtRest
        }
    }

    fn is_in_use(&self) -> bool {
        directory::is_in_use(self.root)
    }
}

fn damage(report: &LogReport) -> Vec<&ScrubFinding> {
    let is_damage = |finding: &&ScrubFinding| finding.fault.severity() == Severity::Damage;
    report.findings.iter().filter(is_damage).collect()
}

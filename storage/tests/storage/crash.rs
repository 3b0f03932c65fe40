//! A machine that loses power at any point, simulated on real files.
//!
//! A story is one log's life over several crashes. The workload appends records of many sizes,
//! writes them out, begins and finishes flushes, and rotates. All the while the test keeps, for
//! each file, its *durable image*: its bytes as they were when the last finished flush began. At a
//! crash the file becomes that image plus an arbitrary subset of the 512-byte sectors in which the
//! live file differs, because the kernel writes dirty pages back whenever it likes and a disk tears
//! writes between sectors. Files exist once their directory entry was flushed, which the log does
//! before it uses them, so every file that exists at the crash still does.
//!
//! After each crash the log is opened and must hold a prefix of what was appended, unaltered, that
//! reaches at least to the last finished flush and holds each group whole or not at all. Now and
//! then old segments are retired, and some crashes interrupt that: then the log begins where the
//! last finished retirement said, whatever became of the files. Half of the time it is opened as
//! behind a checkpoint, which covers an arbitrary part of what was flushed. Then the story goes on
//! with that log, so bytes that one crash left behind would show after the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use flux_storage::{Flush, Log, Recovery, Removal, RetirePlan, Sequence};

use crate::support::{Kept, SMALL, Scratch, append, append_group, begin_group, replace};

const SECTOR: usize = 512;

/// How the kernel had got on with writing when the power went.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    /// Each sector with one chance in so many of being lost.
    OneLostIn(u64),
    /// Each sector with one chance in so many of being written.
    OneWrittenIn(u64),
}

#[derive(Debug, Default)]
struct Images {
    durable: BTreeMap<PathBuf, Vec<u8>>,
}

struct Story {
    scratch: Scratch,
    chance: fastrand::Rng,
    /// In half of the stories most records are of one size: then a new record ends where an old one
    /// ended, and what is left of the old ones after it would be taken for its successors.
    usual_bytes: Option<u64>,
    images: Images,
    /// What was appended, by sequence from 1.
    model: Vec<Kept>,
    /// How many of those must come back, but for the removed.
    promised: usize,
    /// How many of those retention has removed.
    removed: usize,
    /// Files whose removal the crash interrupts.
    going: Vec<(PathBuf, Vec<u8>)>,
}

/// A flush that has begun, and the files as they were then.
struct Begun {
    flush: Flush,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let scratch = Scratch::new();
        let mut chance = fastrand::Rng::with_seed(seed);
        let usual_bytes = if chance.u64(..2) == 0 {
            Some(700 + chance.u64(..900))
        } else {
            None
        };
        Self {
            scratch,
            chance,
            usual_bytes,
            images: Images::default(),
            model: Vec::new(),
            promised: 0,
            removed: 0,
            going: Vec::new(),
        }
    }

    /// Opens, compares with the model, works, and loses power; returns the bytes that recovery cut.
    fn live_once(&mut self) -> u64 {
        let (mut log, recovery) = self.open();
        self.images.durable = self.scratch.files().into_iter().collect();

        self.work(&mut log);
        self.promised = usize::try_from(log.durable().get()).unwrap();
        drop(log);
        let survival = match self.chance.u64(..6) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::OneLostIn(20),
            3 => Survival::OneWrittenIn(10),
            _ => Survival::OneLostIn(2),
        };
        self.lose_power(survival);
        self.crash_in_recovery();
        recovery.cut.map_or(0, |torn| torn.bytes)
    }

    /// Opens the log and compares it with the model. What opening returned is promised from then
    /// on.
    ///
    /// In half of the cases a checkpoint covers some of what was promised, and only the rest is
    /// visited.
    fn open(&mut self) -> (Log, Recovery) {
        let mut skipped = self.removed;
        let is_covered = self.chance.u64(..2) == 0;
        if is_covered {
            let rest = self.chance.u64(..=((self.promised - self.removed) as u64));
            skipped += usize::try_from(rest).unwrap();
        }
        let opened = self.scratch.open(1, SMALL).unwrap();
        let (log, recovery, records) = if is_covered {
            let from = Sequence::new(skipped as u64 + 1);
            opened.log_from(from).unwrap()
        } else {
            opened.log()
        };
        let kept = skipped + records.len();
        assert!(
            kept >= self.promised,
            "{} were promised, {kept} came back",
            self.promised
        );
        assert!(kept <= self.model.len(), "records were invented");
        assert!(records == self.model[skipped..kept], "records were altered");
        let place_after = self.model.get(kept).and_then(|it| it.group);
        assert!(
            place_after.is_none_or(|place| place.index == 0),
            "a part of a group came back"
        );
        assert_eq!(log.appended().get(), kept as u64);
        assert_eq!(log.durable(), log.appended());
        assert_eq!(log.first_sequence().get(), self.removed as u64 + 1);
        self.model.truncate(kept);
        self.promised = kept;
        (log, recovery)
    }

    /// Appends and flushes for a while.
    fn work(&mut self, log: &mut Log) {
        let mut begun: Option<Begun> = None;
        let steps_max = if self.chance.u64(..2) == 0 { 40 } else { 8 };
        let steps = self.chance.u64(..steps_max);
        for _ in 0..steps {
            if self.chance.u64(..12) == 0 && self.retire(log) {
                break;
            }
            match self.chance.u64(..11) {
                0..5 => self.append(log),
                5 | 6 => self.append_group(log),
                10 => log.write_out().unwrap(),
                7 | 8 => match begun.take() {
                    None => begun = self.begin(log),
                    Some(flush) => self.finish(log, flush),
                },
                _ if self.usual_bytes.is_none() => self.prepare_spare(log),
                _ => {}
            }
        }
    }

    /// Removes some of the oldest segments, or only forgets them; true if that is to be interrupted
    /// by a crash, before it was announced or before the files are gone for good.
    fn retire(&mut self, log: &mut Log) -> bool {
        let segments = log.removable(log.durable().next());
        let excess_bytes = self.chance.u64(..100_000);
        let removal = Removal {
            excess_bytes,
            before_micros: i64::MIN,
        };
        let Some(plan) = RetirePlan::choose(&segments, removal).unwrap() else {
            return false;
        };
        let before = self.scratch.files();
        let job = log.retire(plan);
        if self.chance.u64(..4) == 0 {
            return true;
        }
        job.run().unwrap();
        self.removed = usize::try_from(job.log_start().first_sequence.get() - 1).unwrap();
        let path = self.scratch.log_dir(1, 0, 1).join("HORIZON");
        self.images
            .durable
            .insert(path.clone(), fs::read(path).unwrap());
        if self.chance.u64(..2) == 0 {
            return false;
        }
        let gone = before.into_iter().filter(|(path, _)| !path.exists());
        self.going = gone.collect();
        true
    }

    /// Appends a group, or gives it up.
    fn append_group(&mut self, log: &mut Log) {
        let count = match self.chance.u64(..8) {
            0 => 2 + self.chance.u64(..60),
            _ => 2 + self.chance.u64(..4),
        };
        let payloads: Vec<Vec<u8>> = (0..count).map(|_| self.payload()).collect();
        if self.chance.u64(..4) == 0 {
            begin_group(log, &payloads);
            for payload in payloads.iter().skip(1) {
                append(log, payload);
            }
            log.abort_group();
        } else {
            let kept = append_group(log, &payloads);
            self.model.extend(kept);
        }
        self.note_new_files();
    }

    fn append(&mut self, log: &mut Log) {
        let payload = self.payload();
        self.model.push(append(log, &payload));
        self.note_new_files();
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.chance.u64(..20) {
            0..19 if self.usual_bytes.is_some() => self.usual_bytes.unwrap_or_default(),
            0 => self.chance.u64(..20_000),
            1..5 => self.chance.u64(..3000),
            _ => self.chance.u64(..300),
        };
        (0..=len)
            .map(|_| self.chance.u64(..).to_le_bytes()[0])
            .collect()
    }

    fn prepare_spare(&mut self, log: &mut Log) {
        if let Some(job) = log.next_segment_job() {
            if self.chance.u64(..4) == 0 {
                log.next_segment_failed();
                return;
            }
            log.install_next_segment(job.run().unwrap());
            self.note_new_files();
        }
    }

    /// A segment is durable, zeros and all, before it has a name. One that replaces a smaller next
    /// segment is a new file of the same name.
    fn note_new_files(&mut self) {
        for path in self.scratch.paths() {
            let known = self.images.durable.entry(path.clone()).or_default();
            if known.len() as u64 != fs::metadata(&path).unwrap().len() {
                let activation_and_records = 512..;
                *known = fs::read(path).unwrap();
                known[activation_and_records].fill(0);
            }
        }
    }

    fn begin(&mut self, log: &mut Log) -> Option<Begun> {
        let flush = log.begin_flush().unwrap()?;
        Some(Begun {
            flush,
            files: self.scratch.files(),
        })
    }

    fn finish(&mut self, log: &mut Log, Begun { flush, files }: Begun) {
        let flushed: Vec<_> = flush
            .segments()
            .iter()
            .map(|segment| segment.path.to_path_buf())
            .collect();
        for (path, bytes) in files {
            if flushed.contains(&path) {
                self.images.durable.insert(path, bytes);
            }
        }
        log.finish_flush(flush);
    }

    fn lose_power(&mut self, survival: Survival) {
        for (path, live) in self.scratch.files() {
            let mut image = self.images.durable[&path].clone();
            assert_eq!(image.len(), live.len(), "{}", path.display());
            for (old, new) in image.chunks_mut(SECTOR).zip(live.chunks(SECTOR)) {
                if old != new && self.survives(survival) {
                    old.copy_from_slice(new);
                }
            }
            replace(&path, &image);
        }
        for (path, bytes) in std::mem::take(&mut self.going) {
            if self.chance.u64(..2) == 0 {
                replace(&path, &bytes);
            }
        }
    }

    fn survives(&mut self, survival: Survival) -> bool {
        match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::OneLostIn(n) => self.chance.u64(..n) != 0,
            Survival::OneWrittenIn(n) => self.chance.u64(..n) == 0,
        }
    }

    /// A crash during recovery changes nothing about what was promised.
    fn crash_in_recovery(&mut self) {
        if self.chance.u64(..2) == 0 {
            let crashed = self.scratch.files();
            drop(self.open());
            self.interrupt_recovery(&crashed);
        }
    }

    /// Undoes an arbitrary part of what recovery wrote: of the zeroing, or all of it. The removal
    /// of later segments comes first and stays, except that the oldest of them may still be there.
    fn interrupt_recovery(&mut self, crashed: &[(PathBuf, Vec<u8>)]) {
        let removed = crashed.iter().filter(|(path, _)| !path.exists());
        let back = self.chance.u64(..=(removed.clone().count() as u64));
        for (path, before) in removed.take(usize::try_from(back).unwrap()) {
            replace(path, before);
        }
        for (path, before) in crashed {
            let mut image = fs::read(path).unwrap_or_default();
            for (now, before) in image.chunks_mut(SECTOR).zip(before.chunks(SECTOR)) {
                // Zeroing begins after the removals.
                if now != before && (back > 0 || self.chance.u64(..2) == 0) {
                    now.copy_from_slice(before);
                }
            }
            if path.exists() {
                replace(path, &image);
            }
        }
    }
}

fn run_story(seed: u64, crashes: u32) -> u64 {
    let mut story = Story::new(seed);
    (0..crashes).map(|_| story.live_once()).sum()
}

/// Runs stories and names the seed of the first that fails.
fn run_stories(seeds: std::ops::Range<u64>, crashes: u32) {
    let mut cut_bytes = 0;
    for seed in seeds {
        let told = std::panic::catch_unwind(|| run_story(seed, crashes));
        match told {
            Ok(bytes) => cut_bytes += bytes,
            Err(cause) => {
                let literal = cause.downcast_ref::<&str>().copied();
                let text = cause
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(literal);
                panic!("story with seed {seed}: {}", text.unwrap_or_default());
            }
        }
    }
    assert!(
        cut_bytes > 0,
        "no story had a torn tail: the simulation does not simulate"
    );
}

#[test]
fn nothing_promised_is_lost_and_nothing_is_invented_in_many_short_lives() {
    run_stories(0..300, 4);
}

#[test]
fn nothing_promised_is_lost_and_nothing_is_invented_in_long_lives() {
    run_stories(1000..1030, 40);
}

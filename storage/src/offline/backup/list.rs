//! The `BACKUP` file: what a backup holds, as text with a checksum.
//!
//! ```text
//! flux-backup 1
//! time 1795463408123456
//! log 2 0 3 through 4711 at 1795463408000000
//! file 4194304 0a1b2c3d log/000002/000-of-003/00000001.seg
//! end 9e8d7c6b
//! ```
//!
//! The last line holds the CRC-32 of everything before it. Paths are those of a data directory and
//! nothing else, so that a list from elsewhere never makes anybody write outside of one.

use std::fmt::Write;

use super::{BackupSummary, LogPosition};
use crate::Sequence;
use crate::disk::layout;

use super::copy::Sum;

/// The file's name.
pub(super) const NAME: &str = "BACKUP";
const VERSION: u32 = 1;
const HEAD: &str = "flux-backup";
/// Bound on the file, bytes: a hundred thousand segments. A longer one is not read.
pub(super) const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedFile {
    /// Below the backup's directory, with `/`.
    pub(super) path: String,
    pub(super) sum: Sum,
}

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) time_micros: i64,
    pub(super) logs: Vec<LogPosition>,
    pub(super) files: Vec<ListedFile>,
}

/// Why a text is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListFault {
    Newer(u32),
    Damaged,
}

impl List {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let lens = self.files.iter().map(|file| file.sum.len);
        lens.fold(0, u64::saturating_add)
    }

    pub(super) fn summary(&self) -> BackupSummary {
        BackupSummary {
            time_micros: self.time_micros,
            logs: self.logs.clone(),
            files: self.files.len() as u64,
            bytes: self.bytes(),
            left_out: Vec::new(),
        }
    }

    /// The text of the file.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{HEAD} {VERSION}\ntime {}\n", self.time_micros);
        for log in &self.logs {
            let at = log
                .time_micros
                .map_or_else(|| "-".to_owned(), |time| time.to_string());
            line(
                &mut text,
                format_args!(
                    "log {} {} {} through {} at {at}",
                    log.generation, log.shard, log.shard_count, log.through
                ),
            );
        }
        for file in &self.files {
            let Sum { len, crc } = file.sum;
            line(
                &mut text,
                format_args!("file {len} {crc:08x} {}", file.path),
            );
        }
        let crc = crc32fast::hash(text.as_bytes());
        line(&mut text, format_args!("end {crc:08x}"));
        text
    }

    /// The list with this text. Total: any bytes are a list or a fault.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ListFault> {
        let text = str::from_utf8(bytes).or(Err(ListFault::Damaged))?;
        let version = text
            .strip_prefix(HEAD)
            .and_then(|rest| rest.lines().next()?.trim().parse().ok());
        match version {
            Some(version) if version > VERSION => return Err(ListFault::Newer(version)),
            Some(VERSION) => {}
            _ => return Err(ListFault::Damaged),
        }
        let list = parse(text).ok_or(ListFault::Damaged)?;
        // Encoding it again holds every number and the checksum to their only form.
        if list.encode() == text {
            Ok(list)
        } else {
            Err(ListFault::Damaged)
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    match writeln!(text, "{line}") {
        // A string takes whatever it is given.
        Ok(()) | Err(_) => {}
    }
}

fn parse(text: &str) -> Option<List> {
    let mut lines = text.lines().skip(1);
    let mut list = List {
        time_micros: lines.next()?.strip_prefix("time ")?.parse().ok()?,
        ..List::default()
    };
    for line in lines {
        let mut words = line.split(' ');
        match words.next()? {
            "log" => list.logs.push(parse_log(&mut words)?),
            "file" => {
                let len = words.next()?.parse().ok()?;
                let crc = u32::from_str_radix(words.next()?, 16).ok()?;
                let path = words.next().filter(|path| layout::is_data_path(path))?;
                list.files.push(ListedFile {
                    path: path.to_owned(),
                    sum: Sum { len, crc },
                });
            }
            "end" => {}
            _ => return None,
        }
    }
    Some(list)
}

fn parse_log<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<LogPosition> {
    let mut number = || words.next()?.parse::<u32>().ok();
    let (generation, shard, shard_count) = (number()?, number()?, number()?);
    let through = words.nth(1)?.parse().ok()?;
    let time_micros = match words.nth(1)? {
        "-" => None,
        time => Some(time.parse().ok()?),
    };
    Some(LogPosition {
        generation,
        shard,
        shard_count,
        through: Sequence::new(through),
        time_micros,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> List {
        let log = LogPosition {
            generation: 1,
            shard: 0,
            shard_count: 2,
            through: Sequence::new(300),
            time_micros: Some(-5),
        };
        let file = |path: &str, len, crc| ListedFile {
            path: path.to_owned(),
            sum: Sum { len, crc },
        };
        List {
            time_micros: 7,
            logs: vec![
                log,
                LogPosition {
                    shard: 1,
                    time_micros: None,
                    ..log
                },
            ],
            files: vec![
                file("log/000001/000-of-002/00000001.seg", 8192, 0xA1),
                file("base/000001/000-of-002/00000007.layer", 0, u32::MAX),
            ],
        }
    }

    #[test]
    fn a_list_has_this_text() {
        let text = "flux-backup 1\ntime 7\nlog 1 0 2 through 300 at -5\nlog 1 1 2 through 300 at -\n\
            file 8192 000000a1 log/000001/000-of-002/00000001.seg\n\
            file 0 ffffffff base/000001/000-of-002/00000007.layer\nend 1b807b15\n";
        assert_eq!(sample().encode(), text);
        assert_eq!(List::decode(text.as_bytes()), Ok(sample()));
        let newer = text.replace("backup 1", "backup 2");
        assert_eq!(List::decode(newer.as_bytes()), Err(ListFault::Newer(2)));
    }

    #[test]
    fn every_changed_bit_and_every_cut_of_a_list_is_noticed() {
        let bytes = sample().encode().into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            List::decode(&changed).expect_err(&format!("bit {bit}"));
        }
        for len in 0..bytes.len() {
            List::decode(&bytes[..len]).expect_err(&format!("cut to {len}"));
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for path in [
            "../x",
            "/etc/passwd",
            "log/000001/000-of-002/../../../x",
            "log/000001/000-of-002/",
            "log/000001/000-of-002/x.seg",
            "log/1/000-of-002/00000001.seg",
            "other/000001/000-of-002/00000001.seg",
            "log/000001/000-of-002/a/00000001.seg",
            "LOCK",
            "",
        ] {
            let mut list = sample();
            list.files[0].path = path.to_owned();
            let text = list.encode();
            assert_eq!(
                List::decode(text.as_bytes()),
                Err(ListFault::Damaged),
                "{path}"
            );
        }
    }
}

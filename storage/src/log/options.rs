//! How large segments are, and by what their records are looked up.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

use crate::IndexKey;
use crate::disk::files::PAGE_BYTES;
use crate::format::header::HEADER_BYTES;

/// The smallest segment: its header and one page of records.
const SEGMENT_BYTES_MIN: u64 = (HEADER_BYTES + PAGE_BYTES) as u64;
/// The first segment of a log where nothing else is said: small, so that a first start is quick.
const SEGMENT_BYTES_INITIAL_DEFAULT: u64 = 4 * 1024 * 1024;
/// The largest segment that [`LogOptions::for_directory`] chooses: beyond this nothing gets faster.
const SEGMENT_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * 1024;
/// No segment is larger, whatever is asked for: an index counts its places in 32 bits of 8 bytes
/// each.
const SEGMENT_BYTES_LIMIT: u64 = 16 * 1024 * 1024 * 1024;
/// A segment of the largest size takes at most this part of its file system.
const FILE_SYSTEM_PARTS: u64 = 256;

/// How large the segments of a log are, and the keys of its history. Sizes are rounded up to pages
/// of 4,096 bytes, of which a segment has at least two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a log's first segment.
    pub segment_bytes_initial: u64,
    /// Each segment is twice as large as the one before, up to this. A record that is larger still
    /// gets a segment of its own size.
    pub segment_bytes_max: u64,
    /// The keys by which the log's history is looked up.
    pub index_key: IndexKey,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_initial: SEGMENT_BYTES_INITIAL_DEFAULT,
            segment_bytes_max: SEGMENT_BYTES_MAX_DEFAULT,
            index_key: IndexKey::NONE,
        }
    }
}

impl LogOptions {
    /// Sizes that suit the file system that holds `path`, or that would hold it: at most 64 MiB,
    /// less if a few segments of that would fill a small disk.
    ///
    /// # Errors
    ///
    /// What `statvfs` says.
    pub fn for_directory(path: &Path) -> io::Result<Self> {
        let existing = path.ancestors().find(|ancestor| ancestor.exists());
        let stat = statvfs(existing.unwrap_or_else(|| Path::new(".")))?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        Ok(Self::for_file_system(total))
    }

    fn for_file_system(total_bytes: u64) -> Self {
        let part = (total_bytes / FILE_SYSTEM_PARTS)
            .clamp(SEGMENT_BYTES_INITIAL_DEFAULT, SEGMENT_BYTES_MAX_DEFAULT);
        let segment_bytes_max = 1 << part.ilog2();
        Self {
            segment_bytes_max,
            ..Self::default()
        }
    }

    /// Bytes of a log's first segment.
    pub(crate) fn first_capacity(self) -> u64 {
        whole_pages(self.segment_bytes_initial)
    }

    /// Bytes of the segment after one of `previous` bytes that must hold a record of
    /// `record_bytes`.
    pub(crate) fn next_capacity(self, previous: u64, record_bytes: usize) -> u64 {
        let usual = previous.saturating_mul(2).min(self.segment_bytes_max);
        let needed = HEADER_BYTES.saturating_add(record_bytes) as u64;
        whole_pages(usual.max(self.segment_bytes_initial).max(needed))
    }
}

fn whole_pages(bytes: u64) -> u64 {
    bytes
        .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_LIMIT)
        .next_multiple_of(PAGE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_largest_segment_follows_the_file_system() {
        let check = |total, max| {
            assert_eq!(
                LogOptions::for_file_system(total).segment_bytes_max,
                max,
                "{total}"
            );
        };
        check(0, 4 * MIB);
        check(1024 * MIB, 4 * MIB);
        check(4096 * MIB, 16 * MIB);
        check(6000 * MIB, 16 * MIB);
        check(u64::MAX, 64 * MIB);
        assert!(LogOptions::for_directory(Path::new("/proc/none/such")).is_ok());
    }

    #[test]
    fn segments_double_up_to_the_largest_and_hold_any_record() {
        let options = LogOptions {
            segment_bytes_initial: 1,
            segment_bytes_max: 30_000,
            ..LogOptions::default()
        };
        assert_eq!(options.first_capacity(), 8192);
        let check = |previous, record_bytes, capacity| {
            assert_eq!(
                options.next_capacity(previous, record_bytes),
                capacity,
                "{previous}"
            );
        };
        check(8192, 32, 16384);
        check(16384, 32, 32768);
        check(32768, 32, 32768);
        check(8192, 40_000, 45056);
        check(45056, 32, 32768);
        let endless = LogOptions {
            segment_bytes_max: u64::MAX,
            ..options
        };
        assert_eq!(endless.next_capacity(1 << 40, 32), SEGMENT_BYTES_LIMIT);
    }
}

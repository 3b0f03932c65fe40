//! Damage to the files of a directory, as an input describes it.
//!
//! Checksums and random salts make a fuzzer that changes the files' own bytes blind, and files as
//! inputs stale with every change of a format. So an input is a list of edits that are applied to
//! files that are valid:
//!
//! ```text
//! | operation 1 | file 1 | offset 4 | other 4 |   …
//!
//! little-endian; numbers are taken modulo what is there
//! ```

use std::collections::BTreeMap;

/// The files of a directory by their path in it.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Edits of one input, at most.
const EDITS_MAX: usize = 16;
const EDIT_BYTES: usize = 10;
/// Bytes that one edit copies, at most.
const COPY_BYTES_MAX: usize = 4096;

/// Applies the edits of `input` to those of `files` whose path `may_change`.
pub(crate) fn apply(input: &[u8], files: &mut Files, may_change: impl Fn(&str) -> bool) {
    for edit in input.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let paths: Vec<String> = files.keys().filter(|it| may_change(it)).cloned().collect();
        if paths.is_empty() {
            return;
        }
        let path = &paths[usize::from(edit[1]) % paths.len()];
        let number = |at: usize| {
            let bytes = edit[at..].first_chunk().expect("an edit is that long");
            u32::from_le_bytes(*bytes) as usize
        };
        let (offset, other) = (number(2), number(6));
        if edit[0] % 10 == 9 {
            files.remove(path);
            continue;
        }
        let bytes = files.get_mut(path).expect("it was listed");
        if bytes.is_empty() {
            continue;
        }
        change(bytes, edit[0] % 10, (offset % bytes.len(), other));
    }
}

fn change(bytes: &mut Vec<u8>, operation: u8, (offset, other): (usize, usize)) {
    let len = bytes.len();
    let low = (other as u64).to_le_bytes();
    match operation {
        0 => bytes[offset] ^= 1 << (other % 8),
        1 => bytes[offset] = low[0],
        // The offset as it is finds headers; those behind are found by what stands there.
        2 => {
            for (place, byte) in bytes[offset..].iter_mut().zip(&low[..4]) {
                *place = *byte;
            }
        }
        3 => bytes.truncate(offset),
        4 => bytes[offset..].fill(0),
        5 => {
            let end = len.min(offset + other % COPY_BYTES_MAX);
            bytes[offset..end].fill(0);
        }
        6 => {
            let from = other % len;
            let count = COPY_BYTES_MAX.min(len - from).min(len - offset);
            bytes.copy_within(from..from + count, offset);
        }
        7 => {
            let records = offset / 8 * 8;
            let from = other % len / 8 * 8;
            let count = 256.min(len - from).min(len - records);
            bytes.copy_within(from..from + count, records);
        }
        _ => bytes.extend_from_slice(&low.repeat(1 + offset % 64)),
    }
}

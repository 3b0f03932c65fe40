//! Whether an object names a member twice, asked while it is walked.
//!
//! The scanner shows each name to a [`NameVisitor`]. [`OpenNames`] is the check on every container
//! that is passed over: it keeps one word for each name of the objects that are open, in an array
//! on the stack, and says whether a name may have been repeated. Objects with more names than it
//! has room for and names with escapes count as such. `compact` then finds the repeated names
//! exactly.

use super::JsonStr;

/// Names that [`OpenNames`] keeps, of all objects that are open at one time. Each new name is
/// compared with all of them, so this also bounds the work for each name.
const OPEN_NAMES_MAX: usize = 32;

/// Where the depth lies in a fingerprint.
const DEPTH_SHIFT: u32 = 56;

/// Sees the names of objects in the order of the text.
pub(super) trait NameVisitor<'a> {
    /// The innermost open object, at nesting `depth`, has a member of this name.
    fn name(&mut self, depth: usize, name: JsonStr<'a>);

    /// That object ends.
    fn end(&mut self, depth: usize);
}

/// Sixty-four bits of a name and its depth: equal for equal names of one object, and rarely for
/// others. The top byte is the depth.
pub(super) fn fingerprint(depth: usize, name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(FACTOR);
        product ^ product >> 32
    };
    let (words, rest) = name.as_chunks::<8>();
    let len = (name.len() as u64).wrapping_mul(FACTOR);
    let hash = words
        .iter()
        .fold(len, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    (depth as u64) << DEPTH_SHIFT | mix(hash, last_word(rest)) >> (u64::BITS - DEPTH_SHIFT)
}

/// Up to seven bytes as one word, different for different bytes of equal number.
fn last_word(rest: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        return first << 32 | last;
    }
    rest.iter()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The depth that a fingerprint was made with.
pub(super) fn depth_of(fingerprint: u64) -> usize {
    let [depth, ..] = fingerprint.to_be_bytes();
    usize::from(depth)
}

/// See the module.
#[derive(Debug)]
pub(in crate::api) struct OpenNames {
    /// Of the names of open objects, the outermost object's first.
    fingerprints: [u64; OPEN_NAMES_MAX],
    len: usize,
    may_repeat: bool,
}

impl Default for OpenNames {
    fn default() -> Self {
        Self {
            fingerprints: [0; OPEN_NAMES_MAX],
            len: 0,
            may_repeat: false,
        }
    }
}

impl OpenNames {
    /// Forgets all names, for another document.
    pub(in crate::api) fn clear(&mut self) {
        (self.len, self.may_repeat) = (0, false);
    }

    /// Notes a member of an object whose members are all shown at this `depth`.
    #[inline]
    pub(in crate::api) fn add(&mut self, depth: usize, name: JsonStr<'_>) {
        if self.may_repeat {
            return;
        }
        let Some(plain) = name.plain() else {
            self.may_repeat = true;
            return;
        };
        let fingerprint = fingerprint(depth, plain.as_bytes());
        let open = self.fingerprints.get(..self.len).unwrap_or_default();
        // The depth is in the fingerprint, and of each depth one object is open.
        self.may_repeat = open.contains(&fingerprint);
        match self.fingerprints.get_mut(self.len) {
            Some(slot) => *slot = fingerprint,
            None => self.may_repeat = true,
        }
        self.len = self.len.wrapping_add(1);
    }

    /// False if no object named a member twice.
    pub(in crate::api) fn may_repeat(&self) -> bool {
        self.may_repeat
    }
}

impl NameVisitor<'_> for OpenNames {
    #[inline]
    fn name(&mut self, depth: usize, name: JsonStr<'_>) {
        self.add(depth, name);
    }

    #[inline]
    fn end(&mut self, depth: usize) {
        let open = self.fingerprints.get(..self.len).unwrap_or_default();
        let ended = open.iter().rev();
        let ended = ended.take_while(|fingerprint| depth_of(**fingerprint) == depth);
        self.len = self.len.wrapping_sub(ended.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn fingerprints_of_different_names_differ() {
        let mut seen = BTreeMap::new();
        let mut add = |depth, name: &[u8]| {
            let before = seen.insert(fingerprint(depth, name), (depth, name.to_owned()));
            let same = before.is_none_or(|before| before == (depth, name.to_owned()));
            assert!(same, "{name:?} at depth {depth}");
            assert_eq!(depth_of(fingerprint(depth, name)), depth);
        };
        for len in 0..40_usize {
            add(1, &vec![b'x'; len]);
            for (at, byte) in
                (0..len).flat_map(|at| [b'a', b'b', b'y', b'0', 0xc3].map(|byte| (at, byte)))
            {
                let mut name = vec![b'x'; len];
                name[at] = byte;
                for depth in [1, 2, 128] {
                    add(depth, &name);
                }
            }
        }
    }
}

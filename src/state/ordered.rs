//! Slots in the order of their ids: a list of sorted chunks.
//!
//! A search looks through the first slot of each chunk, then through one chunk. A tree of more
//! levels would save moving the list of chunks when one is split, which happens once in hundreds of
//! creations and moves 24 bytes for each 300 entities; it would not save a comparison.
//!
//! The list knows no ids. Whoever calls says which slots come before the place that is meant, by a
//! predicate that holds for all slots up to that place and for none behind it.
//!
//! Invariant: no chunk is empty, and none is longer than [`CHUNK_SLOTS_MAX`].

use super::allocation_bytes;
use flux_storage::PREFETCH_GROUP_IDS_MAX;

/// A longer chunk would cost more to insert into: 2 KiB are moved in tens of nanoseconds.
const CHUNK_SLOTS_MAX: usize = 512;
/// A shorter chunk is joined to a neighbour.
const CHUNK_SLOTS_FEW: usize = CHUNK_SLOTS_MAX / 4;
/// The longest chunk that joining may make; the rest is room, lest the next insertion split it
/// again.
const CHUNK_SLOTS_JOINED: usize = CHUNK_SLOTS_MAX / 4 * 3;

/// A place in the list: before the slot at `index` of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    chunk: usize,
    /// At most the chunk's length, which is the same place as the start of the next chunk.
    index: usize,
}

/// Slots in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ordered {
    chunks: Vec<Vec<u32>>,
    len: usize,
}

impl Ordered {
    /// Number of slots.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The place behind all slots for which `before` holds. Cost: a logarithmic number of calls to
    /// `before`.
    pub(super) fn seek(&self, before: impl Fn(u32) -> bool) -> Position {
        let chunk = self
            .chunks
            .partition_point(|chunk| before(chunk[0]))
            .saturating_sub(1);
        let index = self
            .chunks
            .get(chunk)
            .map_or(0, |slots| slots.partition_point(|&slot| before(slot)));
        Position { chunk, index }
    }

    /// [`Ordered::seek`] for each of `positions`, at most [`PREFETCH_GROUP_IDS_MAX`], a step of
    /// each at a time: what is compared is handed to `touch` first, so that the cache misses
    /// overlap. `before` is asked with the number of the position.
    pub(super) fn seek_all(
        &self,
        positions: &mut [Position],
        touch: impl Fn(&[u32]),
        before: impl Fn(usize, u32) -> bool,
    ) {
        let mut probed = [0; PREFETCH_GROUP_IDS_MAX];
        let probed = &mut probed[..positions.len()];
        positions.fill(Position { chunk: 0, index: 0 });
        let mut len = self.chunks.len();
        while len > 1 {
            let half = len / 2;
            for (slot, at) in probed.iter_mut().zip(&*positions) {
                *slot = self.chunks[at.chunk + half][0];
            }
            touch(probed);
            for (number, (at, &mut slot)) in positions.iter_mut().zip(&mut *probed).enumerate() {
                at.chunk += if before(number, slot) { half } else { 0 };
            }
            len -= half;
        }
        let mut left = [0; PREFETCH_GROUP_IDS_MAX];
        for (left, at) in left.iter_mut().zip(&*positions) {
            *left = self.chunks.get(at.chunk).map_or(0, Vec::len);
        }
        while left.iter().any(|&left| left > 0) {
            for (number, (slot, at)) in probed.iter_mut().zip(&*positions).enumerate() {
                let chunk = &self.chunks[at.chunk];
                *slot = chunk[(at.index + left[number] / 2).min(chunk.len() - 1)];
            }
            touch(probed);
            for (number, (at, &mut slot)) in positions.iter_mut().zip(&mut *probed).enumerate() {
                let half = left[number] / 2;
                if left[number] > 0 && before(number, slot) {
                    at.index += half + 1;
                    left[number] -= half + 1;
                } else {
                    left[number] = half;
                }
            }
        }
    }

    /// The place behind all slots for which `before` holds, if it is `position` or a little behind
    /// it: some that were sought together with it may have been inserted since. Cost: two calls of
    /// `before`, and one for each of those; if a chunk was split since, up to
    /// [`PREFETCH_GROUP_IDS_MAX`] and `None`.
    pub(super) fn near(
        &self,
        position: Position,
        before: impl Fn(u32) -> bool,
    ) -> Option<Position> {
        let Position { chunk, index } = position;
        let slots = self.chunks.get(chunk)?;
        // At a chunk's start the one before it would have to be looked at too.
        if !before(*slots.get(index.checked_sub(1)?)?) {
            return None;
        }
        let mut following = slots[index..].iter();
        if let Some(step) = following
            .by_ref()
            .take(PREFETCH_GROUP_IDS_MAX)
            .position(|&slot| !before(slot))
        {
            return Some(Position {
                chunk,
                index: index + step,
            });
        }
        let is_last = self
            .chunks
            .get(chunk + 1)
            .is_none_or(|next| !before(next[0]));
        (is_last && following.len() == 0).then_some(Position {
            chunk,
            index: slots.len(),
        })
    }

    /// Puts `slot` at `place`, which is its place.
    pub(super) fn insert(&mut self, place: Position, slot: u32) {
        self.len += 1;
        let Position { chunk, index } = place;
        let Some(slots) = self.chunks.get_mut(chunk) else {
            self.chunks.push(vec![slot]);
            return;
        };
        if slots.len() < CHUNK_SLOTS_MAX {
            slots.insert(index, slot);
            return;
        }
        // Ids that are made in ascending order come to the end of a chunk again and again: to leave
        // it full and go on in a new one takes half the memory that splitting would.
        let split = if index == slots.len() {
            CHUNK_SLOTS_MAX
        } else {
            CHUNK_SLOTS_MAX / 2
        };
        let mut tail = slots.split_off(split);
        if index >= split {
            tail.insert(index - split, slot);
        } else {
            slots.insert(index, slot);
        }
        self.chunks.insert(chunk + 1, tail);
    }

    /// Takes out `slot`, which lies behind all for which `before` holds.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn remove(&mut self, slot: u32, before: impl Fn(u32) -> bool) {
        let Position {
            mut chunk,
            mut index,
        } = self.seek(before);
        if index == self.chunks[chunk].len() {
            (chunk, index) = (chunk + 1, 0);
        }
        assert_eq!(
            self.chunks[chunk][index], slot,
            "every slot in use is in its place"
        );
        self.chunks[chunk].remove(index);
        self.len -= 1;
        if self.chunks[chunk].is_empty() {
            self.chunks.remove(chunk);
        } else if self.chunks[chunk].len() < CHUNK_SLOTS_FEW {
            self.join(chunk);
        }
    }

    /// Joins a short chunk to the one behind or before it, if the two are not too long together.
    fn join(&mut self, chunk: usize) {
        for first in [Some(chunk), chunk.checked_sub(1)].into_iter().flatten() {
            let Some([left, right]) = self.chunks.get_mut(first..first + 2) else {
                continue;
            };
            if left.len() + right.len() <= CHUNK_SLOTS_JOINED {
                left.append(right);
                self.chunks.remove(first + 1);
                return;
            }
        }
    }

    /// The slots from `start` to `end`; none if `start` is not before `end`.
    pub(super) fn range(&self, start: Position, end: Position) -> Range<'_> {
        Range {
            chunks: &self.chunks,
            next: start,
            end,
        }
    }

    /// All slots.
    pub(super) fn all(&self) -> Range<'_> {
        let start = Position { chunk: 0, index: 0 };
        let end = Position {
            chunk: self.chunks.len(),
            index: 0,
        };
        self.range(start, end)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let chunks: usize = self
            .chunks
            .iter()
            .map(|chunk| allocation_bytes(chunk.capacity() * size_of::<u32>()))
            .sum();
        chunks + allocation_bytes(self.chunks.capacity() * size_of::<Vec<u32>>())
    }
}

/// The slots between two places, in order.
#[derive(Debug, Clone)]
pub(super) struct Range<'s> {
    chunks: &'s [Vec<u32>],
    next: Position,
    end: Position,
}

impl Iterator for Range<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.next < self.end {
            let chunk = self.chunks.get(self.next.chunk)?;
            if let Some(&slot) = chunk.get(self.next.index) {
                self.next.index += 1;
                return Some(slot);
            }
            self.next = Position {
                chunk: self.next.chunk + 1,
                index: 0,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;
    use fastrand::Rng;

    fn insert(ordered: &mut Ordered, slot: u32) {
        ordered.insert(ordered.seek(|other| other < slot), slot);
    }

    fn all(ordered: &Ordered) -> Vec<u32> {
        let (start, end) = (ordered.seek(|_| false), ordered.seek(|_| true));
        ordered.range(start, end).collect()
    }

    #[track_caller]
    fn check_chunks(ordered: &Ordered) {
        let slots: usize = ordered.chunks.iter().map(Vec::len).sum();
        assert_eq!(slots, ordered.len());
        assert!(
            ordered
                .chunks
                .iter()
                .all(|chunk| (1..=CHUNK_SLOTS_MAX).contains(&chunk.len()))
        );
    }

    /// Looks for the places of some slots at once, and inserts the missing ones.
    fn check_seeking_ahead(ordered: &mut Ordered, random: &mut Rng, ids: usize) {
        let start = random.usize(..ids);
        let is_near = random.usize(..2) == 0;
        let slot = |_| {
            if is_near {
                start + random.usize(..40)
            } else {
                random.usize(..ids)
            }
        };
        let sought: Vec<u32> = (0..PREFETCH_GROUP_IDS_MAX)
            .map(slot)
            .map(|slot| u32::try_from(slot).unwrap())
            .collect();
        let touched = Cell::new(0);
        let mut places = [Position::default(); PREFETCH_GROUP_IDS_MAX];
        ordered.seek_all(
            &mut places,
            |slots| touched.set(touched.get() + slots.len()),
            |number, slot| slot < sought[number],
        );
        assert!(touched.get() <= PREFETCH_GROUP_IDS_MAX * 20);
        for (&slot, place) in sought.iter().zip(places) {
            assert_eq!(place, ordered.seek(|other| other < slot));
        }
        for (slot, place) in sought.into_iter().zip(places) {
            let expected = ordered.seek(|other| other < slot);
            let near = ordered.near(place, |other| other < slot);
            assert!(
                near.is_none_or(|near| near == expected),
                "{near:?} {expected:?}"
            );
            if !all(ordered).contains(&slot) {
                ordered.insert(expected, slot);
            }
        }
    }

    #[test]
    fn a_place_is_still_found_when_others_were_inserted_before_it() {
        let mut ordered = Ordered::default();
        for slot in 0..1000 {
            insert(&mut ordered, slot * 100);
        }
        for ids in [[5010, 5020, 5030], [99_910, 99_920, 99_930]] {
            let mut places = [Position::default(); 3];
            ordered.seek_all(&mut places, |_| {}, |number, slot| slot < ids[number]);
            for (id, place) in ids.into_iter().zip(places) {
                let near = ordered.near(place, |slot| slot < id);
                assert_eq!(near, Some(ordered.seek(|slot| slot < id)));
                ordered.insert(near.unwrap(), id);
            }
        }
    }

    /// Slots stand for their own ids here.
    #[test]
    fn any_history_of_insertions_and_removals_reads_like_a_set() {
        for seed in 0..12 {
            let mut random = Rng::with_seed(seed);
            let (mut ordered, mut model) = (Ordered::default(), BTreeSet::new());
            let ids = [100, 2000, 20_000][random.usize(..3)];
            for step in 0..20_000 {
                // Growing at first, shrinking in the end.
                let slot = u32::try_from(random.usize(..ids)).unwrap();
                let grow = random.usize(..20_000) > step;
                if grow && model.insert(slot) {
                    insert(&mut ordered, slot);
                } else if !grow && model.remove(&slot) {
                    ordered.remove(slot, |other| other < slot);
                }
                if step % 500 == 0 {
                    check_chunks(&ordered);
                    check_seeking_ahead(&mut ordered.clone(), &mut random, ids);
                    let (low, high) = (slot / 2, slot);
                    let (start, end) = (ordered.seek(|it| it < low), ordered.seek(|it| it <= high));
                    assert!(
                        ordered
                            .range(start, end)
                            .eq(model.range(low..=high).copied()),
                        "seed {seed}"
                    );
                    assert_eq!(ordered.range(end, start).next(), None, "seed {seed}");
                }
            }
            assert!(
                all(&ordered).into_iter().eq(model.iter().copied()),
                "seed {seed}"
            );
            for &slot in &model {
                ordered.remove(slot, |other| other < slot);
            }
            check_chunks(&ordered);
            assert_eq!((ordered.len(), ordered.chunks.len()), (0, 0), "seed {seed}");
        }
    }

    #[test]
    fn ascending_ids_fill_their_chunks() {
        let mut ordered = Ordered::default();
        let count = 20 * CHUNK_SLOTS_MAX;
        for slot in 0..u32::try_from(count).unwrap() {
            insert(&mut ordered, slot);
        }
        assert_eq!(ordered.chunks.len(), 20);
        assert!(ordered.heap_bytes() < 5 * count);
    }

    #[test]
    fn what_is_left_after_a_mass_removal_lies_in_few_chunks() {
        let mut ordered = Ordered::default();
        for slot in 0..20_000 {
            insert(&mut ordered, slot);
        }
        for slot in (0..20_000).filter(|slot| slot % 100 != 0) {
            ordered.remove(slot, |other| other < slot);
        }
        assert!(all(&ordered).into_iter().eq((0..20_000).step_by(100)));
        assert!(
            ordered.chunks.len() <= 2 * 200 / CHUNK_SLOTS_FEW + 1,
            "{}",
            ordered.chunks.len()
        );
    }

    #[test]
    fn a_search_looks_at_few_slots() {
        let mut ordered = Ordered::default();
        for slot in 0..100_000 {
            insert(&mut ordered, slot);
        }
        let calls = Cell::new(0);
        ordered.seek(|slot| {
            calls.set(calls.get() + 1);
            slot < 77_777
        });
        assert!(calls.get() <= 20, "{} calls", calls.get());
    }
}

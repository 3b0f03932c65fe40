//! A block of a layer: some 16 KiB of entities, ascending by id, as one rkyv archive.
//!
//! Ids and bodies come first, in order, each body right after its id, so that who found an id has
//! its body in the next cache line; then the entities' fixed parts, which point back at them.

use std::fmt;
use std::ops::Range;

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::with::{InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use super::entity::{BodyCheck, LayerEntity};
use super::index::BLOCK_ENTITIES_MAX;
use crate::error::{LayerFault, LayerPart};
use crate::{CheckpointError, Sequence};

/// Bytes that a block is meant to have. One with a single larger entity is as large as that.
pub(super) const BLOCK_BYTES: usize = 16 * 1024;
/// Parts of a layer begin at multiples of this.
pub(super) const PART_ALIGN: usize = 16;
/// Bytes of an entity without its id and body.
const ENTITY_BYTES: usize = size_of::<ArchivedStoredEntity<'static>>();
/// Bytes of a block without its entities.
const BLOCK_ROOT_BYTES: usize = size_of::<ArchivedStoredBlock<'static>>();

const _: () = assert!(ENTITY_BYTES == 48 && BLOCK_ROOT_BYTES == 8);
const _: () = assert!(align_of::<ArchivedStoredBlock<'static>>() <= PART_ALIGN);
const _: () = assert!(BLOCK_BYTES / ENTITY_BYTES < BLOCK_ENTITIES_MAX);

/// A block as it is archived.
#[derive(Debug, Archive, Serialize)]
pub(super) struct StoredBlock<'a> {
    entities: Vec<StoredEntity<'a>>,
}

/// An entity as it is archived.
#[derive(Debug, Archive, Serialize)]
pub(super) struct StoredEntity<'a> {
    version: u64,
    time_micros: i64,
    sequence: u64,
    #[rkyv(with = InlineAsBox)]
    id: &'a str,
    #[rkyv(with = Map<InlineAsBox>)]
    body: Option<&'a str>,
}

impl ArchivedStoredEntity<'_> {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn view(&self) -> LayerEntity<'_> {
        LayerEntity {
            id: &self.id,
            version: self.version.to_native(),
            time_micros: self.time_micros.to_native(),
            sequence: Sequence::new(self.sequence.to_native()),
            body: self.body.as_ref().map(|body| &**body),
        }
    }
}

impl fmt::Debug for ArchivedStoredEntity<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(formatter)
    }
}

/// Whether an entity is deleted.
pub(super) fn is_tombstone(entity: &ArchivedStoredEntity<'_>) -> bool {
    entity.body.is_none()
}

impl<'b> ArchivedStoredBlock<'b> {
    /// The entities, ascending by id.
    pub(super) fn entities(&self) -> &[ArchivedStoredEntity<'b>] {
        &self.entities
    }

    /// Whether the block can be used: it has entities, of which the first has this id and the last
    /// one before `end`, in order, and their bodies are well formed.
    pub(super) fn check(
        &self,
        first_id: &str,
        end: Option<&str>,
        body_check: BodyCheck,
    ) -> Result<(), LayerFault> {
        let entities = self.entities();
        let (Some(first), Some(last)) = (entities.first(), entities.last()) else {
            return Err(LayerFault::Contents(LayerPart::Block));
        };
        let ordered = entities.is_sorted_by(|left, right| left.id() < right.id());
        let inside = first.id() == first_id && end.is_none_or(|end| last.id() < end);
        if !ordered || !inside || entities.len() > BLOCK_ENTITIES_MAX {
            return Err(LayerFault::Contents(LayerPart::Block));
        }
        let mut bodies = entities.iter().filter_map(|entity| entity.body.as_ref());
        if bodies.all(|body| body_check(body)) {
            Ok(())
        } else {
            Err(LayerFault::Body)
        }
    }
}

/// A block being filled.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    /// Ids and bodies of the entities so far.
    text: String,
    entities: Vec<PendingEntity>,
}

#[derive(Debug)]
struct PendingEntity {
    version: u64,
    time_micros: i64,
    sequence: Sequence,
    id: Range<usize>,
    body: Option<Range<usize>>,
}

impl BlockBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// The entities so far.
    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// Whether the block would stay within [`BLOCK_BYTES`] with this entity.
    pub(super) fn has_room(&self, entity: &LayerEntity<'_>) -> bool {
        let text = self.text.len() + entity.id.len() + entity.body.map_or(0, str::len);
        text + (self.len() + 1) * ENTITY_BYTES + BLOCK_ROOT_BYTES <= BLOCK_BYTES
    }

    /// The id of the first entity.
    pub(super) fn first_id(&self) -> &str {
        self.entities
            .first()
            .map_or("", |entity| &self.text[entity.id.clone()])
    }

    /// The id of the last entity.
    pub(super) fn last_id(&self) -> &str {
        self.entities
            .last()
            .map_or("", |entity| &self.text[entity.id.clone()])
    }

    pub(super) fn push(&mut self, entity: &LayerEntity<'_>) {
        let id = self.put(entity.id);
        let body = entity.body.map(|body| self.put(body));
        self.entities.push(PendingEntity {
            version: entity.version,
            time_micros: entity.time_micros,
            sequence: entity.sequence,
            id,
            body,
        });
    }

    fn put(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// Archives the entities into `archive`, whose contents are replaced, and begins anew.
    pub(super) fn archive(
        &mut self,
        archive: AlignedVec<PART_ALIGN>,
    ) -> Result<AlignedVec<PART_ALIGN>, CheckpointError> {
        let entity = |pending: &PendingEntity| StoredEntity {
            version: pending.version,
            time_micros: pending.time_micros,
            sequence: pending.sequence.get(),
            id: &self.text[pending.id.clone()],
            body: pending.body.clone().map(|body| &self.text[body]),
        };
        let block = StoredBlock {
            entities: self.entities.iter().map(entity).collect(),
        };
        let bytes = self.text.len();
        let archive = archived(&block, archive, bytes)?;
        self.text.clear();
        self.entities.clear();
        Ok(archive)
    }
}

/// Archives `value` into the emptied `archive`.
///
/// # Errors
///
/// `TooLarge` if a pointer of 32 bits does not reach across it; `bytes` says how large it is about.
pub(super) fn archived(
    value: &impl for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            AlignedVec<PART_ALIGN>,
            rkyv::ser::allocator::ArenaHandle<'a>,
            Failure,
        >,
    >,
    mut archive: AlignedVec<PART_ALIGN>,
    bytes: usize,
) -> Result<AlignedVec<PART_ALIGN>, CheckpointError> {
    archive.clear();
    let result = rkyv::api::high::to_bytes_in::<_, Failure>(value, archive);
    result.or(Err(CheckpointError::TooLarge { bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity<'a>(id: &'a str, body: Option<&'a str>) -> LayerEntity<'a> {
        LayerEntity {
            id,
            version: 2,
            time_micros: -3,
            sequence: Sequence::new(4),
            body,
        }
    }

    fn block(entities: &[LayerEntity<'_>]) -> AlignedVec<PART_ALIGN> {
        let mut builder = BlockBuilder::default();
        for entity in entities {
            builder.push(entity);
        }
        builder.archive(AlignedVec::new()).unwrap()
    }

    fn access(bytes: &[u8]) -> Option<&ArchivedStoredBlock<'static>> {
        rkyv::access::<ArchivedStoredBlock<'static>, Failure>(bytes).ok()
    }

    #[test]
    fn a_block_has_these_bytes() {
        let bytes = block(&[entity("a", Some("{}")), entity("bcd", None)]);
        let mut expected = b"a{}bcd\0\0".to_vec();
        expected.extend(b"\x02\0\0\0\0\0\0\0\xfd\xff\xff\xff\xff\xff\xff\xff\x04\0\0\0\0\0\0\0");
        // The id lies 32 bytes before its pointer, the body 43 before its own.
        expected.extend(b"\xe0\xff\xff\xff\x01\0\0\0\x01\0\0\0\xd5\xff\xff\xff\x02\0\0\0\0\0\0\0");
        expected.extend(b"\x02\0\0\0\0\0\0\0\xfd\xff\xff\xff\xff\xff\xff\xff\x04\0\0\0\0\0\0\0");
        expected.extend(b"\xb3\xff\xff\xff\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"\xa0\xff\xff\xff\x02\0\0\0");
        assert_eq!(bytes.as_slice(), expected);
    }

    #[test]
    fn what_was_archived_is_read_back() {
        let entities = [
            entity("", Some("")),
            entity("a", None),
            entity("b", Some("body")),
        ];
        let bytes = block(&entities);
        let block = access(&bytes).unwrap();
        let views: Vec<_> = block
            .entities()
            .iter()
            .map(ArchivedStoredEntity::view)
            .collect();
        assert_eq!(views, entities);
    }

    #[test]
    fn a_block_out_of_order_or_place_is_refused() {
        let check = |ids: &[&str], first: &str, end: Option<&str>, good: bool| {
            let entities: Vec<_> = ids.iter().map(|id| entity(id, Some("x"))).collect();
            let bytes = block(&entities);
            let result = access(&bytes).unwrap().check(first, end, |_| true);
            assert_eq!(result.is_ok(), good, "{ids:?} {first} {end:?}");
        };
        check(&["a", "b"], "a", None, true);
        check(&["a", "b"], "a", Some("c"), true);
        check(&["a", "b"], "a", Some("b"), false);
        check(&["a", "b"], "b", None, false);
        check(&["b", "a"], "b", None, false);
        check(&["a", "a"], "a", None, false);
        check(&[], "", None, false);
        let bytes = block(&[entity("a", Some("x")), entity("b", Some("bad"))]);
        let result = access(&bytes)
            .unwrap()
            .check("a", None, |body| body != "bad");
        assert_eq!(result, Err(LayerFault::Body));
    }

    #[test]
    fn any_bytes_are_a_block_or_none() {
        let bytes = block(&[entity("a", Some("{}")), entity("bcd", None)]);
        // Whatever is accepted can be read to its end, within the bytes.
        let check = |bytes: &[u8]| {
            if let Some(block) = access(bytes) {
                let entities = block.entities().iter().map(ArchivedStoredEntity::view);
                let text = entities.map(|entity| entity.id.len() + entity.body.map_or(0, str::len));
                assert!(text.sum::<usize>() <= 4 * bytes.len());
            }
        };
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            check(&changed);
        }
        (0..bytes.len()).for_each(|len| check(&bytes[..len]));
    }
}

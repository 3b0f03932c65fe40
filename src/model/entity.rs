//! An entity as another data directory had it: what the payload of a log record of kind `ENTITY`
//! holds.
//!
//! Layout (lengths are LEB128, `varint.rs`; the whole is drawn in `storage/FORMAT.md`):
//!
//! ```text
//! version u64 LE | last updated i64 LE | entity_id | [lifetime] | property count
//!                | (name | value) ...
//! ```
//!
//! `lifetime` is there if the highest bit of the version is set, which is no part of it:
//!
//! ```text
//! flags u8 | [expires i64 LE] | [linger ms LEB128]
//! ```
//!
//! `flux import` writes such records if the events that made an entity are not there any more.
//! One puts the entity into the state as it says, whatever was there under its id; it is no event
//! and shows in no history.

use super::event::{Properties, Property, put_text, take, take_bytes, take_text};
use super::{EventDecodeError, EventView, Lifetime, Timestamp, varint};

/// The kind of a log record that holds an entity.
pub const RECORD_KIND_ENTITY: u8 = 2;

/// What an entity says besides its properties.
#[derive(Debug, Clone, Copy)]
pub struct EntityHead<'a> {
    /// Its id.
    pub id: &'a str,
    /// Events applied since it was created.
    pub version: u64,
    /// The server's time of its last event.
    pub last_updated: Timestamp,
    /// When it ends by itself.
    pub lifetime: Lifetime,
}

/// An entity to be stored.
#[derive(Debug, Clone, Copy)]
pub struct EntityDraft<'a> {
    /// 1 to 512 bytes, no control characters.
    pub id: &'a str,
    /// Events applied to it since it was created, from 1.
    pub version: u64,
    /// The time of its last event.
    pub last_updated: Timestamp,
    /// When it ends by itself.
    pub lifetime: Lifetime,
    /// Ascending by name, each name once.
    pub properties: &'a [Property<'a>],
}

impl EntityDraft<'_> {
    /// Appends the stored form to `out`.
    ///
    /// # Panics
    /// If a text is 4 GiB or longer, which the bound on a line excludes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let has_lifetime = !self.lifetime.is_endless();
        let version = self.version | if has_lifetime { HAS_LIFETIME } else { 0 };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.last_updated.as_micros().to_le_bytes());
        put_text(out, self.id);
        if has_lifetime {
            encode_lifetime(self.lifetime, out);
        }
        let count = u32::try_from(self.properties.len()).expect("a line is bounded below 4 GiB");
        varint::write(out, count);
        for property in self.properties {
            put_text(out, property.name);
            put_text(out, property.value);
        }
    }
}

const HAS_LIFETIME: u64 = 1 << 63;
const EXPIRES: u8 = 1;
const BOUND: u8 = 1 << 1;

fn encode_lifetime(lifetime: Lifetime, out: &mut Vec<u8>) {
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let expires = flag(EXPIRES, lifetime.expires.is_some());
    out.push(expires | flag(BOUND, lifetime.linger_ms.is_some()));
    if let Some(expires) = lifetime.expires {
        out.extend_from_slice(&expires.as_micros().to_le_bytes());
    }
    if let Some(linger_ms) = lifetime.linger_ms {
        varint::write(out, linger_ms);
    }
}

fn take_lifetime(rest: &mut &[u8]) -> Result<Lifetime, EventDecodeError> {
    let [flags] = take(rest)?;
    if flags & !(EXPIRES | BOUND) != 0 {
        return Err(EventDecodeError::Flags { flags });
    }
    let mut lifetime = Lifetime::default();
    if flags & EXPIRES != 0 {
        let expires = Timestamp::from_micros(i64::from_le_bytes(take(rest)?));
        lifetime.expires = Some(expires);
    }
    if flags & BOUND != 0 {
        lifetime.linger_ms = Some(varint::read(rest).ok_or(EventDecodeError::Length)?);
    }
    Ok(lifetime)
}

/// A stored entity, decoded in place.
#[derive(Debug, Clone)]
pub struct EntityView<'a> {
    /// As in [`EntityDraft`].
    pub id: &'a str,
    /// As in [`EntityDraft`].
    pub version: u64,
    /// As in [`EntityDraft`].
    pub last_updated: Timestamp,
    /// As in [`EntityDraft`].
    pub lifetime: Lifetime,
    properties: Properties<'a>,
}

impl<'a> EntityView<'a> {
    /// Decodes `bytes`, checking all of it. Cost: linear, no allocation.
    ///
    /// # Errors
    /// [`EventDecodeError`] where the bytes are not exactly one stored entity.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let mut rest = bytes;
        let version = u64::from_le_bytes(take(&mut rest)?);
        let last_updated = Timestamp::from_micros(i64::from_le_bytes(take(&mut rest)?));
        let id = take_text(&mut rest)?;
        let lifetime = if version & HAS_LIFETIME == 0 {
            Lifetime::default()
        } else {
            take_lifetime(&mut rest)?
        };
        let version = version & !HAS_LIFETIME;
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(EventDecodeError::Version { version });
        }
        Ok(Self {
            id,
            version,
            last_updated,
            lifetime,
            properties: Properties::decode(rest)?,
        })
    }

    /// The properties, ascending by name.
    pub fn properties(&self) -> Properties<'a> {
        self.properties.clone()
    }

    fn id_of(mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        take::<16>(&mut bytes).ok()?;
        take_bytes(&mut bytes).ok()
    }
}

/// No entity has had more events; the state keeps two bits of its counter for itself.
pub const VERSION_MAX: u64 = u64::MAX >> 2;

/// What a record of a log does to the state.
#[derive(Debug, Clone)]
pub enum StoredChange<'a> {
    /// An event is applied to its entity.
    Event(EventView<'a>),
    /// An entity takes the place of whatever is there.
    Entity(EntityView<'a>),
}

impl<'a> StoredChange<'a> {
    /// Decodes the payload of a record of this kind; `None` for a kind that is neither. Cost:
    /// linear.
    ///
    /// # Errors
    /// [`EventDecodeError`].
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Option<Self>, EventDecodeError> {
        match kind {
            super::RECORD_KIND_EVENT => EventView::decode(payload).map(|it| Some(Self::Event(it))),
            RECORD_KIND_ENTITY => EntityView::decode(payload).map(|it| Some(Self::Entity(it))),
            _ => Ok(None),
        }
    }

    /// The bytes of the entity id of a record. Nothing else is looked at, and they are not checked
    /// to be UTF-8. `None` if there is none. Cost: constant.
    pub fn entity_id_of(kind: u8, payload: &'a [u8]) -> Option<&'a [u8]> {
        match kind {
            super::RECORD_KIND_EVENT => EventView::entity_id_of(payload),
            RECORD_KIND_ENTITY => EntityView::id_of(payload),
            _ => None,
        }
    }

    /// The entity that it concerns.
    pub fn entity_id(&self) -> &'a str {
        match self {
            Self::Event(event) => event.entity_id,
            Self::Entity(entity) => entity.id,
        }
    }

    /// The properties that it carries, ascending by name.
    pub fn properties(&self) -> Properties<'a> {
        match self {
            Self::Event(event) => event.properties(),
            Self::Entity(entity) => entity.properties(),
        }
    }

    /// True if the entity's state after it depends on nothing before it.
    pub fn is_beginning(&self) -> bool {
        match self {
            Self::Event(event) => event.tombstone,
            Self::Entity(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: &[Property<'static>] = &[
        Property {
            name: "a",
            value: "22.50",
        },
        Property {
            name: "b",
            value: "[1]",
        },
    ];

    fn encoded(version: u64, properties: &[Property<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let draft = EntityDraft {
            id: "house/room",
            version,
            last_updated: Timestamp::from_micros(-2),
            lifetime: Lifetime::default(),
            properties,
        };
        draft.encode(&mut bytes);
        bytes
    }

    fn with_lifetime(lifetime: Lifetime) -> Vec<u8> {
        let mut bytes = Vec::new();
        let draft = EntityDraft {
            id: "house/room",
            version: 300,
            last_updated: Timestamp::from_micros(-2),
            lifetime,
            properties: PROPERTIES,
        };
        draft.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_lifetime_comes_back_and_costs_nothing_if_it_is_endless() {
        let plain = encoded(300, PROPERTIES);
        for expires in [None, Some(Timestamp::from_micros(i64::MAX))] {
            for linger_ms in [None, Some(0), Some(300_000)] {
                let lifetime = Lifetime { expires, linger_ms };
                let bytes = with_lifetime(lifetime);
                assert_eq!(bytes == plain, lifetime.is_endless());
                let view = EntityView::decode(&bytes).unwrap();
                assert_eq!((view.lifetime, view.version), (lifetime, 300));
                assert_eq!(view.properties().collect::<Vec<_>>(), PROPERTIES);
                let id = StoredChange::entity_id_of(RECORD_KIND_ENTITY, &bytes);
                assert_eq!(id, Some(&b"house/room"[..]));
                for len in 0..bytes.len() {
                    EntityView::decode(&bytes[..len]).expect_err(&format!("cut to {len}"));
                }
            }
        }
    }

    #[test]
    fn every_field_comes_back() {
        let bytes = encoded(300, PROPERTIES);
        assert_eq!(bytes.len(), 16 + 11 + 1 + (2 + 6) + (2 + 4));
        let view = EntityView::decode(&bytes).unwrap();
        assert_eq!((view.id, view.version), ("house/room", 300));
        assert_eq!(view.last_updated, Timestamp::from_micros(-2));
        assert_eq!(view.properties().collect::<Vec<_>>(), PROPERTIES);
        let id = StoredChange::entity_id_of(RECORD_KIND_ENTITY, &bytes);
        assert_eq!(id, Some(&b"house/room"[..]));
        assert!(StoredChange::decode(3, &bytes).unwrap().is_none());
    }

    #[test]
    fn what_is_not_exactly_an_entity_is_refused() {
        let bytes = encoded(1, PROPERTIES);
        for len in 0..bytes.len() {
            EntityView::decode(&bytes[..len]).expect_err(&format!("cut to {len}"));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        EntityView::decode(&longer).unwrap_err();
        let backwards = [PROPERTIES[1], PROPERTIES[0]];
        EntityView::decode(&encoded(1, &backwards)).unwrap_err();
        for version in [0, VERSION_MAX + 1] {
            let error = EntityView::decode(&encoded(version, &[])).unwrap_err();
            assert_eq!(error, EventDecodeError::Version { version });
        }
    }

    #[test]
    fn no_byte_can_make_decoding_panic() {
        let bytes = encoded(1, PROPERTIES);
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Ok(view) = EntityView::decode(&damaged) {
                    assert_eq!(view.properties().count(), view.properties().len());
                }
            }
        }
    }
}

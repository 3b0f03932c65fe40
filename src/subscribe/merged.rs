//! Changes of one entity, merged into one: the newest value of each property.

use std::collections::BTreeMap;

use crate::model::{ExpiryChange, Timestamp};
use flux_storage::Sequence;

/// What a change of an entity says besides its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeHead {
    /// The entity's version after it.
    pub version: u64,
    /// Of its last event.
    pub sequence: Sequence,
    /// When that was accepted.
    pub time: Timestamp,
    /// It holds all of the entity.
    pub is_whole: bool,
    /// The entity matches what the subscriber filters by.
    pub matches: bool,
    /// When the entity expires: of a whole one, else as far as that has changed.
    pub expires: ExpiryChange,
}

/// A property: its name, and its value as it was stored, or `None` if it was removed.
pub type Part<'p> = (&'p str, Option<&'p str>);

/// Appends the frame of a merged change of the entity with this id.
pub type EncodeMerged = fn(&mut Vec<u8>, &str, &MergedChange);

/// What the allocator and the tree add to a property, bytes, rounded up.
const PART_OVERHEAD_BYTES: usize = 96;
/// What a frame says besides the id and the properties, bytes, rounded up.
const HEAD_BYTES: usize = 192;

/// See the module.
#[derive(Debug, Clone)]
pub struct MergedChange {
    /// That of the newest change.
    pub head: ChangeHead,
    parts: BTreeMap<Box<str>, Option<Box<str>>>,
    text_bytes: usize,
}

impl MergedChange {
    /// One change.
    pub fn new<'p>(head: ChangeHead, parts: impl Iterator<Item = Part<'p>>) -> Self {
        let mut merged = Self {
            head,
            parts: BTreeMap::new(),
            text_bytes: 0,
        };
        merged.take(parts);
        merged
    }

    /// Adds the next change.
    pub fn merge<'p>(&mut self, head: ChangeHead, parts: impl Iterator<Item = Part<'p>>) {
        if head.is_whole {
            self.parts.clear();
            self.text_bytes = 0;
        }
        let is_whole = head.is_whole || self.head.is_whole;
        let expires = match head.expires {
            ExpiryChange::None if !head.is_whole => self.head.expires,
            expires => expires,
        };
        self.head = ChangeHead {
            is_whole,
            expires,
            ..head
        };
        self.take(parts);
    }

    /// The properties, ascending by name.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> + Clone {
        let parts = self.parts.iter();
        parts.map(|(name, value)| (&**name, value.as_deref()))
    }

    /// About the bytes of its frame.
    pub fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.text_bytes + 8 * self.parts.len()
    }

    /// All memory of this value.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.text_bytes + PART_OVERHEAD_BYTES * self.parts.len()
    }

    fn take<'p>(&mut self, parts: impl Iterator<Item = Part<'p>>) {
        for (name, value) in parts {
            if let Some(place) = self.parts.get_mut(name) {
                self.text_bytes -= place.as_ref().map_or(0, |value| value.len());
                if value.is_none() && self.head.is_whole {
                    self.parts.remove(name);
                    self.text_bytes -= name.len();
                } else {
                    *place = value.map(Box::from);
                    self.text_bytes += value.map_or(0, str::len);
                }
            } else if value.is_some() || !self.head.is_whole {
                self.text_bytes += name.len() + value.map_or(0, str::len);
                self.parts.insert(name.into(), value.map(Box::from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64, is_whole: bool) -> ChangeHead {
        ChangeHead {
            version: sequence,
            sequence: Sequence::new(sequence),
            time: Timestamp::default(),
            is_whole,
            matches: true,
            expires: ExpiryChange::None,
        }
    }

    fn shown(merged: &MergedChange) -> String {
        let shown = |(name, value): Part<'_>| format!("{name}={}", value.unwrap_or("-"));
        merged.parts().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_word_on_when_it_expires_stays() {
        let at = ExpiryChange::At(Timestamp::from_micros(5));
        let (none, never) = (ExpiryChange::None, ExpiryChange::Never);
        let said = |changes: &[(bool, ExpiryChange)]| {
            let heads = changes
                .iter()
                .zip(1..)
                .map(|((is_whole, expires), number)| ChangeHead {
                    expires: *expires,
                    ..head(number, *is_whole)
                });
            let mut merged: Option<MergedChange> = None;
            for head in heads {
                match &mut merged {
                    None => merged = Some(MergedChange::new(head, std::iter::empty())),
                    Some(merged) => merged.merge(head, std::iter::empty()),
                }
            }
            merged.unwrap().head.expires
        };
        assert_eq!(said(&[(false, at), (false, none)]), at);
        assert_eq!(said(&[(false, at), (false, never)]), never);
        assert_eq!(said(&[(false, at), (true, none)]), none);
        assert_eq!(said(&[(true, at), (false, none)]), at);
    }

    #[test]
    fn the_newest_of_each_property_stays() {
        let first = [("a", Some("1")), ("b", Some("2")), ("c", None)];
        let mut merged = MergedChange::new(head(1, false), first.into_iter());
        let next = [("a", None), ("b", Some("33")), ("c", Some("4"))];
        merged.merge(head(2, false), next.into_iter());
        assert_eq!(shown(&merged), "a=- b=33 c=4");
        assert_eq!(merged.head, head(2, false));
        assert_eq!(merged.text_bytes, 6);
        // All of an entity takes the place of what was there.
        merged.merge(head(3, true), [("b", Some("5"))].into_iter());
        assert_eq!(shown(&merged), "b=5");
        let last = [("b", None), ("c", None), ("d", Some("6"))];
        merged.merge(head(4, false), last.into_iter());
        assert_eq!(shown(&merged), "d=6");
        assert_eq!((merged.head, merged.text_bytes), (head(4, true), 2));
    }
}

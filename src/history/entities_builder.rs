//! The first entities of several listings, each ascending by id, without holding more than a page
//! of them.

use super::EntitiesPage;
use crate::limits::PAGE_BYTES_MAX;
use std::collections::BTreeMap;

/// See the module. It holds the longest front of all that was offered that a page may have.
#[derive(Debug)]
pub(super) struct EntitiesBuilder {
    entities: BTreeMap<Box<str>, Vec<u8>>,
    bytes: usize,
    limit: usize,
    /// Something was left out: another page follows.
    more: bool,
}

impl EntitiesBuilder {
    /// Of at most `limit` entities.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entities: BTreeMap::new(),
            bytes: 0,
            limit,
            more: false,
        }
    }

    /// Offers an entity. False if it has no place, and so has nothing that comes after it.
    pub(super) fn offer(&mut self, id: &str, json: &[u8]) -> bool {
        self.bytes += json.len();
        self.entities.insert(id.into(), json.into());
        let mut kept = true;
        while let Some(last) = self.entities.last_entry() {
            let before = self.bytes - last.get().len();
            if self.entities.len() <= self.limit && before < PAGE_BYTES_MAX {
                break;
            }
            if let Some((left_out, _)) = self.entities.pop_last() {
                kept &= *left_out != *id;
            }
            self.bytes = before;
            self.more = true;
        }
        kept
    }

    /// The page as JSON.
    pub(super) fn finish(self) -> EntitiesPage {
        let mut json = Vec::with_capacity(self.bytes + self.entities.len() + 2);
        json.push(b'[');
        for entity in self.entities.values() {
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(entity);
        }
        json.push(b']');
        let last = self.entities.last_key_value();
        EntitiesPage {
            json,
            next: last.filter(|_| self.more).map(|(id, _)| id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_front_of_all_that_was_offered() {
        let mut page = EntitiesBuilder::new(3);
        for id in ["b", "d", "f"] {
            assert!(page.offer(id, id.as_bytes()));
        }
        assert!(!page.offer("h", b"h"), "it is full");
        assert!(page.offer("a", b"a"));
        assert!(page.offer("c", b"c"));
        assert!(!page.offer("d", b"d"));
        let page = page.finish();
        assert_eq!(page.json, b"[a,b,c]");
        assert_eq!(page.next.as_deref(), Some("c"));
    }

    #[test]
    fn a_page_that_everything_fits_on_is_the_last() {
        let mut page = EntitiesBuilder::new(2);
        assert!(page.offer("b", b"b"));
        assert!(page.offer("a", b"a"));
        assert_eq!(page.finish().next, None);
        let page = EntitiesBuilder::new(2).finish();
        assert_eq!((page.json.as_slice(), page.next), (&b"[]"[..], None));
    }

    #[test]
    fn the_entity_that_crosses_the_bound_on_bytes_is_the_last() {
        let large = vec![b'x'; PAGE_BYTES_MAX / 2];
        let mut page = EntitiesBuilder::new(100);
        for id in ["a", "c"] {
            assert!(page.offer(id, &large));
        }
        assert!(!page.offer("d", b"d"));
        assert!(page.offer("b", b"b"), "it stands before what is left out");
        let page = page.finish();
        assert_eq!(
            page.next.as_deref(),
            Some("c"),
            "the page ends behind the bound"
        );
        assert_eq!(page.json.len(), 2 * large.len() + 1 + 4);
    }
}

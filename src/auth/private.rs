//! The names of the namespaces that not everyone may read.

use crate::model::place_key;
use std::array;
use std::collections::HashSet;
use std::sync::Arc;

/// Parts of a [`PrivateNamespaces`]: a change copies one of them if a reader has the names.
const PARTS: u16 = 64;

type Part = HashSet<Box<str>>;

/// See the module. A clone shares its parts, so a read has the names as they were when it began,
/// on whichever thread it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateNamespaces {
    /// `None` if there never was one.
    parts: Option<Arc<[Arc<Part>; PARTS as usize]>>,
    count: usize,
}

impl PrivateNamespaces {
    /// A namespace is private from now on.
    pub fn insert(&mut self, name: &str) {
        if self.part_mut(name).insert(name.into()) {
            self.count = self.count.saturating_add(1);
        }
    }

    /// Everyone may read a namespace from now on.
    pub fn remove(&mut self, name: &str) {
        if self.holds(name) && self.part_mut(name).remove(name) {
            self.count = self.count.saturating_sub(1);
        }
    }

    /// Whether a namespace is private.
    pub fn holds(&self, name: &str) -> bool {
        let Some(parts) = self.parts.as_deref().filter(|_| self.count > 0) else {
            return false;
        };
        let part = parts.get(part_of(name));
        part.is_some_and(|part| part.contains(name))
    }

    /// True if none is: everyone may read everything.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn part_mut(&mut self, name: &str) -> &mut Part {
        let empty = || Arc::new(array::from_fn(|_| Arc::default()));
        let parts = Arc::make_mut(self.parts.get_or_insert_with(empty));
        let part = parts.get_mut(part_of(name));
        Arc::make_mut(part.expect("a name's part is one of them"))
    }
}

fn part_of(name: &str) -> usize {
    usize::from(place_key(name, PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_has_does_not_change_with_the_registry() {
        let mut names = PrivateNamespaces::default();
        assert!(names.is_empty());
        for number in 0..1_000 {
            names.insert(&number.to_string());
        }
        names.insert("7");
        let held = names.clone();
        names.remove("7");
        names.remove("7");
        names.insert("other");
        assert!(held.holds("7") && !held.holds("other"));
        assert!(!names.holds("7") && names.holds("other"));
        for number in 0..1_000 {
            names.remove(&number.to_string());
        }
        assert!(!names.is_empty());
        names.remove("other");
        assert!(names.is_empty());
    }
}

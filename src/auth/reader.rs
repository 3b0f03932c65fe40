//! Who reads, and what of the private namespaces that lets it see (API contract §16).
//!
//! What is private and what a reader holds change independently, so a [`Reader`] says nothing of
//! the first. A [`Readable`] is both at one moment: what a read takes along to other threads.

use super::access::{Access, OwnedNamespace};
use super::grant::Grant;
use super::private::PrivateNamespaces;
use crate::limits::ENTITY_ID_BYTES_MAX;
use crate::model::{Scope, namespace_of};
use std::slice;
use std::sync::Arc;

/// Who reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reader {
    /// Somebody who may read what is public.
    #[default]
    Public,
    /// The same, and what a token grants that may read.
    Holder(Grant),
    /// The same, and what several such tokens grant.
    Holders(Arc<[Grant]>),
    /// The operator, the server itself, or anyone without auth.
    All,
}

/// How much of something may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing.
    Nothing,
    /// What begins with the prefix of a token.
    Part,
    /// Everything.
    Whole,
}

impl Reader {
    /// Whoever may write this.
    pub fn of(access: Access) -> Self {
        Self::with_scopes(access, &[Scope::Read])
    }

    /// The same if each of these scopes lets its holder see what it is about.
    pub fn with_scopes(access: Access, scopes: &[Scope]) -> Self {
        let sees = |grant: &Grant| scopes.iter().any(|scope| grant.scopes.has(*scope));
        match access {
            Access::Open | Access::Admin => Self::All,
            Access::Owner(grant) if sees(&grant) => Self::Holder(grant),
            Access::Owner(_) => Self::Public,
            Access::Several(all) => {
                let readers = all
                    .iter()
                    .map(|it| Self::with_scopes(it.access.clone(), scopes));
                readers.fold(Self::Public, Self::and)
            }
        }
    }

    /// Whoever holds the tokens of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Public, one) | (one, Self::Public) => one,
            (one, other) => {
                let grants = one.grants().iter().chain(other.grants());
                Self::Holders(grants.cloned().collect())
            }
        }
    }

    /// What its tokens grant.
    pub fn grants(&self) -> &[Grant] {
        match self {
            Self::Public | Self::All => &[],
            Self::Holder(grant) => slice::from_ref(grant),
            Self::Holders(grants) => grants,
        }
    }

    /// Whether it may read an id.
    pub fn may_read(&self, private: &PrivateNamespaces, id: &str) -> bool {
        self.shut(private, id).is_none_or(|namespace| {
            let grants = self.grants().iter();
            grants.filter(of(namespace)).any(|grant| covers(grant, id))
        })
    }

    /// Whether it may read anything with this prefix. True of a prefix that more than one namespace
    /// may have.
    pub fn may_read_within(&self, private: &PrivateNamespaces, prefix: &str) -> bool {
        self.shut(private, prefix).is_none_or(|namespace| {
            let mut grants = self.grants().iter().filter(of(namespace));
            grants.any(|grant| {
                let own = grant.prefix.as_deref();
                own.is_none_or(|own| own.starts_with(prefix) || prefix.starts_with(own))
            })
        })
    }

    /// How much of a namespace it may read.
    pub fn extent_of(&self, private: &PrivateNamespaces, name: &str) -> Extent {
        if *self == Self::All || !private.holds(name) {
            return Extent::Whole;
        }
        let grants = self.grants().iter().filter(of(name));
        grants.fold(Extent::Nothing, |extent, grant| match grant.prefix {
            None => Extent::Whole,
            Some(_) if extent == Extent::Nothing => Extent::Part,
            Some(_) => extent,
        })
    }

    /// The namespace of an id or of a prefix if it is closed to whoever has no grant.
    fn shut<'i>(&self, private: &PrivateNamespaces, id: &'i str) -> Option<&'i str> {
        if private.is_empty() || *self == Self::All {
            return None;
        }
        namespace_of(id).filter(|namespace| private.holds(namespace))
    }
}

fn of(namespace: &str) -> impl FnMut(&&Grant) -> bool {
    let namespace = OwnedNamespace::new(namespace);
    move |grant| Some(grant.namespace) == namespace
}

fn covers(grant: &Grant, id: &str) -> bool {
    let prefix = grant.prefix.as_deref();
    prefix.is_none_or(|prefix| id.starts_with(prefix))
}

/// What may be read in a read that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    reader: Reader,
    private: PrivateNamespaces,
}

impl Readable {
    /// By this reader, while these are private.
    pub const fn new(reader: Reader, private: PrivateNamespaces) -> Self {
        Self { reader, private }
    }

    /// Everything: the server itself reads.
    pub fn all() -> Self {
        Self::new(Reader::All, PrivateNamespaces::default())
    }

    /// True if nothing is hidden from it.
    pub fn is_everything(&self) -> bool {
        self.private.is_empty() || self.reader == Reader::All
    }

    /// True if it is no more than everyone may read.
    pub fn is_public(&self) -> bool {
        self.private.is_empty() || self.reader == Reader::Public
    }

    /// Who reads.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether an id is among it.
    pub fn holds(&self, id: &str) -> bool {
        self.reader.may_read(&self.private, id)
    }

    /// Whether anything with this prefix may be among it.
    pub fn holds_within(&self, prefix: &str) -> bool {
        self.reader.may_read_within(&self.private, prefix)
    }

    /// How much of a namespace is among it.
    pub fn extent_of(&self, name: &str) -> Extent {
        self.reader.extent_of(&self.private, name)
    }

    /// Of an id that is not among it: an id after which a walk in the order of ids goes on. All up
    /// to there is hidden too. `None` of an id that is among it.
    pub fn hidden_up_to(&self, id: &str) -> Option<String> {
        let namespace = self.reader.shut(&self.private, id)?;
        let grants = self.reader.grants().iter().filter(of(namespace));
        let mut next: Option<&str> = None;
        for grant in grants {
            let prefix = grant.prefix.as_deref()?;
            if id.starts_with(prefix) {
                return None;
            }
            if prefix > id && next.is_none_or(|next| prefix < next) {
                next = Some(prefix);
            }
        }
        // `0` follows the slash.
        Some(next.map_or_else(|| last_before(&format!("{namespace}0")), last_before))
    }
}

/// The last id that may come before this text.
fn last_before(text: &str) -> String {
    let mut last = text.to_owned();
    let Some(end) = last.pop() else {
        return last;
    };
    let before = ('\0'..end).next_back();
    if let Some(before) = before {
        last.push(before);
        while last.len() < ENTITY_ID_BYTES_MAX {
            last.push(char::MAX);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::super::grant::TokenNumber;
    use super::*;
    use crate::model::Scopes;

    fn private(names: &[&str]) -> PrivateNamespaces {
        let mut private = PrivateNamespaces::default();
        for name in names {
            private.insert(name);
        }
        private
    }

    fn grant(namespace: &str, prefix: Option<&str>) -> Grant {
        Grant {
            prefix: prefix.map(Arc::from),
            ..Grant::whole(OwnedNamespace::new(namespace).unwrap(), TokenNumber::NONE)
        }
    }

    fn holder(namespace: &str, prefix: Option<&str>) -> Reader {
        Reader::of(Access::Owner(grant(namespace, prefix)))
    }

    #[test]
    fn what_is_private_is_read_by_who_has_a_token_for_it_and_by_the_operator() {
        let private = private(&["house"]);
        let inside = ["house/a/1", "house/a/", "house/b", "house/", "house/a"];
        let outside = [
            "garden/a", "house", "houses/a", "hous/a", "a", "", "/house/a",
        ];
        let check = |reader: &Reader, readable: &[&str]| {
            for id in inside {
                let may = reader.may_read(&private, id);
                assert_eq!(may, readable.contains(&id), "{reader:?} {id}");
            }
            for id in outside {
                assert!(reader.may_read(&private, id), "{reader:?} {id}");
            }
            for id in inside.iter().chain(&outside) {
                assert!(reader.may_read(&PrivateNamespaces::default(), id));
            }
        };
        check(&Reader::Public, &[]);
        check(&Reader::All, &inside);
        check(&Reader::of(Access::Admin), &inside);
        check(&Reader::of(Access::Open), &inside);
        check(&holder("garden", None), &[]);
        check(&holder("house", None), &inside);
        check(
            &holder("house", Some("house/a/")),
            &["house/a/1", "house/a/"],
        );
        check(&holder("house", Some("house/b")), &["house/b"]);
        for scope in Scope::ALL {
            let scopes: Scopes = [scope].into_iter().collect();
            let access = Access::Owner(Grant {
                scopes,
                ..grant("house", None)
            });
            let expected = if scope == Scope::Read {
                &inside[..]
            } else {
                &[]
            };
            check(&Reader::of(access), expected);
        }
        let both = holder("house", Some("house/a/")).and(holder("house", Some("house/b")));
        check(&both, &["house/a/1", "house/a/", "house/b"]);
        check(
            &both.clone().and(Reader::Public),
            &["house/a/1", "house/a/", "house/b"],
        );
        check(&both.and(Reader::All), &inside);
    }

    #[test]
    fn a_prefix_is_read_where_something_with_it_may_be() {
        let private = private(&["house"]);
        let narrow = holder("house", Some("house/a/"));
        let check = |reader: &Reader, prefix, expected| {
            let may = reader.may_read_within(&private, prefix);
            assert_eq!(may, expected, "{reader:?} {prefix}");
        };
        for wide in ["", "h", "house", "garden/"] {
            check(&Reader::Public, wide, true);
        }
        for within in ["house/", "house/a", "house/a/", "house/a/b"] {
            check(&Reader::Public, within, false);
            check(&narrow, within, true);
            check(&holder("garden", None), within, false);
            check(&Reader::All, within, true);
        }
        check(&narrow, "house/b", false);
        let extent = |reader: &Reader, name| reader.extent_of(&private, name);
        assert_eq!(extent(&Reader::Public, "garden"), Extent::Whole);
        assert_eq!(extent(&Reader::Public, "house"), Extent::Nothing);
        assert_eq!(extent(&narrow, "house"), Extent::Part);
        assert_eq!(extent(&holder("house", None), "house"), Extent::Whole);
        assert_eq!(
            extent(&narrow.and(holder("house", None)), "house"),
            Extent::Whole
        );
        assert_eq!(extent(&Reader::All, "house"), Extent::Whole);
    }

    #[test]
    fn a_walk_that_skips_meets_all_that_may_be_read_and_nothing_else() {
        let mut ids = vec![String::new()];
        for namespace in ["a", "hous", "house", "house-2", "houses", "z"] {
            ids.push(namespace.to_owned());
            ids.push(format!("{namespace}0"));
            for rest in ["", "a", "a/", "a/1", "b", "b/2", "c", "\u{10ffff}"] {
                ids.push(format!("{namespace}/{rest}"));
            }
        }
        ids.sort();
        let prefixes = [Some("house/a/"), Some("house/b"), Some("house/a"), None];
        let readers = prefixes.iter().flat_map(|one| {
            let others = prefixes.iter().map(|other| holder("house", *other));
            others.map(|other| holder("house", *one).and(other))
        });
        for reader in readers.chain([Reader::Public, Reader::All, holder("z", None)]) {
            let readable = Readable::new(reader, private(&["house", "houses", "a"]));
            let mut met = Vec::new();
            let mut after = None;
            while let Some(id) = ids.iter().find(|id| Some(*id) > after.as_ref()) {
                let hidden = readable.hidden_up_to(id);
                if hidden.is_none() {
                    met.push(id.clone());
                }
                after = hidden.or_else(|| Some(id.clone()));
                assert!(after.as_ref() >= Some(id), "{id}");
            }
            let expected: Vec<_> = ids.iter().filter(|id| readable.holds(id)).collect();
            assert_eq!(met.iter().collect::<Vec<_>>(), expected, "{readable:?}");
        }
    }
}

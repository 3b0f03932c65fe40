//! What a token of a namespace grants, and the mark by which its writes are known.

use super::access::OwnedNamespace;
use crate::model::{Scopes, Timestamp};
use std::sync::Arc;

/// Tells tokens apart while the server runs. Every core gives a token the same number, since all
/// apply the same changes in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenNumber(u32);

impl TokenNumber {
    /// Of no token: the server itself writes.
    pub const NONE: Self = Self(0);

    /// The next one. They begin anew after 2³²: only writes that wait for the disk carry one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.wrapping_add(1) {
            0 => Self(1),
            number => Self(number),
        }
    }
}

/// What a token grants within its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The namespace.
    pub namespace: OwnedNamespace,
    /// Which token it is.
    pub number: TokenNumber,
    /// What it lets its holder do.
    pub scopes: Scopes,
    /// Only with ids that begin so.
    pub prefix: Option<Arc<str>>,
    /// Only before this time.
    pub expires: Option<Timestamp>,
}

impl Grant {
    /// Everything in a namespace, for ever: what a registration's token grants.
    pub const fn whole(namespace: OwnedNamespace, number: TokenNumber) -> Self {
        Self {
            namespace,
            number,
            scopes: Scopes::ALL,
            prefix: None,
            expires: None,
        }
    }

    /// True if its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it grants all that `other`, of the same namespace, does, and for as long.
    pub fn covers(&self, other: &Self) -> bool {
        let prefix = match (&self.prefix, &other.prefix) {
            (None, _) => true,
            (Some(own), Some(other)) => other.starts_with(&**own),
            (Some(_), None) => false,
        };
        let expiry = match (self.expires, other.expires) {
            (None, _) => true,
            (Some(own), Some(other)) => other <= own,
            (Some(_), None) => false,
        };
        prefix && expiry && self.scopes.covers(other.scopes)
    }

    /// True if it grants what the registration's token does.
    pub fn is_whole(&self) -> bool {
        self.covers(&Self::whole(self.namespace, self.number))
    }
}

/// Whose rate a write counts against, and by which token it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// The namespace.
    pub namespace: OwnedNamespace,
    /// The token.
    pub token: TokenNumber,
}

impl Charged {
    /// The namespace's name.
    pub fn as_str(&self) -> &str {
        self.namespace.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;

    fn grant(scopes: &[Scope], prefix: Option<&str>, expires: Option<i64>) -> Grant {
        Grant {
            namespace: OwnedNamespace::new("house").unwrap(),
            number: TokenNumber::NONE,
            scopes: scopes.iter().copied().collect(),
            prefix: prefix.map(Arc::from),
            expires: expires.map(Timestamp::from_micros),
        }
    }

    #[test]
    fn a_grant_covers_what_is_no_wider_in_scopes_prefix_and_expiry() {
        let whole = grant(&Scope::ALL, None, None);
        let narrow = grant(&[Scope::Write, Scope::Manage], Some("house/a/"), Some(50));
        assert!(whole.is_whole() && !narrow.is_whole());
        assert!(whole.covers(&narrow) && !narrow.covers(&whole));
        let check =
            |other: Grant, expected| assert_eq!(narrow.covers(&other), expected, "{other:?}");
        check(narrow.clone(), true);
        check(grant(&[Scope::Write], Some("house/a/b"), Some(49)), true);
        check(grant(&[], Some("house/a/"), Some(50)), true);
        check(grant(&[Scope::Read], Some("house/a/"), Some(50)), false);
        check(grant(&[Scope::Write], Some("house/a"), Some(50)), false);
        check(grant(&[Scope::Write], None, Some(50)), false);
        check(grant(&[Scope::Write], Some("house/a/"), Some(51)), false);
        check(grant(&[Scope::Write], Some("house/a/"), None), false);
    }

    #[test]
    fn a_grant_ends_at_its_time() {
        let grant = grant(&[], None, Some(50));
        assert!(!grant.has_expired(Timestamp::from_micros(49)));
        assert!(grant.has_expired(Timestamp::from_micros(50)));
        assert!(
            !Grant::whole(grant.namespace, TokenNumber::NONE)
                .has_expired(Timestamp::from_micros(i64::MAX))
        );
    }

    #[test]
    fn numbers_differ_and_none_is_that_of_no_token() {
        let first = TokenNumber::NONE.next();
        assert_ne!(first, TokenNumber::NONE);
        assert_ne!(first.next(), first);
        assert_eq!(TokenNumber(u32::MAX).next(), first);
    }
}

//! Who sends a write, and what that lets it touch (API contract §6).

use super::grant::{Charged, Grant, TokenNumber};
use super::token::TokenHash;
use crate::model::{Scope, TOKEN_SET_MAX, TokenSet};
use std::sync::Arc;

/// Bytes of the longest name that a namespace can be registered with.
const NAME_BYTES_MAX: usize = 32;

/// The name of a registered namespace, held inline: it is copied for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedNamespace {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl OwnedNamespace {
    /// `None` where it is longer than a registered name can be.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        let len = u8::try_from(name.len()).ok()?;
        Some(Self { bytes, len })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(bytes).expect("it was made of a str")
    }
}

/// What whoever sends a request may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Auth mode is off: everything but what is reserved.
    Open,
    /// Whoever has a token of a namespace: what that grants.
    Owner(Grant),
    /// The operator: may delete anything, and publishes nothing.
    Admin,
    /// Whoever has presented several tokens: what any of them grants. Not empty, and at most
    /// [`TOKEN_SET_MAX`].
    Several(Arc<[Presented]>),
}

/// One of several tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// What is kept of it.
    pub token: TokenHash,
    /// What it grants.
    pub access: Access,
}

/// Why a write is refused to whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// In auth mode an id is a namespace, a slash and something.
    NoNamespace,
    /// The token is not that of the id's namespace.
    NotOwner,
    /// The token is for ids that begin otherwise.
    OutsidePrefix,
    /// The token lacks this.
    NoScope(Scope),
}

impl Access {
    /// The server itself, on behalf of a namespace.
    pub const fn of_namespace(namespace: OwnedNamespace) -> Self {
        Self::Owner(Grant::whole(namespace, TokenNumber::NONE))
    }

    /// Whether it may publish an event about this entity. A tombstone is a deletion. Returns which
    /// of its tokens allow that.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_publish(&self, entity_id: &str, is_tombstone: bool) -> Result<TokenSet, Denied> {
        let scope = if is_tombstone {
            Scope::Delete
        } else {
            Scope::Write
        };
        match self {
            Self::Open => Ok(TokenSet::FIRST),
            Self::Owner(own) => granted(own, entity_id, scope),
            Self::Admin => split(entity_id).and(Err(Denied::NotOwner)),
            Self::Several(all) => any_of(all, |it| it.may_publish(entity_id, is_tombstone)),
        }
    }

    /// Whether it may delete this entity. Returns which of its tokens allow that.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_delete(&self, entity_id: &str) -> Result<TokenSet, Denied> {
        match self {
            Self::Open | Self::Admin => Ok(TokenSet::FIRST),
            Self::Owner(own) => granted(own, entity_id, Scope::Delete),
            Self::Several(all) => any_of(all, |it| it.may_delete(entity_id)),
        }
    }

    /// Whose rate limit a write counts against, by the token at this place among its tokens.
    pub fn charged(&self, place: usize) -> Option<Charged> {
        match self {
            Self::Open | Self::Admin => None,
            Self::Owner(own) => Some(Charged {
                namespace: own.namespace,
                token: own.number,
            }),
            Self::Several(all) => all.get(place)?.access.charged(0),
        }
    }

    /// True if a token of this namespace is among its tokens.
    pub fn is_of(&self, name: &str) -> bool {
        match self {
            Self::Open | Self::Admin => false,
            Self::Owner(grant) => grant.namespace.as_str() == name,
            Self::Several(all) => all.iter().any(|it| it.access.is_of(name)),
        }
    }

    /// True if the operator's token is among its tokens.
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Open | Self::Owner(_) => false,
            Self::Admin => true,
            Self::Several(all) => all.iter().any(|it| it.access.is_operator()),
        }
    }
}

impl Denied {
    /// How near it is to being allowed: of several the nearest is told.
    const fn rank(self) -> u8 {
        match self {
            Self::NoNamespace => 0,
            Self::NotOwner => 1,
            Self::OutsidePrefix => 2,
            Self::NoScope(_) => 3,
        }
    }
}

/// Those of several tokens by which something is allowed.
fn any_of(
    all: &[Presented],
    judge: impl Fn(&Access) -> Result<TokenSet, Denied>,
) -> Result<TokenSet, Denied> {
    let (mut allowed, mut nearest) = (TokenSet::NONE, Denied::NoNamespace);
    for (place, presented) in all.iter().take(TOKEN_SET_MAX).enumerate() {
        match judge(&presented.access) {
            Ok(_) => allowed = allowed.with(place),
            Err(denied) if denied.rank() > nearest.rank() => nearest = denied,
            Err(_) => {}
        }
    }
    if allowed.is_empty() {
        return Err(nearest);
    }
    Ok(allowed)
}

/// The namespace of an id that auth mode accepts.
fn split(entity_id: &str) -> Result<&str, Denied> {
    match entity_id.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(namespace),
        _ => Err(Denied::NoNamespace),
    }
}

fn granted(own: &Grant, entity_id: &str, scope: Scope) -> Result<TokenSet, Denied> {
    if split(entity_id)? != own.namespace.as_str() {
        return Err(Denied::NotOwner);
    }
    if let Some(prefix) = &own.prefix
        && !entity_id.starts_with(&**prefix)
    {
        return Err(Denied::OutsidePrefix);
    }
    if own.scopes.has(scope) {
        Ok(TokenSet::FIRST)
    } else {
        Err(Denied::NoScope(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_touch_what_is_its_own() {
        let owner = &Access::of_namespace(OwnedNamespace::new("house").unwrap());
        let check = |access: &Access, id, publish, delete| {
            let first = |verdict: Result<(), Denied>| verdict.map(|()| TokenSet::FIRST);
            assert_eq!(
                access.may_publish(id, false),
                first(publish),
                "{access:?} {id}"
            );
            assert_eq!(access.may_delete(id), first(delete), "{access:?} {id}");
        };
        let (nowhere, foreign) = (Err(Denied::NoNamespace), Err(Denied::NotOwner));
        check(&Access::Open, "room", Ok(()), Ok(()));
        check(owner, "house/room", Ok(()), Ok(()));
        check(owner, "house/room/1", Ok(()), Ok(()));
        check(owner, "house//", Ok(()), Ok(()));
        for id in ["room", "house", "house/", "/room", "/"] {
            check(owner, id, nowhere, nowhere);
            check(&Access::Admin, id, nowhere, Ok(()));
        }
        for id in ["house2/room", "hous/room", "House/room", "flux-core/x"] {
            check(owner, id, foreign, foreign);
            check(&Access::Admin, id, foreign, Ok(()));
        }
    }

    #[test]
    fn a_token_does_what_its_scopes_say_within_its_prefix() {
        for scope in Scope::ALL {
            let access = Access::Owner(Grant {
                scopes: [scope].into_iter().collect(),
                prefix: Some("house/a/".into()),
                ..Grant::whole(OwnedNamespace::new("house").unwrap(), TokenNumber::NONE)
            });
            let needs = |needed| {
                if needed == scope {
                    Ok(TokenSet::FIRST)
                } else {
                    Err(Denied::NoScope(needed))
                }
            };
            assert_eq!(access.may_publish("house/a/1", false), needs(Scope::Write));
            assert_eq!(access.may_publish("house/a/1", true), needs(Scope::Delete));
            assert_eq!(access.may_delete("house/a/1"), needs(Scope::Delete));
            for outside in ["house/b", "house/a", "house/A/1"] {
                let denied = Err(Denied::OutsidePrefix);
                assert_eq!(access.may_publish(outside, false), denied, "{outside}");
                assert_eq!(access.may_publish(outside, true), denied, "{outside}");
                assert_eq!(access.may_delete(outside), denied, "{outside}");
            }
            assert_eq!(access.may_delete("garden/a/1"), Err(Denied::NotOwner));
        }
    }

    #[test]
    fn of_several_tokens_any_that_allows_it_counts_and_the_nearest_denial_is_told() {
        let own = |namespace: &str, scope, prefix: Option<&str>| Grant {
            scopes: [scope].into_iter().collect(),
            prefix: prefix.map(Arc::from),
            ..Grant::whole(OwnedNamespace::new(namespace).unwrap(), TokenNumber::NONE)
        };
        let all = [
            Access::Owner(own("house", Scope::Write, Some("house/a/"))),
            Access::Owner(own("garden", Scope::Write, None)),
            Access::Owner(own("house", Scope::Delete, None)),
            Access::Owner(own("house", Scope::Write, None)),
        ];
        let presented = |(number, access): (u8, Access)| Presented {
            token: TokenHash::of(&[number]),
            access,
        };
        let access = Access::Several((0..).zip(all).map(presented).collect());
        let allowed = |id, tombstone| access.may_publish(id, tombstone);
        assert_eq!(allowed("house/a/1", false), Ok(TokenSet::FIRST.with(3)));
        assert_eq!(allowed("house/b", false), Ok(TokenSet::NONE.with(3)));
        assert_eq!(allowed("house/b", true), Ok(TokenSet::NONE.with(2)));
        assert_eq!(access.may_delete("house/b"), Ok(TokenSet::NONE.with(2)));
        let needs = Err(Denied::NoScope(Scope::Delete));
        assert_eq!(access.may_delete("garden/1"), needs);
        assert_eq!(allowed("shed/1", false), Err(Denied::NotOwner));
        assert_eq!(allowed("room", false), Err(Denied::NoNamespace));
        let charged = access.charged(1).unwrap();
        assert_eq!((charged.as_str(), access.charged(4)), ("garden", None));
        assert!(!access.is_operator());
    }

    #[test]
    fn a_name_is_held_whole_or_not_at_all() {
        for name in ["abc", &"n".repeat(32)] {
            assert_eq!(OwnedNamespace::new(name).unwrap().as_str(), name);
        }
        assert_eq!(OwnedNamespace::new(&"n".repeat(33)), None);
    }
}

//! Who sends a write, and what that lets it touch (API contract §6).

use super::grant::{Charged, Grant, TokenNumber};
use crate::model::Scope;

/// Bytes of the longest name that a namespace can be registered with.
const NAME_BYTES_MAX: usize = 32;

/// The name of a registered namespace, held inline: it is copied for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// Whether it may publish an event about this entity. A tombstone is a deletion.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_publish(&self, entity_id: &str, is_tombstone: bool) -> Result<(), Denied> {
        let scope = if is_tombstone {
            Scope::Delete
        } else {
            Scope::Write
        };
        match self {
            Self::Open => Ok(()),
            Self::Owner(own) => granted(own, entity_id, scope),
            Self::Admin => split(entity_id).and(Err(Denied::NotOwner)),
        }
    }

    /// Whether it may delete this entity.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_delete(&self, entity_id: &str) -> Result<(), Denied> {
        match self {
            Self::Open | Self::Admin => Ok(()),
            Self::Owner(own) => granted(own, entity_id, Scope::Delete),
        }
    }

    /// Whose rate limit a write counts against.
    pub fn charged(&self) -> Option<Charged> {
        match self {
            Self::Open | Self::Admin => None,
            Self::Owner(own) => Some(Charged {
                namespace: own.namespace,
                token: own.number,
            }),
        }
    }
}

/// The namespace of an id that auth mode accepts.
fn split(entity_id: &str) -> Result<&str, Denied> {
    match entity_id.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(namespace),
        _ => Err(Denied::NoNamespace),
    }
}

fn granted(own: &Grant, entity_id: &str, scope: Scope) -> Result<(), Denied> {
    if split(entity_id)? != own.namespace.as_str() {
        return Err(Denied::NotOwner);
    }
    if let Some(prefix) = &own.prefix
        && !entity_id.starts_with(&**prefix)
    {
        return Err(Denied::OutsidePrefix);
    }
    if own.scopes.has(scope) {
        Ok(())
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
            assert_eq!(access.may_publish(id, false), publish, "{access:?} {id}");
            assert_eq!(access.may_delete(id), delete, "{access:?} {id}");
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
                    Ok(())
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
    fn a_name_is_held_whole_or_not_at_all() {
        for name in ["abc", &"n".repeat(32)] {
            assert_eq!(OwnedNamespace::new(name).unwrap().as_str(), name);
        }
        assert_eq!(OwnedNamespace::new(&"n".repeat(33)), None);
    }
}

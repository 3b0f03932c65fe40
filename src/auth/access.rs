//! Who sends a write, and what that lets it touch (API contract §6).

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Auth mode is off: everything but what is reserved.
    Open,
    /// The owner of a namespace: what lies in it.
    Owner(OwnedNamespace),
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
}

impl Access {
    /// Whether it may publish an event about this entity.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_publish(&self, entity_id: &str) -> Result<(), Denied> {
        match self {
            Self::Open => Ok(()),
            Self::Owner(own) => in_namespace(entity_id, own),
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
            Self::Owner(own) => in_namespace(entity_id, own),
        }
    }

    /// The namespace whose rate limit a write counts against.
    pub fn charged(&self) -> Option<OwnedNamespace> {
        match self {
            Self::Open | Self::Admin => None,
            Self::Owner(own) => Some(*own),
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

fn in_namespace(entity_id: &str, own: &OwnedNamespace) -> Result<(), Denied> {
    if split(entity_id)? == own.as_str() {
        Ok(())
    } else {
        Err(Denied::NotOwner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_touch_what_is_its_own() {
        let owner = Access::Owner(OwnedNamespace::new("house").unwrap());
        let check = |access: Access, id, publish, delete| {
            assert_eq!(access.may_publish(id), publish, "{access:?} {id}");
            assert_eq!(access.may_delete(id), delete, "{access:?} {id}");
        };
        let (nowhere, foreign) = (Err(Denied::NoNamespace), Err(Denied::NotOwner));
        check(Access::Open, "room", Ok(()), Ok(()));
        check(owner, "house/room", Ok(()), Ok(()));
        check(owner, "house/room/1", Ok(()), Ok(()));
        check(owner, "house//", Ok(()), Ok(()));
        for id in ["room", "house", "house/", "/room", "/"] {
            check(owner, id, nowhere, nowhere);
            check(Access::Admin, id, nowhere, Ok(()));
        }
        for id in ["house2/room", "hous/room", "House/room", "flux-core/x"] {
            check(owner, id, foreign, foreign);
            check(Access::Admin, id, foreign, Ok(()));
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

//! What a token lets its holder do (API contract §16).

/// One thing that a token may let its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read what is not public.
    Read,
    /// Publish.
    Write,
    /// Delete, by a call or by a tombstone that is published.
    Delete,
    /// Make and revoke tokens, and say who may read.
    Manage,
}

impl Scope {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Delete, Self::Manage];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Manage => "manage",
        }
    }

    /// The scope of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Its bit in the stored form.
    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Delete => 4,
            Self::Manage => 8,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self(15);

    /// As they are stored; `None` for bits that stand for no scope.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// To be stored.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Whether the scope is among them.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether all of the others are among them.
    pub const fn covers(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// True of none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each scope of the set, in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_is_stored_in_four_bits() {
        for bits in 0..=u8::MAX {
            let Some(scopes) = Scopes::from_bits(bits) else {
                assert!(bits > 15);
                continue;
            };
            assert_eq!(scopes.iter().collect::<Scopes>(), scopes);
            assert_eq!(scopes.bits(), bits);
            assert!(Scopes::ALL.covers(scopes) && scopes.covers(Scopes::NONE));
            assert_eq!(scopes.covers(Scopes::ALL), bits == 15);
        }
        for scope in Scope::ALL {
            assert_eq!(Scope::of_name(scope.name()), Some(scope));
        }
        assert_eq!(Scope::of_name("Read"), None);
    }
}

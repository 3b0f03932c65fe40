//! Which of a caller's tokens something is about.

/// The most tokens that a set may hold.
pub const TOKEN_SET_MAX: usize = 32;

/// Some of the tokens of a caller, by their place among these. A caller without a token, or with
/// one, counts as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenSet(u32);

impl TokenSet {
    /// None.
    pub const NONE: Self = Self(0);
    /// The first alone.
    pub const FIRST: Self = Self(1);
    /// Every one.
    pub const ALL: Self = Self(u32::MAX);

    /// Adds the token at this place, which is below [`TOKEN_SET_MAX`].
    #[must_use]
    pub const fn with(self, place: usize) -> Self {
        assert!(place < TOKEN_SET_MAX, "a caller has fewer tokens");
        Self(self.0 | 1 << place)
    }

    /// True if it holds the token at this place.
    pub const fn has(self, place: usize) -> bool {
        place < TOKEN_SET_MAX && self.0 & 1 << place != 0
    }

    /// The tokens that both hold.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if it holds none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The place of the first; 0 if it holds none.
    pub const fn first(self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.0.trailing_zeros() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let set = TokenSet::NONE.with(3).with(17);
        assert!(set.has(3) && set.has(17) && !set.has(0) && !set.has(32));
        assert_eq!((set.first(), TokenSet::NONE.first()), (3, 0));
        assert_eq!(set.and(TokenSet::NONE.with(17)).first(), 17);
        assert!(set.and(TokenSet::FIRST).is_empty());
        assert_eq!(set.and(TokenSet::ALL), set);
    }
}

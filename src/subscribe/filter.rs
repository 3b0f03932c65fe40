//! What a subscriber asks for, as the `entity_id` of a subscribe message says it.

use std::fmt;

use crate::{limits, model};

/// A set of entity ids. Two patterns that mean the same set are the same filter, so that
/// unsubscribing finds what subscribing made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filter {
    /// Every entity: `*`.
    All,
    /// Every id that begins with this text, itself included: `<prefix>*`.
    Prefix(Box<str>),
    /// This one id.
    Exact(Box<str>),
}

/// Why a pattern is not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The pattern is the empty text, which no id is.
    #[error("entity_id must not be empty")]
    Empty,
    /// No id is that long.
    #[error("entity_id has {bytes} bytes without its final star, at most {max} are allowed", max = limits::ENTITY_ID_BYTES_MAX)]
    TooLong {
        /// Bytes of the id or prefix.
        bytes: usize,
    },
    /// No id holds U+0000–1F or U+7F–9F.
    #[error("entity_id must not contain control characters")]
    ControlCharacter,
}

impl Filter {
    /// Reads a pattern. `*` is special only as its last character.
    ///
    /// # Errors
    /// See [`FilterError`]; the client's fault each time.
    pub fn parse(pattern: &str) -> Result<Self, FilterError> {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if text.len() > limits::ENTITY_ID_BYTES_MAX {
            return Err(FilterError::TooLong { bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(FilterError::ControlCharacter);
        }
        match (text.is_empty(), is_prefix) {
            (true, true) => Ok(Self::All),
            (true, false) => Err(FilterError::Empty),
            (false, true) => Ok(Self::Prefix(text.into())),
            (false, false) => Ok(Self::Exact(text.into())),
        }
    }

    /// The placement key that all ids of this filter share, or `None` if they may lie on any shard.
    ///
    /// A prefix without a slash also covers ids without a namespace, which are placed by
    /// themselves.
    pub fn concerns_single_placement(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Prefix(prefix) => model::namespace_of(prefix),
            Self::Exact(id) => Some(model::placement_key(id)),
        }
    }

    /// True if the id belongs to the set.
    pub fn matches(&self, entity_id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => entity_id.starts_with(&**prefix),
            Self::Exact(id) => entity_id == &**id,
        }
    }
}

impl fmt::Display for Filter {
    /// The pattern that [`Filter::parse`] reads back.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("*"),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
            Self::Exact(id) => formatter.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_is_special_only_at_the_end() {
        let check = |pattern: &str, expected: Filter| {
            let filter = Filter::parse(pattern).unwrap();
            assert_eq!(filter, expected, "{pattern}");
            assert_eq!(filter.to_string(), pattern);
        };
        check("*", Filter::All);
        check("scada/*", Filter::Prefix("scada/".into()));
        check("s*", Filter::Prefix("s".into()));
        check("**", Filter::Prefix("*".into()));
        check("a*b*", Filter::Prefix("a*b".into()));
        check("a*b", Filter::Exact("a*b".into()));
        check("*b", Filter::Exact("*b".into()));
        check("room", Filter::Exact("room".into()));
    }

    #[test]
    fn patterns_that_no_id_can_meet_are_refused() {
        let check = |pattern: &str, expected| {
            assert_eq!(Filter::parse(pattern), Err(expected), "{pattern:?}");
        };
        check("", FilterError::Empty);
        check("a\u{0}", FilterError::ControlCharacter);
        check("a\u{1f}*", FilterError::ControlCharacter);
        check("\u{7f}", FilterError::ControlCharacter);
        check("\u{9f}", FilterError::ControlCharacter);
        assert!(Filter::parse("\u{a0}").is_ok());

        let longest = "x".repeat(limits::ENTITY_ID_BYTES_MAX);
        let bytes = limits::ENTITY_ID_BYTES_MAX + 1;
        assert!(Filter::parse(&longest).is_ok());
        assert!(Filter::parse(&format!("{longest}*")).is_ok());
        check(&format!("{longest}x"), FilterError::TooLong { bytes });
        check(&format!("{longest}x*"), FilterError::TooLong { bytes });
    }

    #[test]
    fn a_filter_within_one_namespace_concerns_one_placement() {
        let check = |pattern: &str, expected: Option<&str>| {
            let filter = Filter::parse(pattern).unwrap();
            assert_eq!(filter.concerns_single_placement(), expected, "{pattern}");
        };
        check("*", None);
        check("ho*", None);
        check("house*", None);
        check("house/*", Some("house"));
        check("house/room/*", Some("house"));
        check("/*", Some(""));
        check("house/room", Some("house"));
        check("room", Some("room"));
    }
}

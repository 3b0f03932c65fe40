//! JSON Pointers (RFC 6901). Looking one up is `serde_json`'s; whether it can be one is checked here, when it is
//! written down and not when it finds nothing.

use serde_json::Value;

/// A pointer that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<str>);

/// Why a text is no pointer.
pub const RULE: &str =
    "a JSON Pointer (RFC 6901): empty, or `/` before each step, with `~0` for `~` and `~1` for `/`";

impl Pointer {
    /// `None` where the text is no pointer.
    pub fn parse(text: &str) -> Option<Self> {
        let is_rooted = text.is_empty() || text.starts_with('/');
        let mut escapes = text.split('~').skip(1);
        let is_escaped = escapes.all(|rest| rest.starts_with(['0', '1']));
        (is_rooted && is_escaped).then(|| Self(text.into()))
    }

    /// To the member of this name of an object.
    pub fn to_member(name: &str) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        Self(format!("/{escaped}").into())
    }

    /// What it points to.
    pub fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.0)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_pointer_is_refused() {
        for text in ["", "/", "/a/0/b", "/a~0b~1c", "//"] {
            assert!(Pointer::parse(text).is_some(), "{text}");
        }
        for text in ["a", "a/b", "$.a", "/a~", "/a~2", "#/a", " /a"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_member_of_any_name_is_found() {
        for name in ["a", "a/b", "a~b", "~1", ""] {
            let value = serde_json::json!({ name: 7 });
            assert_eq!(Pointer::to_member(name).of(&value), value.get(name));
        }
    }
}

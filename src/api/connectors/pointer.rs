//! JSON Pointers (RFC 6901), checked when a definition is parsed.

/// A well-formed pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<str>);

/// The rule that a text breaks if it is no pointer.
pub const RULE: &str =
    "a JSON Pointer (RFC 6901): empty, or `/` before each step, with `~0` for `~` and `~1` for `/`";

impl Pointer {
    /// `None` if the text is no pointer.
    pub fn parse(text: &str) -> Option<Self> {
        let is_rooted = text.is_empty() || text.starts_with('/');
        let mut escapes = text.split('~').skip(1);
        let is_escaped = escapes.all(|rest| rest.starts_with(['0', '1']));
        (is_rooted && is_escaped).then(|| Self(text.into()))
    }

    /// The pointer to an object's member of this name.
    pub fn to_member(name: &str) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        Self(format!("/{escaped}").into())
    }

    /// The names of members and indexes of elements on the way, unescaped.
    pub fn steps(&self) -> impl Iterator<Item = String> {
        let steps = self.0.split('/').skip(1);
        steps.map(|step| step.replace("~1", "/").replace("~0", "~"))
    }

    /// True if `inner` points to the same value as this, or to a part of it.
    pub fn leads_to(&self, inner: &Self) -> bool {
        let rest = inner.0.strip_prefix(&*self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The pointer's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_pointers_are_refused() {
        for text in ["", "/", "/a/0/b", "/a~0b~1c", "//"] {
            assert!(Pointer::parse(text).is_some(), "{text}");
        }
        for text in ["a", "a/b", "$.a", "/a~", "/a~2", "#/a", " /a"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pointer_leads_to_itself_and_to_what_is_inside() {
        let leads = |outer: &str, inner: &str| {
            let [outer, inner] = [outer, inner].map(|text| Pointer::parse(text).unwrap());
            outer.leads_to(&inner)
        };
        for (outer, inner) in [("", ""), ("", "/a"), ("/a", "/a"), ("/a", "/a/b")] {
            assert!(leads(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [("/a", ""), ("/a", "/ab"), ("/a", "/b")] {
            assert!(!leads(outer, inner), "{outer} {inner}");
        }
    }

    #[test]
    fn steps_are_unescaped_and_lead_to_members_of_any_name() {
        let steps = |text: &str| Pointer::parse(text).unwrap().steps().collect::<Vec<_>>();
        assert_eq!(steps(""), [""; 0]);
        assert_eq!(steps("/"), [""]);
        assert_eq!(steps("/a~1b/~01/0"), ["a/b", "~1", "0"]);
        for name in ["a", "a/b", "a~b", "~1", ""] {
            assert_eq!(Pointer::to_member(name).steps().collect::<Vec<_>>(), [name]);
        }
    }
}

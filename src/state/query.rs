//! Which entities a listing asks for, and where they lie in the order of ids.

use std::cmp::Ordering;

/// What a listing asks for; conditions that are present hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<'q> {
    /// Entities whose id has exactly this text before its first `/`.
    pub namespace: Option<&'q str>,
    /// Entities whose id starts with this.
    pub prefix: Option<&'q str>,
    /// Entities whose id is greater than this, bytewise.
    pub after: Option<&'q str>,
}

impl<'q> Query<'q> {
    /// The ids that `namespace` and `prefix` allow, which are always one unbroken range: `None` if
    /// they contradict each other, or if the namespace is one that no id can have.
    pub(super) fn scope(&self) -> Option<Scope<'q>> {
        let Some(namespace) = self.namespace else {
            return Some(Scope {
                head: self.prefix.unwrap_or(""),
                tail: "",
            });
        };
        if namespace.contains('/') {
            return None;
        }
        let prefix = self.prefix.unwrap_or("");
        if namespace.starts_with(prefix) {
            return Some(Scope {
                head: namespace,
                tail: "/",
            });
        }
        let rest = prefix.strip_prefix(namespace)?;
        rest.starts_with('/').then_some(Scope {
            head: prefix,
            tail: "",
        })
    }
}

/// All ids that start with `head` followed by `tail`: the two are never joined, which would
/// allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope<'q> {
    head: &'q str,
    tail: &'static str,
}

impl Scope<'_> {
    /// True if `id` and all ids below it come before the scope: the scope is *after* `id`.
    pub(super) fn is_after(&self, id: &str) -> bool {
        self.compare(id) == Ordering::Less
    }

    /// True if `id` and all ids above it come behind the scope.
    pub(super) fn is_before(&self, id: &str) -> bool {
        self.compare(id) == Ordering::Greater
    }

    /// Where `id` lies: `Equal` within the scope.
    fn compare(&self, id: &str) -> Ordering {
        let id = id.as_bytes();
        let (front, back) = id.split_at(self.head.len().min(id.len()));
        front.cmp(self.head.as_bytes()).then_with(|| {
            let back = &back[..self.tail.len().min(back.len())];
            back.cmp(self.tail.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_and_prefix_meet_in_one_range_or_none() {
        let check = |namespace, prefix, expected: Option<(&str, &'static str)>| {
            let query = Query {
                namespace,
                prefix,
                after: None,
            };
            let expected = expected.map(|(head, tail)| Scope { head, tail });
            assert_eq!(query.scope(), expected, "{query:?}");
        };
        check(None, None, Some(("", "")));
        check(None, Some("a/b"), Some(("a/b", "")));
        check(Some("a"), None, Some(("a", "/")));
        check(Some("ab"), Some("a"), Some(("ab", "/")));
        check(Some("ab"), Some("ab"), Some(("ab", "/")));
        check(Some("ab"), Some("ab/"), Some(("ab/", "")));
        check(Some("ab"), Some("ab/c"), Some(("ab/c", "")));
        check(Some("ab"), Some("abc"), None);
        check(Some("a"), Some("b"), None);
        check(Some("a/b"), None, None);
        check(Some(""), None, Some(("", "/")));
        check(Some(""), Some("/x"), Some(("/x", "")));
    }

    #[test]
    fn ids_lie_before_within_or_behind_a_scope() {
        let scope = Scope {
            head: "ab",
            tail: "/",
        };
        for (id, expected) in [
            ("", Ordering::Less),
            ("a", Ordering::Less),
            ("ab", Ordering::Less),
            ("ab.x", Ordering::Less),
            ("ab/", Ordering::Equal),
            ("ab/é", Ordering::Equal),
            ("ab0", Ordering::Greater),
            ("abc/", Ordering::Greater),
            ("b", Ordering::Greater),
        ] {
            assert_eq!(scope.compare(id), expected, "{id}");
        }
    }
}

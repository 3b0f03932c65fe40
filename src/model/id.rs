//! Entity ids and the namespace that an id names.

/// The namespace that belongs to the server itself; nobody else writes to it.
pub const RESERVED_NAMESPACE: &str = "flux-core";

/// The namespace of an entity id: the text before its first `/`, or `None` for an id without one.
///
/// Asked several times for each event: a plain loop finds the end of a short name in half the time
/// of a vector search.
pub fn namespace_of(entity_id: &str) -> Option<&str> {
    entity_id.get(..namespace_bytes_of(entity_id.as_bytes())?.len())
}

/// The same of an id whose bytes are not checked.
pub fn namespace_bytes_of(entity_id: &[u8]) -> Option<&[u8]> {
    let end = entity_id.iter().position(|byte| *byte == b'/')?;
    entity_id.get(..end)
}

/// True if the id lies in [`RESERVED_NAMESPACE`].
pub fn is_reserved(entity_id: &str) -> bool {
    let rest = entity_id.strip_prefix(RESERVED_NAMESPACE);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// The part of an id that decides its shard: its namespace, or the whole id if it has none, so
/// that a server without namespaces still uses every core.
pub fn placement_key(entity_id: &str) -> &str {
    namespace_of(entity_id).unwrap_or(entity_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_the_text_before_the_first_slash() {
        let check = |id, namespace, key| {
            assert_eq!(namespace_of(id), namespace, "{id}");
            assert_eq!(placement_key(id), key, "{id}");
        };
        check("room", None, "room");
        check("house/room", Some("house"), "house");
        check("house/room/1", Some("house"), "house");
        check("/room", Some(""), "");
        check("house/", Some("house"), "house");
    }

    #[test]
    fn only_the_exact_namespace_is_reserved() {
        assert!(is_reserved("flux-core/directory"));
        assert!(!is_reserved("flux-core"));
        assert!(!is_reserved("flux-core2/directory"));
    }
}

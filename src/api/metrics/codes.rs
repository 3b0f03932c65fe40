//! The codes of rejections as a label. A test holds the list to the tables that give the codes.

/// Every code that a rejection can have, ascending.
pub const CODES: [&str; 85] = [
    "access_ended",
    "admin_disabled",
    "admin_only",
    "answer_too_large",
    "bad_chunk",
    "bad_framing",
    "bad_host",
    "bad_websocket_handshake",
    "batch_too_costly",
    "body_too_large",
    "connector_built_in",
    "connector_not_found",
    "connector_taken",
    "credential_not_found",
    "cursor_too_narrow",
    "encryption_key_missing",
    "entity_not_found",
    "entity_too_large",
    "event_id_reused",
    "filter_too_costly",
    "head_too_large",
    "history_removed",
    "history_too_long",
    "history_unreadable",
    "host_refused",
    "invalid_argument",
    "invalid_body",
    "invalid_cursor",
    "invalid_encoding",
    "invalid_field",
    "invalid_filter",
    "invalid_header",
    "invalid_json",
    "invalid_query",
    "malformed_request",
    "method_not_allowed",
    "missing_field",
    "missing_id",
    "namespace_not_empty",
    "namespace_not_found",
    "namespace_required",
    "namespace_taken",
    "not_found",
    "not_namespace_owner",
    "not_readable",
    "not_ready",
    "not_subscribed",
    "operation_conflict",
    "operation_limit",
    "operation_type",
    "origin_refused",
    "outside_prefix",
    "overloaded",
    "precondition_failed",
    "rate_limited",
    "record_too_large",
    "request_line_too_long",
    "request_timeout",
    "reserved_namespace",
    "scope_missing",
    "shutting_down",
    "state_damaged",
    "storage_fault",
    "storage_full",
    "storage_read_only",
    "storage_unavailable",
    "ticket_unknown",
    "tls_required",
    "token_exceeded",
    "token_malformed",
    "token_missing",
    "token_not_found",
    "token_unknown",
    "too_many_bindings",
    "too_many_connections",
    "too_many_connectors",
    "too_many_header_fields",
    "too_many_matches",
    "too_many_registrations",
    "too_many_subscriptions",
    "too_many_tickets",
    "too_many_tokens",
    "trailers_too_large",
    "unsupported_content_encoding",
    "unsupported_websocket_version",
];

/// The place of a code in [`CODES`].
pub fn index_of(code: &str) -> Option<usize> {
    CODES.binary_search(&code).ok()
}

/// How many events were refused, by code. It has room for the codes that occurred: these are few,
/// however many events there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusalCounts(Vec<(&'static str, u64)>);

impl RefusalCounts {
    /// One more was refused with this code.
    pub fn note(&mut self, code: &'static str) {
        match self.0.iter_mut().find(|(noted, _)| *noted == code) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.0.push((code, 1)),
        }
    }

    /// True if none was refused.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were refused, whatever the code.
    pub fn total(&self) -> u64 {
        let add = |sum: u64, (_, count): &(&str, u64)| sum.saturating_add(*count);
        self.0.iter().fold(0, add)
    }

    /// The codes that occurred, each with how many.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Heap that it holds.
    pub const fn heap_bytes(&self) -> usize {
        let of_one = size_of::<(&str, u64)>();
        self.0.capacity().saturating_mul(of_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The text literals that arms of `fn code` give.
    fn codes_of(source: &str) -> BTreeSet<&str> {
        let (_, from) = source
            .split_once("fn code(")
            .expect("it has a table of codes");
        let (table, _) = from.split_once("\n    }\n").expect("the table ends");
        let arms = table.split("=>").skip(1);
        arms.filter_map(|arm| {
            let arm = arm.trim_start().trim_start_matches('{').trim_start();
            arm.strip_prefix('"')?.split('"').next()
        })
        .collect()
    }

    #[test]
    fn the_list_holds_exactly_the_codes_of_all_tables() {
        let mut all = codes_of(include_str!("../error.rs"));
        all.extend(codes_of(include_str!("../../wire/http1/error.rs")));
        all.extend(codes_of(include_str!("../../wire/ws/handshake.rs")));
        // Of the tools of `POST /mcp`, which have arguments in the place of members.
        all.insert("invalid_argument");
        assert!(all.len() > 80, "the tables are found: {}", all.len());
        let listed: BTreeSet<&str> = CODES.into_iter().collect();
        assert_eq!(listed, all);
        assert!(CODES.is_sorted());
        assert_eq!(index_of(CODES[3]), Some(3));
        assert_eq!(index_of("no_such_code"), None);
    }

    #[test]
    fn refusals_take_room_by_the_codes_that_occur_and_not_by_their_number() {
        let mut counts = RefusalCounts::default();
        assert_eq!((counts.is_empty(), counts.total()), (true, 0));
        for _ in 0..50_000 {
            counts.note(CODES[7]);
            counts.note(CODES[2]);
            counts.note(CODES[7]);
        }
        let counted: Vec<_> = counts.iter().collect();
        assert_eq!(counted, [(CODES[7], 100_000), (CODES[2], 50_000)]);
        assert_eq!((counts.is_empty(), counts.total()), (false, 150_000));
        assert!(counts.heap_bytes() < 256, "{}", counts.heap_bytes());
        counts.clear();
        assert!(counts.is_empty());
    }
}

//! The tools: their names, their arguments, and how each describes itself.
//!
//! `tools.json` is what `tools/list` answers, in a fixed order, so that hosts can cache it. A test
//! holds it to the arguments that are read here.

use std::sync::LazyLock;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// `flux_get`
    Get,
    /// `flux_list`
    List,
    /// `flux_publish`
    Publish,
    /// `flux_delete`
    Delete,
    /// `flux_wait_for`
    WaitFor,
    /// `flux_diff_since`
    DiffSince,
    /// `flux_history`
    History,
    /// `flux_at`
    At,
}

/// All, in the order of the list.
pub(super) const TOOLS: [Tool; 8] = [
    Tool::Get,
    Tool::List,
    Tool::Publish,
    Tool::Delete,
    Tool::WaitFor,
    Tool::DiffSince,
    Tool::History,
    Tool::At,
];

/// The JSON array of `tools/list`.
const TOOLS_JSON: &str = include_str!("tools.json");

/// The same in one line, as a message over standard output has to be.
pub(super) fn list_in_one_line() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| TOOLS_JSON.lines().collect());
    &LINE
}

impl Tool {
    /// The tool of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        TOOLS.into_iter().find(|tool| tool.name() == name)
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "flux_get",
            Self::List => "flux_list",
            Self::Publish => "flux_publish",
            Self::Delete => "flux_delete",
            Self::WaitFor => "flux_wait_for",
            Self::DiffSince => "flux_diff_since",
            Self::History => "flux_history",
            Self::At => "flux_at",
        }
    }

    /// The names of its arguments.
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["id", "fields"],
            Self::List => &["prefix", "filter", "fields", "limit", "after"],
            Self::Publish => &[
                "id",
                "properties",
                "increment",
                "min",
                "max",
                "append",
                "unset",
                "ttl",
                "expect",
                "event_id",
                "stream",
                "source",
            ],
            Self::Delete => &["id", "expect"],
            Self::WaitFor => &["id", "prefix", "filter", "since", "timeout_seconds"],
            Self::DiffSince => &["since", "id", "prefix", "filter", "limit"],
            Self::History => &["id", "namespace", "limit", "before", "since", "until"],
            Self::At => &["time", "id", "prefix", "filter", "fields", "limit", "after"],
        }
    }

    /// True if it is to store an event.
    pub(super) const fn stores_events(self) -> bool {
        matches!(self, Self::Publish | Self::Delete)
    }

    /// The same as a list for people.
    pub(super) fn list(self) -> String {
        let names: Vec<String> = self
            .arguments()
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_names_every_tool_in_order_with_the_arguments_that_it_takes() {
        let list: Value = serde_json::from_str(TOOLS_JSON).unwrap();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), TOOLS.len());
        for (tool, json) in TOOLS.into_iter().zip(list) {
            assert_eq!(json["name"], tool.name());
            assert_eq!(Tool::of(tool.name()), Some(tool));
            let names = json["inputSchema"]["properties"].as_object().unwrap();
            let listed: BTreeSet<&str> = names.keys().map(String::as_str).collect();
            let read: BTreeSet<&str> = tool.arguments().iter().copied().collect();
            assert_eq!(listed, read, "{}", tool.name());
            assert_eq!(json["inputSchema"]["additionalProperties"], false);
            assert_eq!(json["inputSchema"]["type"], "object");
            assert_eq!(json["outputSchema"]["type"], "object");
            for hint in [
                "readOnlyHint",
                "destructiveHint",
                "idempotentHint",
                "openWorldHint",
            ] {
                assert!(json["annotations"][hint].is_boolean(), "{hint}");
            }
        }
        assert_eq!(Tool::of("flux"), None);
    }

    #[test]
    fn the_list_costs_at_most_2500_tokens() {
        assert!(TOOLS_JSON.len() / 4 <= 2_500, "{}", TOOLS_JSON.len() / 4);
    }
}

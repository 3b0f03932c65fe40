//! The properties of `flux-core/directory` (API contract §6).

use super::json::write_string;
use crate::model::Timestamp;
use crate::wire::http1::write_decimal;

/// Its id.
pub const DIRECTORY_ID: &str = "flux-core/directory";

/// A namespace in the directory.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'n> {
    /// Its name.
    pub name: &'n str,
    /// Entities that it holds.
    pub entities: u64,
    /// The time of its last event; `None` where it holds nothing.
    pub last_updated: Option<Timestamp>,
}

/// The `namespaces` property: `[{"name", "entities", "lastUpdated"}]`.
pub fn namespaces<'n>(out: &mut Vec<u8>, listed: impl Iterator<Item = Listed<'n>>) {
    out.push(b'[');
    for (index, namespace) in listed.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        write_string(out, namespace.name);
        out.extend_from_slice(b",\"entities\":");
        write_decimal(out, namespace.entities);
        out.extend_from_slice(b",\"lastUpdated\":");
        match namespace.last_updated {
            None => out.extend_from_slice(b"null"),
            Some(time) => {
                out.push(b'"');
                out.extend_from_slice(time.rfc3339().as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
    }
    out.push(b']');
}

//! Which entities the requests that have just arrived are going to ask for, before anybody works on
//! them.
//!
//! Looking up one of millions of entities is a chain of cache misses. Told of many ids at once, the
//! state follows their chains side by side; so the core first receives from all who are ready,
//! guesses the ids, and then works on the requests. A guess reads a few bytes where they usually
//! are. A wrong one costs a look-up, and a search for the place of a new entity, and changes no
//! answer.

use crate::limits::ENTITY_ID_BYTES_MAX;
use crate::model::place_bytes;
use crate::state::{PREFETCH_GROUP_IDS_MAX, PREFETCH_IDS_MAX};
use memchr::memmem::Finder;
use std::ops::ControlFlow;

/// Bytes of one connection that are looked at. Whoever has sent more has sent a batch, which looks
/// ahead by itself.
pub(crate) const PENDING_BYTES_MAX: usize = 8 * 1024;

/// What the frame of a whole text message begins with (RFC 6455 §5.2).
const TEXT_FRAME: u8 = 0x81;

/// Finds ids in requests.
#[derive(Debug)]
pub(crate) struct Prefetcher {
    member: Finder<'static>,
    path: Finder<'static>,
}

/// The ids that were guessed and not yet looked up.
#[derive(Debug, Default)]
pub(crate) struct PrefetchIds<'b> {
    ids: [&'b [u8]; PREFETCH_GROUP_IDS_MAX],
    len: usize,
    /// How many were handed over.
    done: usize,
    /// Only ids of this shard of so many are of use; all of them if that is not said.
    shard: Option<(u16, u16)>,
}

impl Default for Prefetcher {
    fn default() -> Self {
        Self {
            member: Finder::new("\"entity_id\""),
            path: Finder::new("GET /api/state/entities/"),
        }
    }
}

impl<'b> PrefetchIds<'b> {
    /// For one shard of so many.
    pub(crate) fn for_shard(shard: u16, shards: u16) -> Self {
        Self {
            shard: (shards > 1).then_some((shard, shards)),
            ..Self::default()
        }
    }

    /// Adds an id, and hands them over once they are as many as are looked up side by side.
    /// `Break` if no more is of use.
    pub(crate) fn push(
        &mut self,
        id: &'b [u8],
        prefetch: impl FnOnce(&[&'b [u8]]),
    ) -> ControlFlow<()> {
        if let Some((shard, shards)) = self.shard
            && place_bytes(id, shards) != shard
        {
            return ControlFlow::Continue(());
        }
        if let Some(place) = self.ids.get_mut(self.len) {
            *place = id;
            self.len += 1;
        }
        if self.len == PREFETCH_GROUP_IDS_MAX {
            self.finish(prefetch);
        }
        if self.is_enough() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// True if no more is of use, and nobody is to wait because somebody sent many.
    pub(crate) fn is_enough(&self) -> bool {
        self.done >= PREFETCH_IDS_MAX
    }

    /// Hands over what is left.
    pub(crate) fn finish(&mut self, prefetch: impl FnOnce(&[&'b [u8]])) {
        // A look-up alone is no faster for having been made twice.
        if self.len > 1 {
            prefetch(self.ids.get(..self.len).unwrap_or_default());
        }
        self.done += self.len;
        self.len = 0;
    }
}

impl Prefetcher {
    /// Guesses from what has arrived on one connection, until `found` has enough.
    pub(crate) fn guess<'b>(
        &self,
        pending: &'b [u8],
        mut found: impl FnMut(&'b [u8]) -> ControlFlow<()>,
    ) {
        if pending.len() > PENDING_BYTES_MAX {
            return;
        }
        match pending.first() {
            Some(&(b'P' | TEXT_FRAME)) => {
                for at in self.member.find_iter(pending) {
                    let rest = pending.get(at + self.member.needle().len()..);
                    if let Some(id) = rest.and_then(member_value)
                        && found(id).is_break()
                    {
                        return;
                    }
                }
            }
            Some(b'G') => {
                for at in self.path.find_iter(pending) {
                    let rest = pending.get(at + self.path.needle().len()..);
                    if let Some(id) =
                        rest.and_then(|rest| until(rest, |byte| b" ?".contains(&byte)))
                        && found(id).is_break()
                    {
                        return;
                    }
                }
            }
            _ => {}
        }
    }
}

/// The text of the string behind a member's name.
fn member_value(rest: &[u8]) -> Option<&[u8]> {
    let quote = rest.iter().position(|byte| !b": \t".contains(byte))?;
    let text = rest.get(quote..)?.strip_prefix(b"\"")?;
    until(text, |byte| byte == b'"')
}

/// What comes before the end of an id.
fn until(rest: &[u8], is_end: impl Fn(u8) -> bool) -> Option<&[u8]> {
    let end = rest
        .iter()
        .take(ENTITY_ID_BYTES_MAX + 1)
        .position(|byte| is_end(*byte))?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::place;

    fn guessed(pending: &str) -> Vec<&str> {
        let mut ids = Vec::new();
        Prefetcher::default().guess(pending.as_bytes(), |id| {
            ids.push(str::from_utf8(id).unwrap());
            ControlFlow::Continue(())
        });
        ids
    }

    #[test]
    fn ids_of_events_are_guessed_with_and_without_spaces() {
        let two = "POST /api/events HTTP/1.1\r\n\r\n{\"payload\":{\"entity_id\":\"a/1\"}}\
                   POST /api/events HTTP/1.1\r\n\r\n{\"payload\": {\"entity_id\": \"b\", \"x\": 1}}";
        assert_eq!(guessed(two), ["a/1", "b"]);
    }

    #[test]
    fn ids_in_the_messages_of_a_websocket_are_guessed() {
        let frame = |text: &str| {
            let len = u8::try_from(text.len()).unwrap();
            [&[TEXT_FRAME, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
        };
        let publish = frame(r#"{"type":"publish","id":1,"event":{"payload":{"entity_id":"a/1"}}}"#);
        let get = frame(r#"{"type":"get","id":2,"entity_id":"b"}"#);
        let (pending, mut ids) = ([publish, get].concat(), Vec::new());
        Prefetcher::default().guess(&pending, |id| {
            ids.push(id.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(ids, [b"a/1".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn ids_in_paths_are_guessed() {
        let two = "GET /api/state/entities/a/1 HTTP/1.1\r\n\r\nGET /api/state/entities/b?fields=x HTTP/1.1";
        assert_eq!(guessed(two), ["a/1", "b"]);
    }

    #[test]
    fn what_is_cut_off_or_strange_is_not_guessed() {
        for pending in [
            "",
            "P",
            "POST {\"entity_id\"",
            "POST {\"entity_id\":",
            "POST {\"entity_id\":7}",
            "POST {\"entity_id\":\"a",
            "GET /api/state/entities/a",
            "DELETE /api/state/entities/a HTTP/1.1",
        ] {
            assert_eq!(guessed(pending), [""; 0], "{pending}");
        }
        let long = format!("POST {{\"entity_id\":\"{}\"}}", "x".repeat(600));
        assert_eq!(guessed(&long), [""; 0]);
    }

    #[test]
    fn what_other_shards_hold_is_not_looked_up() {
        let ids: Vec<String> = (0..12).map(|number| format!("n{number}/e")).collect();
        let (mut prefetch_ids, mut found) = (PrefetchIds::for_shard(1, 3), Vec::new());
        for id in &ids {
            assert!(prefetch_ids.push(id.as_bytes(), |_| {}).is_continue());
        }
        prefetch_ids.finish(|ids| found.extend(ids.iter().map(|id| id.to_vec())));
        let own = ids.iter().filter(|id| place(id, 3) == 1);
        assert!(own.map(String::as_bytes).eq(&found));
        assert!(found.len() > 1, "{found:?}");
    }

    #[test]
    fn all_that_was_guessed_is_looked_up_in_groups_but_for_one_alone() {
        let groups = |count: usize| {
            let ids: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let (mut prefetch_ids, mut groups) = (PrefetchIds::default(), Vec::new());
            for id in &ids {
                let more = prefetch_ids.push(id.as_bytes(), |ids| groups.push(ids.len()));
                if more.is_break() {
                    break;
                }
            }
            prefetch_ids.finish(|ids| groups.push(ids.len()));
            groups
        };
        assert_eq!(groups(2 * PREFETCH_IDS_MAX), [PREFETCH_GROUP_IDS_MAX; 16]);
        assert_eq!(groups(0), [0; 0]);
        assert_eq!(groups(1), [0; 0]);
        assert_eq!(groups(2), [2]);
        assert_eq!(
            groups(2 * PREFETCH_GROUP_IDS_MAX + 1),
            [PREFETCH_GROUP_IDS_MAX; 2]
        );
        assert_eq!(
            groups(PREFETCH_GROUP_IDS_MAX + 3),
            [PREFETCH_GROUP_IDS_MAX, 3]
        );
    }
}

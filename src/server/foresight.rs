//! Which entities the requests that have just arrived are going to ask for, before anybody works on them.
//!
//! Looking up one of millions of entities is a chain of cache misses. Told of many ids at once, the state follows their
//! chains side by side; so the core first receives from all who are ready, guesses the ids, and then works on the requests.
//! A guess reads a few bytes where they usually are. A wrong one costs a look-up and changes nothing.

use crate::limits::ENTITY_ID_BYTES_MAX;
use crate::state::WARM_IDS_MAX;
use memchr::memmem::Finder;

/// Bytes of one connection that are looked at. Whoever has sent more has sent a batch, which looks ahead by itself.
const PENDING_BYTES_MAX: usize = 8 * 1024;

/// Finds ids in requests.
#[derive(Debug)]
pub(super) struct Foresight {
    member: Finder<'static>,
    path: Finder<'static>,
}

/// The ids that were guessed.
#[derive(Debug, Default)]
pub(super) struct Guesses<'b> {
    ids: [&'b str; WARM_IDS_MAX],
    len: usize,
}

impl Default for Foresight {
    fn default() -> Self {
        Self {
            member: Finder::new("\"entity_id\""),
            path: Finder::new("GET /api/state/entities/"),
        }
    }
}

impl<'b> Guesses<'b> {
    /// What was guessed so far.
    pub(super) fn ids(&self) -> &[&'b str] {
        self.ids.get(..self.len).unwrap_or_default()
    }

    /// True where no more is of use.
    pub(super) fn is_full(&self) -> bool {
        self.len == WARM_IDS_MAX
    }

    fn push(&mut self, id: &'b [u8]) {
        if let (Ok(id), Some(place)) = (str::from_utf8(id), self.ids.get_mut(self.len)) {
            *place = id;
            self.len += 1;
        }
    }
}

impl Foresight {
    /// Guesses from what has arrived on one connection.
    pub(super) fn guess<'b>(&self, pending: &'b [u8], guesses: &mut Guesses<'b>) {
        if pending.len() > PENDING_BYTES_MAX {
            return;
        }
        match pending.first() {
            Some(b'P') => {
                for at in self.member.find_iter(pending) {
                    let rest = pending.get(at + self.member.needle().len()..);
                    if let Some(id) = rest.and_then(member_value) {
                        guesses.push(id);
                    }
                }
            }
            Some(b'G') => {
                for at in self.path.find_iter(pending) {
                    let rest = pending.get(at + self.path.needle().len()..);
                    if let Some(id) =
                        rest.and_then(|rest| until(rest, |byte| b" ?".contains(&byte)))
                    {
                        guesses.push(id);
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

    fn guessed(pending: &str) -> Vec<&str> {
        let mut guesses = Guesses::default();
        Foresight::default().guess(pending.as_bytes(), &mut guesses);
        guesses.ids().to_vec()
    }

    #[test]
    fn ids_of_events_are_guessed_with_and_without_spaces() {
        let two = "POST /api/events HTTP/1.1\r\n\r\n{\"payload\":{\"entity_id\":\"a/1\"}}\
                   POST /api/events HTTP/1.1\r\n\r\n{\"payload\": {\"entity_id\": \"b\", \"x\": 1}}";
        assert_eq!(guessed(two), ["a/1", "b"]);
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
    fn no_more_is_guessed_than_is_of_use() {
        let many = format!("P{}", "\"entity_id\":\"a\"".repeat(100));
        assert_eq!(guessed(&many).len(), WARM_IDS_MAX);
    }
}

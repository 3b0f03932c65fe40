//! The binding of an entity to a connection, as it is asked for: the value of a term.
//!
//! ```text
//! linger ms SP core SP index SP generation
//! ```

use super::{Term, TermKind};

/// A connection of a client. One that has its index later has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The core that it came to.
    pub core: u16,
    /// Its index on that core.
    pub index: u32,
    /// How often that index was handed out.
    pub generation: u32,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The entity is deleted so many milliseconds after the connection has ended.
    pub linger_ms: u32,
    /// The connection.
    pub connection: ConnectionId,
}

impl Binding {
    /// Appends the term that asks for it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let ConnectionId {
            core,
            index,
            generation,
        } = self.connection;
        let value = format!("{} {core} {index} {generation}", self.linger_ms);
        let term = Term {
            kind: TermKind::Bind,
            name: "",
            value: &value,
        };
        term.encode(out);
    }

    /// What a term asks for; `None` if that is no binding.
    pub fn of(term: &Term<'_>) -> Option<Self> {
        let mut numbers = term.value.split(' ').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        (term.kind == TermKind::Bind).then_some(())?;
        Some(Self {
            linger_ms: next()?,
            connection: ConnectionId {
                core: u16::try_from(next()?).ok()?,
                index: next()?,
                generation: next()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Terms;

    #[test]
    fn a_binding_comes_back_from_its_term() {
        let binding = Binding {
            linger_ms: 300_000,
            connection: ConnectionId {
                core: u16::MAX,
                index: u32::MAX,
                generation: 0,
            },
        };
        let mut bytes = Vec::new();
        binding.encode(&mut bytes);
        let mut terms = Terms::new(&bytes);
        assert_eq!(
            terms.next().and_then(|term| Binding::of(&term)),
            Some(binding)
        );
        assert!(terms.next().is_none());
        for value in ["", "1", "1 2 3", "1 65536 3 4", "x 1 2 3"] {
            let term = Term {
                kind: TermKind::Bind,
                name: "",
                value,
            };
            assert_eq!(Binding::of(&term), None, "{value}");
        }
    }
}

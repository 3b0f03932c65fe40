//! What an event asks of its owner besides being stored: conditions that have to hold, operations
//! whose results are stored, and how long its entity stays.
//!
//! They travel beside the stored form of the event, and are never stored themselves:
//!
//! ```text
//! (kind u8 | name | value) ...
//! ```
//!
//! Names and values are texts behind their lengths, as in the stored event. Terms of a kind are
//! ascending by name, each name once.

use super::event::{put_text, take_text};

/// What a term says; its number in the encoded form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TermKind {
    /// The entity has the version in *value*.
    Version = 1,
    /// The entity has the entity tag in *value*.
    EntityTag = 2,
    /// There is no entity.
    Absent = 3,
    /// There is an entity.
    Present = 4,
    /// The property *name* is there and equals *value*, which is JSON text.
    Equal = 5,
    /// The property *name* is not there.
    Missing = 6,
    /// There is an entity that matches the filter in *value*.
    Filter = 7,
    /// *value*, a number, is added to the property *name*.
    Increment = 16,
    /// The property *name* becomes *value*, a number, if that is less.
    Min = 17,
    /// The same if that is more.
    Max = 18,
    /// The elements of *value*, an array, are added to the property *name*.
    Append = 19,
    /// The property *name* is removed.
    Unset = 20,
    /// The entity expires *value* seconds after the event, or not any more if that is `null`.
    Ttl = 21,
    /// The entity is bound to a connection, as *value* says (`binding.rs`).
    Bind = 24,
}

impl TermKind {
    /// True for an operation: what has a result.
    pub const fn is_operation(self) -> bool {
        matches!(
            self,
            Self::Increment | Self::Min | Self::Max | Self::Append | Self::Unset
        )
    }

    /// True of a condition.
    pub const fn is_condition(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::EntityTag
                | Self::Absent
                | Self::Present
                | Self::Equal
                | Self::Missing
                | Self::Filter
        )
    }

    /// The member of a payload that holds operations of this kind.
    const fn member(self) -> &'static str {
        match self {
            Self::Increment => "increment",
            Self::Min => "min",
            Self::Max => "max",
            Self::Append => "append",
            Self::Unset => "unset",
            _ => "expect",
        }
    }

    /// Where a payload names a property for this kind, as errors say it: `increment.count`.
    pub fn place(self, name: &str) -> Box<str> {
        let member = self.member();
        if name.is_empty() {
            member.into()
        } else {
            format!("{member}.{name}").into()
        }
    }

    /// True for what a payload asks for, false for what has to hold.
    pub const fn is_of_payload(self) -> bool {
        self.is_operation() || matches!(self, Self::Ttl)
    }

    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Version,
            Self::EntityTag,
            Self::Absent,
            Self::Present,
            Self::Equal,
            Self::Missing,
            Self::Filter,
            Self::Increment,
            Self::Min,
            Self::Max,
            Self::Append,
            Self::Unset,
            Self::Ttl,
            Self::Bind,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One condition or operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term<'a> {
    /// What it says.
    pub kind: TermKind,
    /// A property's name, if it concerns one.
    pub name: &'a str,
    /// See [`TermKind`].
    pub value: &'a str,
}

impl Term<'_> {
    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        put_text(out, self.name);
        put_text(out, self.value);
    }
}

/// Encoded terms, in order. What is no term ends them.
#[derive(Debug, Clone)]
pub struct Terms<'a>(&'a [u8]);

impl<'a> Terms<'a> {
    /// The terms that [`Term::encode`] wrote one after the other.
    pub const fn new(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Terms<'a> {
    type Item = Term<'a>;

    fn next(&mut self) -> Option<Term<'a>> {
        let (&kind, mut rest) = self.0.split_first()?;
        let kind = TermKind::of(kind)?;
        let name = take_text(&mut rest).ok()?;
        let value = take_text(&mut rest).ok()?;
        self.0 = rest;
        Some(Term { kind, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_come_back_in_order() {
        let terms = [
            (TermKind::Version, "", "7"),
            (TermKind::Equal, "status", r#""open""#),
            (TermKind::Missing, "", ""),
        ];
        let terms = terms.map(|(kind, name, value)| Term { kind, name, value });
        let mut bytes = Vec::new();
        for term in &terms {
            term.encode(&mut bytes);
        }
        assert_eq!(Terms::new(&bytes).collect::<Vec<_>>(), terms);
        for len in 0..bytes.len() {
            assert!(Terms::new(&bytes[..len]).count() < terms.len());
        }
        assert_eq!(Terms::new(&[0, 0, 0]).count(), 0);
    }
}

//! When an entity ends by itself: by the clock, or with the connection that it is bound to.

use super::{Binding, TermKind, Terms, Timestamp};

/// What an entity keeps of it. The default is an entity that stays until it is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// It is deleted at this time.
    pub expires: Option<Timestamp>,
    /// It is bound to a connection, and is deleted so many milliseconds after that ends.
    pub linger_ms: Option<u32>,
}

impl Lifetime {
    /// True if the entity stays until it is deleted.
    pub const fn is_endless(self) -> bool {
        self.expires.is_none() && self.linger_ms.is_none()
    }

    /// As an event leaves it.
    #[must_use]
    pub fn changed(self, change: LifetimeChange) -> Self {
        Self {
            expires: match change.expires {
                ExpiryChange::None => self.expires,
                ExpiryChange::Never => None,
                ExpiryChange::At(time) => Some(time),
            },
            linger_ms: change.linger_ms.or(self.linger_ms),
        }
    }
}

/// What an event says of when its entity expires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExpiryChange {
    /// Nothing: that stays as it is.
    #[default]
    None,
    /// It does not expire any more.
    Never,
    /// At this time.
    At(Timestamp),
}

/// What an event says of its entity's lifetime. The default says nothing: all stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LifetimeChange {
    /// When it expires from now on.
    pub expires: ExpiryChange,
    /// It is bound from now on, and lingers for so many milliseconds.
    pub linger_ms: Option<u32>,
}

impl LifetimeChange {
    /// What an event asks for that is accepted at this time.
    pub fn asked(terms: Terms<'_>, accepted: Timestamp) -> Self {
        let mut change = Self::default();
        for term in terms {
            if term.kind == TermKind::Ttl {
                let micros = ttl_micros(term.value);
                change.expires = micros.map_or(ExpiryChange::Never, |micros| {
                    let expires = accepted.as_micros().saturating_add(micros);
                    ExpiryChange::At(Timestamp::from_micros(expires))
                });
            }
            if let Some(binding) = Binding::of(&term) {
                change.linger_ms = Some(binding.linger_ms);
            }
        }
        change
    }

    /// True if the event says nothing.
    pub const fn is_none(self) -> bool {
        matches!(self.expires, ExpiryChange::None) && self.linger_ms.is_none()
    }
}

/// The microseconds of a `ttl`, which is JSON text: a number of seconds. `None` for `null`.
///
/// Exact to the microsecond: the longest has 15 digits of them.
fn ttl_micros(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok()?;
    let micros = (seconds * 1e6).round();
    // As many as fit are in range: the bound on a `ttl` is far below.
    (0.0..9e15).contains(&micros).then(|| {
        let duration = std::time::Duration::from_secs_f64(micros / 1e6);
        let rounded = duration.as_nanos().saturating_add(500) / 1000;
        i64::try_from(rounded).unwrap_or(i64::MAX)
    })
}

/// Why the server deletes an entity by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// Its time is over.
    Expired,
    /// The connection that it was bound to has ended.
    Unbound,
}

impl EndCause {
    /// The cause of tombstones in this stream.
    pub fn of(stream: &str) -> Option<Self> {
        let causes = [Self::Expired, Self::Unbound];
        causes.into_iter().find(|cause| cause.stream() == stream)
    }

    /// The stream of the tombstone.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Expired => "flux.expire",
            Self::Unbound => "flux.presence",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_microseconds() {
        for (text, expected) in [
            ("0.1", Some(100_000)),
            ("1", Some(1_000_000)),
            ("30.5", Some(30_500_000)),
            ("0.1234567", Some(123_457)),
            ("1e2", Some(100_000_000)),
            ("315360000", Some(315_360_000_000_000)),
            ("315359999.999999", Some(315_359_999_999_999)),
            ("null", None),
        ] {
            assert_eq!(ttl_micros(text), expected, "{text}");
        }
    }

    #[test]
    fn an_event_changes_only_what_it_names() {
        let at = |micros| Some(Timestamp::from_micros(micros));
        let lifetime = Lifetime {
            expires: at(5),
            linger_ms: Some(7),
        };
        let check = |expires, linger_ms, expected: (Option<Timestamp>, Option<u32>)| {
            let change = LifetimeChange { expires, linger_ms };
            let (expires, linger_ms) = expected;
            assert_eq!(lifetime.changed(change), Lifetime { expires, linger_ms });
        };
        let to = ExpiryChange::At(Timestamp::from_micros(6));
        check(ExpiryChange::None, None, (at(5), Some(7)));
        check(to, None, (at(6), Some(7)));
        check(ExpiryChange::Never, None, (None, Some(7)));
        check(ExpiryChange::None, Some(8), (at(5), Some(8)));
    }
}

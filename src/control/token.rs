//! What the control plane keeps of a token that was made besides its namespace's first. Changes
//! carry it, and the registry holds it.

use crate::auth::TokenHash;
use crate::model::{Scopes, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const MICROS_PER_MINUTE: i64 = 60_000_000;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceToken {
    /// `tok_…`, never given twice.
    pub id: Box<str>,
    /// What is kept of the secret.
    pub hash: TokenHash,
    /// What its maker calls it.
    pub label: Option<Box<str>>,
    /// What it lets its holder do.
    pub scopes: Scopes,
    /// Only with ids that begin so.
    pub prefix: Option<Arc<str>>,
    /// When it was made.
    pub created: Timestamp,
    /// Only before this time.
    pub expires: Option<Timestamp>,
    /// When it was last presented.
    pub last_use: LastUse,
}

impl NamespaceToken {
    /// True if its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The minute in which a token was last presented, on whichever core. One number for all cores: a
/// use reads it, and writes it only if the minute is another.
#[derive(Debug, Clone, Default)]
pub struct LastUse(Arc<AtomicU32>);

impl LastUse {
    /// The token is presented now.
    pub fn note(&self, now: Timestamp) {
        let minute = now.as_micros().checked_div(MICROS_PER_MINUTE);
        let minute = minute.and_then(|minute| u32::try_from(minute).ok());
        self.set(minute.unwrap_or_default());
    }

    /// It was presented in this minute since 1970.
    pub(super) fn set(&self, minute: u32) {
        if self.0.load(Relaxed) < minute {
            self.0.fetch_max(minute, Relaxed);
        }
    }

    /// The minute since 1970; 0 if it never was.
    pub(super) fn minute(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// When the minute began; `None` if it never was.
    pub fn time(&self) -> Option<Timestamp> {
        let minute = self.minute();
        let micros = i64::from(minute).saturating_mul(MICROS_PER_MINUTE);
        (minute > 0).then_some(Timestamp::from_micros(micros))
    }
}

impl PartialEq for LastUse {
    fn eq(&self, other: &Self) -> bool {
        self.minute() == other.minute()
    }
}

impl Eq for LastUse {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_is_known_to_the_minute_by_all_who_share_it() {
        let used = LastUse::default();
        let elsewhere = used.clone();
        assert_eq!(used.time(), None);
        used.note(Timestamp::from_micros(3 * MICROS_PER_MINUTE + 59_999_999));
        let third = Some(Timestamp::from_micros(3 * MICROS_PER_MINUTE));
        assert_eq!(elsewhere.time(), third);
        // A clock that was set back.
        elsewhere.note(Timestamp::from_micros(MICROS_PER_MINUTE));
        elsewhere.note(Timestamp::from_micros(-1));
        assert_eq!(used.time(), third);
    }
}

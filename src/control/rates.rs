//! How much a namespace may have stored in the control log: token buckets of bytes.
//!
//! The control log is kept for ever and read by each start, so what one namespace adds to it is
//! bounded in the long run. What takes something away costs nothing and is never refused: it was
//! stored before. A connector counts for its namespace whoever defines it; what else the operator
//! changes is not counted, and nothing is on a server without tokens.
//!
//! Another token in the place of one that has leaked, and what makes a namespace private, have a
//! bucket of their own: whoever has the leaked one must not be able to use that up by connectors.
//!
//! A bucket begins full and is refilled evenly. It is kept as one number, the time at which it is
//! full again; one that is full is forgotten.

use super::change::Change;
use super::command::{Command, CommandRejection};
use crate::limits::{CONTROL_BYTES_BURST, CONTROL_BYTES_PER_SECOND, CONTROL_RECORD_BYTES};
use crate::model::Timestamp;
use std::collections::HashMap;

const MICROS: i64 = 1_000_000;
/// The time in which an empty bucket is refilled.
const PERIOD_MICROS: i64 = CONTROL_BYTES_BURST
    .saturating_div(CONTROL_BYTES_PER_SECOND)
    .saturating_mul(MICROS);
/// Buckets from which on full ones are looked for.
const BUCKETS_KEPT: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub struct ControlRates {
    /// When buckets that are not full will be.
    full_at: HashMap<Box<str>, i64>,
    /// Buckets that there may be before the next look at which are full.
    look_at: usize,
    encoded: Vec<u8>,
}

impl ControlRates {
    /// Takes what a change costs that `payer` asks for.
    ///
    /// # Errors
    /// [`CommandRejection::TooManyChanges`] if it has not as much left.
    pub fn take(
        &mut self,
        (payer, change): (&str, &Change),
        now: Timestamp,
    ) -> Result<(), CommandRejection> {
        self.encoded.clear();
        change.encode(&mut self.encoded);
        let bytes = i64::try_from(self.encoded.len()).unwrap_or(i64::MAX);
        let bytes = bytes.saturating_add(CONTROL_RECORD_BYTES);
        let cost = bytes
            .saturating_mul(MICROS)
            .saturating_div(CONTROL_BYTES_PER_SECOND);
        let now = now.as_micros();
        self.forget_full(now);
        // If the clock was set back, the bucket is as empty as it can be, and no more than that.
        let latest = now.saturating_add(PERIOD_MICROS);
        let full_at = self.full_at.get(payer).copied().unwrap_or(now);
        let full_at = full_at.clamp(now, latest);
        let next = full_at.saturating_add(cost);
        if next > latest {
            // So it is refilled from here on.
            self.full_at.insert(payer.into(), full_at);
            let wait = next.saturating_sub(latest);
            let seconds = wait.unsigned_abs().div_ceil(MICROS.unsigned_abs());
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            return Err(CommandRejection::TooManyChanges { seconds });
        }
        self.full_at.insert(payer.into(), next);
        Ok(())
    }

    fn forget_full(&mut self, now: i64) {
        if self.full_at.len() > self.look_at.max(BUCKETS_KEPT) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.look_at = self.full_at.len().saturating_mul(2);
        }
    }
}

impl Command {
    /// The name of the bucket that pays for what is stored. `None`: the operator asks, an address
    /// is counted instead, or something is taken away.
    pub fn payer(&self) -> Option<Box<str>> {
        match self {
            Self::MakeToken { name, by, .. } => by.is_some().then(|| name.clone()),
            // No namespace is called that.
            Self::ReplaceToken { name, by, .. } | Self::SetVisibility { name, by, .. } => {
                by.is_some().then(|| format!("{name} access").into())
            }
            Self::DefineConnector { id, .. } | Self::StoreCredential { id, .. } => {
                (!id.owner.is_empty()).then(|| (*id.owner).into())
            }
            Self::Register(_)
            | Self::Delete { .. }
            | Self::Configure(_)
            | Self::RemoveConnector(_)
            | Self::RemoveCredential(_)
            | Self::RevokeToken { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectorId, Visibility};

    fn define(bytes: usize) -> Change {
        Change::ConnectorDefined {
            id: ConnectorId {
                owner: "house".into(),
                name: "meter".into(),
            },
            definition: "x".repeat(bytes).into(),
        }
    }

    fn at_ms(ms: i64) -> Timestamp {
        Timestamp::from_micros(ms.checked_mul(1000).unwrap())
    }

    #[test]
    fn a_namespace_stores_so_much_at_once_and_then_so_much_a_second() {
        const BYTES: usize = 16 * 1024;
        let mut rates = ControlRates::default();
        let take = |rates: &mut ControlRates, payer: &str, ms| {
            rates.take((payer, &define(BYTES)), at_ms(ms))
        };
        let taken = (0..).take_while(|_| take(&mut rates, "house", 0).is_ok());
        let taken = taken.count();
        assert!((240..256).contains(&taken), "{taken}");
        let refused = take(&mut rates, "house", 0).unwrap_err();
        let CommandRejection::TooManyChanges { seconds } = refused else {
            panic!("{refused:?}");
        };
        assert!((1..=17).contains(&seconds), "{seconds}");
        assert!(take(&mut rates, "garden", 0).is_ok(), "another");
        let later = i64::from(seconds).checked_mul(1000).unwrap();
        assert!(take(&mut rates, "house", later).is_ok());
        assert!(take(&mut rates, "house", later).is_err());
        assert!(take(&mut rates, "house", -9_000_000).is_err(), "set back");
        assert!(take(&mut rates, "house", -8_970_000).is_ok(), "it refills");
        for number in 0..10_000_i64 {
            let payer = number.to_string();
            let ms = number.checked_mul(100_000).unwrap();
            take(&mut rates, &payer, ms).unwrap();
        }
        assert!(rates.full_at.len() <= BUCKETS_KEPT.saturating_add(1));
    }

    #[test]
    fn what_takes_away_and_the_operator_pay_nothing() {
        let visibility = |by| Command::SetVisibility {
            name: "house".into(),
            by,
            visibility: Visibility::Public,
        };
        let id = ConnectorId {
            owner: "house".into(),
            name: "meter".into(),
        };
        let token = crate::auth::TokenHash::of(b"token");
        let by_token = visibility(Some(token)).payer();
        assert_eq!(by_token.as_deref(), Some("house access"));
        assert_eq!(visibility(None).payer(), None);
        assert_eq!(Command::RemoveConnector(id).payer(), None);
    }
}

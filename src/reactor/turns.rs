//! Whose turn it is: how connections share a core.
//!
//! The unit of fairness is the connection. An address is none: everyone behind a proxy shares one.
//! What a connection costs is counted in units of work (`limits`), not in requests, since one
//! request may be a byte or ten mebibytes.
//!
//! ```text
//! few are active    │ a slice │ b slice │ a slice │ b slice │   each does all that it can
//! many are active   │ a │ b │ c │ … │ z │ b │ c │ … │ a │       `a` has spent more, and rests
//! ```
//!
//! A connection spends as it is worked on, and is given back [`EQUAL_SHARES_MAX`] times an equal
//! share of the time that passes. One that owes more than a small allowance rests until it does
//! not. So a client that sends as fast as it can, or only large requests, costs the others a few
//! percent of the core, and has the whole of it if it is alone. Round robin by requests would not
//! do: a batch of a thousand events would count as one.
//!
//! Pure: work and times are arguments.

use crate::limits::{
    ACTIVE_MICROS, EQUAL_SHARES_MAX, HEAVY_SLICES, HEAVY_UNITS, REST_MICROS_MAX, SEND_SLICE_UNITS,
    UNITS_PER_MICRO,
};
use crate::model::Slicing;

/// What one connection owes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    /// Units.
    owed: u64,
    /// The time up to which it was given its share.
    paid_micros: u64,
    /// The period in which it was last counted as active.
    period: u64,
    /// Small slices until it counts as small again.
    heavy: u8,
    /// Something was done for it.
    is_known: bool,
}

impl Account {
    /// So much was done for the connection in a slice.
    pub(crate) fn charge(&mut self, units: u64) {
        self.charge_besides(units);
        self.is_known |= units > 0;
        if units >= HEAVY_UNITS {
            self.heavy = HEAVY_SLICES;
        } else if units > 0 {
            self.heavy = self.heavy.saturating_sub(1);
        }
    }

    /// So much was done for the connection, and it was no slice of a request.
    pub(crate) fn charge_besides(&mut self, units: u64) {
        self.owed = self.owed.saturating_add(units);
    }

    /// So much was sent to the connection in a slice. What it asks for may be little to find, and
    /// much to send.
    pub(crate) fn note_sent(&mut self, units: u64) {
        if units >= SEND_SLICE_UNITS {
            self.heavy = HEAVY_SLICES;
        }
    }

    /// True until something was done for it in a slice. What it is going to ask for is not known.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.is_known
    }

    /// Its slice ended before its work did.
    pub(crate) fn note_unfinished(&mut self) {
        self.heavy = HEAVY_SLICES;
    }

    /// True if one of its last slices was large. Its next one waits for those whose were not.
    pub(crate) fn is_heavy(&self) -> bool {
        self.heavy > 0
    }
}

/// Connections of a core that are active.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    slicing: Slicing,
    period: u64,
    /// Connections that were worked on in this period so far.
    current: u64,
    /// The same in the period before.
    before: u64,
}

impl Turns {
    /// Nobody is active. `slicing`: how much is done in one go.
    pub(crate) fn new(slicing: Slicing) -> Self {
        Self {
            slicing,
            ..Self::default()
        }
    }

    /// Microseconds that a connection has to rest before it is worked on again; `None`: it is its
    /// turn.
    pub(crate) fn rest(&mut self, account: &mut Account, now_micros: u64) -> Option<u64> {
        self.count(account, now_micros);
        let passed = now_micros.saturating_sub(account.paid_micros);
        account.paid_micros = now_micros;
        let active = self.active();
        if active <= EQUAL_SHARES_MAX {
            account.owed = 0;
            return None;
        }
        let given = passed.saturating_mul(UNITS_PER_MICRO * EQUAL_SHARES_MAX) / active;
        account.owed = account.owed.saturating_sub(given);
        let beyond = account
            .owed
            .checked_sub(self.slicing.connection_units_min + 1)?
            + 1;
        let micros = beyond.saturating_mul(active) / (UNITS_PER_MICRO * EQUAL_SHARES_MAX);
        Some(micros.clamp(1, REST_MICROS_MAX))
    }

    /// Units that a connection may spend in one turn.
    pub(crate) fn slice(&self) -> u64 {
        let Slicing {
            units,
            connection_units_min,
            ..
        } = self.slicing;
        let share = units.saturating_mul(EQUAL_SHARES_MAX) / self.active().max(1);
        share.clamp(connection_units_min, units)
    }

    /// Connections that count as active.
    fn active(&self) -> u64 {
        self.current.max(self.before)
    }

    fn count(&mut self, account: &mut Account, now_micros: u64) {
        let period = now_micros / ACTIVE_MICROS + 1;
        if period != self.period {
            self.before = if period == self.period + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.period = period;
        }
        if account.period != period {
            account.period = period;
            self.current += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REQUEST_UNITS;

    /// What a batch of a thousand events costs.
    const LARGE_UNITS: u64 = 1024 * 1024;

    /// A core that works on `modest` connections with one request each at a time, and on one that
    /// spends `greedy_units` whenever it may, for a second. Returns how many thousandths of the
    /// core's time the greedy one has had.
    fn greedy_permille(modest: usize, greedy_units: u64) -> u64 {
        let mut turns = Turns::new(Slicing::SMALL);
        let mut modest = vec![Account::default(); modest];
        let mut greedy = Account::default();
        let (mut micros, mut all, mut of_greedy) = (1_u64, 0_u64, 0_u64);
        while micros < 1_000_000 {
            let mut spent = 0;
            for account in &mut modest {
                assert_eq!(
                    turns.rest(account, micros),
                    None,
                    "a modest one never rests"
                );
                account.charge(REQUEST_UNITS);
                spent += REQUEST_UNITS;
            }
            if turns.rest(&mut greedy, micros).is_none() {
                greedy.charge(greedy_units);
                spent += greedy_units;
                of_greedy += greedy_units;
            }
            all += spent;
            micros += spent.div_ceil(UNITS_PER_MICRO);
        }
        of_greedy * 1000 / all
    }

    #[test]
    fn a_greedy_connection_beside_a_hundred_takes_a_few_percent_of_the_core() {
        for units in [20 * REQUEST_UNITS, 300 * REQUEST_UNITS, LARGE_UNITS] {
            let share = greedy_permille(100, units);
            assert!((10..60).contains(&share), "{units}: {share}");
        }
    }

    #[test]
    fn among_few_each_does_all_that_it_can() {
        let share = greedy_permille(3, LARGE_UNITS);
        assert!(share > 990, "{share}");
        assert!(greedy_permille(0, LARGE_UNITS) > 990);
    }

    #[test]
    fn connections_that_are_all_greedy_have_the_whole_core() {
        let mut turns = Turns::new(Slicing::SMALL);
        let mut accounts = vec![Account::default(); 100];
        let (mut micros, mut rests) = (1, 0);
        for round in 0..50 {
            for account in &mut accounts {
                match turns.rest(account, micros) {
                    None => account.charge(LARGE_UNITS),
                    Some(_) => rests += 1,
                }
                micros += LARGE_UNITS / UNITS_PER_MICRO;
            }
            assert_eq!(rests, 0, "round {round}");
        }
    }

    #[test]
    fn a_connection_that_rests_is_told_for_how_long() {
        let mut turns = Turns::new(Slicing::SMALL);
        let mut others = vec![Account::default(); 50];
        let mut micros = 1;
        let mut work_on_others = |turns: &mut Turns, micros| {
            for account in &mut others {
                turns.rest(account, micros);
            }
        };
        work_on_others(&mut turns, micros);
        let mut greedy = Account::default();
        assert_eq!(turns.rest(&mut greedy, micros), None);
        greedy.charge(LARGE_UNITS);
        let rest = turns.rest(&mut greedy, micros).unwrap();
        micros += rest - 1;
        work_on_others(&mut turns, micros);
        assert!(turns.rest(&mut greedy, micros).is_some());
        assert_eq!(turns.rest(&mut greedy, micros + 2), None);
    }

    #[test]
    fn a_slice_is_smaller_the_more_are_active() {
        let mut turns = Turns::new(Slicing::SMALL);
        assert_eq!(turns.slice(), Slicing::SMALL.units);
        let mut slice_of = |count: usize| {
            let mut turns_now = std::mem::replace(&mut turns, Turns::new(Slicing::SMALL));
            for account in &mut vec![Account::default(); count] {
                turns_now.rest(account, 1);
            }
            turns_now.slice()
        };
        assert_eq!(slice_of(4), Slicing::SMALL.units);
        assert_eq!(slice_of(8), Slicing::SMALL.units / 2);
        assert_eq!(slice_of(10_000), Slicing::SMALL.connection_units_min);
    }

    #[test]
    fn who_asks_for_much_or_is_sent_much_is_heavy_until_enough_slices_were_small() {
        let small = |account: &mut Account| account.charge(REQUEST_UNITS);
        for large in [
            |account: &mut Account| account.charge(HEAVY_UNITS),
            |account: &mut Account| account.note_sent(SEND_SLICE_UNITS),
            |account: &mut Account| account.note_unfinished(),
        ] {
            let mut account = Account::default();
            small(&mut account);
            account.note_sent(SEND_SLICE_UNITS - 1);
            account.charge_besides(HEAVY_UNITS);
            assert!(!account.is_heavy());
            large(&mut account);
            for _ in 0..HEAVY_SLICES {
                assert!(account.is_heavy());
                // Nothing was done: that says nothing.
                account.charge(0);
                small(&mut account);
            }
            assert!(!account.is_heavy());
        }
    }
}

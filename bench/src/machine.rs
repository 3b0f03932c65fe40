//! How busy the machine was with other programs, which tells whether a figure was disturbed.

use anyhow::{Context, Result};
use std::fs;

/// Ticks of processor time since the machine started, and since this program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// Of all processors together, idle or not.
    all: u64,
    idle: u64,
    /// Of this program, and of the programs that it started and waited for.
    own: u64,
}

/// Watches the machine from [`Machine::watch`] to [`Machine::others`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    begin: Ticks,
}

impl Machine {
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn watch() -> Result<Self> {
        Ok(Self {
            begin: Ticks::now()?,
        })
    }

    /// The share of all processors that other programs used. The programs that this one started
    /// count as its own once they have ended; threads of the kernel and interrupts count as others.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn others(self) -> Result<f64> {
        Ok(Ticks::now()?.others_since(self.begin))
    }
}

impl Ticks {
    fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let own = fs::read_to_string("/proc/self/stat")?;
        Self::parse(&stat, &own).context("/proc does not tell the processor time")
    }

    /// From `/proc/stat` and `/proc/self/stat`, see `proc_stat(5)` and `proc_pid_stat(5)`.
    fn parse(stat: &str, own: &str) -> Option<Self> {
        let cpu = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = numbers(cpu).collect();
        let (_, fields) = own.rsplit_once(')')?;
        // Behind the state: utime, stime, cutime and cstime are fields 14 to 17 of the line.
        let own: Vec<u64> = numbers(fields.trim_start().get(1..)?)
            .skip(10)
            .take(4)
            .collect();
        Some(Self {
            // The last two, time of guests, are part of the first two.
            all: times.iter().take(8).sum(),
            idle: times.get(3)? + times.get(4)?,
            own: own.iter().sum(),
        })
    }

    fn others_since(self, begin: Self) -> f64 {
        let all = self.all.saturating_sub(begin.all);
        let idle = self.idle.saturating_sub(begin.idle);
        let own = self.own.saturating_sub(begin.own);
        let others = all.saturating_sub(idle).saturating_sub(own);
        crate::numbers::approximate(others) / crate::numbers::approximate(all.max(1))
    }
}

/// Negative numbers, such as the id of a terminal that is not there, count as 0.
fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_others_is_what_is_neither_idle_nor_own() {
        let begin = Ticks {
            all: 1_000,
            idle: 400,
            own: 100,
        };
        let stat = "cpu  500 100 200 700 100 20 80 300 7 7\ncpu0 1 2 3";
        let own = "12 (a b) S 1 12 12 -1 -1 0 0 0 0 0 150 50 60 40 20 0 1";
        let end = Ticks::parse(stat, own).unwrap();
        let expected = Ticks {
            all: 2_000,
            idle: 800,
            own: 300,
        };
        assert_eq!(end, expected);
        // 600 busy ticks of a thousand, 200 of them our own.
        assert!((end.others_since(begin) - 0.4).abs() < 1e-9);
        assert!(Ticks::parse("cpu0 1 2 3", own).is_none());
    }
}

//! Rate limits: a token bucket for each namespace, on the shard that owns the namespace.
//!
//! A bucket holds at most one minute's allowance, begins full, and is refilled evenly. An event
//! costs one token, and more if it is large. One that costs more than a full bucket holds needs a
//! full one, and leaves it in debt: so it gets through, and the rate holds in the long run.
//!
//! Levels are whole numbers: a token is [`TOKEN`] units, and a millisecond brings as many units as
//! the limit allows events in a minute. So nothing is rounded and nothing drifts, however long it
//! runs and however often it is looked at.

use std::collections::HashMap;

/// Units of one token: milliseconds of a minute.
const TOKEN: i64 = 60_000;

/// Too few tokens are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimited {
    /// Seconds until there are as many as are asked for, rounded up.
    pub seconds: u32,
}

/// The buckets of one shard's namespaces. One is made when a namespace first needs it; their number
/// is bounded by that of registered namespaces.
#[derive(Debug)]
pub struct RateLimiter {
    enabled: bool,
    /// Tokens of a full bucket, and of a minute's refill. At least 1.
    per_minute: u32,
    /// Monotonic milliseconds.
    now_ms: u64,
    buckets: HashMap<Box<str>, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Units, at the time `at_ms`; negative in debt.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64, per_minute: u32) {
        let gained = now_ms
            .saturating_sub(self.at_ms)
            .saturating_mul(u64::from(per_minute));
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained).min(full(per_minute));
        self.at_ms = now_ms;
    }
}

/// Units of a full bucket.
fn full(per_minute: u32) -> i64 {
    units(per_minute)
}

/// Units of so many tokens.
fn units(tokens: u32) -> i64 {
    i64::from(tokens).saturating_mul(TOKEN)
}

impl RateLimiter {
    /// Limits nothing until [`RateLimiter::configure`] says so.
    pub fn new() -> Self {
        Self {
            enabled: false,
            per_minute: 1,
            now_ms: 0,
            buckets: HashMap::new(),
        }
    }

    /// Changes the limit at once: what a bucket holds beyond it is gone, and it fills at the new
    /// rate from here on. Cost: linear in the number of buckets.
    pub fn configure(&mut self, enabled: bool, per_minute: u32) {
        let (now_ms, before) = (self.now_ms, self.per_minute);
        self.per_minute = per_minute.max(1);
        self.enabled = enabled;
        for bucket in self.buckets.values_mut() {
            bucket.refill(now_ms, before);
            bucket.level = bucket.level.min(full(self.per_minute));
        }
    }

    /// It is `now_ms` by the monotonic clock.
    pub fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Whether the namespace has so many tokens, or a full bucket. Nothing is taken.
    ///
    /// # Errors
    /// [`RateLimited`], with how long it takes until it has.
    pub fn check(&mut self, namespace: &str, tokens: u32) -> Result<(), RateLimited> {
        if !self.enabled {
            return Ok(());
        }
        let (now_ms, per_minute) = (self.now_ms, self.per_minute);
        // A bucket that is not there is full.
        let Some(bucket) = self.buckets.get_mut(namespace) else {
            return Ok(());
        };
        bucket.refill(now_ms, per_minute);
        let missing = units(tokens)
            .min(full(per_minute))
            .saturating_sub(bucket.level);
        if missing <= 0 {
            return Ok(());
        }
        let millis = missing.unsigned_abs().div_ceil(u64::from(per_minute));
        let seconds = u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX);
        Err(RateLimited { seconds })
    }

    /// Takes so many tokens, which [`RateLimiter::check`] has found.
    pub fn take(&mut self, namespace: &str, tokens: u32) {
        if !self.enabled {
            return;
        }
        let (now_ms, per_minute) = (self.now_ms, self.per_minute);
        if let Some(bucket) = self.buckets.get_mut(namespace) {
            bucket.refill(now_ms, per_minute);
            bucket.level = bucket.level.saturating_sub(units(tokens));
        } else {
            let bucket = Bucket {
                level: full(per_minute).saturating_sub(units(tokens)),
                at_ms: now_ms,
            };
            self.buckets.insert(namespace.into(), bucket);
        }
    }

    /// A namespace is gone. Buckets that are full again go with it: they are as good as new ones.
    pub fn forget(&mut self, namespace: &str) {
        let (now_ms, per_minute) = (self.now_ms, self.per_minute);
        self.buckets.retain(|name, bucket| {
            bucket.refill(now_ms, per_minute);
            &**name != namespace && bucket.level < full(per_minute)
        });
    }
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_minute: u32) -> RateLimiter {
        let mut limiter = RateLimiter::new();
        limiter.configure(true, per_minute);
        limiter
    }

    /// Takes what there is, at most `max`.
    fn drain(limiter: &mut RateLimiter, namespace: &str, max: u32) -> u32 {
        let taken = (0..max).take_while(|_| {
            let may = limiter.check(namespace, 1).is_ok();
            if may {
                limiter.take(namespace, 1);
            }
            may
        });
        u32::try_from(taken.count()).unwrap()
    }

    #[test]
    fn a_bucket_is_full_at_first_and_fills_evenly() {
        let mut limiter = limiter(120);
        assert_eq!(drain(&mut limiter, "a", 1000), 120);
        assert_eq!(drain(&mut limiter, "b", 1000), 120, "each has its own");
        for second in 1..=10 {
            limiter.advance(second * 1000);
            assert_eq!(drain(&mut limiter, "a", 1000), 2);
        }
        limiter.advance(10_000 + 3_600_000);
        assert_eq!(
            drain(&mut limiter, "a", 1000),
            120,
            "a minute's worth at most"
        );
    }

    #[test]
    fn hours_bring_exactly_what_the_limit_says_at_odd_rates_and_times() {
        for (per_minute, step_ms) in [(7, 13), (59, 1), (10_000, 7), (1, 1_000), (61, 59_000)] {
            let mut limiter = limiter(per_minute);
            drain(&mut limiter, "a", u32::MAX);
            let (mut taken, mut now_ms) = (0_u64, 0);
            while now_ms < 7_200_000 {
                now_ms += step_ms;
                limiter.advance(now_ms);
                taken += u64::from(drain(&mut limiter, "a", u32::MAX));
            }
            let due = now_ms * u64::from(per_minute) / 60_000;
            assert_eq!(taken, due, "{per_minute} a minute, every {step_ms} ms");
        }
    }

    #[test]
    fn the_time_to_wait_is_when_a_token_is_there() {
        for per_minute in [1, 7, 30, 61, 10_000] {
            let mut limiter = limiter(per_minute);
            drain(&mut limiter, "a", u32::MAX);
            limiter.advance(17);
            let Err(RateLimited { seconds }) = limiter.check("a", 1) else {
                continue;
            };
            assert!(seconds >= 1);
            limiter.advance(17 + u64::from(seconds) * 1000);
            assert_eq!(limiter.check("a", 1), Ok(()), "{per_minute} a minute");
            limiter = RateLimiter::new();
            limiter.configure(true, per_minute);
            drain(&mut limiter, "a", u32::MAX);
            limiter.advance(17);
            limiter.advance(u64::from(seconds - 1) * 1000);
            let early = limiter.check("a", 1);
            assert!(
                early.is_err(),
                "{per_minute} a minute: {seconds} s is not late"
            );
        }
    }

    #[test]
    fn a_new_limit_holds_at_once_in_both_directions() {
        let mut limiter = limiter(100);
        assert_eq!(drain(&mut limiter, "a", 10), 10);
        limiter.configure(true, 5);
        assert_eq!(drain(&mut limiter, "a", 1000), 5, "what is beyond is gone");
        limiter.configure(true, 600);
        assert_eq!(
            drain(&mut limiter, "a", 1000),
            0,
            "more does not come as a gift"
        );
        limiter.advance(1000);
        assert_eq!(drain(&mut limiter, "a", 1000), 10);
        limiter.configure(false, 600);
        assert_eq!(drain(&mut limiter, "a", 1000), 1000);
    }

    #[test]
    fn buckets_that_say_nothing_are_forgotten() {
        let mut limiter = limiter(60);
        for name in ["a", "b", "c"] {
            limiter.take(name, 1);
        }
        limiter.advance(1000);
        limiter.take("c", 1);
        limiter.forget("a");
        assert_eq!(limiter.buckets.len(), 1, "`b` is full again");
        assert!(limiter.buckets.contains_key("c"));
    }

    #[test]
    fn a_large_event_takes_as_many_tokens_as_it_costs() {
        let mut limiter = limiter(120);
        assert_eq!(limiter.check("a", 65), Ok(()));
        limiter.take("a", 65);
        // 55 are left, and two come in a second.
        assert_eq!(limiter.check("a", 55), Ok(()));
        assert_eq!(limiter.check("a", 65), Err(RateLimited { seconds: 5 }));
        assert_eq!(limiter.check("a", 56), Err(RateLimited { seconds: 1 }));
        limiter.advance(5_000);
        assert_eq!(limiter.check("a", 65), Ok(()));
        assert_eq!(drain(&mut limiter, "a", 1000), 65);
    }

    #[test]
    fn what_costs_more_than_a_full_bucket_needs_one_and_leaves_a_debt() {
        let mut limiter = limiter(60);
        limiter.take("a", 1);
        assert_eq!(limiter.check("a", 100), Err(RateLimited { seconds: 1 }));
        limiter.advance(1_000);
        assert_eq!(limiter.check("a", 100), Ok(()));
        limiter.take("a", 100);
        assert_eq!(limiter.check("a", 1), Err(RateLimited { seconds: 41 }));
        limiter.advance(1_000 + 41_000);
        assert_eq!(drain(&mut limiter, "a", 1000), 1);
        // A new limit does not forgive it.
        limiter.take("a", 100);
        limiter.configure(true, 1_000_000);
        assert!(limiter.check("a", 1).is_err());
    }

    #[test]
    fn large_and_small_ones_together_take_exactly_what_the_limit_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut limiter = limiter(600);
        drain(&mut limiter, "a", u32::MAX);
        let (mut taken, mut now_ms) = (0_u64, 0_u64);
        while now_ms < 3_600_000 {
            let tokens = random.u32(1..700);
            match limiter.check("a", tokens) {
                Ok(()) => {
                    limiter.take("a", tokens);
                    taken += u64::from(tokens);
                }
                Err(RateLimited { seconds }) => {
                    now_ms += u64::from(seconds) * 1000;
                    limiter.advance(now_ms);
                    assert_eq!(limiter.check("a", tokens), Ok(()));
                }
            }
        }
        let due = now_ms * 600 / 60_000;
        assert!(
            (due.saturating_sub(600)..=due + 700).contains(&taken),
            "{taken} of {due}"
        );
    }
}

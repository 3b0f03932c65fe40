//! The events since a cursor, or since the client fell behind: read from the logs, part by part,
//! until the client is live again.
//!
//! ```text
//! log    ────────────────────▶ read ┐
//! live   ─ ─ ─ dropped ─ ─ ─▶ missed │▓▓▓▓▓▓▓ kept ▓▓▓▓▶
//! ```
//!
//! While a log is read, the live events of its shard go by: they are dropped, and the last of them
//! is noted. Under steady traffic a reader never gets to the end of a log that is written
//! meanwhile. So once a part has reached the end of the log as it was, further live events are
//! kept, as long as they are few. When everything that was dropped is read, those follow.

use crate::history::ForwardPlace;
use crate::limits::TAIL_KEPT_BYTES_MAX;
use flux_storage::Sequence;
use std::collections::VecDeque;
use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    shards: Range<u16>,
    /// The part of earlier generations that is read next.
    sealed: Option<ForwardPlace>,
    logs: Box<[TailLog]>,
    /// Not every shard has confirmed the subscription.
    is_waiting: bool,
    /// The part that is on its way.
    asked: Option<ForwardPlace>,
    /// The shard whose log is read next, if it has to be.
    next: u16,
    /// Bytes of the frames and ids that are kept.
    kept_bytes: usize,
}

/// How far one shard's events were sent.
#[derive(Debug)]
struct TailLog {
    /// Every event up to here was sent.
    read: Sequence,
    /// The newest that went by, and is neither sent nor kept.
    missed: Sequence,
    /// Events that go by are kept.
    keeps: bool,
    /// Those after `missed`.
    kept: VecDeque<Kept>,
}

/// An event that went by and is sent later.
#[derive(Debug)]
struct Kept {
    sequence: Sequence,
    entity_id: Box<str>,
    frame: Box<[u8]>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.entity_id.len() + self.frame.len()
    }
}

impl TailLog {
    fn is_behind(&self) -> bool {
        self.missed > self.read
    }
}

impl Tail {
    /// Live on these shards: everything that went by was sent.
    pub(crate) fn live(shards: Range<u16>) -> Self {
        Self::since(shards, None, |_| Default::default())
    }

    /// Of what came after a cursor. `places`: by shard, the event after which its log is read, and
    /// the event up to which it has to be, since what came later has gone by.
    pub(crate) fn since(
        shards: Range<u16>,
        sealed: Option<ForwardPlace>,
        places: impl Fn(u16) -> (Sequence, Sequence),
    ) -> Self {
        let log = |shard| {
            let (read, missed) = places(shard);
            TailLog {
                read,
                missed,
                keeps: false,
                kept: VecDeque::new(),
            }
        };
        Self {
            logs: shards.clone().map(log).collect(),
            next: shards.start,
            shards,
            sealed,
            is_waiting: false,
            asked: None,
            kept_bytes: 0,
        }
    }

    /// Of what came after a cursor, before the shards have confirmed the subscription.
    pub(crate) fn waiting(shards: Range<u16>, read: impl Fn(u16) -> Sequence) -> Self {
        Self {
            is_waiting: true,
            ..Self::since(shards, None, |shard| (read(shard), read(shard)))
        }
    }

    /// A shard tells of its events from this place on.
    pub(crate) fn put_in_force(&mut self, shard: u16, place: Sequence) {
        self.miss(shard, place);
    }

    /// A stream that is live from the first is in force from this place on: what lies before it is
    /// not read, unless the stream is behind already.
    pub(crate) fn begin_at(&mut self, shard: u16, place: Sequence) {
        if let Some(log) = log_mut(&mut self.logs, &self.shards, shard)
            && !log.is_behind()
            && log.kept.is_empty()
        {
            log.read = log.read.max(place);
            log.missed = log.read;
        }
    }

    /// The logs are read from now on, those of earlier generations first.
    pub(crate) fn begin_with(&mut self, sealed: Option<ForwardPlace>) {
        self.is_waiting = false;
        self.sealed = sealed;
    }

    /// The next part of the logs; `None` while one is on its way, and if none is needed.
    pub(crate) fn ask(&mut self) -> Option<ForwardPlace> {
        if self.asked.is_some() {
            return None;
        }
        let place = self.sealed.or_else(|| self.next_live())?;
        self.asked = Some(place);
        Some(place)
    }

    /// The part that is on its way does not come: it is asked for again.
    pub(crate) fn ask_again(&mut self) {
        self.asked = None;
    }

    fn next_live(&mut self) -> Option<ForwardPlace> {
        let turns = (self.next..self.shards.end).chain(self.shards.start..self.next);
        let shard = turns
            .into_iter()
            .find(|shard| self.log(*shard).is_some_and(TailLog::is_behind))?;
        self.next = if shard + 1 < self.shards.end {
            shard + 1
        } else {
            self.shards.start
        };
        let last = self.log(shard)?.read;
        Some(ForwardPlace::Live { shard, last })
    }

    /// A part has come, and the new ones of its events ([`Tail::is_new`]) are sent.
    /// `next`: where that log, or the earlier generations, go on; `through`: how far the log of a
    /// shard was read.
    pub(crate) fn take(&mut self, next: Option<ForwardPlace>, through: Sequence) {
        match self.asked.take() {
            Some(ForwardPlace::Sealed { .. }) => self.sealed = next,
            Some(ForwardPlace::Live { shard, .. }) => {
                self.take_live(shard, next.is_none(), through);
            }
            Some(ForwardPlace::Check) | None => {}
        }
    }

    /// The log of a shard was read up to `through`, and the new ones of its events are sent.
    /// `is_end`: that was its end.
    pub(crate) fn take_live(&mut self, shard: u16, is_end: bool, through: Sequence) {
        let Some(log) = log_mut(&mut self.logs, &self.shards, shard) else {
            return;
        };
        log.read = log.read.max(through);
        log.keeps = is_end;
        while let Some(kept) = log.kept.front()
            && kept.sequence <= log.read
        {
            self.kept_bytes -= kept.bytes();
            log.kept.pop_front();
        }
    }

    /// The shard of the part that is on its way, if it is of the newest generation.
    pub(crate) fn asked_shard(&self) -> Option<u16> {
        match self.asked {
            Some(ForwardPlace::Live { shard, .. }) => Some(shard),
            Some(ForwardPlace::Sealed { .. } | ForwardPlace::Check) | None => None,
        }
    }

    /// The events that were kept and whose turn it is, the first of each shard.
    pub(crate) fn kept_next(&self) -> impl Iterator<Item = (u16, Sequence)> {
        let is_ready = !self.is_waiting && self.sealed.is_none() && self.kept_bytes > 0;
        let logs = self.shards.clone().zip(&self.logs);
        let ready = logs.filter(move |(_, log)| is_ready && !log.is_behind());
        ready.filter_map(|(shard, log)| Some((shard, log.kept.front()?.sequence)))
    }

    /// Takes the first event that was kept of a shard, if it is this one.
    pub(crate) fn pop_kept(&mut self, shard: u16, event: Sequence) -> Option<Box<[u8]>> {
        let log = log_mut(&mut self.logs, &self.shards, shard)?;
        if log.kept.front()?.sequence != event {
            return None;
        }
        let kept = log.kept.pop_front()?;
        log.read = log.read.max(kept.sequence);
        log.missed = log.missed.max(kept.sequence);
        self.kept_bytes -= kept.bytes();
        Some(kept.frame)
    }

    /// True if live events of a shard are not pushed, because earlier ones are still to be sent.
    pub(crate) fn blocks(&self, shard: u16) -> bool {
        let is_behind = |log: &TailLog| log.is_behind() || !log.kept.is_empty();
        !self.is_waiting && (self.sealed.is_some() || self.log(shard).is_some_and(is_behind))
    }

    /// True if it reads the log of a shard, or does so next.
    pub(crate) fn is_reading(&self, shard: u16) -> bool {
        let is_behind = self.log(shard).is_some_and(TailLog::is_behind);
        !self.is_waiting && self.sealed.is_none() && is_behind
    }

    /// True while the logs of earlier generations are read.
    pub(crate) fn is_sealed(&self) -> bool {
        !self.is_waiting && self.sealed.is_some()
    }

    /// True if some of these was read.
    pub(crate) fn has_begun_sealed(&self) -> bool {
        self.is_sealed() && self.sealed != Some(ForwardPlace::SEALED)
    }

    /// True until the logs are read: not every shard has confirmed the subscription.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Every event of a shard up to here was sent.
    pub(crate) fn read(&self, shard: u16) -> Sequence {
        self.log(shard).map_or(Sequence::ZERO, |log| log.read)
    }

    /// A live event was pushed.
    pub(crate) fn pushed(&mut self, shard: u16, sequence: Sequence) {
        if let Some(log) = log_mut(&mut self.logs, &self.shards, shard) {
            log.read = log.read.max(sequence);
            log.missed = log.missed.max(sequence);
        }
    }

    /// True if a live event that is not pushed should be kept rather than missed.
    pub(crate) fn keeps(&self, shard: u16, sequence: Sequence) -> bool {
        self.log(shard)
            .is_some_and(|log| (log.keeps || !log.kept.is_empty()) && sequence > log.read)
    }

    /// A live event is kept, unless they are too many: then all that are kept are missed, as it is.
    pub(crate) fn keep(
        &mut self,
        shard: u16,
        (sequence, entity_id): (Sequence, &str),
        frame: &[u8],
    ) {
        let fits = self.kept_bytes + entity_id.len() + frame.len() <= TAIL_KEPT_BYTES_MAX;
        if !fits {
            self.miss(shard, sequence);
        } else if let Some(log) = log_mut(&mut self.logs, &self.shards, shard) {
            let kept = Kept {
                sequence,
                entity_id: entity_id.into(),
                frame: frame.into(),
            };
            self.kept_bytes += kept.bytes();
            log.kept.push_back(kept);
        }
    }

    /// A live event is neither pushed nor kept: it will be read from the log.
    pub(crate) fn miss(&mut self, shard: u16, sequence: Sequence) {
        let Some(log) = log_mut(&mut self.logs, &self.shards, shard) else {
            return;
        };
        if sequence <= log.read {
            return;
        }
        log.missed = log.missed.max(sequence);
        log.keeps = false;
        for kept in std::mem::take(&mut log.kept) {
            self.kept_bytes -= kept.bytes();
        }
    }

    /// If the subscriber may not read all events that are kept of a shard any more, they are read
    /// from the log in their place.
    pub(crate) fn drop_hidden(&mut self, is_hidden: impl Fn(&str) -> bool) {
        for shard in self.shards.clone() {
            let kept = self.log(shard).map(|log| &log.kept);
            let hidden = kept.filter(|kept| kept.iter().any(|it| is_hidden(&it.entity_id)));
            let last = hidden.and_then(|kept| Some(kept.back()?.sequence));
            if let Some(last) = last {
                self.miss(shard, last);
            }
        }
    }

    /// True if an event that was read has not been sent.
    pub(crate) fn is_new(&self, shard: u16, sequence: Sequence) -> bool {
        self.log(shard).is_none_or(|log| sequence > log.read)
    }

    /// True once everything that went by was sent.
    pub(crate) fn is_live(&self) -> bool {
        let is_live = |log: &TailLog| !log.is_behind() && log.kept.is_empty();
        !self.is_waiting && self.sealed.is_none() && self.logs.iter().all(is_live)
    }

    /// The last event of a shard up to which the client has been sent everything; `live`: up to
    /// here the shard's changes have gone by.
    pub(crate) fn through(&self, shard: u16, live: Sequence) -> Sequence {
        match self.log(shard) {
            Some(log) if !log.is_behind() && log.kept.is_empty() => log.read.max(live),
            Some(log) => log.read,
            None => live,
        }
    }

    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.logs) + self.kept_bytes
    }

    fn log(&self, shard: u16) -> Option<&TailLog> {
        let index = shard.checked_sub(self.shards.start)?;
        self.logs.get(usize::from(index))
    }
}

fn log_mut<'t>(
    logs: &'t mut [TailLog],
    shards: &Range<u16>,
    shard: u16,
) -> Option<&'t mut TailLog> {
    let index = shard.checked_sub(shards.start)?;
    logs.get_mut(usize::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_anew_only_if_a_part_of_it_is_hidden() {
        let mut tail = Tail::live(0..2);
        for shard in 0..2 {
            // The log is read to its end as it was; more went by meanwhile.
            tail.miss(shard, Sequence::new(9));
            tail.ask();
            tail.take(None, Sequence::new(8));
        }
        for (shard, id) in [(0, "house/a"), (0, "garden/a"), (1, "garden/a")] {
            let sequence = Sequence::new(if id == "house/a" { 10 } else { 11 });
            assert!(tail.keeps(shard, sequence));
            tail.keep(shard, (sequence, id), b"frame");
        }
        let kept = |tail: &Tail| [0, 1].map(|shard| tail.log(shard).unwrap().kept.len());
        tail.drop_hidden(|id| id.starts_with("shed/"));
        assert_eq!(kept(&tail), [2, 1]);
        tail.drop_hidden(|id| id.starts_with("house/"));
        assert_eq!(kept(&tail), [0, 1]);
        assert_eq!(tail.log(0).unwrap().missed, Sequence::new(11));
        assert_eq!(tail.kept_bytes, "garden/a".len() + "frame".len());
    }
}

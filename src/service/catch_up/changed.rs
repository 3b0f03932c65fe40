//! The entities that changed since a cursor: their ids from the logs, then each of them whole from
//! its owner.
//!
//! ```text
//! logs ─▶ ids ─┬▶ asked of the owner ─▶ sent whole, or deleted
//! live ─▶──────┘  until the logs are read; then live changes of other entities are pushed
//! ```
//!
//! While the logs are read nothing is pushed: a live change adds its id. Then the set is complete:
//! of an entity outside of it the client has all but the live changes. An entity of the set is read
//! whole, so its changes until then are dropped.
//!
//! An owner does not know which event deleted what it does not have. That event is in the logs, or
//! it comes by soon after that answer, so such an id is asked for again a few times.

use crate::history::ForwardPlace;
use crate::limits::{
    CHANGED_BATCH_IDS_MAX, CHANGED_ID_BYTES_MAX, CHANGED_IDS_MAX, DELETION_ASKS_MAX,
    SINCE_EVENTS_MAX,
};
use crate::model::Timestamp;
use flux_storage::Sequence;
use std::collections::BTreeMap;
use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(crate) struct Changed {
    shards: Range<u16>,
    /// The part of the logs that is read next; `None` once they are read.
    place: Option<ForwardPlace>,
    /// By shard.
    parts: Box<[Part]>,
    /// Ids in the sets of all shards, and their bytes.
    count: usize,
    id_bytes: usize,
    /// Events that were looked at.
    steps: u64,
    /// What is on its way.
    asked: Asked,
    /// The entity in no log that was told of, and what was shown as its sequence. Its change may
    /// come by seconds later: such changes are pushed at their own pace.
    unlogged: Option<(Box<str>, Sequence)>,
}

/// What is known of the events of an entity since the cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// It was deleted or replaced, whatever it is now.
    pub(crate) is_replaced: bool,
    /// The last of them; of an entity that is in no log, what is shown as that.
    pub(crate) last: Sequence,
    /// The last that is a tombstone, and its time.
    pub(crate) deleted: Option<(Sequence, Timestamp)>,
}

impl Events {
    fn join(&mut self, other: Self) {
        self.is_replaced |= other.is_replaced;
        self.last = self.last.max(other.last);
        self.deleted = self.deleted.max(other.deleted);
    }

    fn end_with_deletion(&self) -> bool {
        self.deleted
            .is_some_and(|(deleted, _)| deleted == self.last)
    }
}

/// An entity of the set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Member {
    events: Events,
    /// How often its owner did not have it, and nothing was known that deleted it.
    lacking: u8,
}

impl Member {
    const fn of(events: Events) -> Self {
        Self { events, lacking: 0 }
    }
}

type Ids = BTreeMap<Box<str>, Member>;

#[derive(Debug)]
enum Asked {
    Nothing,
    /// A part of the logs.
    Log,
    /// Entities of a shard.
    Entities(u16, Ids),
}

/// What is known of one shard.
#[derive(Debug, Default)]
struct Part {
    /// Entities that are still to be sent.
    ids: Ids,
    /// The entities that the last answer was about.
    sent: Ids,
    /// The end of the log when that was given.
    read: Sequence,
    /// Every change up to here was sent, or is in `ids`.
    through: Sequence,
}

/// The client would get more than a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFar;

/// What is asked next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangedAsk {
    /// The next part of the logs.
    Log(ForwardPlace),
    /// These entities of a shard.
    Entities(u16, Vec<Box<str>>),
}

impl Changed {
    /// What changed on these shards. `sealed`: earlier generations may have a part of it. `floor`:
    /// by shard, the event after which its log is read.
    pub(crate) fn new(
        shards: Range<u16>,
        sealed: Option<ForwardPlace>,
        floor: impl Fn(u16) -> Sequence,
    ) -> Self {
        let part = |shard| Part {
            through: floor(shard),
            ..Part::default()
        };
        let parts: Box<[Part]> = shards.clone().map(part).collect();
        let first = parts.first().map(|part| ForwardPlace::Live {
            shard: shards.start,
            last: part.through,
        });
        Self {
            place: sealed.or(first),
            parts,
            shards,
            count: 0,
            id_bytes: 0,
            steps: 0,
            asked: Asked::Nothing,
            unlogged: None,
        }
    }

    /// An entity is sent whether or not the logs tell of it.
    pub(crate) fn send_always(&mut self, shard: u16, id: &str) {
        self.add(shard, id, Member::default());
    }

    /// The logs of earlier generations are read first.
    pub(crate) fn begin_with(&mut self, sealed: ForwardPlace) {
        self.place = Some(sealed);
    }

    /// What is asked next; `None` while something is on its way, and at the end.
    pub(crate) fn ask(&mut self) -> Option<ChangedAsk> {
        if !matches!(self.asked, Asked::Nothing) {
            return None;
        }
        if let Some(place) = self.place {
            self.asked = Asked::Log;
            return Some(ChangedAsk::Log(place));
        }
        let parts = self.shards.clone().zip(&mut self.parts);
        let (shard, part) = parts.into_iter().find(|(_, part)| !part.ids.is_empty())?;
        let mut asked = Ids::new();
        while asked.len() < CHANGED_BATCH_IDS_MAX
            && let Some((id, member)) = part.ids.pop_first()
        {
            self.count -= 1;
            self.id_bytes -= id.len();
            asked.insert(id, member);
        }
        let ids = asked.keys().cloned().collect();
        self.asked = Asked::Entities(shard, asked);
        Some(ChangedAsk::Entities(shard, ids))
    }

    /// What is on its way does not come: it is asked for again.
    pub(crate) fn ask_again(&mut self) {
        if let Asked::Entities(shard, ids) = std::mem::replace(&mut self.asked, Asked::Nothing) {
            for (id, member) in ids {
                self.add(shard, &id, member);
            }
        }
    }

    /// A part of the logs has come: the ids of entities that changed, on which shards they are now,
    /// and what happened to them. `next`: where the logs go on; `through`: how far the log of
    /// the shard was read, if it was one of the newest generation.
    ///
    /// # Errors
    /// [`TooFar`].
    pub(crate) fn take_ids<'i>(
        &mut self,
        ids: impl Iterator<Item = (u16, &'i str, Events)>,
        (next, through): (Option<ForwardPlace>, Sequence),
        steps: u64,
    ) -> Result<(), TooFar> {
        self.asked = Asked::Nothing;
        for (shard, id, events) in ids {
            self.add(shard, id, Member::of(events));
        }
        self.steps += steps;
        let read = self.place.take();
        if let Some(ForwardPlace::Live { shard, .. }) = read
            && let Some(part) = self.part_mut(shard)
        {
            part.through = part.through.max(through);
        }
        self.place = next.or_else(|| {
            let shard = match read {
                Some(ForwardPlace::Live { shard, .. }) => shard + 1,
                _ => self.shards.start,
            };
            let part = self.part(shard)?;
            Some(ForwardPlace::Live {
                shard,
                last: part.through,
            })
        });
        self.check()
    }

    /// The answer about entities of a shard has begun to come: `read` is the end of the log when
    /// it was given, `rest` are ids that it does not tell of; they are asked for again.
    pub(crate) fn take_answer(&mut self, shard: u16, read: Sequence, rest: &[Box<str>]) {
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        let Asked::Entities(_, mut ids) = asked else {
            return;
        };
        for id in rest {
            if let Some(member) = ids.remove(id) {
                self.add(shard, id, member);
            }
        }
        if let Some(part) = self.part_mut(shard) {
            part.sent = ids;
            part.read = read;
        }
    }

    /// What is to be known to send an entity of that answer; `None` if it was not asked for.
    pub(crate) fn sent(&self, shard: u16, id: &str) -> Option<Events> {
        Some(self.part(shard)?.sent.get(id)?.events)
    }

    /// The answer tells of an entity that is in no log, as of what is shown as its sequence.
    pub(crate) fn note_unlogged(&mut self, id: &str, shown: Sequence) {
        self.unlogged = Some((id.into(), shown));
    }

    /// The answer says that there is no such entity. True if it is asked for again, because what
    /// deleted it has not come by.
    pub(crate) fn asks_for_deletion(&mut self, shard: u16, id: &str) -> bool {
        let part = self.part_mut(shard);
        let unknown = |member: &Member| {
            member.lacking < DELETION_ASKS_MAX && !member.events.end_with_deletion()
        };
        let Some(sent) = part.map(|part| &mut part.sent) else {
            return false;
        };
        if !sent.get(id).is_some_and(unknown) {
            return false;
        }
        if let Some(member) = sent.remove(id) {
            let member = Member {
                lacking: member.lacking + 1,
                ..member
            };
            self.add(shard, id, member);
        }
        true
    }

    /// True if a live change has to be pushed. `sequence`: `None` for what has none.
    ///
    /// # Errors
    /// [`TooFar`].
    pub(crate) fn takes(
        &mut self,
        shard: u16,
        (id, events): (&str, Events),
        sequence: Option<Sequence>,
    ) -> Result<bool, TooFar> {
        if sequence.is_none()
            && let Some((told, shown)) = &self.unlogged
            && **told == *id
            && events.last <= *shown
        {
            return Ok(false);
        }
        let is_reading = self.place.is_some();
        let asked = match &mut self.asked {
            Asked::Entities(of, ids) if *of == shard => ids.get_mut(id),
            Asked::Nothing | Asked::Log | Asked::Entities(..) => None,
        };
        if let Some(member) = asked {
            // The answer is still to come, and holds it.
            member.events.join(events);
            return Ok(false);
        }
        if is_reading {
            self.add(shard, id, Member::of(events));
            return self.check().map(|()| false);
        }
        let Some(part) = self.part_mut(shard) else {
            return Ok(false);
        };
        if let Some(member) = part.ids.get_mut(id) {
            member.events.join(events);
            return Ok(false);
        }
        let sent = part.sent.get(id).map(|member| member.events);
        let is_held = sent.is_some() && sequence.is_some_and(|sequence| sequence <= part.read);
        if is_held && events.is_replaced && sent.is_some_and(|sent| !sent.is_replaced) {
            // What was sent of the entity does not say that something went. So the client gets this
            // change, and those after it.
            part.sent.remove(id);
            return Ok(true);
        }
        Ok(!is_held)
    }

    /// True once every entity is sent.
    pub(crate) fn is_done(&self) -> bool {
        self.place.is_none() && self.count == 0 && matches!(self.asked, Asked::Nothing)
    }

    /// The last event of a shard up to which the client has been sent everything, once it is done;
    /// `live`: up to here the shard's changes have come by.
    pub(crate) fn through(&self, shard: u16, live: Sequence) -> Sequence {
        let read = self.part(shard).map_or(Sequence::ZERO, |part| part.through);
        read.max(live)
    }

    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.parts) + self.id_bytes + self.count * 2 * size_of::<(Box<str>, Member)>()
    }

    fn add(&mut self, shard: u16, id: &str, member: Member) {
        let Some(part) = self.part_mut(shard) else {
            return;
        };
        if let Some(known) = part.ids.get_mut(id) {
            known.events.join(member.events);
            known.lacking = known.lacking.max(member.lacking);
            return;
        }
        part.ids.insert(id.into(), member);
        self.count += 1;
        self.id_bytes += id.len();
    }

    fn check(&self) -> Result<(), TooFar> {
        let fits = self.count <= CHANGED_IDS_MAX
            && self.id_bytes <= CHANGED_ID_BYTES_MAX
            && self.steps <= SINCE_EVENTS_MAX;
        if fits { Ok(()) } else { Err(TooFar) }
    }

    fn part(&self, shard: u16) -> Option<&Part> {
        let index = shard.checked_sub(self.shards.start)?;
        self.parts.get(usize::from(index))
    }

    fn part_mut(&mut self, shard: u16) -> Option<&mut Part> {
        let index = shard.checked_sub(self.shards.start)?;
        self.parts.get_mut(usize::from(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> Changed {
        Changed::new(0..1, None, |_| Sequence::new(3))
    }

    fn read(changed: &mut Changed, ids: &[&str]) -> Result<(), TooFar> {
        assert!(matches!(changed.ask(), Some(ChangedAsk::Log(_))));
        let ids = ids.iter().map(|id| (0, *id, Events::default()));
        changed.take_ids(ids, (None, Sequence::new(9)), 1)
    }

    /// That of a live change, and its sequence.
    fn change(sequence: u64, is_replaced: bool) -> (Events, Option<Sequence>) {
        let last = Sequence::new(sequence);
        let events = Events {
            is_replaced,
            last,
            deleted: is_replaced.then_some((last, Timestamp::from_micros(5))),
        };
        (events, Some(last))
    }

    fn takes(changed: &mut Changed, id: &str, sequence: u64, is_replaced: bool) -> bool {
        let (events, sequence) = change(sequence, is_replaced);
        changed.takes(0, (id, events), sequence).unwrap()
    }

    #[test]
    fn one_id_more_than_the_bound_is_too_far() {
        let ids: Vec<String> = (0..=CHANGED_IDS_MAX).map(|id| id.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(read(&mut changed(), &ids[1..]), Ok(()));
        assert_eq!(read(&mut changed(), &ids), Err(TooFar));
    }

    #[test]
    fn bytes_of_ids_and_events_that_are_looked_at_are_bounded_too() {
        let ids: Vec<String> = (0..=CHANGED_ID_BYTES_MAX / 512)
            .map(|id| format!("{id:0512}"))
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(read(&mut changed(), &ids[1..]), Ok(()));
        assert_eq!(read(&mut changed(), &ids), Err(TooFar));
        for (steps, expected) in [
            (SINCE_EVENTS_MAX, Ok(())),
            (SINCE_EVENTS_MAX + 1, Err(TooFar)),
        ] {
            let mut changed = changed();
            changed.ask();
            let taken = changed.take_ids([].into_iter(), (None, Sequence::new(9)), steps);
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn what_goes_before_an_answer_and_comes_by_after_it_is_told() {
        let mut changed = changed();
        read(&mut changed, &["a", "b"]).unwrap();
        assert!(matches!(changed.ask(), Some(ChangedAsk::Entities(0, _))));
        changed.take_answer(0, Sequence::new(12), &[]);
        assert!(!changed.sent(0, "a").unwrap().is_replaced);
        assert!(!takes(&mut changed, "a", 10, false));
        assert!(takes(&mut changed, "a", 11, true));
        assert!(takes(&mut changed, "a", 12, false));
        assert!(!takes(&mut changed, "b", 12, false));
    }

    #[test]
    fn a_deletion_that_has_not_come_by_is_waited_for() {
        let mut changed = changed();
        read(&mut changed, &["a", "b"]).unwrap();
        let asked = changed.ask();
        changed.take_answer(0, Sequence::new(12), &[]);
        assert!(changed.asks_for_deletion(0, "a"));
        assert!(!changed.is_done());
        assert!(!takes(&mut changed, "a", 11, true));
        let Some(ChangedAsk::Entities(0, ids)) = changed.ask() else {
            panic!("{asked:?}");
        };
        assert_eq!(ids, ["a".into()]);
        changed.take_answer(0, Sequence::new(13), &[]);
        assert!(!changed.asks_for_deletion(0, "a"));
        let deleted = Some((Sequence::new(11), Timestamp::from_micros(5)));
        assert_eq!(changed.sent(0, "a").unwrap().deleted, deleted);
        assert!(changed.is_done());
        assert!(!takes(&mut changed, "a", 13, false));
        assert!(takes(&mut changed, "a", 14, true));
    }

    #[test]
    fn a_deletion_that_never_comes_by_is_not_waited_for_without_end() {
        let mut changed = changed();
        read(&mut changed, &["a"]).unwrap();
        for _ in 0..DELETION_ASKS_MAX {
            changed.ask();
            changed.take_answer(0, Sequence::new(12), &[]);
            assert!(changed.asks_for_deletion(0, "a"));
        }
        changed.ask();
        changed.take_answer(0, Sequence::new(12), &[]);
        assert!(!changed.asks_for_deletion(0, "a"));
    }

    #[test]
    fn what_is_in_no_log_is_told_once_too() {
        let mut changed = changed();
        changed.send_always(0, "flux-core/directory");
        read(&mut changed, &[]).unwrap();
        changed.ask();
        changed.take_answer(0, Sequence::new(9), &[]);
        changed.note_unlogged("flux-core/directory", Sequence::new(1_000_005));
        // Answers about others do not end that.
        changed.take_answer(0, Sequence::new(10), &[]);
        let mut takes = |shown| {
            let (events, _) = change(shown, false);
            changed.takes(0, ("flux-core/directory", events), None)
        };
        assert_eq!(takes(1_000_005), Ok(false), "the answer has it");
        assert_eq!(takes(1_000_006), Ok(true));
    }

    #[test]
    fn what_can_not_be_answered_now_is_asked_again_with_what_happened_meanwhile() {
        let mut changed = changed();
        assert!(matches!(changed.ask(), Some(ChangedAsk::Log(_))));
        changed.ask_again();
        read(&mut changed, &["a", "b"]).unwrap();
        let asked = changed.ask();
        assert!(matches!(asked, Some(ChangedAsk::Entities(0, _))));
        assert!(!takes(&mut changed, "a", 10, true));
        changed.ask_again();
        assert!(!changed.is_done());
        assert_eq!(changed.ask(), asked);
        changed.take_answer(0, Sequence::new(12), &[]);
        assert!(changed.sent(0, "a").unwrap().is_replaced);
        assert!(!changed.sent(0, "b").unwrap().is_replaced);
        assert!(changed.is_done());
    }

    #[test]
    fn a_change_while_its_entity_is_asked_for_is_in_the_answer() {
        let mut changed = changed();
        read(&mut changed, &["a"]).unwrap();
        assert!(matches!(changed.ask(), Some(ChangedAsk::Entities(0, _))));
        assert!(!takes(&mut changed, "a", 10, true));
        assert!(takes(&mut changed, "b", 11, false));
        changed.take_answer(0, Sequence::new(12), &[]);
        let sent = changed.sent(0, "a").unwrap();
        assert!(sent.is_replaced);
        assert!(changed.is_done());
        assert!(!takes(&mut changed, "a", 12, false));
        assert!(takes(&mut changed, "a", 13, false));
        assert_eq!(changed.through(0, Sequence::new(7)), Sequence::new(9));
    }
}

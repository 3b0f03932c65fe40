//! One subscription that comes to what is live: which of the three ways it goes, and how far it is.

use super::{Changed, ChangedAsk, Events, Tail, TooFar, Walk};
use crate::api::directory::DIRECTORY_ID;
use crate::api::stream_options::{StreamMode, StreamOptions, StreamStart};
use crate::history::{AfterPlace, ForwardPlace};
use crate::model::{CursorTooNarrow, place};
use crate::subscribe::Patterns;
use flux_storage::Sequence;
use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// The client's `id` of the message that began it, JSON text, if it gave one.
    pub(crate) id: Option<Box<str>>,
    /// The cursor of its acknowledgement, until that is sent.
    pub(crate) ack: Option<String>,
    pub(crate) shards: Range<u16>,
    /// The client's place, if it came with one.
    pub(crate) after: Option<AfterPlace>,
    stage: Stage,
    walk: Option<Walk>,
    changed: Option<Changed>,
    tail: Option<Tail>,
    /// It was more than a snapshot, and becomes one.
    is_too_far: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not every shard has confirmed the subscription.
    Waiting,
    /// Whether the logs reach to the client's place is to be asked.
    Check,
    /// That is asked.
    Checking,
    /// On its way.
    Going,
    /// The client has been told that what follows is live. In mode `event` it may fall behind.
    Live,
    /// Its filter can't judge an entity: it ends with an error.
    Ending,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for a page of this shard, after this id.
    Page(u16, Option<Box<str>>),
    /// Ask a shard for entities.
    Entities(u16, Vec<Box<str>>),
    /// Ask for a part of the logs, or whether they reach that far.
    Log(ForwardPlace),
    /// Say that a snapshot follows instead.
    Resync,
    /// Say that the snapshot is over.
    SnapshotEnd,
    /// Say that what follows is live.
    CaughtUp,
    /// Say that the filter can't judge an entity.
    End,
}

impl CatchUp {
    /// For a subscription that begins; `None` if it is live from the first.
    ///
    /// # Errors
    /// [`CursorTooNarrow`].
    pub(crate) fn begin(
        options: &StreamOptions,
        (id, patterns): (Option<&str>, &Patterns),
        (shards, count): (Range<u16>, u16),
    ) -> Result<Option<Self>, CursorTooNarrow> {
        let mut begun = Self {
            id: id.map(Box::from),
            ack: None,
            shards: shards.clone(),
            after: None,
            stage: Stage::Waiting,
            walk: None,
            changed: None,
            tail: None,
            is_too_far: false,
        };
        match &options.start {
            StreamStart::Live => return Ok(None),
            StreamStart::Snapshot => begun.walk = Some(Walk::new(shards)),
            StreamStart::Since(cursor) => {
                let after = AfterPlace::of(cursor, patterns)?;
                let floor = |shard| after.floor(shard, count);
                if options.mode == StreamMode::Event {
                    begun.tail = Some(Tail::waiting(shards, floor));
                } else {
                    let mut changed = Changed::new(shards, None, floor);
                    if patterns.matches(DIRECTORY_ID) {
                        // It is in no log.
                        changed.send_always(place(DIRECTORY_ID, count), DIRECTORY_ID);
                    }
                    begun.changed = Some(changed);
                }
                begun.after = Some(after);
            }
        }
        Ok(Some(begun))
    }

    /// For a live subscription of mode `event` whose client reads too slowly.
    pub(crate) fn behind(id: Option<Box<str>>, shards: Range<u16>) -> Self {
        Self {
            id,
            ack: None,
            after: None,
            stage: Stage::Live,
            walk: None,
            changed: None,
            tail: Some(Tail::live(shards.clone())),
            is_too_far: false,
            shards,
        }
    }

    /// Every shard has confirmed the subscription: from these places on they tell of changes. It is
    /// acknowledged before the first that it sends, once the logs have been looked at if they have
    /// to be.
    pub(crate) fn put_in_force(&mut self, ack: String, places: &[Sequence]) {
        if self.after.is_none() {
            self.begin_live(places);
        } else if let Some(tail) = &mut self.tail {
            for (shard, place) in self.shards.clone().zip(places) {
                tail.put_in_force(shard, *place);
            }
        }
        self.ack = Some(ack);
        self.stage = match self.after {
            Some(_) => Stage::Check,
            None => Stage::Going,
        };
    }

    /// The same for a subscription of mode `event` that is live from the first: its client was
    /// behind before the shards had confirmed it. Nothing is to be said at its end.
    pub(crate) fn begin_live(&mut self, places: &[Sequence]) {
        if let Some(tail) = &mut self.tail {
            for (shard, place) in self.shards.clone().zip(places) {
                tail.begin_at(shard, *place);
            }
        }
    }

    /// What was asked last can't be answered now: it is asked again.
    pub(crate) fn ask_again(&mut self) {
        if self.stage == Stage::Checking {
            self.stage = Stage::Check;
        }
        if let Some(walk) = &mut self.walk {
            walk.ask_again();
        }
        if let Some(changed) = &mut self.changed {
            changed.ask_again();
        }
        if let Some(tail) = &mut self.tail {
            tail.ask_again();
        }
    }

    /// The logs reach to the client's place. `sealed`: earlier generations are to be read.
    pub(crate) fn take_check(&mut self, sealed: Option<ForwardPlace>) {
        self.stage = Stage::Going;
        if let Some(tail) = &mut self.tail {
            tail.begin_with(sealed);
        }
        if let Some(changed) = &mut self.changed
            && let Some(sealed) = sealed
        {
            changed.begin_with(sealed);
        }
    }

    /// The client gets a snapshot instead.
    pub(crate) fn restart_with_snapshot(&mut self) {
        self.changed = None;
        self.after = None;
        self.walk = Some(Walk::new(self.shards.clone()));
        if self.stage == Stage::Checking {
            self.stage = Stage::Going;
        }
    }

    /// What is done next. `None`: something is on its way, or nothing is to be done.
    pub(crate) fn step(&mut self) -> Option<Step> {
        match self.stage {
            Stage::Waiting | Stage::Checking => return None,
            Stage::Check => {
                self.stage = Stage::Checking;
                return Some(Step::Log(ForwardPlace::Check));
            }
            Stage::Ending => return Some(Step::End),
            Stage::Going | Stage::Live => {}
        }
        if std::mem::take(&mut self.is_too_far) {
            return Some(Step::Resync);
        }
        if let Some(place) = self.tail.as_mut().and_then(Tail::ask) {
            return Some(Step::Log(place));
        }
        if self.stage == Stage::Live {
            return None;
        }
        if let Some(walk) = &mut self.walk {
            if walk.is_done() {
                self.stage = Stage::Live;
                return Some(Step::SnapshotEnd);
            }
            let (shard, after) = walk.ask()?;
            return Some(Step::Page(shard, after));
        }
        if let Some(changed) = &mut self.changed {
            if changed.is_done() {
                self.stage = Stage::Live;
                return Some(Step::CaughtUp);
            }
            return Some(match changed.ask()? {
                ChangedAsk::Log(place) => Step::Log(place),
                ChangedAsk::Entities(shard, ids) => Step::Entities(shard, ids),
            });
        }
        if self.tail.as_ref().is_some_and(Tail::is_live) {
            self.stage = Stage::Live;
            return Some(Step::CaughtUp);
        }
        None
    }

    /// True if a live change is pushed, in modes `property` and `entity`.
    pub(crate) fn takes(
        &mut self,
        shard: u16,
        (id, events): (&str, Events),
        sequence: Option<Sequence>,
    ) -> bool {
        if self.stage == Stage::Ending {
            return false;
        }
        if let Some(walk) = &self.walk {
            return walk.takes(shard, id, sequence);
        }
        let Some(changed) = &mut self.changed else {
            return true;
        };
        let takes = changed.takes(shard, (id, events), sequence);
        if takes == Err(TooFar) {
            self.restart_too_far();
        }
        takes == Ok(true)
    }

    /// It ends with an error, which is the answer to its message if that has none yet.
    pub(crate) fn end(&mut self) {
        self.ack = None;
        self.stage = Stage::Ending;
    }

    /// True while it is asked whether the logs reach to the client's place.
    pub(crate) fn is_checking(&self) -> bool {
        self.stage == Stage::Checking
    }

    /// True if that is to be asked.
    pub(crate) fn is_checked_next(&self) -> bool {
        self.stage == Stage::Check
    }

    /// The client gets a snapshot, because the rest is more work than one.
    pub(crate) fn restart_too_far(&mut self) {
        self.is_too_far = true;
        self.restart_with_snapshot();
    }

    /// The reader of events, if there is one.
    pub(crate) fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The reader of events, if there is one.
    pub(crate) fn tail_mut(&mut self) -> Option<&mut Tail> {
        self.tail.as_mut()
    }

    /// The reader of events, which begins now if there is none.
    pub(crate) fn tail_or_begin(&mut self) -> &mut Tail {
        let shards = self.shards.clone();
        self.tail.get_or_insert_with(|| Tail::live(shards))
    }

    /// The walk, if it is one.
    pub(crate) fn walk_mut(&mut self) -> Option<&mut Walk> {
        self.walk.as_mut()
    }

    /// The changed entities, if it is that.
    pub(crate) fn changed_mut(&mut self) -> Option<&mut Changed> {
        self.changed.as_mut()
    }

    /// True until the client has been told that what follows is live.
    pub(crate) fn is_under_way(&self) -> bool {
        self.stage != Stage::Live
    }

    /// True if there is something to do, now or when an answer has come.
    pub(crate) fn is_active(&self) -> bool {
        self.is_under_way() || self.tail.as_ref().is_some_and(|tail| !tail.is_live())
    }

    /// The last event of a shard up to which the client has been sent everything; `live`: up to
    /// here the shard's changes have gone by.
    pub(crate) fn through(&self, shard: u16, live: Sequence) -> Sequence {
        match (&self.tail, &self.changed) {
            (Some(tail), _) => tail.through(shard, live),
            (None, Some(changed)) => changed.through(shard, live),
            (None, None) => live,
        }
    }

    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.walk.as_ref().map_or(0, Walk::heap_bytes)
            + self.changed.as_ref().map_or(0, Changed::heap_bytes)
            + self.tail.as_ref().map_or(0, Tail::heap_bytes)
    }
}

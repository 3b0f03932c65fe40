//! One connection's streams: changes go to its outbox, at its pace.

use super::frames::{Current, Frames, Framing, shown, shown_whole};
use super::frames::{write_property, write_unmatched};
use super::wanted::{Aspect, Standing, Wanted};
use crate::limits::CURSOR_DELAY_MS;
use crate::subscribe::{ChangeHead, Due, EncodeMerged, Outbox, Overflow, Pacer, Part};
use flux_storage::Sequence;

/// See the module. A connection that has only plain subscriptions has none.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pacer: Pacer,
    /// When a cursor is due, monotonic microseconds.
    cursor_due_micros: Option<u64>,
    /// The last cursor that was sent.
    cursor: Box<str>,
    /// A cursor in the outbox, and where it ends there.
    owed_cursor: Option<(Box<str>, u64)>,
    /// The last cursor that the socket has taken.
    taken_cursor: Box<str>,
    /// When the core looks at it, as far as that was noted.
    timer_micros: Option<u64>,
    /// Reused: a frame.
    frame: Vec<u8>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The event did not fit.
    pub(crate) lost_event: bool,
}

impl Client {
    /// Pushes what is wanted of a change.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn push<'s>(
        &mut self,
        outbox: &mut Outbox,
        (current, wanted): (&Current<'_>, &Wanted<'s>),
        frames: &mut Frames<'s, '_>,
        now_micros: u64,
    ) -> Result<Pushed, Overflow> {
        let framing = frames.framing;
        if let Some(aspect) = &wanted.property {
            match aspect.standing {
                Standing::Ends => self.push_unmatched(outbox, (current, aspect), framing)?,
                _ if current.is_deletion() => {
                    let id = current.change.entity_id();
                    self.pacer.drop_updates(id);
                    let frame = framing.own(&mut self.frame, current.change.frames());
                    outbox.push_deleted(id, frame)?;
                }
                Standing::Begins => {
                    self.push_whole(outbox, (current, aspect), framing, now_micros)?;
                }
                Standing::Matches => {
                    self.push_updates(outbox, (current, aspect), framing, now_micros)?;
                }
            }
        }
        if let Some(aspect) = &wanted.entity {
            self.push_entity(outbox, (current, aspect), frames, now_micros)?;
        }
        let lost_event = wanted.event && !outbox.push_if_room(frames.event(current));
        self.note_pushed(now_micros);
        Ok(Pushed { lost_event })
    }

    /// Something was pushed: a cursor follows.
    pub(crate) fn note_pushed(&mut self, now_micros: u64) {
        let due = now_micros + CURSOR_DELAY_MS * 1000;
        self.cursor_due_micros.get_or_insert(due);
    }

    /// When the core has to look at it, if it does not know that yet.
    pub(crate) fn next_timer(&mut self) -> Option<u64> {
        let due = self.pacer.next_due().into_iter();
        let due = due.chain(self.cursor_due_micros).min()?;
        if self.timer_micros.is_some_and(|timer| timer <= due) {
            return None;
        }
        self.timer_micros = Some(due);
        Some(due)
    }

    /// The core looks at it: pushes what is due. True if a cursor is due.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn on_timer(
        &mut self,
        outbox: &mut Outbox,
        now_micros: u64,
    ) -> Result<bool, Overflow> {
        self.timer_micros = None;
        let mut pushed = Ok(false);
        let frame = &mut self.frame;
        self.pacer.take_due(now_micros, |due| {
            let result = push_due(outbox, &due, frame);
            pushed = pushed.and_then(|_| result.map(|()| true));
        });
        if pushed? {
            self.note_pushed(now_micros);
        }
        let is_due = self.cursor_due_micros.is_some_and(|due| due <= now_micros);
        if is_due {
            self.cursor_due_micros = None;
        }
        Ok(is_due)
    }

    /// Pushes all that is kept, whenever it is due: a stream ends or gets another pace.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn flush(&mut self, outbox: &mut Outbox) -> Result<(), Overflow> {
        let mut pushed = Ok(());
        let frame = &mut self.frame;
        self.pacer.flush(|due| {
            let result = push_due(outbox, &due, frame);
            pushed = pushed.and(result);
        });
        pushed
    }

    /// Drops what is kept of these entities.
    pub(crate) fn drop_hidden(&mut self, is_hidden: impl Fn(&str) -> bool) {
        self.pacer.drop_hidden(is_hidden);
    }

    /// Everything of a shard before this has been pushed, as far as nothing newer replaced it;
    /// `None` if nothing is kept.
    pub(crate) fn first_kept(&self, shard: u16) -> Option<Sequence> {
        self.pacer.first_kept(shard)
    }

    /// Notes the cursor that is sent now; false if it was sent before.
    pub(crate) fn take_cursor(&mut self, text: &str) -> bool {
        let is_new = *self.cursor != *text;
        if is_new {
            self.cursor = text.into();
        }
        is_new
    }

    /// Notes that the last cursor was put into the outbox.
    pub(crate) fn note_cursor(&mut self, outbox: &Outbox) {
        self.settle_cursor(outbox);
        if self.owed_cursor.is_none() && !outbox.is_conflating() {
            self.owed_cursor = Some((self.cursor.clone(), outbox.end()));
        }
    }

    /// Drops what is kept for the client; the last cursor that it got stays.
    pub(crate) fn give_up(&mut self, outbox: &Outbox) {
        self.settle_cursor(outbox);
        *self = Self {
            taken_cursor: std::mem::take(&mut self.taken_cursor),
            timer_micros: self.timer_micros,
            ..Self::default()
        };
    }

    /// The last cursor that the socket has taken: everything before it has reached the client if
    /// the client hears of it.
    pub(crate) fn last_cursor(&mut self, outbox: &Outbox) -> &str {
        self.settle_cursor(outbox);
        &self.taken_cursor
    }

    fn settle_cursor(&mut self, outbox: &Outbox) {
        let is_taken = |(_, end): &mut (Box<str>, u64)| outbox.has_taken(*end);
        if let Some((cursor, _)) = self.owed_cursor.take_if(is_taken) {
            self.taken_cursor = cursor;
        }
    }

    /// Heap that it holds.
    pub(crate) const fn heap_bytes(&self) -> usize {
        self.pacer.heap_bytes() + self.frame.capacity()
    }

    fn push_updates(
        &mut self,
        outbox: &mut Outbox,
        (current, aspect): (&Current<'_>, &Aspect<'_>),
        framing: Framing,
        now_micros: u64,
    ) -> Result<(), Overflow> {
        let id = current.change.entity_id();
        let mut buffer = std::mem::take(&mut self.frame);
        for update in current.change.updates() {
            if aspect.cut.shows(update.property) {
                let frame = framing.own(&mut buffer, update.frame);
                let property = (update.property, frame);
                self.push_update(outbox, (current, aspect), (id, property), now_micros)?;
            }
        }
        self.frame = buffer;
        Ok(())
    }

    fn push_update(
        &mut self,
        outbox: &mut Outbox,
        (current, aspect): (&Current<'_>, &Aspect<'_>),
        (id, (property, frame)): (&str, (&str, &[u8])),
        now_micros: u64,
    ) -> Result<(), Overflow> {
        if let Some(interval) = aspect.interval_micros {
            let pace = (now_micros, interval);
            let place = place(current);
            if !self.pacer.update(pace, (id, property), (place, frame)) {
                return Ok(());
            }
        }
        outbox.push_update(id, property, frame)
    }

    /// Mode `property`: all of an entity that begins to match.
    fn push_whole(
        &mut self,
        outbox: &mut Outbox,
        (current, aspect): (&Current<'_>, &Aspect<'_>),
        framing: Framing,
        now_micros: u64,
    ) -> Result<(), Overflow> {
        let Some(whole) = current.whole() else {
            // A further part of a change: the first has said all.
            return Ok(());
        };
        let mut frame = std::mem::take(&mut self.frame);
        for part in shown_whole(whole, &aspect.cut) {
            frame.clear();
            write_property(framing, &mut frame, (whole.id, part), whole.last_updated);
            let property = (part.0, &*frame);
            self.push_update(outbox, (current, aspect), (whole.id, property), now_micros)?;
        }
        self.frame = frame;
        Ok(())
    }

    /// Mode `property`: an entity that no longer matches. What was kept of it does not matter any
    /// more, so that goes for a reader that is behind too.
    fn push_unmatched(
        &mut self,
        outbox: &mut Outbox,
        (current, aspect): (&Current<'_>, &Aspect<'_>),
        framing: Framing,
    ) -> Result<(), Overflow> {
        let Some((event, facts)) = current.update() else {
            return Ok(());
        };
        let id = event.entity_id;
        self.pacer.drop_updates(id);
        self.frame.clear();
        for part in shown(event, &aspect.cut) {
            write_unmatched(framing, &mut self.frame, (id, Some(part)), facts.time);
        }
        if !self.frame.is_empty() && outbox.push_if_room(&self.frame) {
            return Ok(());
        }
        self.frame.clear();
        write_unmatched(framing, &mut self.frame, (id, None), facts.time);
        outbox.push_deleted(id, &self.frame)
    }

    fn push_entity<'s>(
        &mut self,
        outbox: &mut Outbox,
        (current, aspect): (&Current<'_>, &Aspect<'s>),
        frames: &mut Frames<'s, '_>,
        now_micros: u64,
    ) -> Result<(), Overflow> {
        let id = current.change.entity_id();
        let pace = aspect
            .interval_micros
            .map(|interval| (now_micros, interval));
        if current.is_deletion() {
            let frame = frames.deletion(current);
            let goes =
                pace.is_none_or(|pace| self.pacer.deletion(pace, (id, place(current)), frame));
            return if goes {
                outbox.push_deleted_by_event(id, frame)
            } else {
                Ok(())
            };
        }
        let Some(head) = current.head(aspect.standing) else {
            return Ok(());
        };
        let encode = frames.framing.merged;
        let frame = frames.entity(current, (&aspect.cut, aspect.standing));
        let whole = current.whole().filter(|_| head.is_whole);
        match (whole, current.update()) {
            (Some(whole), _) => {
                let parts = shown_whole(whole, &aspect.cut);
                let frame = (id, frame, place(current));
                self.push_parts(outbox, frame, (head, parts), (pace, encode))
            }
            (None, Some((event, _))) => {
                let parts = shown(event, &aspect.cut);
                let frame = (id, frame, place(current));
                self.push_parts(outbox, frame, (head, parts), (pace, encode))
            }
            (None, None) => Ok(()),
        }
    }

    fn push_parts<'p>(
        &mut self,
        outbox: &mut Outbox,
        (id, frame, place): (&str, &[u8], (u16, Sequence)),
        (head, parts): (ChangeHead, impl Iterator<Item = Part<'p>> + Clone),
        (pace, encode): (Option<(u64, u64)>, EncodeMerged),
    ) -> Result<(), Overflow> {
        if let Some(pace) = pace {
            let change = (head, parts.clone());
            if !self.pacer.change(pace, (id, place), change, encode) {
                return Ok(());
            }
        }
        outbox.push_merged(id, frame, (head, parts), encode)
    }
}

fn place(current: &Current<'_>) -> (u16, Sequence) {
    let sequence = current.change.sequence().unwrap_or(Sequence::ZERO);
    (current.from, sequence)
}

fn push_due(outbox: &mut Outbox, due: &Due<'_>, frame: &mut Vec<u8>) -> Result<(), Overflow> {
    match *due {
        Due::Update {
            entity_id,
            property,
            frame,
        } => outbox.push_update(entity_id, property, frame),
        Due::Deleted { entity_id, frame } => outbox.push_deleted_by_event(entity_id, frame),
        Due::Changed {
            entity_id,
            change,
            encode,
        } => {
            frame.clear();
            encode(frame, entity_id, change);
            let parts = (change.head, change.parts());
            outbox.push_merged(entity_id, frame, parts, encode)
        }
    }
}

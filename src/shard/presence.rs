//! Presence on its shard: entities are bound to connections by events, and deleted by tombstones
//! that nobody is charged for, a while after their connection has ended.
//!
//! Each core tells each shard of the end of a connection that has bound something, behind the
//! writes of that connection. The shard knows what the connection holds. What was bound when the
//! server ended lingers from the start on.

use super::Shard;
use crate::engine::PublishError;
use crate::limits::{EVENT_UNITS, ORPHANS_PER_SLICE_MAX};
use crate::log::{AppendRejection, Log};
use crate::model::{
    Binding, ConnectionId, EndCause, PackedEvent, Published, RECORD_KIND_EVENT, StoredChange,
    Terms, Timestamp,
};

impl<L: Log> Shard<L> {
    /// Says which entities were bound to connections when the server ended.
    #[must_use]
    pub fn with_orphans(mut self, orphans: Vec<Box<str>>) -> Self {
        self.orphans = orphans;
        self
    }

    /// The binding that an event asks for, if there is room for it.
    ///
    /// # Errors
    /// As of [`super::bindings::Bindings::check_room`].
    pub(super) fn check_binding(
        &mut self,
        packed: PackedEvent<'_>,
    ) -> Result<Option<Binding>, PublishError> {
        let Some(binding) = asked(packed) else {
            return Ok(None);
        };
        self.forget_ended();
        let room = self.bindings.check_room(id_of(packed), binding.connection);
        room.map(|()| Some(binding)).map_err(PublishError::refused)
    }

    /// An event was stored that binds its entity.
    pub(super) fn bind(
        &mut self,
        packed: PackedEvent<'_>,
        binding: Binding,
        published: &mut Published,
    ) {
        self.forget_ended();
        let event = Some(published.stored.sequence);
        self.bindings.bind(id_of(packed), binding, event);
        published.bound = Some(true);
    }

    /// An event came again that asks to bind its entity: the client may have lost the connection on
    /// which it came first, and means this one. Nothing that is stored changes.
    pub(super) fn bind_again(
        &mut self,
        packed: PackedEvent<'_>,
        published: &mut Published,
    ) -> Result<(), AppendRejection> {
        let Some(asked) = asked(packed) else {
            return Ok(());
        };
        self.forget_ended();
        let (id, event) = (id_of(packed), published.stored.sequence);
        let linger_ms = self.engine.linger_ms(id)?;
        let linger_ms = linger_ms.filter(|_| self.bindings.may_rebind(id, event));
        published.bound = Some(linger_ms.is_some());
        if let Some(linger_ms) = linger_ms {
            let binding = Binding { linger_ms, ..asked };
            self.bindings.bind(id, binding, Some(event));
        }
        Ok(())
    }

    /// A connection has ended.
    pub(super) fn end_connection(&mut self, connection: ConnectionId) {
        self.forget_ended();
        let now = self.engine.deadline_now();
        self.bindings.end_connection(connection, now);
    }

    /// True if an entity may have lingered for long enough.
    pub(super) fn has_lingered(&self) -> bool {
        let now = self.engine.deadline_now();
        let is_due = !self.orphans.is_empty()
            || self.engine.has_unbound()
            || self.bindings.due(now).is_some();
        // Before the clock runs nobody knows when anything is over.
        is_due && now > Timestamp::default()
    }

    /// Deletes entities that have lingered for long enough, until so many units of work are done.
    ///
    /// # Errors
    /// Why one can't be deleted for now.
    pub(super) fn end_lingering(
        &mut self,
        now: Timestamp,
        slice_end: u64,
    ) -> Result<(), PublishError> {
        self.forget_ended();
        self.take_in_orphans()?;
        while self.spent() < slice_end
            && let Some(id) = self.bindings.due(self.engine.deadline_now())
        {
            if self.engine.linger_ms(&id)?.is_some() {
                let event_id = self.ids.next(now.as_millis());
                let end = (&*id, event_id, EndCause::Unbound);
                self.engine.end(&mut self.log, now, end)?;
                self.count_own();
                self.spent += EVENT_UNITS + id.len() as u64;
            }
            self.bindings.forget_due();
        }
        Ok(())
    }

    /// Lets some of what was bound before the start linger from now on.
    fn take_in_orphans(&mut self) -> Result<(), AppendRejection> {
        for _ in 0..ORPHANS_PER_SLICE_MAX {
            let Some(id) = self.orphans.pop() else {
                break;
            };
            if let Some(linger_ms) = self.engine.linger_ms(&id)? {
                let now = self.engine.deadline_now();
                self.bindings.orphan(id, linger_ms, now);
            }
        }
        Ok(())
    }

    /// Forgets the entities that are bound no more because they were deleted.
    fn forget_ended(&mut self) {
        while let Some(id) = self.engine.next_unbound() {
            self.bindings.forget(&id);
        }
    }
}

fn asked(packed: PackedEvent<'_>) -> Option<Binding> {
    Terms::new(packed.terms).find_map(|term| Binding::of(&term))
}

fn id_of(packed: PackedEvent<'_>) -> &str {
    let id = StoredChange::entity_id_of(RECORD_KIND_EVENT, packed.event).unwrap_or_default();
    str::from_utf8(id).unwrap_or_default()
}

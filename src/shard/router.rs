//! The way from a core to every shard: its own is called directly, another core's is reached by its
//! mailbox.

use super::message::{Envelope, Message, Origin, RequestId, ShardRequest};
use super::{MailboxSender, Shard};
use crate::api::ApiError;
use crate::log::Log;
use crate::model::{CommitPoint, Timestamp, namespace_of, place, place_key};
use crate::subscribe::{Filter, Interest};
use flux_storage::Sequence;
use std::ops::Range;

/// See the module. One for each core, and one for the connectors' thread, which has no shard.
#[derive(Debug)]
pub struct Router<L> {
    /// This core's index among the members of the mailboxes, and its shard's.
    pub core: u16,
    /// Number of shards. The members of the mailboxes from here on have none.
    pub shards: u16,
    /// This core's shard; `None` until its log is replayed.
    pub shard: Option<Shard<L>>,
    /// The way to the other cores.
    pub sender: MailboxSender,
    /// The wall clock, read once per turn.
    pub now: Timestamp,
    /// Units of work that were done on this core, but for those of its shard.
    spent: u64,
    /// What was asked so far: the difference is what one call asked.
    pub asked: Asked,
}

/// Requests that were handed to shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// To this core's shard.
    pub own: u64,
    /// To the shards of other cores.
    pub others: u64,
}

impl Asked {
    /// What was asked since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            own: self.own - before.own,
            others: self.others - before.others,
        }
    }
}

impl<L: Log> Router<L> {
    /// A router whose own shard is not there yet.
    pub fn new(core: u16, shards: u16, sender: MailboxSender) -> Self {
        Self {
            core,
            shards,
            shard: None,
            sender,
            now: Timestamp::default(),
            spent: 0,
            asked: Asked::default(),
        }
    }

    /// So much was done.
    pub fn spend(&mut self, units: u64) {
        self.spent += units;
    }

    /// Units of work that this core has done since it began. Only differences mean something.
    pub fn spent(&self) -> u64 {
        self.spent + self.shard.as_ref().map_or(0, Shard::spent)
    }

    /// The shard of an entity.
    pub fn place(&self, entity_id: &str) -> u16 {
        place(entity_id, self.shards)
    }

    /// The shards that a filter concerns.
    pub fn shards_of(&self, filter: &Filter) -> Range<u16> {
        self.shards_of_key(filter.concerns_single_placement())
    }

    /// The shards that may hold entities of a namespace, or with a prefix, or any.
    pub fn shards_holding(&self, namespace: Option<&str>, prefix: Option<&str>) -> Range<u16> {
        self.shards_of_key(namespace.or_else(|| namespace_of(prefix?)))
    }

    /// The shard of a placement key; all of them without one.
    pub fn shards_of_key(&self, key: Option<&str>) -> Range<u16> {
        match key {
            None => 0..self.shards,
            Some(key) => {
                let shard = place_key(key, self.shards);
                shard..shard + 1
            }
        }
    }

    /// The commit point of an event of this core's shard; none if it is visible already.
    pub fn commit_point(&self, sequence: Sequence) -> CommitPoint {
        self.shard.as_ref().map_or(CommitPoint::NONE, |shard| {
            CommitPoint::at(sequence).unless_reached(shard.visible())
        })
    }

    /// Hands a request to a shard; its reply comes to `request_id`.
    ///
    /// # Errors
    /// [`ApiError::NotReady`] if the shard is not there yet, [`ApiError::Overloaded`] if the way to
    /// it is full.
    pub fn ask(
        &mut self,
        shard: u16,
        request_id: RequestId,
        request: ShardRequest,
    ) -> Result<(), ApiError> {
        let origin = Origin {
            core: self.core,
            request_id,
        };
        let envelope = Envelope { origin, request };
        if shard == self.core {
            let now = self.now;
            let own = self.shard.as_mut().ok_or(ApiError::NotReady)?;
            own.request(envelope, now);
            self.asked.own += 1;
            Ok(())
        } else if self.sender.has_room(shard) {
            self.sender.send(shard, Message::Request(envelope));
            self.asked.others += 1;
            Ok(())
        } else {
            Err(ApiError::Overloaded)
        }
    }

    /// Takes a subscription back at a shard. Never refused: one that is not taken back would stay
    /// for ever.
    pub fn unsubscribe(&mut self, shard: u16, request_id: RequestId, interest: Interest) {
        let origin = Origin {
            core: self.core,
            request_id,
        };
        let request = ShardRequest::Unsubscribe(Box::new(interest));
        self.tell(shard, Envelope { origin, request });
    }

    /// Tells a shard that a connection has ended. Never refused, and behind all that the connection
    /// has asked of it.
    pub fn unbind(&mut self, shard: u16, request_id: RequestId) {
        let origin = Origin {
            core: self.core,
            request_id,
        };
        let request = ShardRequest::Unbind;
        self.tell(shard, Envelope { origin, request });
    }

    fn tell(&mut self, shard: u16, envelope: Envelope) {
        if shard != self.core {
            self.sender.send(shard, Message::Request(envelope));
        } else if let Some(own) = &mut self.shard {
            own.request(envelope, self.now);
        }
    }
}

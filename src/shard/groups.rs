//! Atomic batches on their shard: what is repeated, what it costs, and whether it waits.

use super::Shard;
use super::message::Reply;
use crate::api::ApiError;
use crate::api::outcome::PartOutcome;
use crate::auth::Charged;
use crate::engine::{GroupError, PublishError, Recalled, Write};
use crate::limits::EVENT_UNITS;
use crate::log::{AppendRejection, Log};
use crate::model::{CommitPoint, EventId, EventPack, EventView, Timestamp};
use std::collections::BTreeSet;

impl<L: Log> Shard<L> {
    /// Stores a group whole or not at all. `None` if it has to wait for the log.
    pub(super) fn publish_group(
        &mut self,
        pack: &EventPack,
        charged: Option<&Charged>,
        now: Timestamp,
    ) -> Option<(CommitPoint, Reply)> {
        match self.store_group(pack, charged, now) {
            Ok(outcome) => Some((self.last_point(), Reply::Published(outcome))),
            Err(refused) => {
                let GroupError { index, error } = *refused;
                let (error, point) = self.refusal(error)?;
                Some((point, Reply::GroupRefused(index, error)))
            }
        }
    }

    /// Stores a group, unless all of it was stored before.
    fn store_group(
        &mut self,
        pack: &EventPack,
        charged: Option<&Charged>,
        now: Timestamp,
    ) -> Result<PartOutcome, Box<GroupError>> {
        let mut outcome = PartOutcome::default();
        let mut writes = Vec::with_capacity(pack.len());
        let (mut tokens, mut ids) = (0_u32, BTreeSet::new());
        for (index, packed) in pack.iter().enumerate() {
            tokens = tokens.saturating_add(packed.extra_tokens.saturating_add(1));
            let event_id = EventView::decode_encoded(packed.event).map(|event| event.event_id);
            let reused = |point| {
                Box::new(GroupError {
                    index: Some(index),
                    error: PublishError::Refused {
                        error: ApiError::EventIdReused,
                        point,
                    },
                })
            };
            if let Ok(EventId::Text(id)) = event_id
                && !ids.insert(id)
            {
                return Err(reused(CommitPoint::NONE));
            }
            let sent = match self.engine.recall(packed.event, &self.log, now) {
                Recalled::NotSent => None,
                Recalled::New(hash) => Some(hash),
                Recalled::Reused(sequence) => return Err(reused(CommitPoint::at(sequence))),
                // All of it is a repetition, or it is another batch.
                Recalled::Duplicate { stored, .. } if outcome.len() < index => {
                    return Err(reused(CommitPoint::at(stored.sequence)));
                }
                Recalled::Duplicate { .. } => {
                    let again = self.store(now, packed, charged);
                    outcome.push(again.map_err(|error| {
                        Box::new(GroupError {
                            index: Some(index),
                            error,
                        })
                    })?);
                    continue;
                }
            };
            if !outcome.is_empty() {
                return Err(reused(self.last_point()));
            }
            writes.push(Write { packed, sent });
        }
        if writes.is_empty() {
            return Ok(outcome);
        }
        let of_all = |rejection: AppendRejection| {
            Box::new(GroupError {
                index: None,
                error: rejection.into(),
            })
        };
        self.check_rate(charged, tokens).map_err(of_all)?;
        self.spent += EVENT_UNITS * writes.len() as u64 + pack.byte_len() as u64;
        let all = self.engine.publish_group(&mut self.log, now, &writes)?;
        if let Some(charged) = charged {
            self.limiter.take(charged.as_str(), tokens);
        }
        for published in all {
            outcome.push(published);
        }
        Ok(outcome)
    }
}

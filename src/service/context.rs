//! What a core offers to every call: the way to the shards, reused buffers, who may do what, and
//! the queues of the helpers that calls wait for.

use super::streams::Streams;
use super::tenants::{Identity, Operator, TokenRule};
use super::{Credentials, Tenants};
use crate::api::ApiError;
use crate::api::event::{EventDecoder, EventIds};
use crate::auth::{Access, EncryptionKey, Unwelcome};
use crate::background::decoding::DecodeQueue;
use crate::background::history_queue::HistoryQueue;
use crate::control::Command;
use crate::log::Log;
use crate::model::Slicing;
use crate::model::Timestamp;
use crate::shard::{Counters, MailboxSender, MemoryAccount, Origin, Router, Tally};
use crate::subscribe::Registry;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Context<L> {
    /// This core's shard, and the way to the others.
    pub(crate) router: Router<L>,
    /// Which of this core's connections want which entities.
    pub(crate) subscribers: Registry<u32>,
    /// Their subscriptions that are no plain ones.
    pub(crate) streams: Streams,
    /// Who may do what.
    pub(crate) tenants: Tenants,
    /// Reused decoder.
    pub(crate) decoder: EventDecoder,
    /// Ids of events.
    pub(crate) ids: EventIds,
    /// Reused: the stored form of the event at hand.
    pub(crate) event: Vec<u8>,
    /// Reused: what that event asks of its owner besides.
    pub(crate) terms: Vec<u8>,
    /// Reused: the JSON of the outcome at hand.
    pub(crate) answer: Vec<u8>,
    /// Requests about the past.
    pub(crate) history: HistoryQueue,
    /// Large bodies that wait to be decoded.
    pub(crate) decodes: DecodeQueue,
    /// Control calls, on the core that carries them out.
    pub(crate) control_calls: VecDeque<(Origin, Command)>,
    /// What all cores know of each other.
    pub(crate) counters: Arc<Counters>,
    /// What this core's clients hold in memory.
    pub(crate) memory: MemoryAccount,
    /// What connectors' credentials are encrypted with.
    pub(crate) encryption_key: Option<EncryptionKey>,
    /// How much is done in one go.
    pub(crate) slicing: Slicing,
    /// Milliseconds since the core began.
    pub(crate) uptime_ms: u64,
}

/// Heap of the answer buffer that is kept for the next call, bytes: a part of a listing and its
/// largest usual entity.
const ANSWER_BYTES_KEPT_MAX: usize = 256 * 1024;

/// What a context is made of.
#[derive(Debug)]
pub(crate) struct ContextParts {
    /// The core's index.
    pub(crate) core: u16,
    /// Number of shards.
    pub(crate) shards: u16,
    /// The way to the other cores.
    pub(crate) sender: MailboxSender,
    /// Who may do what.
    pub(crate) tenants: Tenants,
    /// What all cores know of each other.
    pub(crate) counters: Arc<Counters>,
    /// What connectors' credentials are encrypted with.
    pub(crate) encryption_key: Option<EncryptionKey>,
    /// For ids.
    pub(crate) seed: u64,
}

impl<L: Log> Context<L> {
    /// A context whose shard is not there yet.
    pub(crate) fn new(parts: ContextParts) -> Self {
        let budget = Arc::clone(&parts.counters.memory);
        Self {
            memory: MemoryAccount::new(budget, usize::from(parts.core)),
            router: Router::new(parts.core, parts.shards, parts.sender),
            subscribers: Registry::new(),
            streams: Streams::default(),
            tenants: parts.tenants,
            decoder: EventDecoder::default(),
            ids: EventIds::new(parts.seed),
            event: Vec::new(),
            terms: Vec::new(),
            answer: Vec::new(),
            history: HistoryQueue::default(),
            decodes: DecodeQueue::default(),
            control_calls: VecDeque::new(),
            counters: parts.counters,
            encryption_key: parts.encryption_key,
            slicing: Slicing::SERVER,
            uptime_ms: 0,
        }
    }

    /// Rejects what would change something while the server is on its way out.
    ///
    /// # Errors
    /// [`ApiError::ShuttingDown`].
    pub(crate) fn check_serving(&self) -> Result<(), ApiError> {
        if self.counters.is_stopping() {
            Err(ApiError::ShuttingDown)
        } else {
            Ok(())
        }
    }

    /// Rejects what needs the logs of all shards while they are replayed.
    ///
    /// # Errors
    /// [`ApiError::NotReady`].
    pub(crate) fn check_ready(&self) -> Result<(), ApiError> {
        if self.counters.is_replayed() {
            Ok(())
        } else {
            Err(ApiError::NotReady)
        }
    }
}

impl<L> Context<L> {
    /// What this core counts.
    pub(crate) fn tally(&self) -> &Tally {
        self.counters.tally(self.router.core)
    }

    /// What a caller may write: [`Tenants::access`] now.
    ///
    /// # Errors
    /// In auth mode, if it presents no token that somebody has.
    pub(crate) fn access(&self, credentials: &Credentials<'_>) -> Result<Access, ApiError> {
        self.tenants.access(credentials, self.router.now)
    }

    /// Whether the operator calls: [`Tenants::operator`] now.
    ///
    /// # Errors
    /// As of it.
    pub(super) fn operator(&self, credentials: &Credentials<'_>) -> Result<Operator, ApiError> {
        self.tenants.operator(credentials, self.router.now)
    }

    /// Judges whom a request asks, and which web page sends it.
    ///
    /// # Errors
    /// [`ApiError::OriginRefused`], [`ApiError::HostRefused`].
    pub(crate) fn welcome(
        &self,
        host: Option<&[u8]>,
        origin: Option<&[u8]>,
    ) -> Result<(), ApiError> {
        let judged = self.tenants.browsers.check(host, origin);
        judged.map_err(|unwelcome| match unwelcome {
            Unwelcome::Origin => ApiError::OriginRefused,
            Unwelcome::Host => ApiError::HostRefused,
        })
    }

    /// Looks up the token that a caller presents: [`Tenants::identify`] now.
    ///
    /// # Errors
    /// As of it.
    pub(crate) fn identify(
        &self,
        credentials: &Credentials<'_>,
        rule: TokenRule,
    ) -> Result<Option<Identity>, ApiError> {
        self.tenants.identify(credentials, (rule, self.router.now))
    }

    /// Counts a rejection if it may have been a guess. The milliseconds after which its caller is
    /// told then.
    pub(crate) fn note_rejection(&self, address: Option<IpAddr>, error: &ApiError) -> Option<u64> {
        let (strangers, now) = (&self.counters.strangers, self.router.now);
        match error {
            ApiError::OperatorUnknown => Some(strangers.guess(address, now)),
            ApiError::TokenUnknown if self.tenants.admin.is_some() => {
                strangers.unknown_token(address, now)
            }
            _ => None,
        }
    }

    /// True if an event may be later than this, so that the state then is one of the past. Not only
    /// if the clock has passed it: that may have been set back.
    pub(crate) fn is_past(&self, at: Timestamp) -> bool {
        at < self.router.now || at < self.counters.latest_event()
    }

    /// Gives back heap that an outcome of unusual size has left in [`Context::answer`].
    pub(crate) fn trim_answer(&mut self) {
        if self.answer.capacity() > ANSWER_BYTES_KEPT_MAX {
            self.answer = Vec::new();
        }
    }
}

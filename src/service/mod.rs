//! What Flux does, without a protocol: one file for each thing that a client can ask for.
//!
//! ```text
//! bytes → call ─▶ begin(context, caller, call) ─▶ Done(outcome, commit point) ─▶ outcome → bytes
//!   (front)             │                                                          (front)
//!                       └▶ Waiting(pending) ── each reply: resume ──▶ an outcome, or it waits on
//! ```
//!
//! Plain synchronous code: it takes a core's [`Context`] and returns; replies of other shards come
//! back through [`resume`]. The JSON of an outcome stands in [`Context::answer`]. It must not know
//! what a protocol's bytes look like, which socket a caller has, or in which order answers leave.
//!
//! | file | job |
//! | --- | --- |
//! | `context` | what a core offers to every call |
//! | `caller` | who calls: where replies go, and what was presented as proof |
//! | `connection_tokens` | the tokens that one connection has presented |
//! | `tenants` | namespaces and the configuration in force: who may write what |
//! | `reading` | what a caller may read |
//! | `publish` | one event |
//! | `batch` | a batch of events, in slices |
//! | `presence` | the end of a connection that entities are bound to |
//! | `read` | one entity |
//! | `list` | entities, as a page or in parts |
//! | `deferred` | reads that wait until the answers before them are taken |
//! | `delete` | one entity |
//! | `delete_many` | entities by filter |
//! | `history` | events, and the state as it was |
//! | `changes` | what has changed since a place, at once or when something has |
//! | `catch_up` | from what a subscriber has to what is live: snapshots and missed events |
//! | `patterns` | what a subscription names, and the shards that it concerns |
//! | `subscribe` | the subscriptions of one connection |
//! | `subscription_bounds` | how many there may be, and what they take in memory |
//! | `streams/` | subscriptions that ask for more than each property of each change |
//! | `control` | changes of the control plane: asking for one, and putting it into force |
//! | `namespaces` | namespaces, and the token of their registration |
//! | `tokens` | the other tokens of a namespace |
//! | `tickets` | what stands for a token once |
//! | `namespace_page` | namespaces with what they hold |
//! | `config` | the runtime configuration |
//! | `connectors` | connectors and their credentials |
//! | `status` | health and readiness |
//! | `metrics` | what all cores have counted |
//! | `testing` | cores without sockets, for tests |

pub(crate) mod batch;
mod caller;
pub(crate) mod catch_up;
pub(crate) mod changes;
pub(crate) mod config;
mod connection_tokens;
pub(crate) mod connectors;
mod context;
pub(crate) mod control;
pub(crate) mod deferred;
pub(crate) mod delete;
pub(crate) mod delete_many;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod metrics;
mod namespace_page;
pub(crate) mod namespaces;
pub(crate) mod patterns;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod reading;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod subscribe;
mod subscription_bounds;
mod tenants;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tickets;
pub(crate) mod tokens;

pub(crate) use caller::{Caller, Credentials, KeptToken};
pub(crate) use connection_tokens::ConnectionTokens;
pub(crate) use context::{Context, ContextParts};
pub(crate) use tenants::{Identity, Tenants, TokenRule};

use crate::api::ApiError;
use crate::background::decoding::DecodeResult;
use crate::limits::SMALL_ANSWER_BYTES_MAX;
use crate::log::Log;
use crate::model::{CommitPoint, EntityTag, NarrowCursor};
use crate::shard::{MemoryAccount, MemoryHolders, Reply, RequestId};

/// What a call came to. If it has JSON, that stands in [`Context::answer`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done; the JSON says what.
    Done,
    /// Something was made; the JSON describes it.
    Created,
    /// Something was made; the JSON holds its secret, which nobody may cache.
    CreatedSecret,
    /// It is done; the JSON holds a secret that nobody may cache.
    Secret,
    /// It is done, and there is nothing to say.
    Empty,
    /// It is done; in the place of JSON stands text of this media type.
    Text(&'static str),
    /// The JSON is an entity.
    Entity {
        /// Its entity tag.
        tag: EntityTag,
        /// The place that every later change of it comes after.
        cursor: NarrowCursor,
    },
    /// The JSON is a page.
    Page {
        /// Where the next page is, as a `Link`; `None` after the last.
        next: Option<String>,
        /// Of entities as they are: the place that every later change of them comes after.
        cursor: Option<String>,
    },
    /// It is refused, or failed.
    Failed(ApiError),
}

/// How far a call came when it began.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is over. Nobody may see the outcome before the commit point is reached.
    Done(Outcome, CommitPoint),
    /// It waits for replies, which come to its request id.
    Waiting(Pending),
}

impl Begun {
    /// An outcome that depends on nothing that is not durable.
    pub(crate) const fn at_once(outcome: Outcome) -> Self {
        Self::Done(outcome, CommitPoint::NONE)
    }
}

impl From<ApiError> for Begun {
    fn from(error: ApiError) -> Self {
        Self::at_once(Outcome::Failed(error))
    }
}

/// A call that waits for replies.
#[derive(Debug)]
pub(crate) enum Pending {
    /// One event is with its shard.
    Publish(publish::PendingEvent),
    /// A batch is with its shards.
    Batch(Box<batch::PendingBatch>),
    /// An entity is read on another shard, for whoever presented this.
    Read(Option<KeptToken>),
    /// It is begun when the answers before it are taken.
    Deferred(Box<deferred::DeferredRead>),
    /// An entity is deleted.
    Delete(delete::PendingDelete),
    /// Entities are deleted by filter.
    DeleteMany(Box<delete_many::PendingDeletes>),
    /// A listing is gathered, or handed out in parts.
    List(Box<list::Listing>),
    /// Events, or the state as it was, are looked up.
    History(Box<history::PendingHistory>),
    /// Namespaces or their first tokens.
    Namespaces(Box<namespaces::PendingNamespace>),
    /// Another token of a namespace is made or revoked.
    Tokens(Box<tokens::PendingToken>),
    /// The configuration is changed.
    Configure,
    /// Connectors or their credentials.
    Connectors(Box<connectors::PendingConnector>),
    /// A poll.
    Changes(Box<changes::PendingChanges>),
}

impl Pending {
    /// True if it takes several slices of work. Its connection is not read before it is answered:
    /// what the client sends behind it must not overtake it, and is not worked on beside it.
    pub(crate) fn is_sliced(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.is_sliced(),
            Self::Publish(event) => event.is_sliced(),
            _ => false,
        }
    }

    /// True if [`go_on`] has something to do for it.
    pub(crate) fn is_unfinished(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.is_unfinished(),
            Self::Publish(event) => event.is_unfinished(),
            _ => false,
        }
    }

    /// True if it is an entity that is more than a small answer and is not read yet, or a listing
    /// of which a part has come.
    pub(crate) fn is_long(&self) -> bool {
        match self {
            Self::Deferred(read) => read.bytes_at_once() > SMALL_ANSWER_BYTES_MAX,
            Self::List(listing) => listing.is_long(),
            _ => false,
        }
    }

    /// About the bytes of the answer that its next step writes while the client takes them; 0 if
    /// it writes none.
    pub(crate) fn next_bytes(&self) -> usize {
        match self {
            Self::List(listing) => listing.next_part_bytes(),
            Self::Deferred(read) => read.bytes_at_once(),
            Self::Batch(batch) => batch.next_part_bytes(),
            _ => 0,
        }
    }

    /// Heap that it holds besides what its request says, which its front counts.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Publish(event) => event.heap_bytes(),
            Self::Batch(batch) => batch.heap_bytes(),
            Self::DeleteMany(deletes) => deletes.heap_bytes(),
            Self::List(listing) => listing.heap_bytes(),
            Self::Changes(poll) => poll.heap_bytes(),
            Self::Read(_)
            | Self::Deferred(_)
            | Self::Delete(_)
            | Self::History(_)
            | Self::Namespaces(_)
            | Self::Tokens(_)
            | Self::Configure
            | Self::Connectors(_) => 0,
        }
    }

    /// True if it can't go on for want of memory.
    pub(crate) fn lacks_memory(&self, memory: &mut MemoryAccount, holders: MemoryHolders) -> bool {
        match self {
            Self::Batch(batch) => batch.lacks_memory(memory, holders),
            _ => false,
        }
    }

    /// True if it has changed nothing, and will not if it is dropped.
    pub(crate) fn may_be_refused(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.may_be_refused(),
            Self::Publish(event) => event.may_be_refused(),
            Self::Read(_)
            | Self::Deferred(_)
            | Self::List(_)
            | Self::History(_)
            | Self::Changes(_) => true,
            Self::Delete(_)
            | Self::DeleteMany(_)
            | Self::Namespaces(_)
            | Self::Tokens(_)
            | Self::Configure
            | Self::Connectors(_) => false,
        }
    }

    /// True of a call that stores events: what it is refused for counts as a refused event.
    pub(crate) fn stores_events(&self) -> bool {
        matches!(
            self,
            Self::Publish(_) | Self::Batch(_) | Self::Delete(_) | Self::DeleteMany(_)
        )
    }

    /// True if the answer may be of any size.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Read(_)
            | Self::Deferred(_)
            | Self::List(_)
            | Self::History(_)
            | Self::Changes(_) => true,
            Self::Publish(event) => event.shows_entity,
            Self::Delete(delete) => delete.shows_entity,
            _ => false,
        }
    }
}

/// Does the next slice of a call that is unfinished. `None`: it goes on, or waits for replies.
pub(crate) fn go_on<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    pending: &mut Pending,
) -> Option<Outcome> {
    let went = match pending {
        Pending::Batch(batch) => batch.go_on(context, request_id),
        Pending::Publish(event) => event.go_on(context, request_id),
        _ => Ok(None),
    };
    went.unwrap_or_else(|error| Some(Outcome::Failed(error)))
}

/// Gives the body that a helper thread has decoded to the call that waits for it. `None`: it goes
/// on.
pub(crate) fn on_decoded(pending: &mut Pending, result: DecodeResult) -> Option<Outcome> {
    match pending {
        Pending::Batch(batch) => batch.on_decoded(result),
        Pending::Publish(event) => event.on_decoded(result),
        _ => None,
    }
}

/// Gives a reply to the call that waits for it. `None`: it waits for more. What a reply says is
/// durable already, so an outcome may be seen at once.
pub(crate) fn resume<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    pending: &mut Pending,
    (from, reply): (u16, Reply),
) -> Option<Outcome> {
    let resumed = match pending {
        Pending::Publish(event) => publish::resume(context, event, reply),
        Pending::Batch(batch) => Ok(batch.resume(context, (from, reply))),
        Pending::Read(_) => read::resume(context, pending, reply),
        // Nothing is asked yet; or its front gives it the reply, with where the client is.
        Pending::Deferred(_) | Pending::Changes(_) => Ok(None),
        Pending::Delete(delete) => delete::resume(context, delete, reply),
        Pending::DeleteMany(deletes) => deletes.resume(context, request_id, (from, reply)),
        // Its front asks for the next part itself.
        Pending::List(listing) => listing.take(from, reply).map(|()| None),
        Pending::History(_) => history::resume(context, request_id, (from, reply)),
        Pending::Namespaces(call) => call.resume(context, request_id, (from, reply)),
        Pending::Tokens(call) => call.resume(context, reply),
        Pending::Configure => config::resume(context, reply),
        Pending::Connectors(call) => call.resume(context, request_id, reply),
    };
    resumed.unwrap_or_else(|error| Some(Outcome::Failed(error)))
}

//! What cores say to each other. A message owns all it carries.

use crate::api::ApiError;
use crate::api::connectors::ShownConnector;
use crate::api::metrics::Front;
use crate::api::outcome::PartOutcome;
use crate::api::query::{Fields, ListQuery};
use crate::auth::{Charged, Readable};
use crate::control::{Change, Command};
use crate::engine::{
    Chunk, ChunkBounds, EntityBatch, NamespaceCounts, SnapshotPage, SnapshotQuery,
};
use crate::history::LiveLog;
use crate::model::{
    ConnectionId, EntityTag, EventPack, NarrowCursor, RECORD_KIND_EVENT, StoredChange,
};
use crate::state::NamespaceStatisticsView;
use crate::subscribe::{ChangeBatch, Interest};
use flux_storage::Sequence;
use std::sync::Arc;

/// Where a reply goes: a call of a connection. A connection that is gone, or whose number another
/// has taken since, is told apart by the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Index of the connection on its core.
    pub connection: u32,
    /// How often that index was handed out.
    pub generation: u32,
    /// The connection's own number for what it waits for.
    pub serial: u32,
}

/// Set in the serials of requests over WebSocket, and of nothing else.
pub const WEBSOCKET_BIT: u32 = 1 << 31;

/// Set in the serials of messages of `POST /mcp`. Those over WebSocket may have it too.
pub const MCP_BIT: u32 = 1 << 28;

impl RequestId {
    /// In the place of a connection: a call of a connector.
    pub const CONNECTOR: u32 = u32::MAX;

    /// What the call came in by.
    pub fn front(self) -> Front {
        if self.connection == Self::CONNECTOR {
            Front::Connector
        } else if self.serial & WEBSOCKET_BIT != 0 {
            Front::WebSocket
        } else if self.serial & MCP_BIT != 0 {
            Front::Mcp
        } else {
            Front::Http
        }
    }

    /// The connection, which is one of this core's.
    pub fn of_core(self, core: u16) -> ConnectionId {
        ConnectionId {
            core,
            index: self.connection,
            generation: self.generation,
        }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The core.
    pub core: u16,
    /// The call on that core.
    pub request_id: RequestId,
}

impl Origin {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.request_id.of_core(self.core)
    }
}

/// What is asked of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardRequest {
    /// Store these events, in order.
    Publish {
        /// The events.
        pack: EventPack,
        /// How far an earlier attempt came before the log had to wait for its next segment.
        done: PartOutcome,
        /// Whose rate they count against.
        charged: Option<Charged>,
    },
    /// Store all these events, or none: an atomic batch.
    PublishGroup {
        /// The events, of one namespace or of one id without.
        pack: EventPack,
        /// Whose rate they count against.
        charged: Option<Charged>,
    },
    /// One entity's JSON.
    Read {
        /// Its id.
        id: Box<str>,
        /// The properties to keep.
        fields: Option<Fields>,
        /// About the most bytes that its JSON may have.
        bytes_max: usize,
        /// Of what the server keeps itself: what the reader may see, if that is not what everyone
        /// may.
        readable: Option<Box<Readable>>,
    },
    /// Delete one entity.
    Delete {
        /// Its id.
        id: Box<str>,
        /// The conditions that have to hold (`model/term.rs`).
        terms: Box<[u8]>,
        /// Whose rate it counts against.
        charged: Option<Charged>,
    },
    /// Delete these entities, in order. `done` of them are dealt with already.
    DeleteMany {
        /// Their ids, which the caller keeps too.
        ids: Arc<[Box<str>]>,
        /// What became of the first of them: true if there was one to delete.
        done: Vec<bool>,
        /// Whose rate they count against.
        charged: Option<Charged>,
    },
    /// The ids that match, ascending, at most `max`.
    Collect {
        /// Exact namespace.
        namespace: Option<Box<str>>,
        /// Prefix of the id.
        prefix: Option<Box<str>>,
        /// The most ids to return.
        max: usize,
        /// The first of them, if some were collected in earlier turns.
        found: Vec<Box<str>>,
        /// How far ids that the caller does not see were passed over beyond them.
        passed: Option<Box<str>>,
        /// What the caller sees: no other ids are collected.
        seen: Box<Readable>,
    },
    /// The next entities of a listing.
    List(Box<ListPart>),
    /// What these namespaces hold.
    Namespaces(Box<[Box<str>]>),
    /// What another thread needs to read this shard's past.
    Past,
    /// The next page of a snapshot.
    SnapshotPage {
        /// What it shows.
        query: Arc<SnapshotQuery>,
        /// Ids after this one only.
        after: Option<Box<str>>,
    },
    /// Entities whole.
    Entities {
        /// Their ids.
        ids: Vec<Box<str>>,
        /// Whether they match this is told too.
        filter: Option<Arc<crate::filter::Filter>>,
    },
    /// Tell this core of changes.
    Subscribe(Box<Interest>),
    /// Take one such interest back. Nobody waits for an answer.
    Unsubscribe(Box<Interest>),
    /// The connection has ended: what is bound to it lingers from now on. Nobody waits for an
    /// answer.
    Unbind,
}

/// A part of a listing that is asked of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPart {
    /// What to list; `after` is where this shard's part goes on.
    pub query: Arc<ListQuery>,
    /// Ids after this one only.
    pub after: Option<Box<str>>,
    /// How far the part goes.
    pub bounds: ChunkBounds,
    /// What the reader may see.
    pub readable: Readable,
}

impl ShardRequest {
    /// Whose rate it counts against, and whose token it came with.
    pub(super) fn charged(&self) -> Option<Charged> {
        match self {
            Self::Publish { charged, .. }
            | Self::PublishGroup { charged, .. }
            | Self::Delete { charged, .. }
            | Self::DeleteMany { charged, .. } => *charged,
            Self::Read { .. }
            | Self::Collect { .. }
            | Self::List(_)
            | Self::Namespaces(_)
            | Self::Past
            | Self::SnapshotPage { .. }
            | Self::Entities { .. }
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Unbind => None,
        }
    }

    /// The bytes of the id of the entity that it concerns, not validated; `None` if
    /// it concerns none or several.
    pub fn entity_id(&self) -> Option<&[u8]> {
        match self {
            Self::Publish { pack, .. } if pack.len() == 1 => {
                StoredChange::entity_id_of(RECORD_KIND_EVENT, pack.iter().next()?.event)
            }
            Self::Read { id, .. } | Self::Delete { id, .. } => Some(id.as_bytes()),
            Self::Publish { .. }
            | Self::PublishGroup { .. }
            | Self::DeleteMany { .. }
            | Self::Collect { .. }
            | Self::List(_)
            | Self::Namespaces(_)
            | Self::Past
            | Self::SnapshotPage { .. }
            | Self::Entities { .. }
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Unbind => None,
        }
    }

    /// The reply that refuses it; what an earlier attempt stored stays stored and is reported so.
    pub(super) fn refused(self, error: ApiError) -> Reply {
        match self {
            Self::Publish { mut done, .. } => {
                done.error = Some(error);
                Reply::Published(done)
            }
            Self::PublishGroup { .. } => Reply::GroupRefused(None, error),
            Self::DeleteMany { done, .. } => Reply::DeletedMany(done, Some(error)),
            Self::Delete { .. } => Reply::Deleted(Err(error)),
            Self::Read { .. }
            | Self::Collect { .. }
            | Self::List(_)
            | Self::Past
            | Self::SnapshotPage { .. }
            | Self::Entities { .. }
            | Self::Namespaces(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Unbind => Reply::Refused(error),
        }
    }

    /// Bytes of the events that it carries.
    pub(super) fn event_bytes(&self) -> usize {
        match self {
            Self::Publish { pack, .. } | Self::PublishGroup { pack, .. } => pack.byte_len(),
            Self::Read { .. }
            | Self::Delete { .. }
            | Self::DeleteMany { .. }
            | Self::Collect { .. }
            | Self::List(_)
            | Self::Namespaces(_)
            | Self::Past
            | Self::SnapshotPage { .. }
            | Self::Entities { .. }
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Unbind => 0,
        }
    }
}

/// A request with its return address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The return address.
    pub origin: Origin,
    /// The request.
    pub request: ShardRequest,
}

/// What a shard holds, by namespace.
#[derive(Debug, Clone)]
pub struct ShardStatistics {
    /// Entities, with and without a namespace.
    pub entities: u64,
    /// Its namespaces.
    pub names: NamespaceStatisticsView,
}

/// What cores say to each other about the control plane. Core 0 owns it.
#[derive(Debug, Clone)]
pub enum ControlMessage {
    /// To core 0: do this.
    Ask {
        /// Who asks.
        origin: Origin,
        /// What.
        command: Command,
    },
    /// From core 0: this is durable; it is in force from now on.
    Apply(Arc<Change>),
    /// To core 0: it is in force here.
    Applied,
}

/// To the supervisor of connectors: what is known of them?
#[derive(Debug, Clone)]
pub struct ConnectorsAsked {
    /// Who asks.
    pub origin: Origin,
    /// Whose connectors; `None`: everybody's.
    pub owner: Option<Box<str>>,
    /// The one of this name; `None`: all.
    pub name: Option<Box<str>>,
}

/// An entity that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownEntity {
    /// Its JSON.
    pub json: Vec<u8>,
    /// Its entity tag.
    pub tag: EntityTag,
    /// The place that every later change of it comes after.
    pub cursor: NarrowCursor,
}

/// What a shard answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To `Publish`, and to `PublishGroup` if all is stored.
    Published(PartOutcome),
    /// To `PublishGroup`: nothing is stored, because of the event with this index if it is one.
    GroupRefused(Option<usize>, ApiError),
    /// To `Read`; `None` if there is no such entity.
    Entity(Option<ShownEntity>),
    /// To `Read` of an entity that is larger than was asked for: its id, the properties to keep,
    /// and about the bytes of its JSON.
    LargeEntity {
        /// Its id.
        id: Box<str>,
        /// The properties to keep.
        fields: Option<Fields>,
        /// About the bytes of its JSON.
        bytes: usize,
    },
    /// To `Delete`: the tombstone's event id and sequence; `None` if there was nothing to delete.
    Deleted(Result<Option<(uuid::Uuid, Sequence)>, ApiError>),
    /// To `DeleteMany`: for each id whether there was one to delete; shorter than the request if
    /// the log refused, with why.
    DeletedMany(Vec<bool>, Option<ApiError>),
    /// To `Collect`.
    Ids(Vec<Box<str>>),
    /// To `List`.
    Chunk(Chunk),
    /// To `Namespaces`, in the same order; and the last event of the log so far.
    Namespaces(Vec<NamespaceCounts>, Sequence),
    /// To a control call: it is in force on every core.
    Controlled,
    /// To `Past`: the log through the last event so far, which is durable by the time that this
    /// arrives.
    Past(Box<LiveLog>),
    /// To `SnapshotPage`, and the end of the log when it was read.
    SnapshotPage(Box<SnapshotPage>, Sequence),
    /// To `Entities`, and the end of the log when they were read.
    Entities(Box<EntityBatch>, Sequence),
    /// To `Subscribe`: it is in force; every change after this one is told.
    Subscribed(Sequence),
    /// To [`ConnectorsAsked`].
    Connectors(Vec<ShownConnector>),
    /// The request never reached its shard.
    Refused(ApiError),
}

/// Everything that travels between cores.
#[derive(Debug)]
pub enum Message {
    /// To the core that owns the shard.
    Request(Envelope),
    /// Back to the core of the connection.
    Reply {
        /// The shard that answers.
        from: u16,
        /// The call that it answers.
        request_id: RequestId,
        /// What.
        reply: Reply,
    },
    /// To a core with subscribers.
    Changes {
        /// The shard.
        from: u16,
        /// What has changed there.
        batch: Arc<ChangeBatch>,
    },
    /// About the control plane.
    Control(ControlMessage),
    /// To the supervisor of connectors.
    Connectors(ConnectorsAsked),
    /// To the core that keeps the directory.
    ShardStatistics {
        /// The shard.
        from: u16,
        /// What it holds.
        statistics: ShardStatistics,
    },
}

//! Every rejection that a client can meet: its status, its stable code and its message. The one
//! status table (API contract §1).

use super::json::JsonError;
use crate::filter::FilterError;
use crate::limits;
use crate::model::Timestamp;
use crate::wire::http1::HttpError;
use crate::wire::ws::HandshakeError;

/// Why a request was refused.
///
/// The client's fault (4xx), ours (500) and "not now" (503) are different variants; nothing outside
/// this file chooses a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Plain HTTP came to a port that speaks TLS.
    #[error("this port speaks TLS: use https://")]
    TlsRequired,
    /// The bytes are no acceptable HTTP request.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The body is not JSON by the contract's rules.
    #[error("the body is not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// A batch is not JSON by the contract's rules, within one of its items.
    #[error("the body is not valid JSON: item {index} of `events`, counted from 0: {error}")]
    JsonItem {
        /// The item, from 0.
        index: usize,
        /// What is wrong.
        error: JsonError,
    },
    /// The body is JSON of another shape than the route takes.
    #[error("{rule}")]
    Shape {
        /// What the body must be.
        rule: &'static str,
    },
    /// A required field is absent.
    #[error("missing field `{field}`")]
    MissingField {
        /// Its path within the event.
        field: &'static str,
    },
    /// A field breaks its rule.
    #[error("invalid field `{field}`: {rule}")]
    InvalidField {
        /// Its path within the event.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A WebSocket request without an `id` that its answer could carry.
    #[error("a request needs an `id`, which its answer carries; nothing was done")]
    MissingId,
    /// An entity that would make a WebSocket message larger than clients take by default.
    #[error(
        "the entity is {bytes} bytes of JSON, and a message at most {} bytes; \
        GET /api/state/entities/:id answers it",
        limits::WS_MESSAGE_BYTES_MAX
    )]
    AnswerTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A query parameter breaks its rule.
    #[error("invalid query parameter `{name}`: {rule}")]
    InvalidQuery {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A text that should be a cursor is none.
    #[error("`{name}` is not a cursor that a server handed out")]
    InvalidCursor {
        /// The parameter or member.
        name: &'static str,
    },
    /// A cursor of one namespace or entity, where it does not cover all that is asked for.
    #[error("the cursor in `{name}` is of another namespace or entity than what is asked for")]
    CursorTooNarrow {
        /// The parameter or member.
        name: &'static str,
    },
    /// A filter that can't be read.
    #[error("invalid filter: {0}")]
    InvalidFilter(#[from] FilterError),
    /// A percent escape that is cut off, not hexadecimal, or does not decode to UTF-8.
    #[error("the {part} is not valid percent-encoded UTF-8")]
    PercentEncoding {
        /// The part of the target.
        part: &'static str,
    },
    /// The target names nothing that this server has.
    #[error("no such route")]
    NoRoute,
    /// The path exists, the method does not.
    #[error("method not allowed; this path takes {allow}")]
    Method {
        /// The `Allow` header.
        allow: &'static str,
    },
    /// No entity of that id.
    #[error("entity not found")]
    NoEntity,
    /// A write to the namespace that the server keeps for itself.
    #[error("namespace `flux-core` is reserved for the server")]
    Reserved,
    /// Auth mode: a write, or an operator's call, without a token.
    #[error("this call needs `Authorization: Bearer <token>`")]
    TokenMissing,
    /// An `Authorization` that holds no bearer token.
    #[error("the `Authorization` header must be sent once, as `Bearer <token>`")]
    TokenMalformed,
    /// An unknown token.
    #[error("the token is not known; it may have been replaced or its namespace deleted")]
    TokenUnknown,
    /// A call of the operator with a token that is not the operator's, nor a namespace's if that
    /// would do. Told from [`ApiError::TokenUnknown`] because it may be a guess.
    #[error("the token is not known; it may have been replaced or its namespace deleted")]
    OperatorUnknown,
    /// A token that is not that of the namespace.
    #[error("the token does not own this namespace")]
    NotOwner,
    /// A token that does not let its holder do this.
    #[error("the token lacks the scope `{scope}`")]
    ScopeMissing {
        /// What it lacks.
        scope: &'static str,
    },
    /// A token for ids that begin otherwise.
    #[error("the token is for ids that begin with its prefix, and this one does not")]
    OutsidePrefix,
    /// All that is asked for is private, and the token does not let its holder read it.
    #[error("the token may read nothing of what is asked for")]
    NotReadable,
    /// A subscription that ended on the way.
    #[error("access ended: the token that allowed it is dead, or what it names has become private")]
    AccessEnded,
    /// A token that would do more than the one that it is made with.
    #[error("a token makes none with more scopes, another prefix, or a later expiry than its own")]
    TokenExceeded,
    /// No token of that id in the namespace.
    #[error("token not found")]
    NoToken,
    /// A ticket that nobody can use.
    #[error("the ticket is not known; it may have been used, or its 30 seconds are over")]
    TicketUnknown,
    /// As many tickets as a token may have.
    #[error("as many tickets were made with this token as may be unused at a time")]
    TooManyTickets {
        /// Seconds until the oldest ends.
        seconds: u32,
    },
    /// As many tokens as a connection may add.
    #[error(
        "the connection has added {} tokens that are alive, as many as it may",
        limits::TOKENS_PER_CONNECTION_MAX
    )]
    TooManyConnectionTokens,
    /// As many tokens as a namespace may have.
    #[error(
        "the namespace has {} tokens, as many as it may have; revoke one",
        limits::TOKENS_PER_NAMESPACE_MAX
    )]
    TooManyTokens,
    /// A request of a web page that may not reach the server.
    #[error("pages of this origin may not reach the server; FLUX_ALLOWED_ORIGINS allows an origin")]
    OriginRefused,
    /// A request that names the server in a way that it is not known by.
    #[error(
        "the server is not known by this name; without auth it is asked by its address, as \
         `localhost`, or by a name in FLUX_ALLOWED_HOSTS"
    )]
    HostRefused,
    /// A namespace's token for a call that needs the operator's.
    #[error("this call needs the operator's token")]
    AdminOnly,
    /// A call of the operator at a server that has none.
    #[error(
        "this call needs an operator's token, and the server was started without FLUX_ADMIN_TOKEN"
    )]
    AdminDisabled,
    /// Auth mode: an entity id that lies in no namespace.
    #[error("invalid entity id: with tokens in force it must be `<namespace>/<name>`")]
    NamespaceRequired,
    /// No namespace of that name.
    #[error("namespace not found")]
    NoNamespace,
    /// A name that somebody has.
    #[error("the name is taken")]
    NamespaceTaken,
    /// An unregistered name with entities left in it.
    #[error("the name is not registered, but entities are left in it; another name is free")]
    NamespaceNotEmpty,
    /// Registration is open, and an address has used up its share.
    #[error("as many namespaces were registered from this address as may be for now")]
    TooManyRegistrations {
        /// Seconds until one more may be.
        seconds: u32,
    },
    /// No connector of that name, or another namespace's.
    #[error("connector not found")]
    NoConnector,
    /// A connector without a credential.
    #[error("the connector has no credential")]
    NoCredential,
    /// A name that another connector of the same owner has.
    #[error("a connector of that name exists")]
    ConnectorTaken,
    /// A connector that can't be removed.
    #[error("the connector is built in and can't be removed; remove its token to stop it")]
    ConnectorBuiltIn,
    /// As many connectors as there may be.
    #[error("there are as many connectors as there may be")]
    TooManyConnectors,
    /// A connector's definition breaks a rule.
    #[error("invalid field `{field}`: {rule}")]
    InvalidDefinition {
        /// Its path within the definition.
        field: Box<str>,
        /// What it must be.
        rule: Box<str>,
    },
    /// A credential can't be encrypted without a key.
    #[error("no credential can be stored: the server was started without FLUX_ENCRYPTION_KEY")]
    EncryptionKeyMissing,
    /// A namespace has used up its rate.
    #[error("the namespace has used up its rate limit; the event was not accepted")]
    RateLimited {
        /// Seconds until a token is there.
        seconds: u32,
    },
    /// A namespace has had as much stored in the control log as it may for now.
    #[error(
        "the namespace has changed tokens, connectors and credentials too often; the change was not made"
    )]
    TooManyChanges {
        /// Seconds until it may.
        seconds: u32,
    },
    /// A batch delete that matches more than it may.
    #[error("the filter matches more than {limit} entities; nothing was deleted")]
    TooManyMatches {
        /// `max_batch_delete`.
        limit: usize,
    },
    /// History that retention has removed.
    #[error("history before {} was removed by retention", from.rfc3339())]
    HistoryRemoved {
        /// The earliest time that there is history of.
        from: Timestamp,
    },
    /// A cursor beyond the end of the log: an older copy of the data was restored.
    #[error("the place of the cursor is not in the history; an older copy may have been restored")]
    CursorBeyondEnd,
    /// An earlier state that takes more work to find than one request may cause.
    #[error("the state at that time is not to be had within {limit} {unit} of work; {advice}")]
    HistoryTooLong {
        /// The bound.
        limit: u64,
        /// What it counts.
        unit: &'static str,
        /// What to ask for instead.
        advice: &'static str,
    },
    /// Stored history that can't be read: damage or a failing disk.
    #[error("the stored history can't be read; the server's own messages say why")]
    HistoryUnreadable,
    /// A request to the WebSocket route that is no handshake.
    #[error("bad WebSocket handshake: {0}")]
    Handshake(HandshakeError),
    /// A WebSocket handshake pipelined behind requests that are not answered yet.
    #[error("a WebSocket handshake must wait for the answers to the requests before it")]
    UpgradeBehindRequests,
    /// An unsubscribe from what was not subscribed to.
    #[error("there is no such subscription on this connection")]
    NotSubscribed,
    /// A WebSocket connection holds all the subscriptions it may.
    #[error("a connection holds at most {limit} subscriptions")]
    TooManySubscriptions {
        /// The bound.
        limit: usize,
    },
    /// A connection has bound all the entities it may.
    #[error("a connection binds at most {limit} entities of each shard; nothing was stored")]
    TooManyBindings {
        /// The bound.
        limit: usize,
    },
    /// A connection beyond the bound on connections.
    #[error("the server has reached its limit of {limit} connections")]
    TooManyConnections {
        /// The bound.
        limit: u32,
    },
    /// A connection beyond the bound on those from one address.
    #[error("there are {limit} connections from this address, as many as one may have")]
    TooManyFromAddress {
        /// The bound.
        limit: u32,
    },
    /// A subscription whose filter makes one comparison too many.
    #[error("the filters of all subscriptions together make at most {limit} comparisons")]
    ComparisonsExhausted {
        /// The bound.
        limit: usize,
    },
    /// A subscription beyond the bound on those of all connections, or of one address.
    #[error("{holder} at most {limit} subscriptions")]
    SubscriptionsExhausted {
        /// Who holds them, and the verb.
        holder: &'static str,
        /// The bound.
        limit: u32,
    },
    /// A head or body that did not arrive in time.
    #[error("the request {part} did not arrive within {seconds} seconds")]
    Timeout {
        /// `head` or `body`.
        part: &'static str,
        /// How long the server waited.
        seconds: u64,
    },
    /// No room on the disk for the log's next segment, or none that this user may take.
    #[error(
        "the server's disk is full, or its quota used up; the event was not accepted. \
         Events are accepted again once there is room"
    )]
    StorageFull,
    /// The data directory can't be written.
    #[error(
        "the server's data directory is read-only; the event was not accepted. \
         Events are accepted again once it is writable"
    )]
    StorageReadOnly,
    /// The disk refuses to make the log's next segment, for another reason.
    #[error(
        "the server's disk reports errors; the event was not accepted. \
         Events are accepted again once the disk takes them"
    )]
    StorageUnavailable,
    /// An earlier write or flush failed; this shard takes no more events until the server is
    /// restarted.
    #[error(
        "the server's disk failed while it stored events; this part of the data accepts no more \
         until the server is restarted"
    )]
    StorageFault,
    /// `GET /ready` while a log is replayed.
    #[error("recovering: {events} events replayed, {percent} % of the log")]
    Recovering {
        /// Events replayed so far, by all shards.
        events: u64,
        /// Of the bytes that there are to replay.
        percent: u64,
    },
    /// A part of a checkpoint can't be read. If it is damaged, the state is made anew from the log.
    #[error(
        "a part of the stored state can't be read; if it is damaged, it is being rebuilt from the log"
    )]
    StateDamaged,
    /// The way to a shard that a read of the past needs is full.
    #[error("the server is busy with other requests about the past")]
    Busy,
    /// A mailbox between cores is full.
    #[error("the server is overloaded; the event was not accepted")]
    Overloaded,
    /// No memory is left for the request: in all, or for this client.
    #[error(
        "the memory for requests (FLUX_MEMORY_BYTES, of which one client has a quarter) is in use; \
         the request was not carried out"
    )]
    OutOfMemory,
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Recovery has not finished.
    #[error("the server is still recovering its log")]
    NotReady,
    /// An event of an atomic batch that can't be stored, so that none is.
    #[error("event {index} of the atomic batch, counted from 0: {error}")]
    AtomicItem {
        /// The event, from 0.
        index: usize,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// A condition of a write that does not hold.
    #[error("a condition of the write does not hold; nothing was changed")]
    PreconditionFailed {
        /// The entity as it is.
        entity: CurrentEntity,
    },
    /// An operation, or the property that it is about, is not of the type that it takes.
    #[error(
        "`{0}`: another type is needed, in the operation and in the property: `increment`, `min` \
         and `max` take numbers, `append` arrays, `unset` an array of names; nothing was changed"
    )]
    OperationType(Box<str>),
    /// A property that is named by two operations, or by one and `properties`.
    #[error("the property `{0}` is named by two operations, or by one and by `properties`")]
    OperationConflict(Box<str>),
    /// A number or an array that is too long for an operation.
    #[error(
        "`{0}`: an operation takes numbers of at most {digits} digits in a double's range, and \
         arrays of at most {elements} elements; nothing was changed",
        digits = limits::DECIMAL_DIGITS_MAX,
        elements = limits::APPEND_ELEMENTS_MAX
    )]
    OperationLimit(Box<str>),
    /// A filter, or a condition, that would keep the shard for too long.
    #[error(
        "the filter or condition would look at too much of an entity of megabytes; name fewer or \
         smaller properties, or put a comparison that decides sooner first"
    )]
    FilterTooCostly,
    /// An atomic batch about entities that are too large for it.
    #[error(
        "the events of the atomic batch are about entities of more than {} bytes together, each \
         counted for each event; nothing was changed",
        limits::ATOMIC_ENTITIES_BYTES_MAX
    )]
    BatchTooCostly,
    /// An id under which another event was stored.
    #[error("another event was stored under this `eventId`; nothing was changed")]
    EventIdReused,
    /// A header field breaks its rule.
    #[error("invalid header field `{field}`: {rule}")]
    InvalidHeader {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// An entity with more properties, or more bytes of them, than one may have.
    #[error(
        "the entity would have more than {} properties, or more than {} bytes of them",
        limits::ENTITY_PROPERTIES_MAX,
        limits::ENTITY_BYTES_MAX
    )]
    EntityTooLarge,
    /// An event that the log can't hold.
    #[error("the event is larger than a log record may be")]
    RecordTooLarge,
}

/// An entity as a write with conditions found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrentEntity {
    /// There is none.
    Absent,
    /// Its JSON.
    Json(Box<str>),
    /// So many bytes of JSON, which are too many beside those of other items.
    Omitted(usize),
}

impl CurrentEntity {
    /// By its JSON, if there is one.
    pub fn of(json: Option<Box<str>>) -> Self {
        json.map_or(Self::Absent, Self::Json)
    }
}

impl ApiError {
    /// The same, if it names an offset into a part of the body: `in_body` is that of the whole.
    pub(super) fn moved(self, in_body: impl Fn(usize) -> usize) -> Self {
        let moved = |error: JsonError| error.moved_to(in_body(error.offset()));
        match self {
            Self::Json(error) => Self::Json(moved(error)),
            Self::JsonItem { index, error } => {
                let error = moved(error);
                Self::JsonItem { index, error }
            }
            other => other,
        }
    }

    /// HTTP status.
    #[expect(
        clippy::too_many_lines,
        reason = "the one table of statuses, a line for each error"
    )]
    pub fn status(&self) -> u16 {
        match self {
            Self::Http(error) => error.status(),
            Self::AtomicItem { error, .. } => error.status(),
            Self::TlsRequired
            | Self::Json(_)
            | Self::JsonItem { .. }
            | Self::Shape { .. }
            | Self::MissingField { .. }
            | Self::InvalidField { .. }
            | Self::InvalidDefinition { .. }
            | Self::TooManyConnectors
            | Self::TooManyTokens
            | Self::TooManyConnectionTokens
            | Self::InvalidQuery { .. }
            | Self::InvalidCursor { .. }
            | Self::CursorTooNarrow { .. }
            | Self::InvalidFilter(_)
            | Self::EntityTooLarge
            | Self::MissingId
            | Self::AnswerTooLarge { .. }
            | Self::InvalidHeader { .. }
            | Self::OperationType(_)
            | Self::OperationConflict(_)
            | Self::OperationLimit(_)
            | Self::FilterTooCostly
            | Self::BatchTooCostly
            | Self::PercentEncoding { .. }
            | Self::TooManyMatches { .. }
            | Self::HistoryTooLong { .. }
            | Self::TooManySubscriptions { .. }
            | Self::TooManyBindings { .. }
            | Self::NotSubscribed
            | Self::SubscriptionsExhausted { .. }
            | Self::ComparisonsExhausted { .. }
            | Self::NamespaceRequired
            | Self::UpgradeBehindRequests => 400,
            Self::TokenMissing
            | Self::TokenMalformed
            | Self::TokenUnknown
            | Self::TicketUnknown
            | Self::OperatorUnknown => 401,
            Self::Reserved
            | Self::NotOwner
            | Self::ScopeMissing { .. }
            | Self::OutsidePrefix
            | Self::NotReadable
            | Self::AccessEnded
            | Self::TokenExceeded
            | Self::OriginRefused
            | Self::HostRefused
            | Self::AdminOnly
            | Self::AdminDisabled
            | Self::ConnectorBuiltIn => 403,
            Self::NoRoute
            | Self::NoEntity
            | Self::NoNamespace
            | Self::NoConnector
            | Self::NoToken
            | Self::NoCredential => 404,
            Self::Method { .. } => 405,
            Self::Timeout { .. } => 408,
            Self::NamespaceTaken
            | Self::NamespaceNotEmpty
            | Self::ConnectorTaken
            | Self::PreconditionFailed { .. }
            | Self::EventIdReused => 409,
            Self::HistoryRemoved { .. } | Self::CursorBeyondEnd => 410,
            Self::RecordTooLarge => 413,
            Self::RateLimited { .. }
            | Self::TooManyChanges { .. }
            | Self::TooManyRegistrations { .. }
            | Self::TooManyTickets { .. }
            | Self::TooManyFromAddress { .. } => 429,
            Self::Handshake(error) => error.status(),
            Self::TooManyConnections { .. }
            | Self::StorageFull
            | Self::StorageReadOnly
            | Self::StorageUnavailable
            | Self::StorageFault
            | Self::StateDamaged
            | Self::Recovering { .. }
            | Self::HistoryUnreadable
            | Self::EncryptionKeyMissing
            | Self::Overloaded
            | Self::OutOfMemory
            | Self::Busy
            | Self::ShuttingDown
            | Self::NotReady => 503,
        }
    }

    /// Stable code, `snake_case`.
    #[expect(
        clippy::too_many_lines,
        reason = "the one table of codes, a line for each error"
    )]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Http(error) => error.code(),
            Self::AtomicItem { error, .. } => error.code(),
            Self::TlsRequired => "tls_required",
            Self::Json(_) | Self::JsonItem { .. } => "invalid_json",
            Self::Shape { .. } => "invalid_body",
            Self::MissingField { .. } => "missing_field",
            Self::InvalidField { .. } | Self::InvalidDefinition { .. } => "invalid_field",
            Self::NoConnector => "connector_not_found",
            Self::NoCredential => "credential_not_found",
            Self::ConnectorTaken => "connector_taken",
            Self::ConnectorBuiltIn => "connector_built_in",
            Self::TooManyConnectors => "too_many_connectors",
            Self::EncryptionKeyMissing => "encryption_key_missing",
            Self::NotSubscribed => "not_subscribed",
            Self::InvalidQuery { .. } => "invalid_query",
            Self::InvalidCursor { .. } => "invalid_cursor",
            Self::CursorTooNarrow { .. } => "cursor_too_narrow",
            Self::InvalidFilter(_) => "invalid_filter",
            Self::MissingId => "missing_id",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::PercentEncoding { .. } => "invalid_encoding",
            Self::NoRoute => "not_found",
            Self::NoEntity => "entity_not_found",
            Self::Method { .. } => "method_not_allowed",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "token_malformed",
            Self::TokenUnknown | Self::OperatorUnknown => "token_unknown",
            Self::Reserved => "reserved_namespace",
            Self::NotOwner => "not_namespace_owner",
            Self::ScopeMissing { .. } => "scope_missing",
            Self::OutsidePrefix => "outside_prefix",
            Self::NotReadable => "not_readable",
            Self::AccessEnded => "access_ended",
            Self::TokenExceeded => "token_exceeded",
            Self::OriginRefused => "origin_refused",
            Self::HostRefused => "host_refused",
            Self::NoToken => "token_not_found",
            Self::TooManyTokens | Self::TooManyConnectionTokens => "too_many_tokens",
            Self::AdminOnly => "admin_only",
            Self::AdminDisabled => "admin_disabled",
            Self::NamespaceRequired => "namespace_required",
            Self::NoNamespace => "namespace_not_found",
            Self::NamespaceTaken => "namespace_taken",
            Self::NamespaceNotEmpty => "namespace_not_empty",
            Self::RateLimited { .. } | Self::TooManyChanges { .. } => "rate_limited",
            Self::TooManyRegistrations { .. } => "too_many_registrations",
            Self::TicketUnknown => "ticket_unknown",
            Self::TooManyTickets { .. } => "too_many_tickets",
            Self::TooManyMatches { .. } => "too_many_matches",
            Self::HistoryRemoved { .. } | Self::CursorBeyondEnd => "history_removed",
            Self::HistoryTooLong { .. } => "history_too_long",
            Self::HistoryUnreadable => "history_unreadable",
            Self::Handshake(error) => error.code(),
            Self::UpgradeBehindRequests => "bad_websocket_handshake",
            Self::TooManyBindings { .. } => "too_many_bindings",
            Self::TooManySubscriptions { .. }
            | Self::SubscriptionsExhausted { .. }
            | Self::ComparisonsExhausted { .. } => "too_many_subscriptions",
            Self::TooManyConnections { .. } | Self::TooManyFromAddress { .. } => {
                "too_many_connections"
            }
            Self::Timeout { .. } => "request_timeout",
            Self::StorageFull => "storage_full",
            Self::StorageReadOnly => "storage_read_only",
            Self::StorageUnavailable => "storage_unavailable",
            Self::StorageFault => "storage_fault",
            Self::StateDamaged => "state_damaged",
            Self::Overloaded | Self::OutOfMemory | Self::Busy => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::NotReady | Self::Recovering { .. } => "not_ready",
            Self::RecordTooLarge => "record_too_large",
            Self::EntityTooLarge => "entity_too_large",
            Self::PreconditionFailed { .. } => "precondition_failed",
            Self::EventIdReused => "event_id_reused",
            Self::OperationType(_) => "operation_type",
            Self::OperationConflict(_) => "operation_conflict",
            Self::OperationLimit(_) => "operation_limit",
            Self::FilterTooCostly => "filter_too_costly",
            Self::BatchTooCostly => "batch_too_costly",
            Self::InvalidHeader { .. } => "invalid_header",
        }
    }

    /// Seconds after which trying again makes sense, if waiting helps.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::AtomicItem { error, .. } => error.retry_after_seconds(),
            Self::Overloaded
            | Self::OutOfMemory
            | Self::Busy
            | Self::NotReady
            | Self::Recovering { .. }
            | Self::StateDamaged
            | Self::TooManyConnections { .. }
            | Self::TooManyFromAddress { .. } => Some(1),
            Self::RateLimited { seconds }
            | Self::TooManyChanges { seconds }
            | Self::TooManyRegistrations { seconds }
            | Self::TooManyTickets { seconds } => Some(*seconds),
            Self::StorageFull
            | Self::StorageReadOnly
            | Self::StorageUnavailable
            | Self::ShuttingDown => Some(5),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_waiting_helps_says_how_long() {
        let busy = [
            ApiError::StorageFull,
            ApiError::StorageReadOnly,
            ApiError::StorageUnavailable,
            ApiError::Overloaded,
            ApiError::OutOfMemory,
            ApiError::Busy,
            ApiError::ShuttingDown,
            ApiError::NotReady,
        ];
        for error in busy {
            assert_eq!(error.status(), 503);
            assert!(error.retry_after_seconds().is_some(), "{error}");
        }
        assert_eq!(ApiError::StorageFault.retry_after_seconds(), None);
    }
}

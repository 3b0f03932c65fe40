//! Reads that are begun when the answers before them are taken.
//!
//! A request about the past, or for a large entity, may need megabytes for its answer. A connection
//! that pipelines many such requests would hold all the answers if each began when it is read.
//! So the request waits, which takes its parameters and no more, until its front has sent what
//! comes before it and the core's memory account has room; then it is begun.

use super::{Begun, Caller, Context, Credentials, KeptToken, Pending, history, read};
use crate::api::ApiError;
use crate::api::query::Fields;
use crate::history::HistoryQuery;
use crate::limits::{EVENTS_PAGE_BYTES_MAX, FORWARD_BYTES_MAX, PAGE_BYTES_MAX, PAGE_ENTITIES_MAX};
use crate::log::Log;

/// See the module.
#[derive(Debug)]
pub(crate) enum DeferredRead {
    /// An entity as it is.
    Entity {
        /// Its id.
        id: Box<str>,
        /// The properties to keep.
        fields: Option<Fields>,
        /// About the bytes of its JSON.
        bytes: usize,
        /// What the caller presented.
        token: Option<KeptToken>,
    },
    /// Events, or the state as it was.
    Past {
        /// Which.
        query: HistoryQuery,
        /// What the caller presented.
        token: Option<KeptToken>,
    },
}

/// What an answer has besides its entities or events, and room for some that are large, bytes.
const BASE_BYTES: usize = 32 * 1024;
/// What an event of a page is expected to take, bytes.
const EVENT_BYTES_EXPECTED: usize = 4 * 1024;
/// The same for an entity.
const ENTITY_BYTES_EXPECTED: usize = 1024;

impl DeferredRead {
    /// A call that reads an entity, which is of about so many bytes.
    pub(super) fn of_entity(
        caller: &Caller<'_>,
        (id, fields): (Box<str>, Option<Fields>),
        bytes: usize,
    ) -> Begun {
        Begun::Waiting(Pending::Deferred(Box::new(Self::Entity {
            id,
            fields,
            bytes,
            token: caller.credentials.token().ok(),
        })))
    }

    /// A call that reads the past.
    pub(crate) fn of_past(caller: &Caller<'_>, query: HistoryQuery) -> Begun {
        let token = caller.credentials.token().ok();
        Begun::Waiting(Pending::Deferred(Box::new(Self::Past { query, token })))
    }

    /// About the bytes of the answer that its beginning writes. The past is read by helper threads.
    pub(super) fn bytes_at_once(&self) -> usize {
        match self {
            Self::Entity { bytes, .. } => *bytes,
            Self::Past { .. } => 0,
        }
    }

    /// The bytes that its answer is expected to take. It may turn out larger.
    pub(crate) fn bytes_expected(&self) -> usize {
        let page = |limit: usize, of_one: usize| BASE_BYTES + limit * of_one;
        match self {
            Self::Entity { bytes, .. } => *bytes,
            Self::Past { query, .. } => match query {
                HistoryQuery::Entity { .. } => BASE_BYTES,
                HistoryQuery::Events(query) => {
                    page(query.limit, EVENT_BYTES_EXPECTED).min(EVENTS_PAGE_BYTES_MAX)
                }
                HistoryQuery::List { query, .. } => {
                    let limit = query.limit.unwrap_or(PAGE_ENTITIES_MAX);
                    page(limit, ENTITY_BYTES_EXPECTED).min(PAGE_BYTES_MAX)
                }
                HistoryQuery::Forward(_) => FORWARD_BYTES_MAX,
            },
        }
    }

    /// Begins it.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn begin<L: Log>(
        self,
        context: &mut Context<L>,
        caller: &Caller<'_>,
    ) -> Result<Begun, ApiError> {
        let (Self::Entity { token, .. } | Self::Past { token, .. }) = &self;
        let caller = Caller {
            credentials: token.map_or(Credentials::None, Credentials::Token),
            ..*caller
        };
        match self {
            Self::Entity { id, fields, .. } => {
                read::begin_within(context, &caller, (&id, (fields, usize::MAX)))
            }
            Self::Past { query, .. } => history::begin(context, &caller, query),
        }
    }
}

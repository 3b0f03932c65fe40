//! One stream: a subscription, and its messages as server-sent events.
//!
//! ```text
//! Opening ── in force ──▶ Open ── it can't go on, or the server stops ──▶ Ended
//!    └────── refused: the request is answered as any other
//! ```
//!
//! Nothing is read from the client once its stream has begun.

use super::framing::{Coding, RowIds};
use crate::api::stream_options::{StreamMode, StreamStart};
use crate::api::stream_query::StreamQuery;
use crate::api::{ApiError, encode, stream_encode};
use crate::background::history::JobResult;
use crate::limits;
use crate::log::Log;
use crate::service::patterns::patterns_of;
use crate::service::streams::{Catching, Ended, Feed};
use crate::service::subscribe::{InForce, Subscriber, Verdict};
use crate::service::{Context, KeptToken};
use crate::shard::{MemoryHolders, Reply};
use std::net::IpAddr;

/// The code of the error that a client is sent that reads too slowly.
const SLOW_READER: &str = "slow_reader";

/// A request for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamCall {
    /// What it asks for.
    pub(crate) query: StreamQuery,
    /// What it presents.
    pub(crate) token: Option<KeptToken>,
    /// How its answer is coded.
    pub(crate) coding: Coding,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct EventStream {
    /// Its subscription, and the events for the client.
    pub(crate) feed: Feed,
    coding: Coding,
    /// It begins with a snapshot.
    has_snapshot: bool,
    stage: Stage,
    /// What its connection is to be told.
    news: Option<News>,
    /// When a comment was last sent, monotonic milliseconds.
    commented_ms: u64,
    /// A client that has shut down its side was sent something since.
    is_probed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Ended,
}

/// What becomes of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It begins: the head of the answer, and then these bytes, go before its events.
    Opens(Vec<u8>),
    /// It does not begin.
    Refused(ApiError),
    /// It is over once its events are sent.
    Ends,
}

impl EventStream {
    /// Begins a stream.
    pub(crate) fn begin<L: Log>(
        context: &mut Context<L>,
        (subscriber, client): (Subscriber, (Option<IpAddr>, MemoryHolders)),
        call: StreamCall,
        now_ms: u64,
    ) -> Self {
        let StreamCall {
            query,
            token,
            coding,
        } = call;
        let patterns = patterns_of(&query.entity_ids);
        let is_narrow = patterns.as_ref().is_ok_and(|it| it.scope().is_some());
        let has_snapshot = query.options.start == StreamStart::Snapshot;
        let has_row_ids = query.options.mode == StreamMode::Event && is_narrow && !has_snapshot;
        let row_ids = if has_row_ids {
            RowIds::Cursors
        } else {
            RowIds::None
        };
        let mut stream = Self {
            feed: Feed::new(client, token, coding.framing(row_ids)),
            coding,
            has_snapshot,
            stage: Stage::Opening,
            news: None,
            commented_ms: now_ms,
            is_probed: false,
        };
        let begun = patterns.and_then(|patterns| {
            let call = (patterns, &query.options, None);
            stream.feed.subscribe_to(context, subscriber, call)
        });
        match begun {
            Ok(InForce::Now | InForce::Later) => {}
            Err(error) => stream.refuse(error),
        }
        stream
    }

    /// What its connection has to do next, said once.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// True once its events may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.stage != Stage::Opening
    }

    fn refuse(&mut self, error: ApiError) {
        self.stage = Stage::Ended;
        self.news = Some(News::Refused(error));
    }

    /// The stream begins. `cursor`: of its acknowledgement, if that is not among its events.
    fn open(&mut self, cursor: Option<&str>) {
        let mut bytes = Vec::new();
        self.coding.write_beginning(&mut bytes);
        if let Some(cursor) = cursor {
            let frame = self.coding.framing(RowIds::None).frame;
            frame(&mut bytes, &mut |out| {
                stream_encode::ack(out, None, cursor);
            });
        }
        if self.has_snapshot {
            // Half a snapshot is none: a client that loses its connection begins it anew.
            self.coding.write_no_id(&mut bytes);
        }
        self.stage = Stage::Open;
        self.news = Some(News::Opens(bytes));
    }

    /// Takes a shard's reply to what the stream has asked.
    pub(crate) fn on_reply<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, from, reply): (u32, u16, Reply),
    ) {
        if Catching::is_answered_by(serial) {
            let reply = (serial, from, reply);
            let ended = self.feed.take_answer(context, subscriber, reply);
            self.go_on(ended);
            return;
        }
        let reply = (serial, from, &reply);
        let verdicts = self.feed.subscriptions.resume(context, subscriber, reply);
        for Verdict { result, .. } in verdicts {
            match result {
                Ok(cursor) => self.open(Some(&cursor.unwrap_or_default())),
                Err(error) => self.refuse(error),
            }
        }
    }

    /// Takes what was read of the logs for it.
    pub(crate) fn on_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        result: (u32, JobResult),
    ) {
        let ended = self.feed.take_history(context, subscriber, result);
        self.go_on(ended);
    }

    /// Lets it catch up.
    pub(crate) fn catch_up<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        if self.stage == Stage::Ended || !self.feed.subscriptions.is_catching_up() {
            return;
        }
        let ended = self.feed.catch_up(context, subscriber);
        self.go_on(ended);
    }

    /// Ends the stream if its client may see nothing of it any more.
    pub(crate) fn look_at_access<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) {
        let ended = self.feed.end_unreadable(context, subscriber);
        if ended.is_empty() {
            return;
        }
        match self.stage {
            Stage::Opening => self.refuse(self.feed.tokens.refusal(context)),
            Stage::Open => {
                let error = ApiError::AccessEnded;
                self.end(&error.to_string(), error.code());
            }
            Stage::Ended => {}
        }
    }

    /// One that comes with a place begins when the logs are known to reach there: its
    /// acknowledgement is the first of its events.
    fn go_on(&mut self, ended: Option<Ended>) {
        match (ended, self.stage) {
            (Some(Ended { error, .. }), Stage::Opening) => self.refuse(error),
            (Some(Ended { error, .. }), _) => self.end(&error.to_string(), error.code()),
            (None, Stage::Opening) if !self.feed.outbox.is_empty() => self.open(None),
            (None, _) => {}
        }
    }

    /// Ends the stream of a client that is too far behind, or that there is no memory for.
    pub(crate) fn end_behind(&mut self, reason: &str) {
        let reason = self.feed.behind_reason(reason, usize::MAX);
        self.end(&reason, SLOW_READER);
    }

    /// Tells the client why the stream ends.
    fn end(&mut self, reason: &str, code: &str) {
        let mut last = Vec::new();
        let frame = self.coding.framing(RowIds::None).frame;
        frame(&mut last, &mut |out| {
            encode::error_message(out, None, reason, code);
        });
        self.close(last);
    }

    /// The server stops.
    pub(crate) fn shut_down(&mut self) {
        match self.stage {
            Stage::Opening => self.refuse(ApiError::ShuttingDown),
            Stage::Open => self.close(Vec::new()),
            Stage::Ended => {}
        }
    }

    fn close(&mut self, mut last: Vec<u8>) {
        match self.stage {
            Stage::Opening => return self.refuse(ApiError::OutOfMemory),
            Stage::Open => {}
            Stage::Ended => return,
        }
        self.coding.write_end(&mut last);
        self.feed.outbox.close(&last);
        self.stage = Stage::Ended;
        self.news = Some(News::Ends);
    }

    /// Sends a comment if it is time for one: so a proxy between does not take the connection for
    /// dead, and the kernel learns if the client is gone. `has_hung_up`: the client has shut down
    /// its side.
    pub(crate) fn tick(&mut self, now_ms: u64, has_hung_up: bool) {
        let since = now_ms.saturating_sub(self.commented_ms);
        let is_due =
            since >= limits::STREAM_COMMENT_SECONDS * 1000 - limits::STREAM_COMMENT_EARLY_MS;
        let probes = has_hung_up && !std::mem::replace(&mut self.is_probed, has_hung_up);
        if self.stage != Stage::Open || !(is_due || probes) {
            return;
        }
        let mut frame = Vec::new();
        self.coding.write_comment(&mut frame);
        self.commented_ms = now_ms;
        // A client that has no room for it has other bytes to take.
        self.feed.outbox.push_if_room(&frame);
    }

    /// Takes its subscription back: the connection ends.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        self.feed.subscriptions.leave(context, subscriber);
    }
}

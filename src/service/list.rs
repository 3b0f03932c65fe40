//! A listing of entities, merged by id from the parts that shards deliver.
//!
//! Without a limit it is streamed: a part is asked for when the one before is used up, and written only while the
//! socket takes bytes, so that a slow reader costs one part per shard and no more. With a limit the page is
//! gathered first, since its head has to say whether another follows.

use super::context::{Answer, CORS_EXPOSE, CORS_ORIGIN, Hub};
use super::pending::RequestMeta;
use crate::api::ApiError;
use crate::api::query::ListQuery;
use crate::engine::Chunk;
use crate::limits::{LIST_CHUNK_BYTES_MAX, PAGE_BYTES_MAX};
use crate::shard::{Reply, RequestId, ShardRequest};
use crate::wire::http1::{BodyLength, ResponseHead, Version, write_chunk, write_last_chunk};
use std::sync::Arc;

/// One shard's part.
#[derive(Debug)]
struct Part {
    shard: u16,
    chunk: Chunk,
    /// Entities of `chunk` already written.
    used: usize,
    /// A chunk is on its way.
    asked: bool,
}

impl Part {
    fn is_used_up(&self) -> bool {
        self.used >= self.chunk.ends.len()
    }

    fn is_done(&self) -> bool {
        self.is_used_up() && self.chunk.last && !self.asked
    }

    /// Where the entity at `index` begins in `json` and `ids`.
    fn start(&self, index: usize) -> (usize, usize) {
        index
            .checked_sub(1)
            .and_then(|before| self.chunk.ends.get(before))
            .copied()
            .unwrap_or((0, 0))
    }

    /// The id of the entity at `index`.
    fn id(&self, index: usize) -> Option<&str> {
        let (_, end) = *self.chunk.ends.get(index)?;
        self.chunk.ids.get(self.start(index).1..end)
    }

    /// The id of the next entity.
    fn head(&self) -> Option<&str> {
        self.id(self.used)
    }

    /// How many entities may be taken in one piece, the next at least: those before `other`, at most `count_max`, and all
    /// but the last of them within `room` bytes.
    fn run(&self, other: Option<&str>, count_max: usize, room: usize) -> usize {
        let start = self.start(self.used).0;
        let rest = self.chunk.ends.get(self.used..).unwrap_or_default();
        let within = rest.partition_point(|&(end, _)| end - start < room) + 1;
        let count = within.min(count_max).min(rest.len());
        match other {
            None => count,
            Some(other) => (1..count)
                .find(|index| self.id(self.used + index).is_none_or(|id| id > other))
                .unwrap_or(count),
        }
    }

    /// Appends the next `count` entities to `buffer`.
    fn take_run(&mut self, count: usize, buffer: &mut Vec<u8>) {
        let (start, end) = (self.start(self.used).0, self.start(self.used + count).0);
        if buffer.is_empty() && start == 0 && end == self.chunk.json.len() {
            *buffer = std::mem::take(&mut self.chunk.json);
        } else {
            buffer.extend_from_slice(self.chunk.json.get(start..end).unwrap_or_default());
        }
        self.used += count;
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Listing {
    meta: RequestMeta,
    query: Arc<ListQuery>,
    parts: Vec<Part>,
    /// The last id written.
    last_id: Option<Box<str>>,
    written: usize,
    /// The page, where there is a limit.
    page: Vec<u8>,
    /// The head of a streamed answer is written.
    begun: bool,
}

/// How far a listing came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for a part, or for the socket.
    Waiting,
    /// It is complete.
    Done,
    /// It can't go on after its head was sent: the connection has to break, so that the client sees it.
    Broken,
}

impl Listing {
    /// A listing that has not begun.
    pub(crate) fn new(hub: &Hub, meta: RequestMeta, query: ListQuery) -> Self {
        let shards = hub.shards_holding(query.namespace.as_deref(), query.prefix.as_deref());
        let part = |shard| Part {
            shard,
            chunk: Chunk::default(),
            used: 0,
            asked: false,
        };
        Self {
            meta,
            parts: shards.map(part).collect(),
            last_id: None,
            written: 0,
            page: Vec::new(),
            begun: false,
            query: Arc::new(query),
        }
    }

    /// For the answer's head.
    pub(crate) fn meta(&self) -> RequestMeta {
        self.meta
    }

    /// Entities written so far.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// True once its head is on the way: it can no longer fail but by breaking off.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes a part from a shard.
    ///
    /// # Errors
    /// Where the shard refused.
    pub(crate) fn take(&mut self, from: u16, reply: Reply) -> Result<(), ApiError> {
        let Some(part) = self.parts.iter_mut().find(|part| part.shard == from) else {
            return Ok(());
        };
        part.asked = false;
        match reply {
            Reply::Chunk(chunk) => {
                part.chunk = chunk;
                part.used = 0;
                Ok(())
            }
            Reply::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Parts that lay here while the socket took nothing are out of date: they are asked for again.
    pub(crate) fn forget_unsent(&mut self) {
        for part in self.parts.iter_mut().filter(|part| !part.is_used_up()) {
            part.chunk = Chunk::default();
            part.used = 0;
        }
    }

    /// Writes what there is to `out`, and asks for what is missing.
    pub(crate) fn pump(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        out: &mut Vec<u8>,
    ) -> Progress {
        let limit = self.query.limit;
        if self.meta.head_only && limit.is_none() {
            self.begin(hub, out);
            return Progress::Done;
        }
        let mut text = std::mem::take(&mut hub.body);
        text.clear();
        let mut buffer = if limit.is_some() {
            std::mem::take(&mut self.page)
        } else {
            text
        };
        let merged = self.merge(hub, request_id, &mut buffer);
        let progress = match (merged, limit) {
            (Err(error), _) => self.fail(hub, &error, out),
            (Ok(Merged::Waiting), Some(_)) => {
                self.page = std::mem::take(&mut buffer);
                Progress::Waiting
            }
            (Ok(Merged::Complete { more }), Some(_)) => {
                if self.written == 0 {
                    buffer.push(b'[');
                }
                buffer.push(b']');
                self.write_page(hub, &buffer, more, out);
                Progress::Done
            }
            (Ok(merged), None) => self.write_stream(hub, &mut buffer, &merged, out),
        };
        if limit.is_none() {
            hub.body = buffer;
        }
        progress
    }

    /// Appends entities to `buffer`, in runs of one part, each entity behind `[` or `,`, until a part is missing, the
    /// listing is complete, or the buffer holds enough.
    fn merge(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        buffer: &mut Vec<u8>,
    ) -> Result<Merged, ApiError> {
        loop {
            self.ask_for_missing(hub, request_id)?;
            if self
                .parts
                .iter()
                .any(|part| part.is_used_up() && !part.is_done())
            {
                return Ok(Merged::Waiting);
            }
            let mut heads: Vec<(&str, usize)> = (self.parts.iter().enumerate())
                .filter_map(|(index, part)| Some((part.head()?, index)))
                .collect();
            heads.sort_unstable();
            let Some(&(_, first)) = heads.first() else {
                return Ok(Merged::Complete { more: false });
            };
            let other = heads.get(1).map(|head| head.0);
            let (count_max, bytes_max) = match self.query.limit {
                Some(limit) => (limit - self.written, PAGE_BYTES_MAX),
                None => (usize::MAX, LIST_CHUNK_BYTES_MAX),
            };
            let room = bytes_max.saturating_sub(buffer.len());
            if count_max == 0 || room == 0 {
                return Ok(match self.query.limit {
                    Some(_) => Merged::Complete { more: true },
                    None => Merged::Waiting,
                });
            }
            let count = self.parts[first].run(other, count_max, room);
            let at = buffer.len();
            let part = &mut self.parts[first];
            part.take_run(count, buffer);
            if self.written == 0
                && let Some(comma) = buffer.get_mut(at)
            {
                *comma = b'[';
            }
            self.last_id = part.id(part.used - 1).map(Box::from);
            self.written += count;
        }
    }

    fn ask_for_missing(&mut self, hub: &mut Hub, request_id: RequestId) -> Result<(), ApiError> {
        for part in &mut self.parts {
            if part.is_used_up() && !part.chunk.last && !part.asked {
                let request = ShardRequest::List {
                    query: Arc::clone(&self.query),
                    after: self.last_id.clone(),
                };
                hub.ask(part.shard, request_id, request)?;
                part.asked = true;
            }
        }
        Ok(())
    }

    fn fail(&self, hub: &Hub, error: &ApiError, out: &mut Vec<u8>) -> Progress {
        if self.begun {
            return Progress::Broken;
        }
        hub.write_error(out, self.meta, error);
        Progress::Done
    }

    fn begin(&mut self, hub: &Hub, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let chunked = self.meta.version == Version::Http11;
        let head = ResponseHead {
            status: 200,
            content_type: Some("application/json"),
            body: if chunked {
                BodyLength::Chunked
            } else {
                BodyLength::UntilClose
            },
            version: self.meta.version,
            keep_alive: self.meta.keep_alive,
            date: &hub.date,
            headers: &[CORS_ORIGIN],
        };
        head.write(out);
    }

    fn write_stream(
        &mut self,
        hub: &Hub,
        buffer: &mut Vec<u8>,
        merged: &Merged,
        out: &mut Vec<u8>,
    ) -> Progress {
        let done = matches!(merged, Merged::Complete { .. });
        if done {
            buffer.extend_from_slice(if self.written == 0 { b"[]" } else { b"]" });
        }
        if buffer.is_empty() {
            return Progress::Waiting;
        }
        self.begin(hub, out);
        let chunked = self.meta.version == Version::Http11;
        if chunked {
            write_chunk(out, buffer);
        } else {
            out.extend_from_slice(buffer);
        }
        if !done {
            return Progress::Waiting;
        }
        if chunked {
            write_last_chunk(out);
        }
        Progress::Done
    }

    fn write_page(&self, hub: &Hub, page: &[u8], more: bool, out: &mut Vec<u8>) {
        let link = if more {
            self.last_id.as_deref().map(|id| self.query.next_link(id))
        } else {
            None
        };
        let mut headers = vec![CORS_ORIGIN];
        if let Some(link) = &link {
            headers.extend([("Link", link.as_str()), CORS_EXPOSE]);
        }
        hub.write_json(
            out,
            self.meta,
            Answer {
                status: 200,
                headers: &headers,
                body: page,
            },
        );
    }
}

/// How far a merge came.
#[derive(Debug, PartialEq, Eq)]
enum Merged {
    /// A part is missing, or the buffer holds enough for now.
    Waiting,
    /// There is no more, or no more on this page.
    Complete { more: bool },
}

//! Listing entities, merged by id from the parts that shards deliver.
//!
//! With a limit the page is gathered first, since its outcome says whether another follows. Without
//! one the listing is handed out in parts: its front asks for the next part only while the socket
//! takes bytes, so a slow reader costs one part per shard and no more, and each entity is current
//! when it is sent.

use super::deferred::DeferredRead;
use super::{Begun, Caller, Context, Credentials, KeptToken, Outcome, Pending};
use crate::api::ApiError;
use crate::api::query::ListQuery;
use crate::auth::Readable;
use crate::engine::{Chunk, ChunkBounds, Judged};
use crate::history::HistoryQuery;
use crate::limits::{
    FILTER_PAGE_ENTITIES_MAX, LIST_CHUNK_BYTES_MAX, LIST_CHUNK_ENTITIES_MAX, PAGE_BYTES_MAX,
    SMALL_ANSWER_BYTES_MAX,
};
use crate::log::Log;
use crate::model::{Cursor, CursorScope, namespace_of};
use crate::shard::{ListPart, Reply, RequestId, Router, ShardRequest};
use flux_storage::Sequence;
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
    /// How far a filter looked beyond the last entity that it let through; the next chunk begins
    /// after it.
    passed: Option<Box<str>>,
    /// What was visible of the shard when its first chunk was read.
    place: Option<Sequence>,
    /// About the bytes of its next entity, if that is a large one.
    large: Option<usize>,
    /// What a filter has found out of its next entity.
    judged: Option<Judged>,
}

impl Part {
    /// Bytes that its next chunk may take.
    fn next_bytes(&self) -> usize {
        LIST_CHUNK_BYTES_MAX.max(self.large.unwrap_or(0))
    }

    fn is_used_up(&self) -> bool {
        self.used >= self.chunk.ends.len()
    }

    /// Entities that have come and are not used.
    fn unused(&self) -> usize {
        self.chunk.ends.len().saturating_sub(self.used)
    }

    /// True if its next chunk is to be asked for.
    fn is_missing(&self) -> bool {
        self.is_used_up() && !self.chunk.last && !self.asked
    }

    /// Bytes that it holds, or is about to.
    fn heap_bytes(&self) -> usize {
        let ends = self.chunk.ends.capacity() * size_of::<(usize, usize)>();
        let held = self.chunk.json.capacity() + self.chunk.ids.capacity() + ends;
        if self.asked {
            held.max(self.next_bytes())
        } else {
            held
        }
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

    /// The id of the last entity.
    fn last(&self) -> Option<&str> {
        self.id(self.chunk.ends.len().checked_sub(1)?)
    }

    /// The id of the next entity.
    fn head(&self) -> Option<&str> {
        self.id(self.used)
    }

    /// How many entities may be taken in one piece, the next at least: those before `other`, at
    /// most `count_max`, and all but the last of them within `room` bytes.
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
            let run = self.chunk.json.get(start..end).unwrap_or_default();
            make_room(buffer, run.len());
            buffer.extend_from_slice(run);
        }
        self.used += count;
        if self.is_used_up() {
            self.chunk.json = Vec::new();
        }
    }
}

/// Makes room in a page. A large one grows by an eighth: one that doubled would take up to twice
/// the memory of what it holds.
fn make_room(page: &mut Vec<u8>, bytes: usize) {
    let needed = page.len() + bytes;
    if needed > page.capacity() && needed > LIST_CHUNK_BYTES_MAX {
        page.reserve_exact(bytes + needed / 8);
    }
}

/// What an entity of a page is expected to take, bytes.
const ENTITY_BYTES_EXPECTED: usize = 512;

/// See the module.
#[derive(Debug)]
pub(crate) struct Listing {
    query: Arc<ListQuery>,
    /// What the caller presented. What it may read is asked anew for each part.
    token: Option<KeptToken>,
    parts: Vec<Part>,
    /// The last id handed out.
    last_id: Option<Box<str>>,
    count: usize,
    /// The page so far, if there is a limit.
    page: Vec<u8>,
    /// Entities that a filter may look at for this page.
    examined_max: usize,
    /// How many of them it has looked at, or may look at for a request that a shard has.
    granted: usize,
    /// Where the page ends because the filter may look at no more: all that matches up to here is
    /// on it.
    end: Option<Box<str>>,
}

/// How far a listing came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListStep {
    /// It waits for a shard. The JSON in [`Context::answer`], if any, is its next part.
    Waiting,
    /// The JSON in [`Context::answer`] is its next part; more can be had at once.
    Part,
    /// The JSON in [`Context::answer`] is its last part.
    Last,
    /// The page is gathered.
    Page(Outcome),
}

/// Begins a listing of entities, as they are or as they were. One of the present always waits: its
/// front calls [`Listing::advance`].
///
/// # Errors
/// If this core's shard is not there yet, or the past can't be asked.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    query: ListQuery,
) -> Result<Begun, ApiError> {
    if let Some(at) = query.at.filter(|at| context.is_past(*at)) {
        return Ok(DeferredRead::of_past(
            caller,
            HistoryQuery::List { query, at },
        ));
    }
    context.router.shard.as_ref().ok_or(ApiError::NotReady)?;
    let token = caller.credentials.token().ok();
    let listing = Listing::new(&context.router, (query, token));
    Ok(Begun::Waiting(Pending::List(Box::new(listing))))
}

impl Listing {
    fn new<L: Log>(router: &Router<L>, (query, token): (ListQuery, Option<KeptToken>)) -> Self {
        let shards = router.shards_holding(query.namespace.as_deref(), query.prefix.as_deref());
        let part = |shard| Part {
            shard,
            chunk: Chunk::default(),
            used: 0,
            asked: false,
            passed: None,
            place: None,
            large: None,
            judged: None,
        };
        let parts: Vec<Part> = shards.map(part).collect();
        Self {
            examined_max: match (&query.filter, query.limit) {
                (Some(_), Some(_)) => FILTER_PAGE_ENTITIES_MAX,
                _ => usize::MAX,
            },
            granted: 0,
            end: None,
            parts,
            last_id: None,
            count: 0,
            page: Vec::new(),
            query: Arc::new(query),
            token,
        }
    }

    /// True if it is a page, which is answered as a whole.
    pub(crate) fn is_page(&self) -> bool {
        self.query.limit.is_some()
    }

    /// Bytes that it holds, or has asked shards for.
    pub(crate) fn heap_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Part::heap_bytes).sum();
        parts + self.page.capacity()
    }

    /// About the bytes that it needs to go on.
    pub(crate) fn next_bytes(&self) -> usize {
        match self.query.limit {
            Some(limit) if self.count == 0 => {
                (limit * ENTITY_BYTES_EXPECTED).clamp(LIST_CHUNK_BYTES_MAX, PAGE_BYTES_MAX)
            }
            _ => 0,
        }
        .max(self.missing_bytes())
    }

    /// About the bytes of the parts that are asked for next.
    fn missing_bytes(&self) -> usize {
        let parts = self.parts.iter().filter(|part| part.is_missing());
        parts.map(Part::next_bytes).sum()
    }

    /// True if parts have come, and others have to, or they are more than a small answer.
    pub(super) fn is_long(&self) -> bool {
        let have: usize = self.parts.iter().map(Part::unused).sum();
        let is_whole = self.parts.iter().all(|part| part.chunk.last);
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let needs_more = !is_whole && have < limit.saturating_sub(self.count);
        let bytes: usize = self.parts.iter().map(|part| part.chunk.json.len()).sum();
        have > 0 && (needs_more || self.page.len() + bytes > SMALL_ANSWER_BYTES_MAX)
    }

    /// About the bytes that it writes next.
    pub(super) fn next_part_bytes(&self) -> usize {
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let rest = limit.saturating_sub(self.count);
        let part = rest.saturating_mul(ENTITY_BYTES_EXPECTED);
        let large = self.parts.iter().filter_map(|part| part.large);
        part.min(LIST_CHUNK_BYTES_MAX).max(large.sum())
    }

    /// The place that every later change of what is listed comes after, once each shard has sent
    /// its first part. What changes while the rest is read comes after it too.
    pub(crate) fn cursor(&self) -> Option<String> {
        let places = self.parts.iter().map(|part| part.place);
        let places: Vec<Sequence> = places.collect::<Option<_>>()?;
        let prefix = self.query.prefix.as_deref();
        let namespace = self
            .query
            .namespace
            .as_deref()
            .or_else(|| namespace_of(prefix?));
        Some(match (namespace, places.as_slice()) {
            (Some(namespace), [place]) => {
                Cursor::of(CursorScope::Namespace(namespace), *place).encode()
            }
            _ => Cursor::of_everything(&places).encode(),
        })
    }

    /// Takes a part from a shard.
    ///
    /// # Errors
    /// If the shard rejected the request.
    pub(super) fn take(&mut self, from: u16, reply: Reply) -> Result<(), ApiError> {
        let Some(index) = self.parts.iter().position(|part| part.shard == from) else {
            return Ok(());
        };
        self.parts[index].asked = false;
        let is_one_of_several = self.parts.len() > 1;
        match reply {
            Reply::Chunk(mut chunk) => {
                if self.examined_max < usize::MAX {
                    let unused = self.grant().saturating_sub(chunk.examined);
                    self.granted = self.granted.saturating_sub(unused);
                }
                let part = &mut self.parts[index];
                part.place.get_or_insert(chunk.place);
                // Before a large entity at its front the part is where it was.
                let is_before = chunk.large.is_some() || chunk.judged.is_some();
                if !is_before || chunk.passed.is_some() {
                    part.passed = chunk.passed.take();
                }
                part.large = chunk.large;
                part.judged = chunk.judged;
                part.chunk = chunk;
                if is_one_of_several {
                    // It may be held until the others are there.
                    part.chunk.json.shrink_to_fit();
                }
                part.used = 0;
                Ok(())
            }
            Reply::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets the parts that lay here while the socket took nothing: they are out of date, and are
    /// asked for again.
    pub(crate) fn forget_unsent(&mut self) {
        for part in self.parts.iter_mut().filter(|part| !part.is_used_up()) {
            part.chunk = Chunk::default();
            part.used = 0;
            part.passed = None;
            part.large = None;
            part.judged = None;
        }
    }

    /// Entities that one part of a filtered listing looks at: each shard can be asked twice at
    /// least, so that every page comes further.
    fn grant(&self) -> usize {
        let share = self.examined_max / (2 * self.parts.len().max(1));
        share.clamp(1, LIST_CHUNK_ENTITIES_MAX)
    }

    /// Goes on as far as it can, and asks for what is missing.
    ///
    /// # Errors
    /// If a shard can't be asked.
    pub(crate) fn advance<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<ListStep, ApiError> {
        context.answer.clear();
        let mut buffer = if self.is_page() {
            std::mem::take(&mut self.page)
        } else {
            std::mem::take(&mut context.answer)
        };
        let before = self.count;
        let credentials = self.token.map_or(Credentials::None, Credentials::Token);
        let readable = context.readable(&credentials);
        let router = &mut context.router;
        let merged = self.merge(router, (request_id, &readable), &mut buffer);
        let complete = match &merged {
            Ok(Merged::Complete { more }) => Some(*more),
            Ok(Merged::Waiting) | Err(_) => None,
        };
        if complete.is_some() {
            let end: &[u8] = if self.count == 0 { b"[]" } else { b"]" };
            buffer.extend_from_slice(end);
        }
        let is_page = self.is_page();
        if is_page && complete.is_none() {
            self.page = buffer;
        } else {
            context.answer = buffer;
        }
        merged?;
        Ok(match complete {
            Some(more) if is_page => {
                let last = self.end.as_deref().or(self.last_id.as_deref());
                let next = last.filter(|_| more);
                let next = next.map(|id| self.query.next_link(id));
                let cursor = self.cursor();
                ListStep::Page(Outcome::Page { next, cursor })
            }
            Some(_) => ListStep::Last,
            None if self.count > before && !is_page => ListStep::Part,
            None => ListStep::Waiting,
        })
    }

    /// Appends entities to `buffer`, in runs of one part, each entity behind `[` or `,`, until a
    /// part is missing, the listing is complete, or the buffer holds enough.
    fn merge<L: Log>(
        &mut self,
        router: &mut Router<L>,
        asker: (RequestId, &Readable),
        buffer: &mut Vec<u8>,
    ) -> Result<Merged, ApiError> {
        loop {
            self.ask_for_missing(router, asker)?;
            if self
                .parts
                .iter()
                .any(|part| part.is_used_up() && part.asked)
            {
                return Ok(Merged::Waiting);
            }
            // A shard that is not asked any more ends the page: behind what it was asked about it
            // may have more.
            let end = (self.parts.iter())
                .filter(|part| part.is_used_up() && !part.chunk.last)
                .filter_map(|part| part.passed.as_deref().or_else(|| part.last()))
                .min();
            let mut heads: Vec<(&str, usize)> = (self.parts.iter().enumerate())
                .filter_map(|(index, part)| Some((part.head()?, index)))
                .collect();
            heads.sort_unstable();
            let first = heads
                .first()
                .filter(|(id, _)| end.is_none_or(|end| *id <= end));
            let Some(&(_, first)) = first else {
                let more = end.is_some();
                self.end = end.map(Box::from);
                return Ok(Merged::Complete { more });
            };
            let other = heads.get(1).map(|head| head.0).into_iter().chain(end).min();
            let (count_max, bytes_max) = match self.query.limit {
                Some(limit) => (limit - self.count, PAGE_BYTES_MAX),
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
            if self.count == 0
                && let Some(comma) = buffer.get_mut(at)
            {
                *comma = b'[';
            }
            self.last_id = part.id(part.used - 1).map(Box::from);
            self.count += count;
        }
    }

    fn ask_for_missing<L: Log>(
        &mut self,
        router: &mut Router<L>,
        (request_id, readable): (RequestId, &Readable),
    ) -> Result<(), ApiError> {
        let grant = self.grant();
        // With one more it is known whether another page follows.
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let entities_max = limit.saturating_sub(self.count).saturating_add(1);
        for part in &mut self.parts {
            if !part.is_missing() {
                continue;
            }
            // A large entity was looked at before; and a page does not end in what is hidden: its
            // link would name it.
            let is_again =
                part.large.is_some() || part.judged.is_some() || part.chunk.passed_hidden;
            if !is_again && self.granted.saturating_add(grant) > self.examined_max {
                // Another part may be one that is asked again.
                continue;
            }
            let last = self.last_id.as_deref();
            let request = ShardRequest::List(Box::new(ListPart {
                query: Arc::clone(&self.query),
                after: part.passed.as_deref().max(last).map(Box::from),
                bounds: ChunkBounds {
                    examined_max: grant,
                    entities_max,
                    entity_bytes_max: part.next_bytes(),
                    judged: part.judged,
                },
                readable: readable.clone(),
            }));
            router.ask(part.shard, request_id, request)?;
            part.asked = true;
            if self.examined_max < usize::MAX {
                self.granted += grant;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{batch, namespaces, publish};
    use super::*;
    use crate::model::{Visibility, place_key};

    /// Cores with `n0/0`, `n1/0`, `n0/1`, … of so many entities.
    fn holding(count: usize) -> TestCores {
        let mut cores = TestCores::new(2);
        let events: Vec<String> = (0..count)
            .map(|number| {
                format!(
                    r#"{{"stream":"s","source":"t","payload":{{"entity_id":"n{}/{:06}","properties":{{"number":{number},"text":"{}"}}}}}}"#,
                    number % 2,
                    number / 2,
                    "x".repeat(100),
                )
            })
            .collect();
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        cores.run((0, None), |context, caller| {
            batch::begin(context, caller, body.as_bytes())
        });
        cores
    }

    fn list(cores: &mut TestCores, query: &str) -> (Outcome, Vec<String>) {
        list_within(cores, query, None)
    }

    /// Lists, with another bound on the entities that a filter may look at for a page.
    fn list_within(
        cores: &mut TestCores,
        query: &str,
        examined_max: Option<usize>,
    ) -> (Outcome, Vec<String>) {
        let query = ListQuery::parse(Some(query)).unwrap();
        let (outcome, json) = cores.run((1, None), |context, caller| {
            let mut begun = begin(context, caller, query)?;
            if let (Begun::Waiting(Pending::List(listing)), Some(max)) = (&mut begun, examined_max)
            {
                listing.examined_max = max;
            }
            Ok(begun)
        });
        let entities: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let ids = entities
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned());
        (outcome, ids.collect())
    }

    #[test]
    fn an_entity_that_a_filter_looks_at_for_long_is_looked_at_in_slices() {
        let mut cores = holding(20);
        for id in ["n0/000003", "n1/000004"] {
            let text = "v".repeat(1100 * 1024);
            let body = format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{"number":99,"text":"{text}"}}}}}}"#
            );
            cores.run((0, None), |context, caller| {
                publish::begin(context, caller, body.as_bytes())
            });
        }
        let search = [r#"not(like(text,"*w"))"#; 12].join(",");
        // Of each of the two 12 comparisons of more than a slice, and a reply for each.
        for (query, expected) in [
            (format!("limit=100&filter=and(ge(number,15),{search})"), 7),
            (format!("filter=and(ge(number,15),{search})"), 7),
            (format!("limit=1&filter=and(ge(number,99),{search})"), 1),
        ] {
            let before = cores.replies();
            let (_, ids) = list(&mut cores, &query.replace('"', "%22").replace('*', "%2A"));
            assert_eq!(ids.len(), expected, "{query}");
            assert!(ids.contains(&"n0/000003".to_owned()), "{ids:?}");
            let replies = cores.replies() - before;
            assert!(replies >= 12, "{query}: {replies}");
        }
    }

    #[test]
    fn parts_of_all_shards_are_merged_in_the_order_of_ids() {
        let mut cores = holding(4_000);
        let (outcome, ids) = list(&mut cores, "");
        assert_eq!((outcome, ids.len()), (Outcome::Done, 4_000));
        assert!(ids.is_sorted());
        assert_eq!(list(&mut cores, "namespace=n1").1.len(), 2_000);
        assert_eq!(list(&mut holding(1), "namespace=n1").1, [""; 0]);
    }

    #[test]
    fn a_filter_lets_through_what_matches_and_no_more() {
        let mut cores = holding(4_000);
        let filter = "filter=in(number,7,8.0,3999)";
        let expected = ["n0/000004", "n1/000003", "n1/001999"];
        let (outcome, ids) = list(&mut cores, filter);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(ids, expected);
        let (outcome, ids) = list(&mut cores, &format!("{filter}&limit=3"));
        assert!(matches!(outcome, Outcome::Page { .. }), "{outcome:?}");
        assert_eq!(ids, expected);
        let (outcome, ids) = list(&mut cores, &format!("{filter}&limit=2"));
        assert_eq!(ids, expected[..2]);
        let Outcome::Page {
            next: Some(link), ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert!(
            link.contains("filter=in%28number") || link.contains("filter=in(number"),
            "{link}"
        );
        assert_eq!(list(&mut cores, "filter=exists(missing)").1, [""; 0]);
        assert_eq!(
            list(&mut cores, "filter=exists(number)&namespace=n1")
                .1
                .len(),
            2_000
        );
        assert_eq!(
            list(&mut cores, "filter=ge(number,10)&fields=text").1.len(),
            3_990
        );
    }

    #[test]
    fn a_filtered_page_looks_at_a_bounded_number_and_links_to_the_rest() {
        let mut cores = holding(4_000);
        for (filter, matching) in [("in(number,1,2,2500,3999)", 4), ("ge(number,1000)", 3_000)] {
            let (mut found, mut pages, mut empty) = (Vec::new(), 0, 0);
            let mut query = format!("limit=700&filter={filter}");
            loop {
                let (outcome, ids) = list_within(&mut cores, &query, Some(500));
                (pages, empty) = (pages + 1, empty + usize::from(ids.is_empty()));
                found.extend(ids);
                let Outcome::Page { next, .. } = outcome else {
                    panic!("{outcome:?}");
                };
                let Some(link) = next else { break };
                let (_, next) = link.split_once('?').unwrap();
                query = next.split_once('>').unwrap().0.to_owned();
            }
            assert!(
                found.is_sorted() && found.len() == matching,
                "{filter}: {}",
                found.len()
            );
            // Each page looks at no more than 500, and at a good part of that.
            assert!((8..=40).contains(&pages), "{filter}: {pages} pages");
            assert!(empty > 0, "{filter}");
        }
    }

    #[test]
    fn pages_follow_one_another_and_the_last_has_no_link() {
        let mut cores = holding(5);
        let (outcome, first) = list(&mut cores, "limit=3");
        let Outcome::Page {
            next: Some(link), ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert!(link.contains("limit=3&after=n0%2F000002>"), "{link}");
        let (outcome, rest) = list(&mut cores, "limit=3&after=n0%2F000002");
        assert!(
            matches!(outcome, Outcome::Page { next: None, .. }),
            "{outcome:?}"
        );
        let ids = [first, rest].concat();
        let expected = [
            "n0/000000",
            "n0/000001",
            "n0/000002",
            "n1/000000",
            "n1/000001",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_page_costs_the_entities_that_it_holds_and_one_more_of_each_shard() {
        let mut cores = holding(200);
        let mut spent_for = |limit: usize| {
            let before: u64 = (0..2).map(|core| cores.context(core).router.spent()).sum();
            let (_, ids) = list(&mut cores, &format!("limit={limit}"));
            assert_eq!(ids.len(), limit);
            let after: u64 = (0..2).map(|core| cores.context(core).router.spent()).sum();
            after - before
        };
        let (one, ten, hundred) = (spent_for(1), spent_for(10), spent_for(100));
        assert!(one * 4 < ten, "{one} and {ten} units");
        assert!(ten * 6 < hundred, "{ten} and {hundred} units");
    }

    #[test]
    fn a_filtered_page_links_to_nothing_that_is_hidden() {
        let mut cores = TestCores::with_auth(2);
        let name = |start: &str, shard| {
            let mut names = (0..).map(|number| format!("{start}{number}"));
            names.find(|name| place_key(name, 2) == shard).unwrap()
        };
        // Shard 0 has looked at all that it may when shard 1 comes to what is hidden.
        let secret = name("c-secret", 1);
        let mut shown = [name("x-shown", 0), name("b-shown", 1), name("d-shown", 1)];
        for namespace in shown.iter().chain([&secret]) {
            cores.context(0).tenants.new_namespaces = if *namespace == secret {
                Visibility::Private
            } else {
                Visibility::Public
            };
            let body = format!(r#"{{"name":"{namespace}"}}"#);
            let (_, json) = cores.run((0, Some(OPERATOR)), |context, caller| {
                namespaces::register(context, caller, body.as_bytes())
            });
            let registered: serde_json::Value = serde_json::from_str(&json).unwrap();
            let token = registered["token"].as_str();
            for number in 0..3 {
                let body = format!(
                    r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{namespace}/{number}","properties":{{"number":{number}}}}}}}"#
                );
                let (outcome, json) = cores.run((0, token), |context, caller| {
                    publish::begin(context, caller, body.as_bytes())
                });
                assert_eq!(outcome, Outcome::Done, "{json}");
            }
        }
        shown.sort();
        let first = "limit=10&filter=ge(number,2)";
        for examined_max in 2..16 {
            let (mut query, mut found) = (first.to_owned(), Vec::new());
            loop {
                let (outcome, ids) = list_within(&mut cores, &query, Some(examined_max));
                found.extend(ids);
                let Outcome::Page { next, .. } = outcome else {
                    panic!("{outcome:?}");
                };
                let Some(link) = next else { break };
                assert!(!link.contains(&secret), "{examined_max}: {link}");
                let (_, next) = link.split_once('?').unwrap();
                query = next.split_once('>').unwrap().0.to_owned();
            }
            let expected = shown.each_ref().map(|namespace| format!("{namespace}/2"));
            assert_eq!(found, expected, "{examined_max}");
        }
    }
}

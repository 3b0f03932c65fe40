//! A batch's JSON → stored events by shard; and the answer with a verdict for each item (API
//! contract §2).
//!
//! A [`BatchWalk`] decodes each item and adds it here, encoded, to a part for its shard. A part is
//! about as much as a shard does in one go. The answer may be written in parts too, so that neither
//! a batch nor its answer keeps a core for long.

pub use super::batch_walk::{BatchWalk, Slice, Walked};
use super::encode;
use super::error::ApiError;
use super::event::{Decoded, EventDecoder, EventIds};
use super::json::write_string;
use super::metrics::RefusalCounts;
use super::outcome::{PartOutcome, VerdictsPlace};
use crate::limits::ATOMIC_EVENTS_MAX;
use crate::model::Slicing;
use crate::model::{CursorKey, CursorScope, EventDraft, EventPack, TokenSet, TraceParent};
use crate::wire::http1::write_decimal;
use std::ops::Range;

/// What one item of a batch came to.
#[derive(Debug, Clone)]
enum Item {
    /// In this part; its answer's text is ready.
    Packed {
        part: u32,
        answer: Range<usize>,
        key: CursorKey,
    },
    /// Refused; its answer's text is ready.
    Refused { answer: Range<usize> },
}

/// A batch, decoded and split by shard.
#[derive(Debug, Default)]
pub struct BatchPlan {
    items: Vec<Item>,
    /// The answers of all items, each a JSON object: of a packed one without what its shard says.
    answers: Vec<u8>,
    /// The events, in request order: first one part for each shard, then what did not fit these.
    pub parts: Vec<Part>,
    /// By shard, the part that its next event belongs to.
    open: Vec<u32>,
    /// A part of so many units is full.
    part_units_max: u64,
    /// The first item that was refused, and why.
    refused: Option<(usize, ApiError)>,
    /// The items that were refused, by code.
    refusals: RefusalCounts,
    /// What the first packed event is ordered by: its namespace, or its id without one.
    scope: Option<Box<str>>,
    /// The first packed event that is ordered by another.
    out_of_scope: Option<usize>,
    /// Tokens by which all packed events are allowed, and the first event that left none.
    tokens: TokenSet,
    out_of_tokens: Option<usize>,
    /// All its events are to take effect, or none. They are in the one part then.
    is_atomic: bool,
    /// The trace of the items that name none.
    traceparent: Option<TraceParent>,
}

/// Where an event goes, and by which of the caller's tokens it may.
#[derive(Debug, Clone, Copy)]
pub struct EventPlace {
    /// The shard.
    pub shard: u16,
    /// The tokens.
    pub tokens: TokenSet,
    /// The caller is not told what its operations led to.
    pub hides_results: bool,
}

/// Events of one shard that one token allows, as many as the shard takes in one go.
#[derive(Debug, Default)]
pub struct Part {
    /// The shard.
    pub shard: u16,
    /// The place of the token among the caller's.
    pub token: usize,
    /// The events.
    pub pack: EventPack,
    /// How many were packed: known after the pack is handed to the shard.
    packed: u32,
    /// The caller is not told what the operations of some of them led to.
    pub hides_results: bool,
}

impl Part {
    /// Without events.
    fn of(shard: u16, token: usize) -> Self {
        Self {
            shard,
            token,
            ..Self::default()
        }
    }
}

/// How far an answer is written.
#[derive(Debug, Clone)]
pub struct AnswerPlace {
    begun: bool,
    /// The item that is next.
    item: usize,
    /// By part, the verdicts that were taken.
    taken: Vec<VerdictsPlace>,
}

impl AnswerPlace {
    /// Before its beginning.
    pub fn new(outcomes: &[PartOutcome]) -> Self {
        Self {
            begun: false,
            item: 0,
            taken: vec![VerdictsPlace::default(); outcomes.len()],
        }
    }
}

/// What decoding needs besides the body.
#[derive(Debug)]
pub struct BatchContext<'c, P> {
    /// Reused from request to request.
    pub decoder: &'c mut EventDecoder,
    /// Ids for items without one.
    pub ids: &'c mut EventIds,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// Number of shards.
    pub shards: usize,
    /// Event, and what it is ordered by → where it goes, or why the item is refused.
    pub place: P,
}

/// A longer batch is not made room for beyond this, bytes.
const RESERVED_BYTES_MAX: usize = 1024 * 1024;

/// Usual bytes of what a shard says of an item that it stored.
const ANSWER_STORED_BYTES: usize = 96;

/// At most so many bytes of an answer are around its items.
const ANSWER_FRAME_BYTES: usize = 64;

impl BatchPlan {
    /// Decodes a body in one go.
    ///
    /// # Errors
    /// As [`BatchWalk::advance`].
    pub fn decode<P: Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError>>(
        body: &[u8],
        context: &mut BatchContext<'_, P>,
    ) -> Result<Self, ApiError> {
        let mut walk = BatchWalk::new(context.shards, Slicing::SERVER);
        while walk.advance(body, context, Slice::WHOLE)?.0 != Walked::Done {}
        Ok(walk.into_plan())
    }

    /// A plan without items.
    pub(super) fn new(shards: usize, slicing: Slicing) -> Self {
        let mut plan = Self {
            part_units_max: slicing.units,
            ..Self::default()
        };
        plan.restart(shards);
        plan
    }

    /// Items that name no trace are a part of this one.
    pub(super) fn set_traceparent(&mut self, traceparent: Option<TraceParent>) {
        self.traceparent = traceparent;
    }

    /// Forgets the items.
    pub(super) fn restart(&mut self, shards: usize) {
        self.items.clear();
        self.answers.clear();
        self.parts.truncate(shards);
        for part in &mut self.parts {
            part.pack.clear();
            part.packed = 0;
        }
        for shard in (0..).take(shards).skip(self.parts.len()) {
            self.parts.push(Part::of(shard, 0));
        }
        self.open.clear();
        self.open.extend((0..).take(shards));
        self.refused = None;
        self.refusals.clear();
        self.scope = None;
        self.out_of_scope = None;
        self.tokens = TokenSet::ALL;
        self.out_of_tokens = None;
    }

    /// All its events are to take effect, or none.
    ///
    /// # Errors
    /// If that can't be.
    pub(super) fn make_atomic(&mut self) -> Result<(), ApiError> {
        if let Some((index, error)) = self.refused.take() {
            let error = Box::new(error);
            return Err(ApiError::AtomicItem { index, error });
        }
        if self.items.len() > ATOMIC_EVENTS_MAX {
            return Err(ApiError::Shape {
                rule: "an atomic batch holds at most 1000 events",
            });
        }
        if let Some(index) = self.out_of_scope {
            let rule = "all events of an atomic batch are of one namespace";
            let error = Box::new(ApiError::Shape { rule });
            return Err(ApiError::AtomicItem { index, error });
        }
        if let Some(index) = self.out_of_tokens {
            let rule = "one token allows all events of an atomic batch";
            let error = Box::new(ApiError::Shape { rule });
            return Err(ApiError::AtomicItem { index, error });
        }
        let mut parts = std::mem::take(&mut self.parts).into_iter();
        let first = parts.find(|part| !part.pack.is_empty());
        let mut whole = first.unwrap_or_default();
        parts.for_each(|part| {
            whole.hides_results |= part.hides_results;
            whole.pack.append(&part.pack);
            whole.packed = whole.packed.saturating_add(part.packed);
        });
        whole.token = self.tokens.first();
        self.parts = vec![whole];
        for item in &mut self.items {
            if let Item::Packed { part, .. } = item {
                *part = 0;
            }
        }
        self.is_atomic = true;
        Ok(())
    }

    /// True if all its events are to take effect, or none.
    pub fn is_atomic(&self) -> bool {
        self.is_atomic
    }

    /// Notes what only an atomic batch needs to know of a packed event.
    fn note_scope(&mut self, scope: CursorScope<'_>, tokens: TokenSet) {
        self.tokens = self.tokens.and(tokens);
        if self.tokens.is_empty() {
            self.out_of_tokens.get_or_insert(self.items.len());
        }
        let scope = scope.key();
        match &self.scope {
            None => self.scope = Some(scope.into()),
            Some(first) if **first != *scope && self.out_of_scope.is_none() => {
                self.out_of_scope = Some(self.items.len());
            }
            Some(_) => {}
        }
    }

    fn note_refused(&mut self, error: &ApiError) {
        let index = self.items.len();
        self.refused.get_or_insert_with(|| (index, error.clone()));
        self.refusals.note(error.code());
    }

    /// Makes room for what a body of small events, spread evenly, comes to: stored they are shorter
    /// than sent, and the answer is about half as long. Others grow as they go.
    pub(super) fn reserve(&mut self, body_len: usize) {
        let len = body_len.min(RESERVED_BYTES_MAX);
        self.answers.reserve(len / 2);
        let pack_len = len.checked_div(self.parts.len()).unwrap_or_default();
        for part in &mut self.parts {
            part.pack.reserve(pack_len);
        }
    }

    /// Adds an item. False if it is refused.
    pub(super) fn add(
        &mut self,
        decoded: &Decoded<'_>,
        place: &impl Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError>,
    ) -> bool {
        let start = self.answers.len();
        match decoded {
            Decoded::Event(draft, terms) => {
                let scope = CursorScope::of(draft.entity_id);
                let key = CursorKey::of_scope(scope);
                let place = match place(draft, terms, key) {
                    Ok(place) => place,
                    Err(error) => {
                        self.note_refused(&error);
                        encode::published(&mut self.answers, draft.event_id, draft.stream);
                        let named = self.answers.split_off(start);
                        refused_item(&mut self.answers, &named, &error);
                        self.items.push(Item::Refused {
                            answer: start..self.answers.len(),
                        });
                        return false;
                    }
                };
                self.note_scope(scope, place.tokens);
                let part = self.pack(place, draft, terms);
                encode::published(&mut self.answers, draft.event_id, draft.stream);
                self.items.push(Item::Packed {
                    part,
                    answer: start..self.answers.len(),
                    key,
                });
                true
            }
            Decoded::Refused {
                error,
                event_id,
                stream,
            } => {
                self.note_refused(error);
                encode::rejection(&mut self.answers, error);
                self.answers.pop();
                for (name, text) in [("eventId", event_id), ("stream", stream)] {
                    if let Some(text) = text {
                        self.answers.push(b',');
                        write_string(&mut self.answers, name);
                        self.answers.push(b':');
                        write_string(&mut self.answers, text);
                    }
                }
                self.answers.push(b'}');
                self.items.push(Item::Refused {
                    answer: start..self.answers.len(),
                });
                false
            }
        }
    }

    /// The last item costs so many tokens more than one, if it is packed.
    pub(super) fn charge_last(&mut self, extra_tokens: u32) {
        if extra_tokens > 0
            && let Some(Item::Packed { part, .. }) = self.items.last()
            && let Some(part) = self.parts.get_mut(*part as usize)
        {
            part.pack.charge_last(extra_tokens);
        }
    }

    /// Packs an event for its shard. Returns the part that it is in. Parts of a shard are in the
    /// order of their events, so one that another token allows begins a new part.
    fn pack(&mut self, place: EventPlace, draft: &EventDraft<'_>, terms: &[u8]) -> u32 {
        let EventPlace { shard, tokens, .. } = place;
        let next = u32::try_from(self.parts.len()).expect("a part has an event of a batch");
        let open = self
            .open
            .get_mut(usize::from(shard))
            .expect("placement is below the shard count");
        let current = self.parts.get(*open as usize);
        let is_full = |part: &Part| part.pack.units() >= self.part_units_max;
        let is_of_others = |part: &Part| !part.pack.is_empty() && !tokens.has(part.token);
        if current.is_some_and(|part| is_full(part) || is_of_others(part)) {
            *open = next;
            self.parts.push(Part::of(shard, tokens.first()));
        }
        let part = self.parts.get_mut(*open as usize);
        let part = part.expect("an open part is among the parts");
        if part.pack.is_empty() {
            part.token = tokens.first();
        }
        part.hides_results |= place.hides_results;
        let encode = |out: &mut Vec<u8>| draft.encode_in(self.traceparent, out);
        part.pack.push(terms, encode);
        part.packed = part.packed.saturating_add(1);
        *open
    }

    /// Heap that it holds.
    pub fn heap_bytes(&self) -> usize {
        let items = self.items.capacity().saturating_mul(size_of::<Item>());
        let parts = self.parts.capacity().saturating_mul(size_of::<Part>());
        let packs = self.parts.iter().map(|part| part.pack.heap_bytes());
        let refusals = self.refusals.heap_bytes();
        [items, self.answers.capacity(), parts, refusals]
            .into_iter()
            .chain(packs)
            .sum()
    }

    /// Items decoded.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Never true for a plan whose walk is over.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Why the server could take no item of the batch now, if that is so: every item was sound,
    /// none was dealt with, and each shard says 503. The request fails as a whole then, so that a
    /// client which retries on 503 loses nothing. A fault of a shard's disk is named first.
    pub fn unavailable(&self, outcomes: &[PartOutcome]) -> Option<ApiError> {
        if !self.refusals.is_empty() || outcomes.iter().any(|part| !part.is_empty()) {
            return None;
        }
        let errors = outcomes.iter().filter_map(|part| part.error.as_ref());
        if errors.clone().any(|error| error.status() != 503) {
            return None;
        }
        // After a fault nobody knows what is on the disk; no other error may hide that.
        let fault = errors
            .clone()
            .find(|error| **error == ApiError::StorageFault);
        fault.or_else(|| errors.clone().next()).cloned()
    }

    /// Tells the codes of the items that are refused, each with how many. It looks at no item: a
    /// batch may have more than a turn has time for.
    pub fn each_refusal(&self, outcomes: &[PartOutcome], mut tell: impl FnMut(&'static str, u64)) {
        self.refusals
            .iter()
            .for_each(|(code, count)| tell(code, count));
        for (part, outcome) in self.parts.iter().zip(outcomes) {
            let alone = outcome.refusals().iter();
            alone.for_each(|(code, count)| tell(code, count));
            if let Some(error) = &outcome.error {
                let rest = u64::from(part.packed).saturating_sub(outcome.len() as u64);
                tell(error.code(), rest);
            }
        }
    }

    /// Writes the answer. `outcomes`: one for each part.
    pub fn answer(&self, outcomes: &[PartOutcome], out: &mut Vec<u8>) {
        out.reserve(self.answer_bytes());
        let mut place = AnswerPlace::new(outcomes);
        while !self.answer_part(outcomes, &mut place, (out, usize::MAX)) {}
    }

    /// About as many bytes as the answer has.
    pub fn answer_bytes(&self) -> usize {
        let more = self.items.len().saturating_mul(ANSWER_STORED_BYTES);
        let frame = more.saturating_add(ANSWER_FRAME_BYTES);
        self.answers.len().saturating_add(frame)
    }

    /// Writes the next part of the answer: so much that `out` holds `bytes_max` and one item more.
    /// True if it was the last.
    pub fn answer_part(
        &self,
        outcomes: &[PartOutcome],
        place: &mut AnswerPlace,
        (out, bytes_max): (&mut Vec<u8>, usize),
    ) -> bool {
        if !place.begun {
            place.begun = true;
            let stored: usize = outcomes.iter().map(PartOutcome::stored).sum();
            out.extend_from_slice(b"{\"successful\":");
            write_decimal(out, stored as u64);
            out.extend_from_slice(b",\"failed\":");
            write_decimal(out, self.items.len().saturating_sub(stored) as u64);
            out.extend_from_slice(b",\"results\":[");
        }
        for item in self.items.get(place.item..).unwrap_or_default() {
            if out.len() >= bytes_max {
                return false;
            }
            if place.item > 0 {
                out.push(b',');
            }
            place.item = place.item.saturating_add(1);
            self.answer_item(item, outcomes, (place, out));
        }
        out.extend_from_slice(b"]}");
        true
    }

    fn answer_item(
        &self,
        item: &Item,
        outcomes: &[PartOutcome],
        (place, out): (&mut AnswerPlace, &mut Vec<u8>),
    ) {
        let (part, answer, key) = match item {
            Item::Refused { answer } => return out.extend_from_slice(self.text(answer)),
            Item::Packed { part, answer, key } => (*part as usize, answer, *key),
        };
        let (Some(outcome), Some(taken)) = (outcomes.get(part), place.taken.get_mut(part)) else {
            unreachable!("an outcome for each part");
        };
        let mut verdicts = outcome.verdicts_from(*taken);
        match verdicts.take_next() {
            Ok(published) => {
                out.extend_from_slice(self.text(answer));
                encode::stored(out, &published, key);
            }
            Err(error) => refused_item(out, self.text(answer), error),
        }
        *taken = verdicts.place();
    }

    fn text(&self, answer: &Range<usize>) -> &[u8] {
        self.answers.get(answer.clone()).unwrap_or_default()
    }
}

/// The answer of an item that was refused: the error, and the id and stream of what would have been
/// (`named`: the answer of its success).
fn refused_item(out: &mut Vec<u8>, named: &[u8], error: &ApiError) {
    encode::rejection(out, error);
    out.pop();
    out.push(b',');
    out.extend_from_slice(named.strip_prefix(b"{").unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::CurrentEntity;
    use crate::model::{Cursor, Stored};
    use flux_storage::Sequence;

    fn decode(body: &str) -> Result<BatchPlan, ApiError> {
        let mut context = BatchContext {
            decoder: &mut EventDecoder::default(),
            ids: &mut EventIds::new(1),
            now_ms: 1,
            shards: 2,
            place: |draft: &EventDraft<'_>, _: &[u8], _| {
                // An id that ends so is allowed by one of two tokens alone.
                let tokens = match draft.entity_id.as_bytes() {
                    [.., b'/', b'1'] => TokenSet::FIRST,
                    [.., b'/', b'2'] => TokenSet::NONE.with(1),
                    _ => TokenSet::FIRST.with(1),
                };
                let shard = u16::from(draft.entity_id.starts_with('b'));
                Ok(EventPlace {
                    shard,
                    tokens,
                    hides_results: false,
                })
            },
        };
        BatchPlan::decode(body.as_bytes(), &mut context)
    }

    fn event(id: &str, entity: &str) -> String {
        format!(
            r#"{{"eventId":"{id}","stream":"s","source":"a","payload":{{"entity_id":"{entity}","properties":{{}}}}}}"#
        )
    }

    /// So many events were stored from this sequence on, each under its sequence as version.
    fn stored(first: u64, count: usize) -> PartOutcome {
        let mut outcome = PartOutcome::default();
        for version in (first..).take(count) {
            let sequence = Sequence::new(version);
            outcome.push(Stored { sequence, version }.into());
        }
        outcome
    }

    /// The answer to an item that was stored under its sequence as version.
    fn result(event_id: &str, entity_id: &str, sequence: u64) -> serde_json::Value {
        let cursor = Cursor::of(CursorScope::of(entity_id), Sequence::new(sequence));
        serde_json::json!({
            "eventId": event_id, "stream": "s", "version": sequence, "sequence": sequence,
            "cursor": cursor.encode()
        })
    }

    #[test]
    fn answers_come_in_request_order_whatever_the_shard() {
        let body = format!(
            r#"{{"events":[{},{},7,{},{{"eventId":"x","stream":"t"}}]}}"#,
            event("1", "a"),
            event("2", "b"),
            event("3", "b2")
        );
        let plan = decode(&body).unwrap();
        assert_eq!(
            (
                plan.len(),
                plan.parts[0].pack.len(),
                plan.parts[1].pack.len()
            ),
            (5, 1, 2)
        );
        let mut outcomes = [stored(1, 1), stored(5, 1)];
        outcomes[1].error = Some(ApiError::StorageFull);
        let mut out = Vec::new();
        plan.answer(&outcomes, &mut out);
        let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&answer["successful"], &answer["failed"]),
            (&2.into(), &3.into())
        );
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results[0]["eventId"], "1");
        assert_eq!(results[1], result("2", "b", 5));
        assert_eq!(results[2]["code"], "invalid_body");
        assert_eq!(
            (&results[3]["code"], &results[3]["eventId"]),
            (&"storage_full".into(), &"3".into())
        );
        assert_eq!(
            (&results[4]["code"], &results[4]["stream"]),
            (&"missing_field".into(), &"t".into())
        );
    }

    #[test]
    fn refusals_are_told_by_code_also_once_the_packs_are_handed_out() {
        let check = |plan: &mut BatchPlan, outcomes: &[PartOutcome], expected: &[(&str, u64)]| {
            // The shards have them.
            plan.parts
                .iter_mut()
                .for_each(|part| part.pack = EventPack::default());
            let mut told = Vec::new();
            plan.each_refusal(outcomes, |code, count| told.push((code, count)));
            assert_eq!(told, expected);
        };
        let items = ["a", "b", "a", "b", "b", "a"].map(|id| event("1", id));
        // The events of the first member do not count.
        let body = format!(
            r#"{{"events":[{0},7],"events":[7,{0},{{}},8]}}"#,
            items.join(",")
        );
        let mut first = stored(1, 1);
        first.push_refused(ApiError::PreconditionFailed {
            entity: CurrentEntity::Absent,
        });
        first.error = Some(ApiError::StorageFull);
        let refused = [first, PartOutcome::refused(ApiError::StorageFault)];
        let expected = [
            ("invalid_body", 2),
            ("missing_field", 1),
            ("precondition_failed", 1),
            ("storage_full", 1),
            ("storage_fault", 3),
        ];
        let mut plan = decode(&body).unwrap();
        check(&mut plan, &refused, &expected);
        let mut plan = decode(&body).unwrap();
        check(&mut plan, &[stored(1, 3), stored(1, 3)], &expected[..2]);
        let atomic = ["a", "a", "a"].map(|id| event("1", id)).join(",");
        let mut plan = decode(&format!(r#"{{"events":[{atomic}],"atomic":true}}"#)).unwrap();
        let refused = PartOutcome::refused(ApiError::StorageFull);
        check(&mut plan, &[refused], &[("storage_full", 3)]);
    }

    #[test]
    fn a_batch_that_is_stored_whole_is_answered_in_request_order() {
        let body = format!(
            r#"{{"events":[{}],"events":[{},{},{}]}}"#,
            event("0", "a"),
            event("1", "b"),
            event("2", "a"),
            event("3", "b2")
        );
        let plan = decode(&body).unwrap();
        assert_eq!((plan.parts[0].pack.len(), plan.parts[1].pack.len()), (1, 2));
        let outcomes = [stored(4, 1), stored(8, 2)];
        let mut out = Vec::new();
        plan.answer(&outcomes, &mut out);
        let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "successful": 3, "failed": 0, "results": [
                result("1", "b", 8), result("2", "a", 4), result("3", "b2", 9)
            ]
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn an_atomic_batch_is_one_part_and_fails_as_a_whole() {
        let check = |items: &[String], members: &str, expected: Result<bool, (u16, &str)>| {
            let body = format!(r#"{{"events":[{}]{members}}}"#, items.join(","));
            let decoded = decode(&body);
            let found = decoded.as_ref().map(BatchPlan::is_atomic);
            assert_eq!(
                found.map_err(|error| (error.status(), error.code())),
                expected,
                "{body}"
            );
        };
        let items = ["n/a", "n/b", "n/a"].map(|id| event("1", id));
        check(&items, r#","atomic":true"#, Ok(true));
        check(&items, r#","atomic":false,"\u0061tomic":true"#, Ok(true));
        check(&items, r#","atomic":false"#, Ok(false));
        check(&items, r#","atomic":null"#, Ok(false));
        check(&items, r#","atomic":true,"atomic":false"#, Ok(false));
        check(&items, r#","atomic":1"#, Err((400, "invalid_field")));
        let other = [items[0].clone(), event("1", "m/a")];
        check(&other, "", Ok(false));
        check(&other, r#","atomic":true"#, Err((400, "invalid_body")));
        let alone = ["a", "a", "b"].map(|id| event("1", id));
        check(&alone[..2], r#","atomic":true"#, Ok(true));
        check(&alone, r#","atomic":true"#, Err((400, "invalid_body")));
        let bad = [items[0].clone(), "7".to_owned()];
        check(&bad, r#","atomic":true"#, Err((400, "invalid_body")));
        let body = format!(r#"{{"atomic":true,"events":[{}]}}"#, items.join(","));
        let plan = decode(&body).unwrap();
        let packs: Vec<usize> = plan.parts.iter().map(|part| part.pack.len()).collect();
        assert_eq!(packs, [3]);
    }

    #[test]
    fn a_part_is_of_one_token_and_parts_of_a_shard_keep_the_order_of_the_request() {
        let items = ["n/a", "n/2", "n/b", "n/1", "n/2"].map(|id| event("1", id));
        let body = format!(r#"{{"events":[{}]}}"#, items.join(","));
        let plan = decode(&body).unwrap();
        let parts = plan.parts.iter().filter(|part| !part.pack.is_empty());
        let parts: Vec<_> = parts
            .map(|part| (part.shard, part.token, part.pack.len()))
            .collect();
        assert_eq!(parts, [(0, 0, 1), (0, 1, 2), (0, 0, 1), (0, 1, 1)]);
    }

    #[test]
    fn one_token_allows_all_of_an_atomic_batch() {
        let check = |ids: &[&str], expected: Result<usize, usize>| {
            let items: Vec<String> = ids.iter().map(|id| event("1", id)).collect();
            let body = format!(r#"{{"atomic":true,"events":[{}]}}"#, items.join(","));
            let found = match decode(&body) {
                Ok(plan) => Ok(plan.parts[0].token),
                Err(ApiError::AtomicItem { index, .. }) => Err(index),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{body}");
        };
        check(&["n/a", "n/2"], Ok(1));
        check(&["n/1", "n/a"], Ok(0));
        check(&["n/a", "n/1", "n/b", "n/2"], Err(3));
    }

    #[test]
    fn an_item_whose_condition_is_none_fails_alone() {
        let conditional = event("2", "a").replacen('{', r#"{"expect":{"filter":"x"},"#, 1);
        let body = format!(r#"{{"events":[{},{conditional}]}}"#, event("1", "a"));
        let plan = decode(&body).unwrap();
        let mut out = Vec::new();
        plan.answer(&[stored(1, 1), stored(1, 0)], &mut out);
        let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(answer["successful"], 1);
        assert_eq!(answer["results"][1]["code"], "invalid_filter");
        assert_eq!(answer["results"][1]["eventId"], "2");
    }

    #[test]
    fn text_that_is_no_json_is_named_with_its_item_and_its_word() {
        let check = |number: &str, word: &str| {
            let bad = event("2", "b").replace("{}", &format!(r#"{{"n":{number}}}"#));
            let body = format!(r#"{{"events":[{},{bad}]}}"#, event("1", "a"));
            let error = decode(&body).unwrap_err();
            assert_eq!((error.status(), error.code()), (400, "invalid_json"));
            let message = error.to_string();
            assert!(message.contains("item 1 "), "{message}");
            assert!(message.contains(&format!("`{word}`")), "{message}");
        };
        check("Infinity", "Infinity");
        check("-Infinity", "-Infinity");
        check("NaN", "NaN");
        check("nan", "nan");
        check("1e999", "1e999");
        check("undefined", "undefined");
        check("01", "01");
    }

    #[test]
    fn a_body_without_events_fails_as_a_whole() {
        for body in [
            "[]",
            "{}",
            r#"{"events":[]}"#,
            r#"{"events":{}}"#,
            r#"{"events":[1"#,
            r#"{"events":[1]}x"#,
            r#"{"events":[1],"events":[]}"#,
            r#"{"events":[1],"events":7}"#,
        ] {
            assert_eq!(decode(body).unwrap_err().status(), 400, "{body}");
        }
    }
}

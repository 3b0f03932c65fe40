//! Publishing a batch: its items go to their shards, in slices.
//!
//! ```text
//! Decode ─▶ Store ─▶ Wait ─▶ Measure ─▶ Answer
//!   │ ▲ └────┘ a slice a turn  └─ a slice a turn, then parts as the socket takes them
//!   ▼ │
//!  Away: a value is larger than a slice, and a helper thread decodes the rest of the body
//! ```
//!
//! A small batch is decoded and handed to its shards when it begins, and answered in one go; it
//! goes through `Wait` alone. Of any other the body is kept, and each turn of its connection does a
//! slice. No part reaches a shard before the whole body is decoded. Its connection is not read
//! until it is answered, so what the client sends behind it can't overtake it.

use super::reading::{Results, judge_terms};
use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::ApiError;
use crate::api::batch::{
    AnswerPlace, BatchContext, BatchPlan, BatchWalk, EventPlace, Slice, Walked,
};
use crate::api::event::{EventDecoder, EventIds};
use crate::api::outcome::PartOutcome;
use crate::auth::{Access, PrivateNamespaces, TokenHash};
use crate::background::decoding::{DecodeResult, DecodedBody};
use crate::background::turns::Network;
use crate::limits::{LIST_CHUNK_BYTES_MAX, MEMORY_SMALL_BYTES_MAX};
use crate::log::Log;
use crate::model::{CursorKey, EventDraft, EventPack};
use crate::shard::{MemoryAccount, MemoryHolders, Reply, RequestId, ShardRequest};

/// See the module.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    stage: Stage,
    access: Access,
    /// What it was sent with, to be looked at again before each part.
    token: Option<TokenHash>,
    /// The address whose turn is taken for it at the helper thread. `None`: its core has none, and
    /// may take its time.
    network: Option<Network>,
    /// It is answered in one go, whatever its size.
    answers_whole: bool,
    /// It did not end with its first slice.
    is_sliced: bool,
    plan: BatchPlan,
    /// One for each part.
    outcomes: Vec<PartOutcome>,
    /// Whether a part was handed to its shard, which has not answered.
    asked: Vec<bool>,
}

#[derive(Debug)]
enum Stage {
    /// It is decoded.
    Decode(Box<[u8]>, Box<BatchWalk>),
    /// A helper thread decodes it, which takes about so many bytes.
    Away(usize),
    /// Its parts from this one on are to be handed to their shards.
    Store(usize),
    /// Shards work on it.
    Wait,
    /// The length of its answer is found: so long is what lies before the place.
    Measure(AnswerPlace, u64),
    /// Its answer, which is so long, is taken in parts.
    Answer(AnswerPlace, u64),
}

/// How many times the bytes of its body the decoded form of a usual batch takes, spare capacity
/// included.
const USUAL_GROWTH: usize = 3;

/// Publishes the batch that is the JSON `body`.
///
/// # Errors
/// If the batch fails as a whole; nothing of it is stored then.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.access(&caller.credentials)?;
    let mut batch = PendingBatch::new(caller, access);
    let slicing = context.slicing;
    let walk = BatchWalk::new(usize::from(context.router.shards), slicing);
    let mut walk = walk.within(caller.traceparent);
    if body.len() > slicing.body_bytes {
        batch.slice(caller);
        batch.stage = Stage::Decode(body.into(), Box::new(walk));
        return Ok(Begun::Waiting(Pending::Batch(Box::new(batch))));
    }
    if batch.decode(context, (body, &mut walk), slice(context))? == Walked::Done {
        batch.open(walk.into_plan());
        if batch.is_answered_in_parts(context) {
            // No request behind it is taken on, so its turns measure the answer.
            batch.slice(caller);
        }
        while batch.store_part(context, caller.request_id) {}
    } else {
        batch.slice(caller);
        batch.stage = Stage::Decode(body.into(), Box::new(walk));
    }
    if batch.is_over()
        && let Some(outcome) = batch.finish(context)
    {
        return Ok(Begun::at_once(outcome));
    }
    Ok(Begun::Waiting(Pending::Batch(Box::new(batch))))
}

impl PendingBatch {
    fn new(caller: &Caller<'_>, access: Access) -> Self {
        Self {
            stage: Stage::Wait,
            access,
            token: None,
            network: caller.network(),
            answers_whole: !caller.takes_parts,
            is_sliced: false,
            plan: BatchPlan::default(),
            outcomes: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn slice(&mut self, caller: &Caller<'_>) {
        self.is_sliced = true;
        self.token = caller.credentials.token().ok();
    }

    /// True if nothing of it was handed to a shard.
    pub(super) fn may_be_refused(&self) -> bool {
        matches!(self.stage, Stage::Decode(..) | Stage::Away(_))
    }

    /// True if it is to be decoded further and there is no memory for that. The least memory that
    /// can be set has room for the largest body, and not for its decoded form besides. So a batch
    /// that does not grow more than batches do may pass the share of its client if that holds
    /// nothing else, and the budget if nobody does.
    pub(super) fn lacks_memory(&self, memory: &mut MemoryAccount, holders: MemoryHolders) -> bool {
        let Stage::Decode(body, _) = &self.stage else {
            return false;
        };
        // A buffer that is full doubles.
        let (body_len, more) = (body.len(), self.heap_bytes());
        let decoded = self.heap_bytes();
        let is_usual = decoded <= USUAL_GROWTH * body_len;
        let own = body_len + decoded + MEMORY_SMALL_BYTES_MAX;
        if is_usual && memory.used() <= own {
            return false;
        }
        let of_client = if is_usual && memory.used_by(holders) <= own {
            MemoryHolders::default()
        } else {
            holders
        };
        !memory.admits(of_client, 0, more)
    }

    /// Heap that it holds, or is about to, besides its body.
    pub(super) fn heap_bytes(&self) -> usize {
        let decoded = match &self.stage {
            Stage::Decode(body, walk) => walk.heap_bytes().max(body.len()),
            Stage::Away(bytes) => *bytes,
            Stage::Store(_) | Stage::Wait | Stage::Measure(..) | Stage::Answer(..) => 0,
        };
        let outcomes: usize = self.outcomes.iter().map(PartOutcome::heap_bytes).sum();
        decoded + self.plan.heap_bytes() + outcomes
    }

    /// True if its connection is not to be read before it is answered.
    pub(super) fn is_sliced(&self) -> bool {
        self.is_sliced
    }

    /// True if [`PendingBatch::go_on`] has something to do.
    pub(super) fn is_unfinished(&self) -> bool {
        match self.stage {
            Stage::Decode(..) | Stage::Store(_) | Stage::Measure(..) => true,
            Stage::Away(_) | Stage::Wait | Stage::Answer(..) => false,
        }
    }

    /// Does the next slice.
    ///
    /// # Errors
    /// If the batch fails as a whole; nothing of it is stored then.
    pub(super) fn go_on<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<Option<Outcome>, ApiError> {
        match std::mem::replace(&mut self.stage, Stage::Wait) {
            Stage::Decode(body, mut walk) => {
                match self.decode(context, (&body, &mut walk), slice(context))? {
                    Walked::Done => self.open(walk.into_plan()),
                    Walked::More => self.stage = Stage::Decode(body, walk),
                    Walked::Large => self.decode_large(context, request_id, (body, walk))?,
                }
            }
            Stage::Store(next) => {
                self.stage = Stage::Store(next);
                let end = context.router.spent() + context.slicing.units;
                while self.store_part(context, request_id) && context.router.spent() < end {}
                if self.is_over() {
                    return Ok(self.finish(context));
                }
            }
            Stage::Measure(place, len) => self.measure(context, (place, len)),
            stage @ (Stage::Away(_) | Stage::Wait | Stage::Answer(..)) => self.stage = stage,
        }
        Ok(None)
    }

    fn decode<L: Log>(
        &self,
        context: &mut Context<L>,
        (body, walk): (&[u8], &mut BatchWalk),
        slice: Slice,
    ) -> Result<Walked, ApiError> {
        let shards = context.router.shards;
        let mut decoding = BatchContext {
            now_ms: context.router.now.as_millis(),
            decoder: &mut context.decoder,
            ids: &mut context.ids,
            shards: usize::from(shards),
            place: placing((&self.access, context.tenants.registry.private()), shards),
        };
        let (walked, units) = walk.advance(body, &mut decoding, slice)?;
        context.router.spend(units);
        Ok(walked)
    }

    /// Lets a helper thread decode the rest, which begins with a large value.
    fn decode_large<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        (body, mut walk): (Box<[u8]>, Box<BatchWalk>),
    ) -> Result<(), ApiError> {
        let Some(network) = self.network else {
            while self.decode(context, (&body, &mut walk), Slice::WHOLE)? != Walked::Done {}
            self.open(walk.into_plan());
            return Ok(());
        };
        self.stage = Stage::Away(walk.heap_bytes().max(body.len()));
        let (access, shards) = (self.access.clone(), context.router.shards);
        let private = context.tenants.registry.private().clone();
        let now_ms = context.router.now.as_millis();
        let decode = move |ids: &mut EventIds| {
            let mut decoding = BatchContext {
                now_ms,
                // What a large value takes of it is not kept.
                decoder: &mut EventDecoder::default(),
                ids,
                shards: usize::from(shards),
                place: placing((&access, &private), shards),
            };
            while walk.advance(&body, &mut decoding, Slice::WHOLE)?.0 != Walked::Done {}
            Ok(DecodedBody::Batch(Box::new(walk.into_plan())))
        };
        let asker = (request_id, network);
        context.decodes.push(asker, Box::new(decode));
        Ok(())
    }

    /// Takes what the helper thread has decoded.
    pub(super) fn on_decoded(&mut self, result: DecodeResult) -> Option<Outcome> {
        match result {
            Ok(DecodedBody::Batch(plan)) => {
                self.open(*plan);
                None
            }
            Ok(DecodedBody::Event(_)) => None,
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// The body is decoded: its parts can be handed out.
    fn open(&mut self, plan: BatchPlan) {
        self.outcomes = vec![PartOutcome::default(); plan.parts.len()];
        self.asked = vec![false; plan.parts.len()];
        self.plan = plan;
        self.stage = Stage::Store(0);
    }

    /// Hands the next part to its shard. False after the last.
    fn store_part<L: Log>(&mut self, context: &mut Context<L>, request_id: RequestId) -> bool {
        let Stage::Store(next) = self.stage else {
            return false;
        };
        let Some(part) = self.plan.parts.get_mut(next) else {
            self.stage = Stage::Wait;
            return false;
        };
        self.stage = Stage::Store(next + 1);
        let (shard, token, pack) = (part.shard, part.token, std::mem::take(&mut part.pack));
        if pack.is_empty() {
            return true;
        }
        match self.ask(context, request_id, (shard, token, pack)) {
            Ok(()) => self.asked[next] = true,
            Err(error) => self.outcomes[next].error = Some(error),
        }
        true
    }

    fn ask<L: Log>(
        &self,
        context: &mut Context<L>,
        request_id: RequestId,
        (shard, place, pack): (u16, usize, EventPack),
    ) -> Result<(), ApiError> {
        // The token may have died since the batch began.
        if self.is_sliced
            && let Some(token) = self.token(place)
            && !context.tenants.is_alive(&token, context.router.now)
        {
            return Err(ApiError::TokenUnknown);
        }
        if shard != context.router.core {
            // The own shard counts what it does itself.
            context.router.spend(pack.units());
        }
        let charged = self.access.charged(place);
        let request = if self.plan.is_atomic() {
            ShardRequest::PublishGroup { pack, charged }
        } else {
            ShardRequest::Publish {
                pack,
                done: PartOutcome::default(),
                charged,
            }
        };
        context.router.ask(shard, request_id, request)
    }

    /// The token at this place, of the tokens that it was sent with.
    fn token(&self, place: usize) -> Option<TokenHash> {
        match &self.access {
            Access::Several(all) => all.get(place).map(|presented| presented.token),
            _ => self.token,
        }
    }

    /// Takes a shard's reply. A shard answers its parts in the order in which it was given them.
    pub(super) fn resume<L>(
        &mut self,
        context: &mut Context<L>,
        (from, reply): (u16, Reply),
    ) -> Option<Outcome> {
        let mut outcome = match reply {
            Reply::Published(outcome) => outcome,
            Reply::Refused(error) => PartOutcome::refused(error),
            Reply::GroupRefused(index, error) => {
                self.asked.clear();
                return Some(Outcome::Failed(match index {
                    None => error,
                    Some(index) => ApiError::AtomicItem {
                        index,
                        error: Box::new(error),
                    },
                }));
            }
            _ => return None,
        };
        let mut parts = self.plan.parts.iter().zip(&self.asked);
        let part = parts.position(|(part, asked)| part.shard == from && *asked)?;
        if self.plan.parts[part].hides_results {
            outcome.leave_out_results();
        }
        self.asked[part] = false;
        self.outcomes[part] = outcome;
        if self.is_over() {
            return self.finish(context);
        }
        None
    }

    /// True if every part was handed to its shard, and every shard has answered.
    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Wait) && !self.asked.contains(&true)
    }

    /// The verdict on each item; one failure of the whole if the server could take none of them
    /// now. `None` if the answer is so long that it is measured first.
    fn finish<L>(&mut self, context: &mut Context<L>) -> Option<Outcome> {
        if let Some(error) = self.plan.unavailable(&self.outcomes) {
            return Some(Outcome::Failed(error));
        }
        let tally = context.tally();
        self.plan.each_refusal(&self.outcomes, |code, count| {
            tally.note_refused_code(code, count);
        });
        if self.is_answered_in_parts(context) {
            self.stage = Stage::Measure(AnswerPlace::new(&self.outcomes), 0);
            return None;
        }
        context.answer.clear();
        self.plan.answer(&self.outcomes, &mut context.answer);
        Some(Outcome::Done)
    }

    fn is_answered_in_parts<L>(&self, context: &Context<L>) -> bool {
        self.plan.answer_bytes() > context.slicing.answer_bytes && !self.answers_whole
    }

    fn measure<L: Log>(&mut self, context: &mut Context<L>, (mut place, len): (AnswerPlace, u64)) {
        let out = &mut context.answer;
        out.clear();
        let bytes_max = context.slicing.answer_bytes;
        let is_last = self
            .plan
            .answer_part(&self.outcomes, &mut place, (out, bytes_max));
        let written = out.len() as u64;
        context.router.spend(written);
        let len = len + written;
        self.stage = if is_last {
            Stage::Answer(AnswerPlace::new(&self.outcomes), len)
        } else {
            Stage::Measure(place, len)
        };
    }

    /// The length of its answer, if that is taken in parts.
    pub(crate) fn answer_len(&self) -> Option<u64> {
        match self.stage {
            Stage::Answer(_, len) => Some(len),
            _ => None,
        }
    }

    /// About the bytes of the part of its answer that is taken next.
    pub(super) fn next_part_bytes(&self) -> usize {
        self.answer_len().map_or(0, |_| LIST_CHUNK_BYTES_MAX)
    }

    /// Puts the next part of its answer into [`Context::answer`]. True if it is the last.
    pub(crate) fn answer_part<L>(&mut self, context: &mut Context<L>) -> bool {
        let Stage::Answer(place, _) = &mut self.stage else {
            return true;
        };
        let out = &mut context.answer;
        out.clear();
        self.plan
            .answer_part(&self.outcomes, place, (out, LIST_CHUNK_BYTES_MAX))
    }
}

fn slice<L>(context: &Context<L>) -> Slice {
    Slice {
        units: context.slicing.units,
        bytes: context.slicing.body_bytes,
    }
}

/// Where each event goes, if the caller may publish it.
fn placing(
    (access, private): (&Access, &PrivateNamespaces),
    shards: u16,
) -> impl Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError> {
    move |draft, terms, key| {
        let may_publish = access.may_publish(draft.entity_id, draft.tombstone);
        let tokens = may_publish.map_err(denied)?;
        let results = judge_terms((access, private), (draft.entity_id, terms))?;
        Ok(EventPlace {
            shard: key.place(shards),
            tokens,
            hides_results: results == Results::LeftOut,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{namespaces, publish};
    use super::*;
    use crate::model::Slicing;
    use crate::model::place;
    use crate::shard::MemoryPart;
    use serde_json::Value;

    fn event(id: &str) -> String {
        format!(
            r#"{{"eventId":"e","stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{"n":1.50}}}}}}"#
        )
    }

    fn batch(ids: &[&str]) -> String {
        // Under ids that the server makes.
        let unnamed = |id: &&str| event(id).replace(r#""eventId":"e","#, "");
        let events: Vec<String> = ids.iter().map(unnamed).collect();
        format!(r#"{{"events":[{}]}}"#, events.join(","))
    }

    /// An id of each of two shards.
    const OF_SHARD: [&str; 2] = ["n1/a", "n0/a"];

    #[test]
    fn a_batch_is_answered_in_the_order_of_its_items_and_a_bad_item_fails_alone() {
        let ids = [OF_SHARD[1], "", OF_SHARD[0]];
        let (outcome, json) = TestCores::new(2).run((0, None), |context, caller| {
            begin(context, caller, batch(&ids).as_bytes())
        });
        assert_eq!(outcome, Outcome::Done);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["successful"], &json["failed"]),
            (&2.into(), &1.into())
        );
        let results = json["results"].as_array().unwrap();
        let failed: Vec<bool> = results.iter().map(|it| it["error"].is_string()).collect();
        assert_eq!(failed, [false, true, false]);
    }

    #[test]
    fn a_batch_of_which_nothing_can_be_taken_now_fails_as_a_whole() {
        let mut cores = TestCores::new(2);
        let publish = |cores: &mut TestCores, ids: &[&str]| {
            cores.run((0, None), |context, caller| {
                begin(context, caller, batch(ids).as_bytes())
            })
        };
        cores.close_shard(1);
        let (outcome, _) = publish(&mut cores, &[OF_SHARD[1], OF_SHARD[1]]);
        assert_eq!(outcome, Outcome::Failed(ApiError::NotReady));
        let (outcome, json) = publish(&mut cores, &OF_SHARD);
        assert_eq!(outcome, Outcome::Done, "one shard takes its part");
        assert!(json.contains("not_ready"), "{json}");
        let (outcome, _) = publish(&mut cores, &[OF_SHARD[1], ""]);
        assert_eq!(outcome, Outcome::Done, "an item is wrong in itself");
        cores.open_shard(1);
        let (outcome, json) = publish(&mut cores, &OF_SHARD);
        assert_eq!(outcome, Outcome::Done);
        assert!(json.contains(r#""failed":0"#), "{json}");
    }

    #[test]
    fn a_batch_that_fails_as_a_whole_names_the_fault_of_a_disk_before_a_shard_that_is_not_there() {
        let mut cores = TestCores::new(2);
        cores.close_shard(0);
        let shard = cores.context(1).router.shard.as_mut().unwrap();
        shard.fail();
        let (outcome, _) = cores.run((0, None), |context, caller| {
            begin(context, caller, batch(&OF_SHARD).as_bytes())
        });
        assert_eq!(outcome, Outcome::Failed(ApiError::StorageFault));
    }

    /// Runs a batch to its end as its connection would, and counts its slices.
    fn run_in_slices(cores: &mut TestCores, core: usize, body: &str) -> (Outcome, Value, u32) {
        let mut call = cores.begin((core, None), |context, caller| {
            begin(context, caller, body.as_bytes())
        });
        let mut slices = 0;
        for _ in 0..100 {
            while cores.go_on(&mut call) {
                slices += 1;
            }
            cores.flush();
            cores.deliver(&mut call);
            if call.commit_point().is_some() {
                break;
            }
        }
        let (outcome, json) = call.over();
        (outcome, serde_json::from_str(&json).unwrap(), slices)
    }

    #[test]
    fn while_a_batch_of_many_items_goes_on_others_are_answered() {
        let mut cores = TestCores::new(1);
        let body = format!(r#"{{"events":[{}{{}}]}}"#, "{},".repeat(149_999));
        let mut call = cores.begin((0, None), |context, caller| {
            begin(context, caller, body.as_bytes())
        });
        let mut others = 0;
        while cores.go_on(&mut call) {
            let spent = cores.context(0).router.spent();
            let other = cores.begin((0, None), |context, caller| {
                publish::begin(context, caller, event("n1/a").as_bytes())
            });
            assert!(other.commit_point().is_some(), "it is stored at once");
            let units = cores.context(0).router.spent() - spent;
            assert!(units < Slicing::SMALL.units, "{units}");
            others += 1;
        }
        assert!(others > 1_000, "{others}");
        let (outcome, json) = call.over();
        assert_eq!(outcome, Outcome::Done);
        assert!(json.starts_with(r#"{"successful":0,"failed":150000,"#));
    }

    #[test]
    fn a_slice_is_bounded_whatever_the_batch() {
        let small = batch(&vec!["n1/a"; 2_000]);
        let spaces = format!("{}{}", batch(&["n0/a"]), " ".repeat(100_000));
        let members = format!(r#"{{{}"events":[7]}}"#, r#""a":1,"#.repeat(20_000));
        for body in [small, spaces, members] {
            let mut cores = TestCores::new(2);
            let mut spent = cores.context(0).router.spent();
            let mut call = cores.begin((0, None), |context, caller| {
                begin(context, caller, body.as_bytes())
            });
            loop {
                let now = cores.context(0).router.spent();
                assert!(
                    now - spent <= 2 * Slicing::SMALL.units,
                    "{} units",
                    now - spent
                );
                spent = now;
                if !cores.go_on(&mut call) {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_large_value_is_decoded_off_the_core_and_comes_to_the_same() {
        let text = "x".repeat(3 * Slicing::SMALL.body_bytes);
        let mut items: Vec<String> = (0..200)
            .map(|n| sent(&format!("{n}"), "n1/a", "null"))
            .collect();
        items[100] = items[100].replace("1.50", &format!("\"{text}\""));
        let whole = format!(r#"{{"events":[{}]}}"#, items.join(","));
        let damaged = whole.replace(r#""eventId":"150""#, "NaN");
        for body in [whole, damaged] {
            let mut cores = TestCores::new(1);
            let mut spent = cores.context(0).router.spent();
            let mut call = cores.begin((0, None), |context, caller| {
                begin(context, caller, body.as_bytes())
            });
            while cores.go_on(&mut call) {
                let now = cores.context(0).router.spent();
                assert!(
                    now - spent <= 2 * Slicing::SMALL.units,
                    "{} units",
                    now - spent
                );
                spent = now;
            }
            assert_eq!(call.outcome(), None, "it is not decoded");
            assert!(cores.decode(&mut call));
            cores.finish(&mut call);
            let (outcome, _) = call.over();
            let expected = cores.begin((0, None), |context, caller| {
                let whole = Slice::WHOLE;
                let mut walk = BatchWalk::new(1, Slicing::SMALL);
                let mut batch = PendingBatch::new(caller, Access::Open);
                batch.network = None;
                batch.decode(context, (body.as_bytes(), &mut walk), whole)?;
                Ok(Begun::at_once(Outcome::Done))
            });
            assert_eq!(Some(&outcome), expected.outcome());
        }
    }

    #[test]
    fn a_batch_in_slices_is_answered_as_one_in_one_go_would_be() {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut cores = TestCores::new(2);
            let count = random.usize(1..400);
            let ids: Vec<String> = (0..count)
                .map(|_| match random.u8(..10) {
                    0 => String::new(),
                    _ => format!("n{}/{}", random.u8(..2), random.u8(..20)),
                })
                .collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let (outcome, json, slices) = run_in_slices(&mut cores, 1, &batch(&ids));
            assert_eq!(outcome, Outcome::Done, "seed {seed}");
            assert!(slices > 1 || count < 60, "seed {seed}: {slices}");
            let (mut sequences, mut versions) = ([0; 2], std::collections::HashMap::new());
            for (id, result) in ids.iter().zip(json["results"].as_array().unwrap()) {
                if id.is_empty() {
                    assert_eq!(result["code"], "invalid_field", "seed {seed}");
                    continue;
                }
                let sequence = &mut sequences[usize::from(place(id, 2))];
                let version = versions.entry(*id).or_insert(0);
                *sequence += 1;
                *version += 1;
                assert_eq!(
                    (&result["sequence"], &result["version"]),
                    (&(*sequence).into(), &(*version).into()),
                    "seed {seed}"
                );
            }
            assert_eq!(json["successful"], sequences[0] + sequences[1]);
            assert_eq!(json["results"].as_array().unwrap().len(), count);
        }
    }

    #[test]
    fn what_a_token_sent_is_not_stored_after_it_has_died() {
        let mut cores = TestCores::with_auth(1);
        let (_, json) = cores.run((0, Some(OPERATOR)), |context, caller| {
            namespaces::register(context, caller, br#"{"name":"house"}"#)
        });
        let json: Value = serde_json::from_str(&json).unwrap();
        let token = json["token"].as_str().unwrap().to_owned();
        let body = batch(&["house/a"; 400]);
        let mut call = cores.begin((0, Some(&token)), |context, caller| {
            begin(context, caller, body.as_bytes())
        });
        cores.run((0, Some(&token)), |context, caller| {
            namespaces::replace_token(context, caller, "house")
        });
        while cores.go_on(&mut call) {}
        let (_, json) = call.over();
        assert!(
            json.starts_with(r#"{"successful":0,"failed":400,"#),
            "{json}"
        );
        assert!(
            json.contains("unknown_token") || json.contains("token"),
            "{json}"
        );
    }

    /// An event under an id, with a condition or none.
    fn sent(event_id: &str, entity_id: &str, expect: &str) -> String {
        let id = format!(r#"{{"eventId":"{event_id}","expect":{expect},"#);
        event(entity_id).replacen(r#"{"eventId":"e","#, &id, 1)
    }

    #[test]
    fn an_item_of_a_batch_is_repeated_or_refused_alone() {
        let mut cores = TestCores::new(2);
        let id = OF_SHARD[1];
        let items = [
            sent("1", id, "null"),
            sent("1", id, "null"),
            sent("1", id, "null").replace("1.50", "2"),
            sent("2", id, r#"{"version":7}"#),
            sent("3", id, r#"{"version":1}"#),
        ];
        let body = format!(r#"{{"events":[{}]}}"#, items.join(","));
        let (_, json) = cores.run((0, None), |context, caller| {
            begin(context, caller, body.as_bytes())
        });
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["successful"], &json["failed"]),
            (&3.into(), &2.into())
        );
        let results = json["results"].as_array().unwrap();
        assert_eq!(results[1]["duplicate"], true);
        assert_eq!(results[1]["sequence"], results[0]["sequence"]);
        assert_eq!(results[2]["code"], "event_id_reused");
        assert_eq!(results[3]["code"], "precondition_failed");
        assert_eq!(results[3]["entity"]["version"], 1);
        assert_eq!(results[4]["version"], 2);
    }
    /// Decodes a batch while other clients hold `used` bytes. What it held when there was no memory
    /// to go on, if it came to that.
    fn decode_beside(used: usize, body: &str) -> Option<usize> {
        let mut stopped = None;
        TestCores::new(1).begin((0, None), |context, caller| {
            context.slicing = Slicing::SMALL;
            context.memory.change(MemoryPart::Answers, 0, used);
            let mut begun = begin(context, caller, body.as_bytes())?;
            let Begun::Waiting(pending) = &mut begun else {
                panic!("it takes several slices");
            };
            let holders = MemoryHolders::default();
            while pending.may_be_refused() {
                if pending.lacks_memory(&mut context.memory, holders) {
                    stopped = Some(pending.heap_bytes());
                    break;
                }
                let outcome = super::super::go_on(context, caller.request_id, pending);
                assert_eq!(outcome, None);
            }
            Ok(begun)
        });
        stopped
    }

    #[test]
    fn a_batch_waits_if_there_is_no_memory_for_its_decoded_form() {
        const MIB: usize = 1024 * 1024;
        let usual = batch(&["n0/a"; 400]);
        assert_eq!(decode_beside(0, &usual), None);
        assert_eq!(decode_beside(1 << 40, &usual), Some(usual.len()));
        let of_nothing = format!(r#"{{"events":[{}{{}}]}}"#, "{},".repeat(149_999));
        // Of 64 MiB, of which large holdings leave an eighth to small ones.
        let held = decode_beside(50 * MIB, &of_nothing).unwrap();
        assert!(held > 6 * MIB && held < 14 * MIB, "{held}");
    }
}

//! The walk over a batch's body, which can stop between two items and go on later.
//!
//! ```text
//! Start ──{──▶ Members ──"events":[──▶ Items ──]──▶ Members ──}──▶ End ──white space──▶ done
//! ```
//!
//! The body is walked once: each item is decoded and encoded for its shard at once. Nothing of it
//! is handed to a shard before the walk is over, since a body that turns out not to be JSON fails
//! as a whole.
//!
//! A slice of the walk sees a part of the body only. An item, or another value, that does not end
//! within it is too large to be decoded beside other work, and [`Walked::Large`] says so. An error
//! within a part that is not the body's last says nothing: the same bytes are walked again.

use super::batch::{BatchContext, BatchPlan, EventPlace};
use super::error::ApiError;
use super::event::check_misplaced;
use super::event::extra_tokens;
use super::event_member::BESIDE_EVENT;
use super::json::{JsonError, Kind, Place, Scanner};
use crate::limits::{BATCH_ITEMS_MAX, EVENT_UNITS, JSON_BYTE_UNITS, REQUEST_UNITS};
use crate::model::Slicing;
use crate::model::{CursorKey, EventDraft, TraceParent};

const EVENTS: ApiError = ApiError::Shape {
    rule: "`events` must be a non-empty array",
};

/// Members that are honoured elsewhere and not beside `events`, and where they are.
const MISPLACED: [(&str, &str); 3] = [
    ("bind", BESIDE_EVENT),
    ("linger", BESIDE_EVENT),
    ("expect", "only in an event"),
];

/// See the module.
#[derive(Debug)]
pub struct BatchWalk {
    plan: BatchPlan,
    place: Place,
    state: State,
    /// What the last member named `events` came to.
    events: Result<(), ApiError>,
    /// What the last member named `atomic` says.
    is_atomic: Result<bool, ApiError>,
    /// Whether each of [`MISPLACED`] asks for nothing.
    misplaced: [Result<(), ApiError>; MISPLACED.len()],
    scratch: String,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the body's object.
    Start,
    /// Between two of its members.
    Members,
    /// Between two items.
    Items,
    /// Behind the object.
    End,
}

/// How much of a walk is done in one go.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// Units of work; the last item may pass them.
    pub units: u64,
    /// Bytes of the body that are looked at.
    pub bytes: usize,
}

impl Slice {
    /// All of it.
    pub const WHOLE: Self = Self {
        units: u64::MAX,
        bytes: usize::MAX,
    };
}

/// How far a walk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// To its end.
    Done,
    /// To the end of the slice.
    More,
    /// To a value that does not end within the bytes of a slice.
    Large,
}

impl BatchWalk {
    /// A walk that has not begun.
    pub fn new(shards: usize, slicing: Slicing) -> Self {
        Self {
            plan: BatchPlan::new(shards, slicing),
            place: Place::default(),
            state: State::Start,
            events: Err(EVENTS),
            is_atomic: Ok(false),
            misplaced: [const { Ok(()) }; MISPLACED.len()],
            scratch: String::new(),
        }
    }

    /// Items that name no trace are a part of this one.
    #[must_use]
    pub fn within(mut self, traceparent: Option<TraceParent>) -> Self {
        self.plan.set_traceparent(traceparent);
        self
    }

    /// Heap that it holds.
    pub fn heap_bytes(&self) -> usize {
        let scratch = self.scratch.capacity();
        self.plan.heap_bytes().saturating_add(scratch)
    }

    /// The plan. Whole when the walk is over.
    pub fn into_plan(self) -> BatchPlan {
        self.plan
    }

    /// Goes on over `body`, the same each time. Returns how far it came, and the units of work that
    /// it took.
    ///
    /// # Errors
    /// If the request fails as a whole: [`ApiError::Json`], [`ApiError::JsonItem`],
    /// [`ApiError::Shape`]; of an atomic batch also [`ApiError::AtomicItem`].
    pub fn advance<P: Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError>>(
        &mut self,
        body: &[u8],
        context: &mut BatchContext<'_, P>,
        slice: Slice,
    ) -> Result<(Walked, u64), ApiError> {
        let start = self.place;
        let (seen, is_cut) = seen(body, start.offset(), slice.bytes)?;
        let in_body = |offset: usize| start.offset().saturating_add(offset);
        let mut scanner = Scanner::resume(seen, start.moved_to(0));
        let mut units = 0_u64;
        while units < slice.units {
            match self.step(&mut scanner, context, body.len()) {
                Ok(cost) => units = units.saturating_add(cost),
                Err(ApiError::Json(_) | ApiError::JsonItem { .. }) if is_cut => {
                    let walked = if self.place == start {
                        Walked::Large
                    } else {
                        Walked::More
                    };
                    return Ok((walked, units));
                }
                Err(error) => return Err(error.moved(in_body)),
            }
            let place = scanner.place();
            self.place = place.moved_to(in_body(place.offset()));
            if self.state == State::End {
                scanner
                    .finish()
                    .map_err(|error| ApiError::from(error).moved(in_body))?;
                self.place = self.place.moved_to(in_body(seen.len()));
                if is_cut {
                    return Ok((Walked::More, units));
                }
                self.verdict()?;
                return Ok((Walked::Done, units));
            }
        }
        Ok((Walked::More, units))
    }

    /// What is wrong with the batch as a whole, though it is JSON.
    fn verdict(&mut self) -> Result<(), ApiError> {
        self.events.clone()?;
        for verdict in &self.misplaced {
            verdict.clone()?;
        }
        if self.is_atomic.clone()? {
            self.plan.make_atomic()?;
        }
        Ok(())
    }

    /// Goes on to the next place where the walk may stop. Returns the units of work.
    fn step<P: Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError>>(
        &mut self,
        scanner: &mut Scanner<'_>,
        context: &mut BatchContext<'_, P>,
        body_len: usize,
    ) -> Result<u64, ApiError> {
        let before = scanner.offset();
        let mut units = STEP_UNITS;
        match self.state {
            State::Start => {
                if scanner.kind()? == Kind::Object {
                    scanner.begin_object()?;
                    self.state = State::Members;
                } else {
                    scanner.raw_value()?;
                    self.events = Err(ApiError::Shape {
                        rule: "the body must be a JSON object with `events`",
                    });
                    self.state = State::End;
                }
            }
            State::Members => self.member(scanner, context.shards)?,
            State::Items => units = self.item(scanner, context, body_len)?,
            State::End => {}
        }
        let bytes = scanner.offset().saturating_sub(before) as u64;
        Ok(units.saturating_add(bytes.saturating_mul(JSON_BYTE_UNITS)))
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, shards: usize) -> Result<(), ApiError> {
        let Some(key) = scanner.next_key()? else {
            self.state = State::End;
            return Ok(());
        };
        self.scratch.clear();
        match key.decode(&mut self.scratch) {
            "events" if scanner.kind()? == Kind::Array => {
                scanner.begin_array()?;
                // Of a repeated one the last counts.
                self.plan.restart(shards);
                self.state = State::Items;
            }
            "events" => {
                scanner.raw_value()?;
                self.events = Err(EVENTS);
            }
            "atomic" => {
                self.is_atomic = match scanner.raw_value()?.kind {
                    Kind::True => Ok(true),
                    Kind::False | Kind::Null => Ok(false),
                    _ => Err(ApiError::InvalidField {
                        field: "atomic",
                        rule: "true or false",
                    }),
                };
            }
            name => {
                let at = MISPLACED.iter().position(|(member, _)| *member == name);
                let kind = scanner.raw_value()?.kind;
                if let Some((member, rule)) = at.and_then(|at| MISPLACED.get(at))
                    && let Some(verdict) = at.and_then(|at| self.misplaced.get_mut(at))
                {
                    *verdict = check_misplaced(member, kind, rule);
                }
            }
        }
        Ok(())
    }

    /// Adds the next item. Returns its units of work, but for those of its bytes.
    fn item<P: Fn(&EventDraft<'_>, &[u8], CursorKey) -> Result<EventPlace, ApiError>>(
        &mut self,
        scanner: &mut Scanner<'_>,
        context: &mut BatchContext<'_, P>,
        body_len: usize,
    ) -> Result<u64, ApiError> {
        if !scanner.next_element()? {
            self.state = State::Members;
            self.events = if self.plan.is_empty() {
                Err(EVENTS)
            } else {
                Ok(())
            };
            return Ok(STEP_UNITS);
        }
        let index = self.plan.len();
        if index == 0 {
            self.plan.reserve(body_len);
        }
        if index >= BATCH_ITEMS_MAX {
            return Err(ApiError::Shape {
                rule: "`events` must hold at most 150000 items",
            });
        }
        let BatchContext {
            decoder,
            ids,
            now_ms,
            place,
            ..
        } = context;
        // Only white space lies before it.
        scanner
            .kind()
            .map_err(|error| ApiError::JsonItem { index, error })?;
        let start = scanner.offset();
        let plan = &mut self.plan;
        let is_packed = decoder
            .decode(scanner, ids, *now_ms, |decoded| plan.add(&decoded, place))
            .map_err(|error| ApiError::JsonItem { index, error })?;
        let json_len = scanner.offset().saturating_sub(start);
        self.plan.charge_last(extra_tokens(json_len));
        // To say what is wrong with an item takes longer than to store it.
        Ok(if is_packed {
            EVENT_UNITS
        } else {
            REQUEST_UNITS
        })
    }
}

/// The text of a slice of `body`: at most so many bytes from `start`, without a character that does
/// not end within them. And whether anything follows it.
fn seen(body: &[u8], start: usize, bytes: usize) -> Result<(&str, bool), JsonError> {
    let end = start.saturating_add(bytes).min(body.len());
    let slice = body.get(start..end).unwrap_or_default();
    let is_cut = end < body.len();
    let text = str::from_utf8(slice).or_else(|error| {
        let valid = slice.get(..error.valid_up_to()).unwrap_or_default();
        match str::from_utf8(valid) {
            Ok(text) if is_cut && error.error_len().is_none() => Ok(text),
            _ => Err(JsonError::Utf8 {
                offset: start.saturating_add(error.valid_up_to()),
            }),
        }
    })?;
    if start == 0 && text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark { offset: 0 });
    }
    Ok((text, is_cut))
}

/// Units of a step that is no item, besides its bytes.
const STEP_UNITS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::super::event::{EventDecoder, EventIds};
    use super::super::outcome::PartOutcome;
    use super::*;
    use crate::model::TokenSet;
    use fastrand::Rng;

    /// What a walk comes to.
    #[derive(Debug, PartialEq, Eq)]
    struct Whole {
        /// By shard.
        events: [Vec<u8>; 2],
        /// If nothing of it is stored.
        answer: Vec<u8>,
    }

    /// What a walk in slices comes to, each as `next` says, and how many there are.
    fn walk(body: &str, mut next: impl FnMut() -> Slice) -> (Result<Whole, ApiError>, usize) {
        let mut context = BatchContext {
            decoder: &mut EventDecoder::default(),
            ids: &mut EventIds::new(1),
            now_ms: 1,
            shards: 2,
            place: |draft: &EventDraft<'_>, _: &[u8], _| match draft.entity_id.as_bytes() {
                [b'x', ..] => Err(ApiError::Reserved),
                id => Ok(EventPlace {
                    shard: u16::from(id.starts_with(b"b")),
                    tokens: TokenSet::FIRST,
                    hides_results: false,
                }),
            },
        };
        let mut walk = BatchWalk::new(2, Slicing::SMALL);
        let mut slices = vec![next()];
        while let Some(&slice) = slices.last() {
            slices.push(match walk.advance(body.as_bytes(), &mut context, slice) {
                Err(error) => return (Err(error), slices.len()),
                Ok((Walked::Done, _)) => break,
                Ok((Walked::More, _)) => next(),
                Ok((Walked::Large, _)) => Slice {
                    bytes: usize::MAX,
                    ..next()
                },
            });
        }
        let plan = walk.into_plan();
        let mut events = [const { Vec::new() }; 2];
        for part in &plan.parts {
            for event in part.pack.iter() {
                events[usize::from(part.shard)].extend_from_slice(event.event);
            }
        }
        let outcomes = vec![PartOutcome::refused(ApiError::StorageFull); plan.parts.len()];
        let mut answer = Vec::new();
        plan.answer(&outcomes, &mut answer);
        (Ok(Whole { events, answer }), slices.len())
    }

    fn space(random: &mut Rng) -> String {
        let count = if random.u8(..8) == 0 {
            random.usize(..200)
        } else {
            0
        };
        " ".repeat(count)
    }

    fn item(random: &mut Rng) -> String {
        let space = space(random);
        let value = match random.u8(..10) {
            0 => "{}".to_owned(),
            1 => "[[7],{}]".to_owned(),
            2 => format!(r#""{}""#, "\u{fc}".repeat(random.usize(..300))),
            _ => format!(
                r#"{{"eventId":"{}","stream":"s","source":"a","payload":{{"entity_id":"{}{}","properties":{{"p":"{}"}}}}}}"#,
                random.u32(..),
                ["a", "b", "x"][random.usize(..3)],
                random.u8(..9),
                "\u{20ac}".repeat(random.usize(..40)),
            ),
        };
        format!("{space}{value}{space}")
    }

    fn body(random: &mut Rng) -> String {
        let items: Vec<String> = (0..random.usize(..60)).map(|_| item(random)).collect();
        let mut members = vec![format!(r#""events":[{}]"#, items.join(","))];
        for _ in 0..random.usize(..4) {
            let member = match random.u8(..5) {
                0 => format!(r#""events":[{}]"#, item(random)),
                1 => r#""events":7"#.to_owned(),
                2 => r#""atomic":false"#.to_owned(),
                _ => format!(r#""other":{}"#, item(random)),
            };
            members.insert(random.usize(..=members.len()), member);
        }
        let mut body = format!("{{{}}}{}", members.join(","), space(random));
        if random.u8(..4) == 0 {
            let at = random.usize(..body.len());
            let at = (0..=at)
                .rev()
                .find(|at| body.is_char_boundary(*at))
                .unwrap();
            let damage = ["", "]", "}", ",", "\"", "x", "{"][random.usize(..7)];
            body.replace_range(at.., damage);
        }
        body
    }

    #[test]
    fn however_a_body_is_sliced_it_comes_to_the_same() {
        let mut all_slices = Vec::new();
        for seed in 0..2_000 {
            let mut random = Rng::with_seed(seed);
            let body = body(&mut random);
            let (expected, _) = walk(&body, || Slice::WHOLE);
            let (found, slices) = walk(&body, || Slice {
                units: random.u64(1..4_000),
                bytes: random.usize(1..1_000),
            });
            assert_eq!(found, expected, "seed {seed}: {body}");
            all_slices.push(slices);
        }
        let all_slices: usize = all_slices.iter().sum();
        assert!(all_slices > 10_000, "{all_slices}");
    }
}

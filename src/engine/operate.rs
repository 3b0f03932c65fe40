//! The operations of a write → their results, decided against the entity as it is (API contract
//! §14). What is stored are the results, so a replay decides nothing.

use crate::api::ApiError;
use crate::filter::array_len;
use crate::limits::APPEND_ELEMENTS_MAX;
use crate::model::{DecidedDraft, Decimal, EventDraft, EventView, Property, Term, TermKind, Terms};
use crate::state::{Entity, EntityProperties};
use std::borrow::Cow;

/// Bytes of a usual event around its properties.
const AROUND_BYTES: usize = 512;

/// What the operations of an event came to.
#[derive(Debug, Default)]
pub(super) struct Results<'t> {
    /// Properties and their values, ascending by name.
    set: Vec<(&'t str, Cow<'t, str>)>,
    /// Names of properties that were there and go, ascending.
    removed: Vec<&'t str>,
}

impl<'t> Results<'t> {
    /// Works out what the operations in `terms` come to. `None` if there is none.
    ///
    /// # Errors
    /// [`ApiError::OperationType`] or [`ApiError::OperationLimit`].
    pub(super) fn of(
        terms: Terms<'t>,
        entity: Option<Entity<'t>>,
    ) -> Result<Option<Self>, ApiError> {
        let mut results = Self::default();
        let mut walk = Walk::new(entity);
        let mut any = false;
        for term in terms {
            if !term.kind.is_operation() {
                continue;
            }
            any = true;
            let current = walk.find(&term);
            if term.kind == TermKind::Unset {
                if current.is_some() {
                    results.removed.push(term.name);
                }
                continue;
            }
            results.set.push((term.name, value(&term, current)?));
        }
        // Operations of one kind ascend by name; together they do not.
        results.set.sort_unstable_by_key(|(name, _)| *name);
        Ok(any.then_some(results))
    }

    /// Appends the stored form of the event with its results, and what else was decided, to `out`.
    pub(super) fn encode(
        &self,
        event: &EventView<'_>,
        others: DecidedDraft<'_>,
        out: &mut Vec<u8>,
    ) {
        let set = self
            .set
            .iter()
            .map(|(name, value)| Property { name, value });
        let mut properties: Vec<Property<'_>> = event.properties().chain(set).collect();
        properties.sort_unstable_by_key(|property| property.name);
        let is_result = |property: &Property<'_>| {
            let found = self
                .set
                .binary_search_by_key(&property.name, |(name, _)| name);
            found.is_ok()
        };
        let numbered = (0_u32..).zip(&properties);
        let numbers = numbered.filter(|(_, property)| is_result(property));
        let numbers: Vec<u32> = numbers.map(|(number, _)| number).collect();
        let draft = EventDraft {
            entity_id: event.entity_id,
            event_id: event.event_id,
            stream: event.stream,
            source: event.source,
            timestamp_ms: event.timestamp_ms,
            key: event.key,
            schema: event.schema,
            traceparent: event.traceparent,
            extra: event.extra,
            tombstone: event.tombstone,
            properties: &properties,
        };
        // Values may be of megabytes: buffers that grow would copy them several times.
        let len = |property: &Property<'_>| property.name.len() + property.value.len();
        let values: usize = properties.iter().map(len).sum();
        let mut bytes = Vec::with_capacity(values + AROUND_BYTES);
        draft.encode(&mut bytes);
        out.reserve(bytes.len() + AROUND_BYTES);
        let decided = DecidedDraft {
            operations: Some((&numbers, &self.removed)),
            ..others
        };
        decided.encode(&bytes, out);
    }
}

/// The value that an operation gives to its property; `current`: what it has now.
fn value<'t>(term: &Term<'t>, current: Option<&'t str>) -> Result<Cow<'t, str>, ApiError> {
    let sent = term.value;
    let too_long = || ApiError::OperationLimit(term.kind.place(term.name));
    let number = |text| number(text).ok_or_else(|| wrong_type(term));
    match term.kind {
        TermKind::Append => append(term, current),
        TermKind::Increment => {
            let current = number(current.unwrap_or("0"))?;
            let mut sum = String::new();
            let added = current.add(&number(sent)?, &mut sum);
            added
                .map(|()| Cow::Owned(sum))
                .map_err(|_out_of_range| too_long())
        }
        _ => {
            let Some(current) = current else {
                return Ok(Cow::Borrowed(sent));
            };
            let (old, new) = (number(current)?, number(sent)?);
            let is_taken = if term.kind == TermKind::Min {
                new < old
            } else {
                new > old
            };
            Ok(Cow::Borrowed(if is_taken { sent } else { current }))
        }
    }
}

fn wrong_type(term: &Term<'_>) -> ApiError {
    ApiError::OperationType(term.kind.place(term.name))
}

fn number(text: &str) -> Option<Decimal<'_>> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    Decimal::parse(text).filter(|_| is_number)
}

fn append<'t>(term: &Term<'t>, current: Option<&'t str>) -> Result<Cow<'t, str>, ApiError> {
    let sent = term.value;
    let Some(current) = current else {
        return Ok(Cow::Borrowed(sent));
    };
    let count = array_len(current).ok_or_else(|| wrong_type(term))?;
    let more = array_len(sent).ok_or_else(|| wrong_type(term))?;
    if count + more > APPEND_ELEMENTS_MAX {
        return Err(ApiError::OperationLimit(term.kind.place(term.name)));
    }
    if more == 0 {
        return Ok(Cow::Borrowed(current));
    }
    if count == 0 {
        return Ok(Cow::Borrowed(sent));
    }
    let open = current.strip_suffix(']').unwrap_or(current);
    let rest = sent.strip_prefix('[').unwrap_or(sent);
    Ok(Cow::Owned([open, ",", rest].concat()))
}

/// Finds properties of an entity by names that ascend within each kind of term.
pub(super) struct Walk<'t> {
    start: Option<EntityProperties<'t>>,
    kind: Option<TermKind>,
    rest: Option<EntityProperties<'t>>,
    /// The property that was looked at last.
    last: Option<(&'t str, &'t str)>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(entity: Option<Entity<'t>>) -> Self {
        let start = entity.map(Entity::properties);
        Self {
            start,
            kind: None,
            rest: None,
            last: None,
        }
    }

    /// The value of the property that a term names.
    pub(super) fn find(&mut self, term: &Term<'_>) -> Option<&'t str> {
        if self.kind != Some(term.kind) {
            self.kind = Some(term.kind);
            self.rest = self.start.clone();
            self.last = None;
        }
        let name = term.name;
        if self.last.is_none_or(|(last, _)| last < name) {
            self.last = self.rest.as_mut()?.find(|(other, _)| *other >= name);
        }
        self.last
            .filter(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::TermKind::{Append, Increment, Max, Min, Unset};
    use super::*;
    use crate::engine::testing::{Properties, Terms, TestEvent};
    use crate::engine::{Engine, PublishError, replay_record};
    use crate::limits::OPERATION_BYTE_UNITS;
    use crate::log::{Log as _, MemoryLog};
    use crate::model::OperationResults;
    use flux_storage::Sequence;
    use std::convert::Infallible;

    /// Publishes an event of `x` with these properties and operations. Returns the results.
    fn publish(
        engine: (&mut Engine, &mut MemoryLog),
        properties: Properties<'_>,
        terms: Terms<'_>,
    ) -> Result<String, ApiError> {
        match TestEvent::new("x", (properties, false), terms).publish(engine) {
            Ok(published) => match published.properties {
                Some(OperationResults::Json(json)) => Ok(json.into()),
                Some(OperationResults::Omitted(_)) => panic!("they are few"),
                None => Ok(String::new()),
            },
            Err(PublishError::Refused { error, .. }) => Err(error),
            Err(PublishError::Append(rejection)) => panic!("{rejection}"),
        }
    }

    /// The entity's JSON, but for its head and its end.
    fn properties(engine: &mut Engine) -> String {
        let mut json = Vec::new();
        engine.read("x", (None, usize::MAX), &mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json["properties"].to_string()
    }

    #[test]
    fn an_operation_takes_work_by_the_bytes_of_what_it_comes_to() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let long = format!("[{}]", vec!["\"twenty characters ..\""; 5000].join(","));
        let mut spent = |terms: &[(TermKind, &str, &str)]| {
            let before = engine.spent();
            publish((&mut engine, &mut log), &[], terms).unwrap();
            engine.spent() - before
        };
        spent(&[(Append, "l", &long)]);
        let of_long = spent(&[(Append, "l", "[1]")]);
        let least = long.len() as u64 * OPERATION_BYTE_UNITS;
        assert!(of_long >= least, "{of_long} units of {least}");
        let of_short = spent(&[(Append, "m", "[1]")]);
        assert!(of_short < of_long / 4, "{of_short} units");
    }

    #[test]
    fn results_follow_from_the_entity_as_it_is() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let mut check = |terms: &[(TermKind, &str, &str)], expected: Result<&str, ApiError>| {
            let results = publish((&mut engine, &mut log), &[], terms);
            assert_eq!(results, expected.map(str::to_owned), "{terms:?}");
        };
        check(&[(Increment, "n", "1.5")], Ok(r#"{"n":1.5}"#));
        check(&[(Increment, "n", "0.5")], Ok(r#"{"n":2}"#));
        let big = "12345678901234567890123";
        check(
            &[(Increment, "n", big)],
            Ok(r#"{"n":12345678901234567890125}"#),
        );
        check(&[(Min, "n", "7.0")], Ok(r#"{"n":7.0}"#));
        check(&[(Min, "n", "8")], Ok(r#"{"n":7.0}"#));
        check(&[(Max, "n", "7")], Ok(r#"{"n":7.0}"#));
        check(&[(Max, "m", "-1")], Ok(r#"{"m":-1}"#));
        check(&[(Append, "l", "[1,[2]]")], Ok(r#"{"l":[1,[2]]}"#));
        check(&[(Append, "l", "[]")], Ok(r#"{"l":[1,[2]]}"#));
        check(&[(Append, "l", "[3]")], Ok(r#"{"l":[1,[2],3]}"#));
        check(
            &[
                (Increment, "z", "1"),
                (Append, "a", "[]"),
                (Unset, "m", ""),
                (Unset, "q", ""),
            ],
            Ok(r#"{"a":[],"z":1}"#),
        );
        check(
            &[(Increment, "l", "1")],
            Err(ApiError::OperationType("increment.l".into())),
        );
        check(
            &[(Min, "l", "1")],
            Err(ApiError::OperationType("min.l".into())),
        );
        check(
            &[(Append, "n", "[1]")],
            Err(ApiError::OperationType("append.n".into())),
        );
        check(&[(Unset, "n", ""), (Unset, "z", "")], Ok("{}"));
        let many = format!("[{}]", vec!["1"; 9_997].join(","));
        check(&[(Append, "a", &many), (Append, "l", &many)], {
            let rest = &many[1..];
            let expected = format!(r#"{{"a":{many},"l":[1,[2],3,{rest}}}"#);
            Ok(Box::leak(expected.into_boxed_str()))
        });
        check(
            &[(Append, "l", "[4]")],
            Err(ApiError::OperationLimit("append.l".into())),
        );
    }

    #[test]
    fn a_replay_of_the_results_gives_the_same_entity_and_frees_what_was_removed() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let steps: [(Properties<'_>, Terms<'_>); 4] = [
            (
                &[("a", "1"), ("b", "\"long enough to be seen\""), ("c", "[]")],
                &[],
            ),
            (&[("a", "2")], &[(Increment, "n", "5"), (Unset, "b", "")]),
            (&[], &[(Append, "c", "[1]"), (Unset, "a", "")]),
            (&[], &[(Unset, "c", ""), (Unset, "n", "")]),
        ];
        let expected = [
            r#"{"a":1,"b":"long enough to be seen","c":[]}"#,
            r#"{"a":2,"c":[],"n":5}"#,
            r#"{"c":[1],"n":5}"#,
            "{}",
        ];
        for ((set, terms), expected) in steps.into_iter().zip(expected) {
            publish((&mut engine, &mut log), set, terms).unwrap();
            assert_eq!(properties(&mut engine), expected);
        }
        let mut replayed = Engine::default();
        let mut states = expected.iter();
        let visited = log.replay_from(Sequence::ZERO, |record| {
            replay_record(&mut replayed, &record, 0, 1).unwrap();
            assert_eq!(properties(&mut replayed), *states.next().unwrap());
            Ok::<(), Infallible>(())
        });
        visited.unwrap();
        assert_eq!(states.len(), 0);
    }
}

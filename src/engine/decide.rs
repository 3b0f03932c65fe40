//! Whether the conditions of a write hold: decided when its turn comes, against what is really
//! current and not against what is visible already.

use super::operate::Walk;
use crate::filter::{Effort, Facts, Filter, equal_by_value};
use crate::model::{TermKind, Terms};
use crate::state::Entity;

/// Whether all conditions hold for the entity; `None` if that would take more than is left of
/// `effort`. Cost: linear in the entity's properties and the terms, besides.
pub(super) fn holds(
    terms: Terms<'_>,
    entity: Option<Entity<'_>>,
    effort: &mut Effort,
) -> Option<bool> {
    let mut walk = Walk::new(entity);
    for term in terms {
        let holds = match term.kind {
            TermKind::Version => {
                let version = entity.map(Entity::version);
                version.is_some() && version == term.value.parse().ok()
            }
            TermKind::EntityTag => {
                entity.is_some_and(|entity| entity.tag().to_string() == term.value)
            }
            TermKind::Absent => entity.is_none(),
            TermKind::Present => entity.is_some(),
            TermKind::Equal => match walk.find(&term) {
                Some(value) => {
                    effort.equal(value, term.value)?;
                    equal_by_value(value, term.value)
                }
                None => false,
            },
            TermKind::Missing => walk.find(&term).is_none(),
            TermKind::Filter => match entity {
                Some(entity) => matches(term.value, entity, effort)?,
                None => false,
            },
            // Operations: `operate` sees to them. Lifetimes: `publish` does.
            TermKind::Increment
            | TermKind::Min
            | TermKind::Max
            | TermKind::Append
            | TermKind::Unset
            | TermKind::Ttl
            | TermKind::Bind => true,
        };
        if !holds {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether an entity matches the text of a filter, which was read once already.
fn matches(filter: &str, entity: Entity<'_>, effort: &mut Effort) -> Option<bool> {
    let facts = Facts::of(entity.head());
    effort.restart();
    let Ok(filter) = Filter::parse(filter) else {
        return Some(false);
    };
    filter.judge(&facts, entity.properties(), effort)
}

#[cfg(test)]
mod tests {
    use super::super::ReadAnswer;
    use super::*;
    use crate::engine::testing::{Properties, Terms, TestEvent};
    use crate::engine::{Engine, PublishError};
    use crate::log::MemoryLog;
    use crate::model::Published;

    /// Publishes an event that sets these properties of `x`, under these terms.
    fn publish(
        engine: (&mut Engine, &mut MemoryLog),
        properties: Properties<'_>,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        TestEvent::new("x", (properties, false), terms).publish(engine)
    }

    const STATE: &[(&str, &str)] = &[("a", "1.0"), ("b", r#"{"x":1,"y":2}"#), ("d", "\"open\"")];

    #[test]
    fn each_condition_is_judged_by_the_entity_as_it_is() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        publish((&mut engine, &mut log), STATE, &[]).unwrap();
        let whole = (None, usize::MAX);
        let (found, _) = engine.read("x", whole, &mut Vec::new()).unwrap();
        let Some(ReadAnswer::Entity { tag }) = found else {
            panic!("{found:?}");
        };
        let etag = tag.to_string();
        let mut version = 1;
        let mut check = |terms: &[(TermKind, &str, &str)], expected: bool| {
            let stored = publish((&mut engine, &mut log), &[], terms);
            assert_eq!(stored.is_ok(), expected, "{terms:?}");
            version += u64::from(expected);
            version
        };
        assert_eq!(check(&[(TermKind::Version, "", "2")], false), 1);
        check(&[(TermKind::Absent, "", "")], false);
        check(&[(TermKind::EntityTag, "", "\"0-0\"")], false);
        check(
            &[
                (TermKind::EntityTag, "", &etag),
                (TermKind::Version, "", "1"),
            ],
            true,
        );
        check(&[(TermKind::EntityTag, "", &etag)], false);
        check(
            &[(TermKind::Version, "", "2"), (TermKind::Present, "", "")],
            true,
        );
        for (name, value, expected) in [
            ("a", "1", true),
            ("a", "1.00e0", true),
            ("a", "\"1\"", false),
            ("b", r#"{"y":2.0,"x":1}"#, true),
            ("c", "null", false),
            ("d", r#""o\u0070en""#, true),
            ("e", "1", false),
        ] {
            check(&[(TermKind::Equal, name, value)], expected);
            check(&[(TermKind::Missing, name, "")], name == "c" || name == "e");
        }
        for (filter, expected) in [
            (r#"and(eq(a,1),eq(d,"open"))"#, true),
            ("gt(a,1)", false),
            ("not(exists(a))", false),
        ] {
            check(&[(TermKind::Filter, "", filter)], expected);
        }
        let all = [
            (TermKind::Equal, "a", "1"),
            (TermKind::Equal, "d", "\"open\""),
            (TermKind::Missing, "", ""),
            (TermKind::Missing, "aa", ""),
            (TermKind::Missing, "e", ""),
        ];
        check(&all, true);
        check(&[all[0], (TermKind::Equal, "d", "\"shut\"")], false);
    }

    #[test]
    fn where_there_is_no_entity_only_absence_holds() {
        for (term, expected) in [
            ((TermKind::Absent, "", ""), true),
            ((TermKind::Missing, "a", ""), true),
            ((TermKind::Present, "", ""), false),
            ((TermKind::Version, "", "1"), false),
            ((TermKind::EntityTag, "", "\"1-1\""), false),
            ((TermKind::Equal, "a", "1"), false),
            ((TermKind::Filter, "", "not(exists(a))"), false),
        ] {
            let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
            let stored = publish((&mut engine, &mut log), &[], &[term]);
            assert_eq!(stored.is_ok(), expected, "{term:?}");
            let Err(PublishError::Refused { error, .. }) = stored else {
                continue;
            };
            let entity = crate::api::error::CurrentEntity::Absent;
            assert_eq!(error, crate::api::ApiError::PreconditionFailed { entity });
        }
    }

    #[test]
    fn a_condition_that_would_look_at_too_much_is_refused_and_changes_nothing() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let text = format!("\"{}\"", "v".repeat(1024 * 1024));
        publish((&mut engine, &mut log), &[("a", "1"), ("text", &text)], &[]).unwrap();
        let mut filter = |text: &str| {
            let terms = [(TermKind::Filter, "", text)];
            publish((&mut engine, &mut log), &[], &terms).map(|it| it.stored.version)
        };
        let search = |count| vec![r#"not(like(text,"*x"))"#; count].join(",");
        assert_eq!(filter(&format!("and({})", search(13))), Ok(2));
        let too_costly = PublishError::Refused {
            error: crate::api::ApiError::FilterTooCostly,
            point: crate::model::CommitPoint::at(flux_storage::Sequence::new(2)),
        };
        assert_eq!(filter(&format!("and({})", search(60))), Err(too_costly));
        let decided = format!("or(eq(a,1),and({}))", search(60));
        assert_eq!(filter(&decided), Ok(3));
    }
}

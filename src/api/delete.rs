//! The body of `POST /api/state/entities/delete`, and its answer (API contract §5).

use super::body;
use super::error::ApiError;
use super::event::check_misplaced;
use super::json::{Kind, Scanner, write_string};
use crate::wire::http1::write_decimal;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher as _, RandomState};

/// What a batch delete removes. Exactly one of the three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteFilter {
    /// Every entity of a namespace.
    Namespace(Box<str>),
    /// Every entity whose id begins so.
    Prefix(Box<str>),
    /// These, each named once.
    Ids(Vec<Box<str>>),
}

/// Members that narrow other calls: passed over, they would delete what they were to spare.
const CONDITIONS: [&str; 3] = ["expect", "filter", "atomic"];

const ONE_OF: ApiError = ApiError::Shape {
    rule: "the body must hold exactly one of `namespace`, `prefix` and `entity_ids`",
};

/// Parses the body. Of named ids, no more than `ids_max` and one are kept.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`] or [`ApiError::InvalidField`].
pub fn parse(body: &[u8], ids_max: usize) -> Result<DeleteFilter, ApiError> {
    let mut scanner = body::object(body, "the body must be a JSON object")?;
    let (mut namespace, mut prefix, mut ids) = (None, None, None);
    let mut refused = Ok(());
    let mut scratch = String::new();
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        match key.decode(&mut scratch) {
            "namespace" => namespace = Some(text(&mut scanner, "namespace")?),
            "prefix" => prefix = Some(text(&mut scanner, "prefix")?),
            "entity_ids" => ids = Some(texts(&mut scanner, ids_max)?),
            name => {
                let condition = CONDITIONS.iter().find(|condition| **condition == name);
                let kind = scanner.raw_value()?.kind;
                if let Some(condition) = condition {
                    refused = check_misplaced(condition, kind, "a batch delete takes no condition");
                }
            }
        }
    }
    scanner.finish()?;
    refused?;
    match (namespace, prefix, ids) {
        (Some(namespace), None, None) => Ok(DeleteFilter::Namespace(namespace?)),
        (None, Some(prefix), None) => Ok(DeleteFilter::Prefix(prefix?)),
        (None, None, Some(ids)) => Ok(DeleteFilter::Ids(ids?)),
        _ => Err(ONE_OF),
    }
}

type Field<T> = Result<T, ApiError>;

/// A non-empty string, or the broken rule; the outer error is for text that is not JSON.
fn text(scanner: &mut Scanner<'_>, field: &'static str) -> Result<Field<Box<str>>, ApiError> {
    let invalid = ApiError::InvalidField {
        field,
        rule: "a non-empty string",
    };
    if scanner.kind()? != Kind::String {
        scanner.raw_value()?;
        return Ok(Err(invalid));
    }
    let mut scratch = String::new();
    let text = scanner.string()?.decode(&mut scratch);
    Ok(if text.is_empty() {
        Err(invalid)
    } else {
        Ok(text.into())
    })
}

fn texts(scanner: &mut Scanner<'_>, ids_max: usize) -> Result<Field<Vec<Box<str>>>, ApiError> {
    let invalid = ApiError::InvalidField {
        field: "entity_ids",
        rule: "a non-empty array of non-empty strings",
    };
    if scanner.kind()? != Kind::Array {
        scanner.raw_value()?;
        return Ok(Err(invalid));
    }
    let mut ids = Vec::new();
    // Where in `ids` each is: a set would hold every id again.
    let mut seen = HashTable::new();
    let hasher = RandomState::new();
    let hash_of = |id: &str| hasher.hash_one(id);
    let mut bad = false;
    scanner.begin_array()?;
    while scanner.next_element()? {
        match text(scanner, "entity_ids")? {
            // Too many already: the rest is only read to its end.
            Ok(_) if ids.len() > ids_max => {}
            Ok(id) => {
                let hash = hash_of(&id);
                let is_same = |it: &usize| ids.get(*it) == Some(&id);
                let entry =
                    seen.entry(hash, is_same, |it| ids.get(*it).map_or(0, |id| hash_of(id)));
                if let Entry::Vacant(vacant) = entry {
                    vacant.insert(ids.len());
                    ids.push(id);
                }
            }
            Err(_) => bad = true,
        }
    }
    Ok(if bad || ids.is_empty() {
        Err(invalid)
    } else {
        Ok(ids)
    })
}

/// `{"deleted": n, "failed": m, "errors": ["id: why"]}`.
pub fn answer(out: &mut Vec<u8>, deleted: usize, errors: &[(Box<str>, ApiError)]) {
    out.extend_from_slice(b"{\"deleted\":");
    write_decimal(out, deleted as u64);
    out.extend_from_slice(b",\"failed\":");
    write_decimal(out, errors.len() as u64);
    out.extend_from_slice(b",\"errors\":[");
    // Most of many errors are the same.
    let (mut last, mut why, mut text) = (None, String::new(), String::new());
    for (index, (id, error)) in errors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if last.replace(error) != Some(error) {
            why = error.to_string();
        }
        text.clear();
        text.push_str(id);
        text.push_str(": ");
        text.push_str(&why);
        write_string(out, &text);
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_filter_is_taken() {
        let check = |body: &str, expected| assert_eq!(parse(body.as_bytes(), 2).unwrap(), expected);
        check(
            r#"{"namespace":"a","x":1}"#,
            DeleteFilter::Namespace("a".into()),
        );
        check(r#"{"prefix":"\u0061/"}"#, DeleteFilter::Prefix("a/".into()));
        check(
            r#"{"entity_ids":["b","a","b"]}"#,
            DeleteFilter::Ids(vec!["b".into(), "a".into()]),
        );
        for body in [
            "{}",
            "[]",
            r#"{"namespace":"a","prefix":"b"}"#,
            r#"{"namespace":""}"#,
            r#"{"prefix":1}"#,
            r#"{"entity_ids":[]}"#,
            r#"{"entity_ids":[""]}"#,
            r#"{"entity_ids":["a",1]}"#,
            r#"{"entity_ids":"a"}"#,
        ] {
            assert_eq!(
                parse(body.as_bytes(), 2).unwrap_err().status(),
                400,
                "{body}"
            );
        }
    }

    #[test]
    fn no_more_ids_are_kept_than_one_too_many() {
        let check = |body: &str, expected: usize| {
            let DeleteFilter::Ids(ids) = parse(body.as_bytes(), 2).unwrap() else {
                panic!("ids: {body}");
            };
            assert_eq!(ids.len(), expected, "{body}");
        };
        check(r#"{"entity_ids":["a","b","a","b","b"]}"#, 2);
        check(r#"{"entity_ids":["a","b","c"]}"#, 3);
        check(r#"{"entity_ids":["a","b","c","d","e"]}"#, 3);
        let body = r#"{"entity_ids":["a","b","c","d",5]}"#;
        assert!(parse(body.as_bytes(), 2).is_err(), "the rest is judged too");
    }

    #[test]
    fn the_answer_names_each_failure() {
        let mut out = Vec::new();
        let none = ["a\"", "b"].map(|id| (id.into(), ApiError::NoEntity));
        let errors = [&none[..], &[("c".into(), ApiError::NotReady)]].concat();
        answer(&mut out, 2, &errors);
        let text = String::from_utf8(out).unwrap();
        let expected = format!(
            r#"{{"deleted":2,"failed":3,"errors":["a\": {0}","b: {0}","c: {1}"]}}"#,
            ApiError::NoEntity,
            ApiError::NotReady
        );
        assert_eq!(text, expected);
    }
}

//! Validates JSON against the schemas of a description: the part of JSON Schema 2020-12 that
//! `openapi.json` and `asyncapi.json` use. A keyword that is not known here fails the test that
//! meets it, so nothing in a description is taken for checked that is not.
//!
//! Answers may gain members, so the descriptions leave objects open. Here an object is closed: a
//! member that no schema names is one that nobody described. Those whose members are the client's
//! say so by `additionalProperties`. That is stricter than a generic validator can be told to be,
//! and it is why this is none.

use regex::Regex;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// Of longer arrays so many elements are checked, and the last one.
const ELEMENTS_CHECKED: usize = 64;

/// What an object's schemas have said about its members.
enum Seen {
    /// All may be there.
    All,
    /// These are named.
    Names(BTreeSet<String>),
}

impl Seen {
    fn none() -> Self {
        Self::Names(BTreeSet::new())
    }

    fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Names(names), Self::Names(more)) => names.extend(more),
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
        }
    }
}

/// A document that holds schemas, to which `$ref` points.
#[derive(Debug)]
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// What a `$ref` within the document points to.
    pub(crate) fn at(&self, reference: &str) -> &Value {
        let pointer = reference.strip_prefix('#').expect("a reference within");
        let found = self.0.pointer(pointer);
        found.unwrap_or_else(|| panic!("{reference} points nowhere"))
    }

    /// The value, or what it refers to.
    pub(crate) fn resolved<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str() {
            Some(reference) => self.at(reference),
            None => value,
        }
    }

    /// Checks a value and all in it. The error says where it breaks which rule.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        self.whole(schema, value)
    }

    /// Checks a value; each of its members has to be named.
    fn whole(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let seen = self.judge(schema, value)?;
        let (Seen::Names(names), Value::Object(members)) = (seen, value) else {
            return Ok(());
        };
        match members.keys().find(|name| !names.contains(*name)) {
            Some(name) => Err(format!(": no schema names `{name}`")),
            None => Ok(()),
        }
    }

    fn judge(&self, schema: &Value, value: &Value) -> Result<Seen, String> {
        let keywords = schema.as_object().expect("a schema is an object");
        let speaks = [
            "type",
            "properties",
            "$ref",
            "oneOf",
            "anyOf",
            "const",
            "enum",
        ];
        let mut seen = if speaks.iter().any(|it| keywords.contains_key(*it)) {
            Seen::none()
        } else {
            // It lets everything be there.
            Seen::All
        };
        for (keyword, rule) in keywords {
            match keyword.as_str() {
                "$ref" => {
                    let target = self.at(rule.as_str().expect("a reference"));
                    seen.add(self.judge(target, value)?);
                }
                "properties" => seen.add(self.properties(rule, value)?),
                "additionalProperties" => {
                    let named = keywords.get("properties");
                    self.additional((rule, named), value)?;
                    if rule != &Value::Bool(false) {
                        seen = Seen::All;
                    }
                }
                "oneOf" | "anyOf" => {
                    let is_one = keyword == "oneOf";
                    seen.add(self.alternatives((rule, is_one), value)?);
                }
                "items" => self.items(rule, value)?,
                _ => simple(keyword, rule, value)?,
            }
        }
        Ok(seen)
    }

    fn properties(&self, rules: &Value, value: &Value) -> Result<Seen, String> {
        let rules = rules.as_object().expect("an object of schemas");
        let Value::Object(members) = value else {
            return Ok(Seen::none());
        };
        for (name, rule) in rules {
            if let Some(member) = members.get(name) {
                let checked = self.whole(rule, member);
                checked.map_err(|error| format!(".{name}{error}"))?;
            }
        }
        Ok(Seen::Names(rules.keys().cloned().collect()))
    }

    fn additional(
        &self,
        (rule, named): (&Value, Option<&Value>),
        value: &Value,
    ) -> Result<(), String> {
        let is_named = |name: &str| named.is_some_and(|named| named.get(name).is_some());
        let members = value.as_object().into_iter().flatten();
        for (name, member) in members.filter(|(name, _)| !is_named(name)) {
            match rule {
                Value::Bool(true) => {}
                Value::Bool(false) => return Err(format!(": `{name}` is one too many")),
                rule => self
                    .whole(rule, member)
                    .map_err(|error| format!(".{name}{error}"))?,
            }
        }
        Ok(())
    }

    fn alternatives(&self, (rules, is_one): (&Value, bool), value: &Value) -> Result<Seen, String> {
        let (mut seen, mut count, mut errors) = (Seen::none(), 0, String::new());
        for rule in rules.as_array().expect("an array of schemas") {
            match self.judge(rule, value) {
                Ok(more) => {
                    count += 1;
                    seen.add(more);
                }
                Err(error) => errors.extend(["; ", &error]),
            }
        }
        match count {
            0 => Err(format!(": none of the alternatives{errors}")),
            2.. if is_one => Err(format!(": {count} of the alternatives where one may be")),
            _ => Ok(seen),
        }
    }

    fn items(&self, rule: &Value, value: &Value) -> Result<(), String> {
        let elements = value.as_array().map_or(&[][..], Vec::as_slice);
        let last = elements.iter().enumerate().next_back();
        let first = elements.iter().enumerate().take(ELEMENTS_CHECKED);
        for (index, element) in first.chain(last) {
            let checked = self.whole(rule, element);
            checked.map_err(|error| format!("[{index}]{error}"))?;
        }
        Ok(())
    }
}

/// The keywords that hold no schema.
fn simple(keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
    let length = |text: &str| text.chars().count() as u64;
    let size = || rule.as_u64().expect("a size");
    let holds = match (keyword, value) {
        ("type", _) => match rule {
            Value::Array(kinds) => kinds.iter().any(|kind| is_of_type(kind, value)),
            kind => is_of_type(kind, value),
        },
        ("const", _) => value == rule,
        ("enum", _) => rule.as_array().expect("values").contains(value),
        ("required", Value::Object(members)) => {
            let names = rule.as_array().expect("names").iter();
            names.filter_map(Value::as_str).all(|name| members.contains_key(name))
        }
        ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
        ("maximum", Value::Number(number)) => number.as_f64() <= rule.as_f64(),
        ("minLength", Value::String(text)) => length(text) >= size(),
        ("maxLength", Value::String(text)) => length(text) <= size(),
        ("minItems", Value::Array(items)) => items.len() as u64 >= size(),
        ("maxItems", Value::Array(items)) => items.len() as u64 <= size(),
        ("pattern", Value::String(text)) => is_match(rule.as_str().unwrap_or_default(), text),
        (
            // Of values of another type they say nothing.
            "required" | "minimum" | "maximum" | "minLength" | "maxLength" | "minItems"
            | "maxItems" | "pattern"
            // Every `format` has a `pattern` beside it, or is one of what clients send.
            | "format" | "description" | "default",
            _,
        ) => true,
        _ => panic!("the keyword `{keyword}` is not known"),
    };
    if holds {
        return Ok(());
    }
    let mut shown = value.to_string();
    if shown.len() > 300 {
        let end = (0..=300).rev().find(|at| shown.is_char_boundary(*at));
        shown.truncate(end.unwrap_or(0));
    }
    Err(format!(": {shown} breaks {keyword} {rule}"))
}

fn is_match(pattern: &str, text: &str) -> bool {
    thread_local! {
        // To read a pattern takes longer than all else here.
        static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        let read = || Regex::new(pattern).expect("a regular expression");
        let known = known.entry(pattern.to_owned()).or_insert_with(read);
        known.is_match(text)
    })
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    match (kind.as_str().expect("the name of a type"), value) {
        ("integer", Value::Number(number)) => number
            .to_string()
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-'),
        ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_))
        | ("null", Value::Null) => true,
        (known, _) => {
            let names = [
                "integer", "number", "string", "boolean", "array", "object", "null",
            ];
            assert!(names.contains(&known), "the type `{known}` is not known");
            false
        }
    }
}

/// The members of an object.
pub(crate) fn members(value: &Value) -> &Map<String, Value> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"))
}

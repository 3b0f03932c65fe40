//! Filters and entities from a seed: what a filter says of stored text is what a slow evaluator on
//! `serde_json` says of the values.

use super::{Facts, Filter};
use crate::model::Timestamp;
use fastrand::Rng;
use serde_json::{Map, Value};
use std::cmp::Ordering;

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "0.0",
    "1",
    "1.0",
    "1e0",
    "10E-1",
    "2",
    "-2.5",
    "1e2",
    "100",
    "0.001",
    "9007199254740992",
    "9007199254740993",
];
const STRINGS: &[&str] = &[
    "",
    "a",
    "b",
    "A",
    "pump-1",
    "pump-22",
    "é",
    "\u{1f600}",
    "a\"\\/\n",
];
const NAMES: &[&str] = &["a", "b", "x/y", "~", "ä ö", "$v"];
/// Microseconds: 2026-11-28T04:50:00.000001Z.
const UPDATED: i64 = 1_795_841_400_000_001;

type Slow = Box<dyn Fn(&Map<String, Value>) -> bool>;

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

/// A string, some of its characters escaped.
fn string_text(random: &mut Rng, text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        if random.u8(..4) == 0 || character < ' ' || character == '"' || character == '\\' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format_args!("\\u{unit:04x}").to_string());
            }
        } else {
            out.push(character);
        }
    }
    out + "\""
}

fn value_text(random: &mut Rng, depth: usize) -> String {
    match random.u8(..if depth == 0 { 8 } else { 12 }) {
        0..=3 => pick(random, NUMBERS).to_owned(),
        4..=6 => {
            let text = pick(random, STRINGS);
            string_text(random, text)
        }
        7 => pick(random, &["true", "false", "null"]).to_owned(),
        8 | 9 => {
            let count = random.usize(..3);
            let elements: Vec<String> = (0..count).map(|_| value_text(random, depth - 1)).collect();
            format!("[{}]", elements.join(","))
        }
        _ => object_text(random, depth - 1),
    }
}

fn object_text(random: &mut Rng, depth: usize) -> String {
    let mut names = NAMES.to_vec();
    random.shuffle(&mut names);
    names.truncate(random.usize(..4));
    let members: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                "{}:{}",
                string_text(random, name),
                value_text(random, depth)
            )
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A number times a thousand.
fn thousandfold(number: &str) -> i128 {
    let lower = number.to_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{integer}{fraction}").parse().unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let places = i32::try_from(fraction.len()).unwrap();
    let shift = exponent - places + 3;
    let factor = 10_i128.pow(shift.unsigned_abs());
    if shift < 0 {
        digits / factor
    } else {
        digits * factor
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            thousandfold(&a.to_string()) == thousandfold(&b.to_string())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn compare(name: &str, a: &Value, b: &Value) -> bool {
    if std::mem::discriminant(a) != std::mem::discriminant(b) {
        return false;
    }
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            Some(thousandfold(&a.to_string()).cmp(&thousandfold(&b.to_string())))
        }
        (Value::String(a), Value::String(b)) => Some(a.chars().cmp(b.chars())),
        _ => None,
    };
    match name {
        "eq" => equal(a, b),
        "ne" => !equal(a, b),
        "lt" => order == Some(Ordering::Less),
        "gt" => order == Some(Ordering::Greater),
        "le" => order.is_some_and(Ordering::is_le),
        _ => order.is_some_and(Ordering::is_ge),
    }
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|at| like(rest, &text[at..])),
        Some((it, rest)) => text.first() == Some(it) && like(rest, &text[1..]),
    }
}

fn look_up<'a>(entity: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    let (first, rest) = names.split_first()?;
    rest.iter().try_fold(entity.get(*first)?, |value, name| {
        value.as_object()?.get(*name)
    })
}

/// A path's text, and its names.
fn path(random: &mut Rng) -> (String, Vec<&'static str>) {
    let names: Vec<&str> = (0..random.usize(1..=3))
        .map(|_| pick(random, NAMES))
        .collect();
    let escaped: Vec<String> = names
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"))
        .collect();
    let text = escaped.join("/");
    let is_quoted = text.contains(' ') || random.bool();
    let text = if is_quoted {
        string_text(random, &text)
    } else {
        text
    };
    (text, names)
}

fn comparison(random: &mut Rng) -> (String, Slow) {
    let (path, names) = path(random);
    match random.u8(..10) {
        0 => (
            format!("exists({path})"),
            Box::new(move |entity| look_up(entity, &names).is_some()),
        ),
        1 => {
            let pattern = pick(
                random,
                &["*", "pump-*", "*2", "a*", "", "*é*", "p*-*2", "a"],
            );
            let text = format!("like({path}, {})", string_text(random, pattern));
            let characters: Vec<char> = pattern.chars().collect();
            let slow = move |value: &Value| {
                let text: Option<Vec<char>> = value.as_str().map(|it| it.chars().collect());
                text.is_some_and(|text| like(&characters, &text))
            };
            (
                text,
                Box::new(move |entity| look_up(entity, &names).is_some_and(&slow)),
            )
        }
        2 => {
            let texts: Vec<String> = (0..random.usize(1..4))
                .map(|_| value_text(random, 2))
                .collect();
            let values: Vec<Value> = texts
                .iter()
                .map(|it| serde_json::from_str(it).unwrap())
                .collect();
            let found = move |value: &Value| values.iter().any(|it| compare("eq", value, it));
            (
                format!("in({path},{})", texts.join(" , ")),
                Box::new(move |entity| look_up(entity, &names).is_some_and(&found)),
            )
        }
        3 => {
            let name = pick(random, &["eq", "ne", "lt", "le", "gt", "ge"]);
            let number = pick(random, &["6", "7", "7.0", "8"]);
            let (a, b) = ("7".parse().unwrap(), serde_json::from_str(number).unwrap());
            let expected = compare(name, &Value::Number(a), &b);
            (
                format!("{name}($version,{number})"),
                Box::new(move |_| expected),
            )
        }
        _ => {
            let name = pick(random, &["eq", "ne", "lt", "le", "gt", "ge"]);
            let text = value_text(random, 2);
            let value: Value = serde_json::from_str(&text).unwrap();
            (
                format!("{name}( {path} ,{text})"),
                Box::new(move |entity| {
                    look_up(entity, &names).is_some_and(|found| compare(name, found, &value))
                }),
            )
        }
    }
}

fn filter(random: &mut Rng, depth: usize) -> (String, Slow) {
    match random.u8(..if depth == 0 { 1 } else { 4 }) {
        0 => comparison(random),
        1 => {
            let (text, slow) = filter(random, depth - 1);
            (
                format!("not({text})"),
                Box::new(move |entity| !slow(entity)),
            )
        }
        kind => {
            let parts: Vec<(String, Slow)> = (0..random.usize(1..4))
                .map(|_| filter(random, depth - 1))
                .collect();
            let (texts, slow): (Vec<String>, Vec<Slow>) = parts.into_iter().unzip();
            let texts = texts.join(",");
            if kind == 2 {
                (
                    format!("and({texts})"),
                    Box::new(move |it| slow.iter().all(|slow| slow(it))),
                )
            } else {
                (
                    format!("or({texts})"),
                    Box::new(move |it| slow.iter().any(|slow| slow(it))),
                )
            }
        }
    }
}

fn facts() -> Facts {
    Facts {
        version: 7,
        updated: Timestamp::from_micros(UPDATED),
        expires: None,
    }
}

/// The properties of an entity as the state hands them out.
fn properties(text: &str) -> Vec<(String, String)> {
    let mut members: Vec<(String, String)> = super::json::members(text)
        .map(|(name, value)| {
            let name = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            (name, value.to_owned())
        })
        .collect();
    members.sort();
    members
}

fn matches(filter: &Filter, entity: &str) -> bool {
    let properties = properties(entity);
    let pairs = properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    filter.matches(&facts(), pairs)
}

#[test]
fn filters_say_what_a_slow_evaluator_says() {
    let mut random = Rng::with_seed(1526);
    let (mut hits, mut asked) = (0, 0);
    for round in 0..6_000 {
        let (text, slow) = filter(&mut random, round % 4);
        let filter = match Filter::parse(&text) {
            Ok(filter) => filter,
            Err(error) => {
                assert!(
                    error.rule.contains("4096") || error.rule.contains("64"),
                    "{text}: {error}"
                );
                continue;
            }
        };
        for _ in 0..10 {
            let entity = object_text(&mut random, 3);
            let value: Map<String, Value> = serde_json::from_str(&entity).unwrap();
            let expected = slow(&value);
            assert_eq!(matches(&filter, &entity), expected, "{text} of {entity}");
            (hits, asked) = (hits + usize::from(expected), asked + 1);
        }
    }
    assert!(
        hits * 10 > asked && hits * 10 < asked * 9,
        "{hits} of {asked}"
    );
}

#[test]
fn each_rule_of_the_contract_holds() {
    let entity = r#"{"status":"\u006fpen","n":22.50,"big":12345678901234567890123,"flag":false,
        "tags":["a",{"x":1}],"position":{"x":1,"a/b":{"~":null}},"none":null,"$version":"v"}"#;
    for (text, expected) in [
        (r#"eq(status,"open")"#, true),
        (r#"ne(status,"open")"#, false),
        (r#"ne(status,"shut")"#, true),
        ("ne(status,1)", false),
        ("ne(missing,1)", false),
        ("not(eq(missing,1))", true),
        ("eq(n,22.5)", true),
        ("gt(n,22.49999999999999999999999)", true),
        ("eq(big,12345678901234567890123)", true),
        ("lt(big,12345678901234567890124)", true),
        (r#"lt(status,"oq")"#, true),
        ("eq(flag,false)", true),
        ("ne(flag,true)", true),
        ("le(flag,false)", false),
        ("eq(none,null)", true),
        ("exists(none)", true),
        (r#"eq(tags,["a",{"x":1.0}])"#, true),
        (r#"in(status,1,"open")"#, true),
        ("in(n,1,2)", false),
        (r#"like(status,"o*n")"#, true),
        (r#"like(n,"*")"#, false),
        ("eq(position/x,1)", true),
        ("eq(\"position/x\",1)", true),
        ("eq(position/a~1b/~0,null)", true),
        ("exists(position/y)", false),
        ("exists(status/x)", false),
        ("eq($version,7)", true),
        ("ge($version,7.5)", false),
        (r#"eq($version,"7")"#, false),
        (r#"eq($updated,"2026-11-28T04:50:00.000001Z")"#, true),
        (r#"gt($updated,"2026-11-28T05:50:00+01:00")"#, true),
        ("gt($updated,1795841400000)", true),
        ("eq($updated,1795841400000.001)", true),
        (r#"like($updated,"2026-11-28T*")"#, true),
        ("exists($updated)", true),
        ("exists($expires)", false),
        ("lt($expires,9e15)", false),
        (
            r#" and( eq(status,"open") , or(exists(x),not(exists(x))) ) "#,
            true,
        ),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(matches(&filter, entity), expected, "{text}");
        assert_eq!(filter.text(), text);
    }
}

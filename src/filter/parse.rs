//! A filter's text → [`Filter`], in one pass, with the place of what is wrong.
//!
//! ```text
//! filter  = and(filter,…) | or(filter,…) | not(filter)
//!         | eq(path,value) | ne lt le gt ge | in(path,value,…) | like(path,"pattern")
//!         | exists(path)
//! path    = name/name… | "name/name…" | $version | $updated | $expires
//! ```
//!
//! Values are JSON by the rules of request bodies. White space may stand between the parts. In a
//! path `~1` is a `/` and `~0` is a `~` (RFC 6901); one that holds white space, `"`, `(`, `)` or
//! `,` is written as a JSON string, which changes nothing else about it.

use serde_json::Value;

use super::{Comparison, Expression, Filter, FilterError, Operand, Path, Pattern, Target};
use crate::limits::{FILTER_BYTES_MAX, FILTER_COMPARISONS_MAX, FILTER_DEPTH_MAX};
use crate::model::time_text;

const EXPRESSION_RULE: &str =
    "expected and, or, not, eq, ne, lt, le, gt, ge, in, like or exists, and its `(`";
const PATH_RULE: &str = "expected a path such as `position/x` or `$version`";
const VALUE_RULE: &str = "expected a JSON value";
/// Many clients write a space of a query as a plus sign.
const PLUS_RULE: &str =
    "expected a JSON value; `+` is a plus sign here, and a space in a query is `%20`";
const TIME_RULE: &str = "expected a time as RFC 3339 or Unix milliseconds";

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError {
                offset: FILTER_BYTES_MAX,
                rule: "a filter is at most 4096 bytes",
            });
        }
        let mut parser = Parser {
            text,
            at: 0,
            comparisons: 0,
            paths: Vec::new(),
        };
        let mut root = parser.expression(1)?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.expected("expected nothing after the filter"));
        }
        let mut paths = parser.paths.clone();
        paths.sort_unstable();
        paths.dedup();
        renumber(&mut root, &|index| {
            let path = &parser.paths[index];
            paths.partition_point(|other| other < path)
        });
        Ok(Self {
            text: text.into(),
            root,
            paths: paths.into(),
            comparisons: parser.comparisons,
        })
    }
}

/// Gives each path that a filter mentions its new index.
fn renumber(expression: &mut Expression, index: &impl Fn(usize) -> usize) {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => {
            parts.iter_mut().for_each(|part| renumber(part, index));
        }
        Expression::Not(part) => renumber(part, index),
        Expression::Compare(target, ..)
        | Expression::In(target, _)
        | Expression::Like(target, _)
        | Expression::Exists(target) => {
            if let Target::Path(path) = target {
                *path = index(*path);
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    comparisons: usize,
    /// As they were mentioned.
    paths: Vec<Path>,
}

impl<'a> Parser<'a> {
    const fn expected(&self, rule: &'static str) -> FilterError {
        let offset = self.at;
        FilterError { offset, rule }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    /// Takes a character if it is there, behind white space.
    fn takes(&mut self, character: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(character);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, character: char, rule: &'static str) -> Result<(), FilterError> {
        if self.takes(character) {
            Ok(())
        } else {
            Err(self.expected(rule))
        }
    }

    fn close(&mut self) -> Result<(), FilterError> {
        self.take(')', "expected `)`")
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, FilterError> {
        self.skip_space();
        if depth > FILTER_DEPTH_MAX {
            return Err(self.expected("a filter is at most 16 deep"));
        }
        let start = self.expected(EXPRESSION_RULE);
        let is_letter = |byte: &u8| byte.is_ascii_lowercase();
        let len = self.rest().bytes().take_while(|it| is_letter(it)).count();
        let name = &self.rest()[..len];
        self.at += len;
        if !self.takes('(') {
            return Err(start);
        }
        match name {
            "and" => self.parts(depth).map(Expression::All),
            "or" => self.parts(depth).map(Expression::Any),
            "not" => {
                let part = self.expression(depth + 1)?;
                self.close()?;
                Ok(Expression::Not(Box::new(part)))
            }
            _ => self.comparison(name, start),
        }
    }

    fn parts(&mut self, depth: usize) -> Result<Box<[Expression]>, FilterError> {
        let mut parts = vec![self.expression(depth + 1)?];
        while self.takes(',') {
            parts.push(self.expression(depth + 1)?);
        }
        self.take(')', "expected `,` or `)`")?;
        Ok(parts.into())
    }

    /// What asks something of one value, behind its `(`.
    fn comparison(&mut self, name: &str, start: FilterError) -> Result<Expression, FilterError> {
        let comparison = match name {
            "eq" => Some(Comparison::Eq),
            "ne" => Some(Comparison::Ne),
            "lt" => Some(Comparison::Lt),
            "le" => Some(Comparison::Le),
            "gt" => Some(Comparison::Gt),
            "ge" => Some(Comparison::Ge),
            "in" | "like" | "exists" => None,
            _ => return Err(start),
        };
        self.comparisons += 1;
        if self.comparisons > FILTER_COMPARISONS_MAX {
            let rule = "a filter has at most 64 comparisons";
            return Err(FilterError { rule, ..start });
        }
        let target = self.target()?;
        if name == "exists" {
            self.close()?;
            return Ok(Expression::Exists(target));
        }
        self.take(',', "expected `,` and a value")?;
        if let Some(comparison) = comparison {
            let operand = self.operand(target)?;
            self.close()?;
            return Ok(Expression::Compare(target, comparison, operand));
        }
        if name == "like" {
            let rule = "expected a pattern, which is a JSON string";
            let pattern = self.string(rule)?;
            self.close()?;
            return Ok(Expression::Like(target, Pattern::new(&pattern)));
        }
        let mut operands = vec![self.operand(target)?];
        while self.takes(',') {
            operands.push(self.operand(target)?);
        }
        self.take(')', "expected `,` or `)`")?;
        Ok(Expression::In(target, operands.into()))
    }

    fn string(&mut self, rule: &'static str) -> Result<String, FilterError> {
        self.skip_space();
        let start = self.expected(rule);
        match self.value() {
            Ok((Value::String(text), _)) => Ok(text),
            _ => Err(start),
        }
    }

    fn target(&mut self) -> Result<Target, FilterError> {
        self.skip_space();
        let start = self.expected(PATH_RULE);
        let is_plain =
            |byte: &u8| !byte.is_ascii_whitespace() && !matches!(byte, b',' | b'(' | b')' | b'"');
        let text = if self.rest().starts_with('"') {
            self.string(PATH_RULE)?
        } else {
            let len = self.rest().bytes().take_while(|it| is_plain(it)).count();
            let name = &self.rest()[..len];
            self.at += len;
            if name.is_empty() {
                return Err(start);
            }
            name.to_owned()
        };
        Ok(match text.as_str() {
            "$version" => Target::Version,
            "$updated" => Target::Updated,
            "$expires" => Target::Expires,
            path => {
                let names: Option<Path> = path.split('/').map(path_name).collect();
                let rule = "in a path `~` is followed by `0` or `1`";
                self.paths.push(names.ok_or(FilterError { rule, ..start })?);
                Target::Path(self.paths.len() - 1)
            }
        })
    }

    fn operand(&mut self, target: Target) -> Result<Operand, FilterError> {
        self.skip_space();
        let start = self.expected(TIME_RULE);
        let is_time = matches!(target, Target::Updated | Target::Expires);
        Ok(match self.value()? {
            (Value::String(text), _) if is_time => {
                Operand::Time(time_text::parse(&text).ok_or(start)?)
            }
            (Value::String(text), _) => Operand::String(text.into()),
            (Value::Number(_), text) => Operand::Number(text.into()),
            (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_), _) if is_time => {
                return Err(start);
            }
            (other, _) => Operand::Other(other.to_string().into()),
        })
    }

    /// A JSON value, and its text.
    fn value(&mut self) -> Result<(Value, &'a str), FilterError> {
        self.skip_space();
        let rest = self.rest();
        let is_end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b')');
        let (value, len) = if rest.starts_with(['"', '{', '[']) {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            (values.next().and_then(Result::ok), values.byte_offset())
        } else {
            let len = rest.bytes().position(is_end).unwrap_or(rest.len());
            (serde_json::from_str(&rest[..len]).ok(), len)
        };
        let value = value.filter(is_in_range);
        let found = value.zip(rest.get(..len));
        let rule = if rest.starts_with('+') {
            PLUS_RULE
        } else {
            VALUE_RULE
        };
        let found = found.ok_or_else(|| self.expected(rule))?;
        self.at += len;
        Ok(found)
    }
}

/// True if a double can hold every number.
fn is_in_range(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.to_string().parse().is_ok_and(f64::is_finite),
        Value::Array(elements) => elements.iter().all(is_in_range),
        Value::Object(members) => members.values().all(is_in_range),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// One name of a path; `None` if a `~` in it means nothing.
fn path_name(text: &str) -> Option<Box<str>> {
    let mut name = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        name.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_that_became_a_plus_sign_is_named() {
        let rule = |text| Filter::parse(text).unwrap_err().rule;
        assert_eq!(rule("gt(rpm,+1)"), PLUS_RULE);
        assert_eq!(rule("gt(rpm,x)"), VALUE_RULE);
        assert!(Filter::parse("gt( rpm , 1 )").is_ok());
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        for (text, offset) in [
            ("", 0),
            ("  ", 2),
            ("status", 0),
            ("equal(a,1)", 0),
            ("eq", 0),
            ("eq(", 3),
            ("eq()", 3),
            ("eq(a)", 4),
            ("eq(a,", 5),
            ("eq(a,)", 5),
            ("eq(a,open)", 5),
            ("eq(a,'open')", 5),
            ("eq(a,01)", 5),
            ("eq(a,1e999)", 5),
            ("eq(a,[1,1e999])", 5),
            ("eq(a,\"\\ud800\")", 5),
            ("eq(a,1,2)", 6),
            ("eq(a,1", 6),
            ("eq(a,1))", 7),
            ("eq(a,1)x", 7),
            ("eq(a~2,1)", 3),
            ("eq(a~,1)", 3),
            ("eq(\"a,1)", 3),
            ("and()", 4),
            ("and(eq(a,1),)", 12),
            ("or(eq(a,1)", 10),
            ("not(eq(a,1),eq(b,1))", 11),
            ("in(a)", 4),
            ("like(a,1)", 7),
            ("exists(a,1)", 8),
            ("eq($updated,\"yesterday\")", 12),
            ("eq($expires,null)", 12),
            ("EQ(a,1)", 0),
        ] {
            let error = Filter::parse(text).expect_err(text);
            assert_eq!(error.offset, offset, "{text}: {error}");
        }
    }

    #[test]
    fn limits_are_met_and_not_passed() {
        let longest = |len: usize| format!("eq(a,\"{}\")", "x".repeat(len - 8));
        assert!(Filter::parse(&longest(FILTER_BYTES_MAX)).is_ok());
        let error = Filter::parse(&longest(FILTER_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(error.offset, FILTER_BYTES_MAX);
        let wide = |count: usize| format!("or({})", vec!["exists(a)"; count].join(","));
        assert!(Filter::parse(&wide(FILTER_COMPARISONS_MAX)).is_ok());
        let error = Filter::parse(&wide(FILTER_COMPARISONS_MAX + 1)).unwrap_err();
        assert_eq!(error.offset, 3 + FILTER_COMPARISONS_MAX * 10);
        // `not(eq(a,1))` is 2 deep.
        let deep = |depth: usize| {
            let around = depth - 1;
            format!("{}eq(a,1){}", "not(".repeat(around), ")".repeat(around))
        };
        assert!(Filter::parse(&deep(FILTER_DEPTH_MAX)).is_ok());
        let error = Filter::parse(&deep(FILTER_DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(error.offset, 4 * FILTER_DEPTH_MAX);
    }
}

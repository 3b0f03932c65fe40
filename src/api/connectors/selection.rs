//! Takes what several JSON Pointers point to out of a JSON text, in one pass.
//!
//! The pointers are kept as a tree of their steps, and the scanner walks the text and the tree
//! together. So the cost is linear in the text however many pointers there are, and values come
//! back as the text that they were sent as.

use super::pointer::Pointer;
use crate::api::json::{JsonError, Kind, Scanner};
use crate::limits::JSON_DEPTH_MAX;
use std::collections::HashMap;

/// Pointers, numbered in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    root: Node,
    count: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: HashMap<Box<str>, Self>,
    /// The pointers that end here.
    numbers: Vec<usize>,
}

/// A value, and what kind it is of.
pub(super) type Taken<'a> = Option<(Kind, &'a str)>;

impl Selection {
    /// A selection of `pointers`.
    pub(super) fn new<'p>(pointers: impl Iterator<Item = &'p Pointer>) -> Self {
        let mut selection = Self::default();
        for pointer in pointers {
            let number = selection.count;
            selection.count = number.saturating_add(1);
            if pointer.steps().count() > JSON_DEPTH_MAX {
                // It leads deeper than a text may go; the tree stays as shallow as the texts.
                continue;
            }
            let mut node = &mut selection.root;
            for step in pointer.steps() {
                node = node.children.entry(step.into()).or_default();
            }
            node.numbers.push(number);
        }
        selection
    }

    /// What each pointer points to in `text`; of repeated members the last counts.
    ///
    /// # Errors
    /// [`JsonError`] if the text is not JSON by the rules of API contract §2.
    pub(super) fn take<'a>(&self, text: &'a [u8]) -> Result<Vec<Taken<'a>>, JsonError> {
        let mut walk = Walk {
            text: str::from_utf8(text).unwrap_or_default(),
            scanner: Scanner::new(text)?,
            taken: vec![None; self.count],
        };
        walk.value(&self.root)?;
        walk.scanner.finish()?;
        Ok(walk.taken)
    }
}

struct Walk<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    taken: Vec<Taken<'a>>,
}

impl<'a> Walk<'a> {
    /// Consumes a value. Recursion ends with the text's nesting, which the scanner bounds.
    fn value(&mut self, node: &Node) -> Result<(), JsonError> {
        let kind = self.scanner.kind()?;
        let start = self.scanner.offset();
        match kind {
            Kind::Object if !node.children.is_empty() => self.object(node)?,
            Kind::Array if !node.children.is_empty() => self.array(node)?,
            _ => {
                self.scanner.raw_value()?;
            }
        }
        let text = self.text.get(start..self.scanner.offset());
        let taken = text.map(|text| (kind, text));
        node.numbers
            .iter()
            .for_each(|&number| self.set(number, taken));
        Ok(())
    }

    fn object(&mut self, node: &Node) -> Result<(), JsonError> {
        self.scanner.begin_object()?;
        let mut scratch = String::new();
        while let Some(key) = self.scanner.next_key()? {
            match node.children.get(key.decode(&mut scratch)) {
                Some(child) => {
                    self.forget(child);
                    self.value(child)?;
                }
                None => {
                    self.scanner.raw_value()?;
                }
            }
        }
        Ok(())
    }

    fn array(&mut self, node: &Node) -> Result<(), JsonError> {
        self.scanner.begin_array()?;
        let mut index = 0_usize;
        while self.scanner.next_element()? {
            match node.children.get(index.to_string().as_str()) {
                Some(child) => self.value(child)?,
                None => {
                    self.scanner.raw_value()?;
                }
            }
            index = index.saturating_add(1);
        }
        Ok(())
    }

    /// An earlier member of the same name does not count any more, nor does what was taken from
    /// inside it.
    fn forget(&mut self, node: &Node) {
        node.numbers
            .iter()
            .for_each(|&number| self.set(number, None));
        node.children.values().for_each(|child| self.forget(child));
    }

    fn set(&mut self, number: usize, taken: Taken<'a>) {
        if let Some(place) = self.taken.get_mut(number) {
            *place = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pointers: &[&str], text: &str) -> Vec<Option<String>> {
        let pointers: Vec<Pointer> = pointers
            .iter()
            .map(|it| Pointer::parse(it).unwrap())
            .collect();
        let taken = Selection::new(pointers.iter()).take(text.as_bytes());
        let texts = taken.unwrap().into_iter();
        texts
            .map(|it| it.map(|(_, text)| text.to_owned()))
            .collect()
    }

    #[test]
    fn values_come_as_they_were_sent_in_the_order_of_the_pointers() {
        let text = r#" { "b" : [ 1e2, {"c":22.50} ], "a":"x" } "#;
        let pointers = [
            "/a", "/b/0", "/b/1/c", "/b", "", "/none", "/a/x", "/b/01", "/b/1",
        ];
        let taken = take(&pointers, text);
        let expected = [
            Some("\"x\""),
            Some("1e2"),
            Some("22.50"),
            Some(r#"[ 1e2, {"c":22.50} ]"#),
            Some(text.trim()),
            None,
            None,
            None,
            Some(r#"{"c":22.50}"#),
        ];
        assert_eq!(taken, expected.map(|it| it.map(str::to_owned)));
    }

    #[test]
    fn of_repeated_members_the_last_counts_with_all_that_is_in_it() {
        let text = r#"{"a":{"x":1,"y":2},"a":{"x":3,"x":4}}"#;
        let taken = take(&["/a/x", "/a/y"], text);
        assert_eq!(taken, [Some("4".to_owned()), None]);
        assert_eq!(take(&["/a/x"], r#"{"a":{"x":1},"a":7}"#), [None]);
    }

    #[test]
    fn a_pointer_agrees_with_serde_json() {
        let text = r#"{"a":[{"b":null},[1,2]],"":{"":7},"x/y":{"~":true},"0":false}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        for pointer in [
            "", "/", "//", "/a", "/a/0", "/a/0/b", "/a/1/1", "/a/2", "/a/-", "/a/00", "/x~1y/~0",
            "/0", "/0/0", "/a/b",
        ] {
            let expected = value.pointer(pointer).map(ToString::to_string);
            let taken = take(&[pointer], text).remove(0).map(|text| {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                value.to_string()
            });
            assert_eq!(taken, expected, "{pointer}");
        }
    }

    #[test]
    fn a_pointer_deeper_than_any_text_points_to_nothing() {
        let long = "/a".repeat(100_000);
        assert_eq!(
            take(&[&long, "/a"], r#"{"a":1}"#),
            [None, Some("1".to_owned())]
        );
    }

    #[test]
    fn text_that_breaks_a_rule_gives_nothing() {
        let selection = Selection::new([Pointer::to_member("a")].iter());
        for text in [
            "",
            "{",
            r#"{"a":1}x"#,
            r#"{"b":1e999}"#,
            r#"{"a":"\ud800"}"#,
            "[NaN]",
        ] {
            assert!(selection.take(text.as_bytes()).is_err(), "{text}");
        }
    }
}

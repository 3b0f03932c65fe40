//! The form in which values are stored and answered: no white space between tokens, and of repeated
//! names of an object the last member alone, at every depth (API contract §2). Numbers and strings
//! keep their text.
//!
//! Most values have that form already. [`RawValue::is_compact`] tells so, and nothing here runs. If
//! a name may be repeated, the value is walked once more: the names of each object are sorted when
//! it ends, and members that a later one of the same name replaces are noted and then left out. The
//! cost is n log n for n names, whatever the names are and however deep they lie.

use super::names::{NameVisitor, depth_of, fingerprint};
use super::string::find_special;
use super::{JsonError, JsonStr, RawValue, Scanner};
use crate::limits::BODY_BYTES_SETTABLE_MAX;
use std::ops::Range;

/// Offsets within a value are kept in 32 bits.
const _: () = assert!(BODY_BYTES_SETTABLE_MAX < u32::MAX / 2);

/// Members and bytes of names for which room is kept from one value to the next.
const ROOM_KEPT: usize = 4096;

/// The stored form of a whole document.
///
/// # Errors
/// [`JsonError`] for what is no document by the rules of [`json`](super).
pub fn compact(document: &[u8]) -> Result<String, JsonError> {
    let mut scanner = Scanner::new(document)?;
    let value = scanner.raw_value()?;
    scanner.finish()?;
    let mut out = String::with_capacity(value.text.len());
    Compactor::default().write(&value, &mut out);
    Ok(out)
}

/// Writes values in their stored form; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Compactor {
    /// The members of the objects that are open, the outermost object's first.
    members: Vec<Member>,
    /// The names of those, escapes undone.
    names: String,
    /// The members to leave out.
    dropped: Vec<Range<u32>>,
}

/// A member of an object, by offsets into the value's text.
#[derive(Debug, Clone, Copy)]
struct Member {
    fingerprint: u64,
    /// The opening quote of its name.
    start: u32,
    /// The opening quote of the next member's name; 0 for the last member, which is never left out.
    end: u32,
    /// Its name within `names`.
    name_start: u32,
    name_end: u32,
}

impl Compactor {
    /// Appends the stored form of `value` to `out`.
    ///
    /// `value` is one that a [`Scanner`] gave; another gives some text, and no panic.
    pub fn write(&mut self, value: &RawValue<'_>, out: &mut String) {
        let text = value.text;
        let mut copied = 0;
        if value.may_repeat {
            self.find_replaced(text);
            for dropped in &self.dropped {
                let [start, end] = [dropped.start, dropped.end].map(|offset| offset as usize);
                // A member within one that is left out goes with it.
                if start >= copied {
                    minify(text.get(copied..start).unwrap_or_default(), out);
                    copied = end;
                }
            }
            self.trim();
        }
        minify(text.get(copied..).unwrap_or_default(), out);
    }

    /// Notes the members that a later one of the same name replaces, ascending.
    fn find_replaced(&mut self, text: &str) {
        self.members.clear();
        self.names.clear();
        self.dropped.clear();
        let mut walk = ReplacedMembers {
            text,
            buffers: self,
        };
        if Scanner::over(text).visit(&mut walk).is_err() {
            self.dropped.clear();
        }
        self.dropped.sort_unstable_by_key(|member| member.start);
    }

    /// Gives back what an uncommon value took.
    fn trim(&mut self) {
        self.members.clear();
        self.members.shrink_to(ROOM_KEPT);
        self.names.clear();
        self.names.shrink_to(ROOM_KEPT);
        self.dropped.clear();
        self.dropped.shrink_to(ROOM_KEPT);
    }
}

/// The walk that fills the buffers of a [`Compactor`].
struct ReplacedMembers<'t, 'b> {
    text: &'t str,
    buffers: &'b mut Compactor,
}

impl<'t> NameVisitor<'t> for ReplacedMembers<'t, '_> {
    fn name(&mut self, depth: usize, name: JsonStr<'t>) {
        let Compactor { members, names, .. } = &mut *self.buffers;
        let name_start = names.len();
        name.decode_onto(names);
        let decoded = names.as_bytes().get(name_start..).unwrap_or_default();
        let fingerprint = fingerprint(depth, decoded);
        // The name is a part of the text, and a quote stands before it.
        let raw = name.raw().as_ptr().addr();
        let start = offset(raw.wrapping_sub(self.text.as_ptr().addr()).wrapping_sub(1));
        if let Some(before) = members.last_mut()
            && depth_of(before.fingerprint) == depth
        {
            before.end = start;
        }
        members.push(Member {
            fingerprint,
            start,
            end: 0,
            name_start: offset(name_start),
            name_end: offset(names.len()),
        });
    }

    fn end(&mut self, depth: usize) {
        let Compactor {
            members,
            names,
            dropped,
        } = &mut *self.buffers;
        let of_object = members.iter().rev();
        let of_object = of_object.take_while(|member| depth_of(member.fingerprint) == depth);
        let first = members.len().wrapping_sub(of_object.count());
        let Some(object) = members.get_mut(first..).filter(|object| !object.is_empty()) else {
            return;
        };
        let names_end = object
            .first()
            .map_or(0, |member| member.name_start as usize);
        let name =
            |member: &Member| names.get(member.name_start as usize..member.name_end as usize);
        object.sort_unstable_by(|a, b| {
            let by_name = || name(a).cmp(&name(b));
            let order = a.fingerprint.cmp(&b.fingerprint).then_with(by_name);
            order.then(a.start.cmp(&b.start))
        });
        let neighbours = object.iter().zip(object.iter().skip(1));
        let replaced = neighbours.filter(|(member, next)| {
            member.fingerprint == next.fingerprint && name(member) == name(next)
        });
        dropped.extend(replaced.map(|(member, _)| member.start..member.end));
        members.truncate(first);
        names.truncate(names_end);
    }
}

fn offset(offset: usize) -> u32 {
    u32::try_from(offset).expect("bodies are below 4 GiB")
}

/// Appends `text`, a part of a value that begins and ends between tokens, without the white space
/// outside its strings. Cost: linear, one copy.
fn minify(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at.wrapping_add(1)),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(text.get(copied..at).unwrap_or_default());
                at = at.wrapping_add(1);
                copied = at;
            }
            _ => at = at.wrapping_add(1),
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
}

/// The offset behind the closing quote of the string whose text begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        at = find_special(bytes, at);
        match bytes.get(at) {
            Some(b'\\') => at = at.wrapping_add(2),
            Some(b'"') | None => return at.wrapping_add(1),
            Some(_) => at = at.wrapping_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::limits::JSON_DEPTH_MAX;

    fn check(document: &str, expected: &str) {
        assert_eq!(
            compact(document.as_bytes()).unwrap(),
            expected,
            "{document}"
        );
    }

    /// So many members of different names, each with a comma behind it.
    fn members(count: usize) -> String {
        let member = |name: usize| ["\"", &name.to_string(), "\":1,"].concat();
        (0..count).map(member).collect()
    }

    #[test]
    fn only_white_space_outside_strings_goes() {
        check("1", "1");
        check(" {\t\"a b\" : [ 1 ,\r\n2 ] } ", "{\"a b\":[1,2]}");
        check(r#"[ "\" " , "\\" , "\\\" " ]"#, r#"["\" ","\\","\\\" "]"#);
        check("{ \"é \" : null }", "{\"é \":null}");
        check("[1e2, 22.50,\"\\u0061\"]", "[1e2,22.50,\"\\u0061\"]");
    }

    #[test]
    fn of_repeated_names_the_last_stays_at_every_depth() {
        check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
        check(r#"{ "a" : 1 , "b" : 2 , "a" : 3 }"#, r#"{"b":2,"a":3}"#);
        check(
            r#"{"a":1,"b":2,"a":3,"c":4,"a":5,"b":6}"#,
            r#"{"c":4,"a":5,"b":6}"#,
        );
        check(r#"[{"x":{"a":[1],"a":{}}}]"#, r#"[{"x":{"a":{}}}]"#);
        check(
            r#"{"a":{"b":1,"b":2},"c":{"b":1},"a":{"b":3,"b":4,"c":5}}"#,
            r#"{"c":{"b":1},"a":{"b":4,"c":5}}"#,
        );
        check(r#"{"":1,"":"}"}"#, r#"{"":"}"}"#);
        check(
            r#"{"cfg":{"role":"admin","role":"guest"}}"#,
            r#"{"cfg":{"role":"guest"}}"#,
        );
    }

    #[test]
    fn names_are_equal_if_their_texts_are() {
        check(r#"{"\u0061":1,"a":2}"#, r#"{"a":2}"#);
        check(r#"{"a":1,"\u0061":2}"#, r#"{"\u0061":2}"#);
        check(
            r#"{"\u00e9":1,"é":2,"\ud83d\ude00":3,"😀":4}"#,
            r#"{"é":2,"😀":4}"#,
        );
        check(r#"{"\/":1,"/":2,"\\/":3}"#, r#"{"/":2,"\\/":3}"#);
        // Names of different objects are different members.
        check(
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
        );
    }

    #[test]
    fn objects_with_more_names_than_the_scanner_keeps_are_resolved() {
        for count in [31, 32, 33, 34, 100] {
            let mut document = members(count);
            document.insert(0, '{');
            check(
                &format!("{document}\"x\":1}}"),
                &format!("{document}\"x\":1}}"),
            );
            check(
                &format!("{document}\"0\":1}}"),
                &format!("{document}\"0\":1}}").replacen("\"0\":1,", "", 1),
            );
        }
    }

    #[test]
    fn hostile_objects_are_resolved() {
        let count = 650_000;
        let equal = format!("{{{}\"a\":2}}", "\"a\":1,".repeat(count));
        assert_eq!(compact(equal.as_bytes()).unwrap(), r#"{"a":2}"#);
        let spelled = format!("{{{}\"a\":2}}", "\"a\":1,\"\\u0061\":1,".repeat(count / 10));
        assert_eq!(compact(spelled.as_bytes()).unwrap(), r#"{"a":2}"#);
        let all = members(count / 4);
        let twice = compact(format!("{{{all}{all}\"x\":1}}").as_bytes()).unwrap();
        assert!(
            twice == format!("{{{all}\"x\":1}}"),
            "{} bytes",
            twice.len()
        );
    }

    #[test]
    fn deep_objects_are_resolved_level_by_level() {
        let deep = |depth: usize, member: &str| {
            let open = format!("{{{member}\"a\":").repeat(depth);
            format!("{open}{{}}{}", "}".repeat(depth))
        };
        let depth = JSON_DEPTH_MAX - 1;
        let (sent, stored) = ("\"b\":0,\"\\u0062\":1,", "\"\\u0062\":1,");
        check(&deep(depth, sent), &deep(depth, stored));
        // The member that is replaced has two levels of its own.
        let depth = JSON_DEPTH_MAX - 2;
        check(&deep(depth, "\"a\":[{\"b\":1,\"b\":2}],"), &deep(depth, ""));
    }

    #[test]
    fn buffers_are_reused_and_given_back() {
        let mut compactor = Compactor::default();
        let long = members(20_000);
        for document in [format!("{{{long}\"0\":2}}"), r#"{"a":1,"a":2}"#.to_owned()] {
            let value = Scanner::new(document.as_bytes())
                .unwrap()
                .raw_value()
                .unwrap();
            assert!(value.may_repeat && !value.is_compact());
            let mut out = "kept".to_owned();
            compactor.write(&value, &mut out);
            assert!(out.starts_with("kept{") && out.ends_with(":2}"));
            assert!(compactor.members.capacity() <= 2 * ROOM_KEPT);
        }
    }

    #[test]
    fn text_that_was_never_checked_does_not_panic() {
        for text in [
            "",
            "\"",
            "\"\\",
            " \" ",
            "\"\n",
            "\"\\\u{e9}",
            "\\\"",
            "{\"a\":1,\"a\"",
            "{]",
        ] {
            let value = RawValue {
                text,
                kind: Kind::Object,
                has_space: true,
                may_repeat: true,
            };
            Compactor::default().write(&value, &mut String::new());
        }
    }
}

//! The id and the properties of one entity, packed into one text.
//!
//! ```text
//! | id len | id | [lifetime] | name len | value len | name | value | name len | value len | ...
//! ```
//!
//! Properties are ascending by name, each name once, so that an event's properties, which are too,
//! are merged in one pass. A length is written six bits to a byte, lowest first, with 0x40 set on
//! all bytes but the last: that makes every byte of it ASCII and the whole block text. So ids,
//! names and values are handed out as text without being checked again, and without `unsafe`.
//!
//! An entity that ends by itself says so before its properties. Two bytes mark that, which no
//! length begins with:
//!
//! ```text
//! | 0x40 0x00 | flags | [expires, microseconds] | [linger, milliseconds] |
//! ```

use std::iter::Peekable;
use std::mem;

use crate::limits::{ENTITY_BYTES_MAX, ENTITY_PROPERTIES_MAX};
use crate::model::{Lifetime, Names, Properties, Property, Timestamp};

use super::{SCRATCH_BYTES_KEPT, allocation_bytes};

/// A property takes at least so many bytes here and in an event: two lengths, and a value.
const PROPERTY_BYTES_MIN: usize = 3;

/// A block and an event that take no more than this together make no entity that is too large.
const SURELY_SMALL_BYTES: usize = PROPERTY_BYTES_MIN * ENTITY_PROPERTIES_MAX;

const _: () = assert!(SURELY_SMALL_BYTES <= ENTITY_BYTES_MAX);

const LEN_BITS: u32 = 6;
const LEN_MORE: u8 = 1 << LEN_BITS;
/// Numbers have at most 60 bits.
const LEN_SHIFT_MAX: u32 = 9 * LEN_BITS;

/// What a lifetime begins with: a length of 0 that is longer than it needs to be.
const LIFETIME_MARK: &str = "\u{40}\0";
const EXPIRES: u8 = 1;
const BOUND: u8 = 1 << 1;

/// One entity's id and properties. The default is the block of a free slot and is not to be read.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: Box<str>,
}

/// Where in a block one property lies: offsets into its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Where the name starts.
    pub(super) name: usize,
    /// Where the name ends and the value starts.
    pub(super) value: usize,
    /// Where the value ends and the next property starts.
    pub(super) end: usize,
}

impl Span {
    /// The property that starts at `start`; `None` at the end of `text`.
    pub(super) fn read(text: &str, start: usize) -> Option<Self> {
        if start == text.len() {
            return None;
        }
        let (name_len, at) = read_len(text, start);
        let (value_len, name) = read_len(text, at);
        let value = name + name_len;
        Some(Self {
            name,
            value,
            end: value + value_len,
        })
    }
}

impl Block {
    /// The block of a new entity. What `scratch` held is lost.
    pub(super) fn new(id: &str, properties: Properties<'_>, scratch: &mut String) -> Self {
        scratch.clear();
        write_len(scratch, id.len());
        scratch.push_str(id);
        for property in properties {
            write_property(scratch, property);
        }
        Self {
            text: take_text(scratch),
        }
    }

    /// The block of an entity whose properties lie packed somewhere else. What `scratch` held is
    /// lost.
    pub(super) fn from_body(id: &str, body: &str, scratch: &mut String) -> Self {
        scratch.clear();
        write_len(scratch, id.len());
        scratch.push_str(id);
        scratch.push_str(body);
        Self {
            text: take_text(scratch),
        }
    }

    /// The block of an entity with the same id and nothing else.
    pub(super) fn id_only(&self) -> Self {
        Self {
            text: self.text[..self.body_start()].into(),
        }
    }

    /// When the entity ends by itself.
    pub(super) fn lifetime(&self) -> Lifetime {
        split_lifetime(self.body()).0
    }

    /// Changes that. What `scratch` held is lost.
    pub(super) fn set_lifetime(&mut self, lifetime: Lifetime, scratch: &mut String) {
        scratch.clear();
        scratch.push_str(&self.text[..self.body_start()]);
        write_lifetime(scratch, lifetime);
        let (text, start) = self.properties();
        scratch.push_str(&text[start..]);
        self.text = take_text(scratch);
    }

    /// Bytes of the text.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Reads a byte of each cache line of the text's beginning.
    pub(super) fn touch(&self) -> usize {
        const LINE_BYTES: usize = 64;
        const LINES_MAX: usize = 4;
        let lines = self.text.as_bytes().iter().step_by(LINE_BYTES);
        lines
            .take(LINES_MAX)
            .fold(0, |seen, &byte| seen ^ usize::from(byte))
    }

    /// Reads the text's first byte.
    pub(super) fn touch_start(&self) -> usize {
        self.text.as_bytes().first().map_or(0, |&byte| byte.into())
    }

    /// The lifetime and the properties, packed: what a layer keeps beside the id.
    pub(super) fn body(&self) -> &str {
        &self.text[self.body_start()..]
    }

    fn body_start(&self) -> usize {
        let (len, start) = read_len(&self.text, 0);
        start + len
    }

    pub(super) fn id(&self) -> &str {
        let (len, start) = read_len(&self.text, 0);
        &self.text[start..start + len]
    }

    /// The block's text and where in it the first property starts.
    pub(super) fn properties(&self) -> (&str, usize) {
        let start = self.body_start();
        (&self.text, start + lifetime_len(&self.text[start..]))
    }

    /// Whether `properties`, merged, would make the entity larger than one may be. One that is
    /// larger already may have as many properties and bytes as it has. Cost: a comparison for small
    /// ones.
    pub(super) fn would_exceed(&self, properties: Properties<'_>, removed: Names<'_>) -> bool {
        self.len() + properties.byte_len() > SURELY_SMALL_BYTES
            && self.exceeds_after(properties, removed)
    }

    fn exceeds_after(&self, properties: Properties<'_>, removed: Names<'_>) -> bool {
        let (text, mut at) = self.properties();
        let mut before = Size::default();
        let mut after = Size::default();
        let mut new = properties.peekable();
        let mut removed = removed.peekable();
        while let Some(old) = Span::read(text, at) {
            let name = &text[old.name..old.value];
            let bytes = old.end - old.name;
            at = old.end;
            before.add(bytes);
            while let Some(added) = new.next_if(|new| new.name < name) {
                after.add(added.name.len() + added.value.len());
            }
            if is_in(&mut removed, name) {
                continue;
            }
            after.add(
                new.next_if(|new| new.name == name)
                    .map_or(bytes, |new| new.name.len() + new.value.len()),
            );
        }
        for added in new {
            after.add(added.name.len() + added.value.len());
        }
        after.exceeds(before)
    }

    /// Replaces and adds `properties`, ascending by name. What `scratch` held is lost.
    pub(super) fn merge(&mut self, properties: Properties<'_>, scratch: &mut String) {
        if self.overwrite(properties.clone()) {
            return;
        }
        self.rebuild(properties, scratch);
        self.text = take_text(scratch);
    }

    /// Takes properties out, ascending by name. What `scratch` held is lost.
    pub(super) fn remove(&mut self, names: Names<'_>, scratch: &mut String) {
        let (text, start) = self.properties();
        let mut names = names.peekable();
        scratch.clear();
        // Everything before `copied` is in `scratch` or was taken out.
        let (mut copied, mut at) = (0, start);
        while let Some(property) = Span::read(text, at) {
            if is_in(&mut names, &text[property.name..property.value]) {
                scratch.push_str(&text[copied..at]);
                copied = property.end;
            }
            at = property.end;
        }
        if copied > 0 {
            scratch.push_str(&text[copied..]);
            self.text = take_text(scratch);
        }
    }

    /// Replaces values where they lie. Stops and returns false at the first property that is new or
    /// whose value has another length; to merge all of `properties` once more is right then, since
    /// those already replaced have the same value again.
    fn overwrite(&mut self, properties: Properties<'_>) -> bool {
        let (_, mut at) = self.properties();
        // Neither conversion allocates or moves the text: its capacity is its length throughout.
        let mut text = mem::take(&mut self.text).into_string();
        let mut fits = true;
        for new in properties {
            let Some(span) = find_same_len(&text, at, new) else {
                fits = false;
                break;
            };
            if text.as_bytes()[span.value..span.end] != *new.value.as_bytes() {
                text.replace_range(span.value..span.end, new.value);
            }
            at = span.end;
        }
        self.text = text.into_boxed_str();
        fits
    }

    /// Writes the merged block into `out`.
    fn rebuild(&self, properties: Properties<'_>, out: &mut String) {
        out.clear();
        let (text, mut at) = self.properties();
        // Everything before it is in `out`; what lies between it and `at` is kept as it is.
        let mut copied = 0;
        for new in properties {
            while let Some(old) = Span::read(text, at) {
                let name = &text[old.name..old.value];
                if name < new.name {
                    at = old.end;
                    continue;
                }
                out.push_str(&text[copied..at]);
                if name == new.name {
                    at = old.end;
                }
                copied = at;
                break;
            }
            if at == text.len() {
                out.push_str(&text[copied..]);
                copied = at;
            }
            write_property(out, new);
        }
        out.push_str(&text[copied..]);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        allocation_bytes(self.text.len())
    }
}

/// The text that was built in `scratch`. A large one is taken as it is: it would not be kept, and a
/// copy of megabytes takes a millisecond.
fn take_text(scratch: &mut String) -> Box<str> {
    if scratch.len() > SCRATCH_BYTES_KEPT {
        mem::take(scratch).into_boxed_str()
    } else {
        scratch.as_str().into()
    }
}

/// Whether `name` is among the names, which ascend as the names do that are asked for.
fn is_in(names: &mut Peekable<Names<'_>>, name: &str) -> bool {
    while names.next_if(|other| *other < name).is_some() {}
    names.peek() == Some(&name)
}

/// How large an entity is, as its bounds count.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    properties: usize,
    /// Of names and values.
    bytes: usize,
}

impl Size {
    fn add(&mut self, bytes: usize) {
        self.properties += 1;
        self.bytes += bytes;
    }

    /// True if an entity that was like `before` may not become like this.
    fn exceeds(self, before: Self) -> bool {
        self.properties > ENTITY_PROPERTIES_MAX.max(before.properties)
            || self.bytes > ENTITY_BYTES_MAX.max(before.bytes)
    }
}

/// Whether a new entity with these properties would be larger than one may be.
pub(super) fn would_exceed_new(properties: Properties<'_>) -> bool {
    if properties.byte_len() <= SURELY_SMALL_BYTES {
        return false;
    }
    let mut size = Size::default();
    for property in properties {
        size.add(property.name.len() + property.value.len());
    }
    size.exceeds(Size::default())
}

/// The property named as `new` is, at or after `at`, if its value has the length of the new one.
fn find_same_len(text: &str, mut at: usize, new: Property<'_>) -> Option<Span> {
    // Bytes: that they end at characters need not be checked to compare them.
    let new_name = new.name.as_bytes();
    while let Some(old) = Span::read(text, at) {
        let name = &text.as_bytes()[old.name..old.value];
        if name == new_name {
            return (old.end - old.value == new.value.len()).then_some(old);
        }
        if name > new_name {
            return None;
        }
        at = old.end;
    }
    None
}

fn write_property(out: &mut String, property: Property<'_>) {
    write_len(out, property.name.len());
    write_len(out, property.value.len());
    out.push_str(property.name);
    out.push_str(property.value);
}

fn write_len(out: &mut String, len: usize) {
    write_number(out, len as u64);
}

fn write_number(out: &mut String, mut rest: u64) {
    while rest >= u64::from(LEN_MORE) {
        out.push(char::from((rest & 0x3f) as u8 | LEN_MORE));
        rest >>= LEN_BITS;
    }
    out.push(char::from((rest & 0x3f) as u8));
}

fn write_lifetime(out: &mut String, lifetime: Lifetime) {
    if lifetime.is_endless() {
        return;
    }
    out.push_str(LIFETIME_MARK);
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let expires = flag(EXPIRES, lifetime.expires.is_some());
    let flags = expires | flag(BOUND, lifetime.linger_ms.is_some());
    out.push(char::from(flags));
    if let Some(expires) = lifetime.expires {
        write_number(out, u64::try_from(expires.as_micros()).unwrap_or(0));
    }
    if let Some(linger_ms) = lifetime.linger_ms {
        write_number(out, linger_ms.into());
    }
}

/// Bytes of the lifetime that a body begins with.
fn lifetime_len(body: &str) -> usize {
    if body.as_bytes().starts_with(LIFETIME_MARK.as_bytes()) {
        body.len() - split_lifetime(body).1.len()
    } else {
        0
    }
}

/// The lifetime that a body begins with, and its properties.
pub(super) fn split_lifetime(body: &str) -> (Lifetime, &str) {
    checked_lifetime(body).unwrap_or_else(|| (Lifetime::default(), body))
}

/// The same of what may be anything; `None` if it is no lifetime.
fn checked_lifetime(body: &str) -> Option<(Lifetime, &str)> {
    let mut lifetime = Lifetime::default();
    let Some(rest) = body.strip_prefix(LIFETIME_MARK) else {
        return Some((lifetime, body));
    };
    let &flags = rest.as_bytes().first()?;
    if flags & !(EXPIRES | BOUND) != 0 {
        return None;
    }
    let mut at = 1;
    if flags & EXPIRES != 0 {
        let (micros, next) = checked_len(rest, at)?;
        let micros = i64::try_from(micros).ok()?;
        lifetime.expires = Some(Timestamp::from_micros(micros));
        at = next;
    }
    if flags & BOUND != 0 {
        let (linger_ms, next) = checked_len(rest, at)?;
        lifetime.linger_ms = Some(u32::try_from(linger_ms).ok()?);
        at = next;
    }
    Some((lifetime, rest.get(at..)?))
}

/// True if `body` is properties packed as this module packs them: asked once of what comes from a
/// file, so that nothing else has to doubt it.
pub fn is_packed_body(body: &str) -> bool {
    let Some((_, body)) = checked_lifetime(body) else {
        return false;
    };
    let mut at = 0;
    let mut previous: Option<&str> = None;
    while at < body.len() {
        let Some((name_len, next)) = checked_len(body, at) else {
            return false;
        };
        let Some((value_len, name)) = checked_len(body, next) else {
            return false;
        };
        let value = name.saturating_add(name_len);
        let (Some(name), Some(_)) = (
            body.get(name..value),
            body.get(value..value.saturating_add(value_len)),
        ) else {
            return false;
        };
        if previous.is_some_and(|previous| previous >= name) {
            return false;
        }
        previous = Some(name);
        at = value + value_len;
    }
    true
}

/// As [`read_len`], of bytes that may be anything.
fn checked_len(text: &str, at: usize) -> Option<(usize, usize)> {
    let (mut len, mut shift, mut next) = (0_usize, 0, at);
    loop {
        let byte = *text.as_bytes().get(next)?;
        next += 1;
        if byte >= 2 * LEN_MORE || shift > LEN_SHIFT_MAX {
            return None;
        }
        len |= usize::from(byte & !LEN_MORE) << shift;
        if byte & LEN_MORE == 0 {
            return Some((len, next));
        }
        shift += LEN_BITS;
    }
}

/// The length at `at` and the offset behind it.
#[inline]
fn read_len(text: &str, at: usize) -> (usize, usize) {
    let bytes = text.as_bytes();
    let byte = bytes[at];
    if byte & LEN_MORE == 0 {
        return (usize::from(byte), at + 1);
    }
    read_longer_len(bytes, at)
}

fn read_longer_len(bytes: &[u8], at: usize) -> (usize, usize) {
    let (mut len, mut shift, mut next) = (0, 0, at);
    loop {
        let byte = bytes[next];
        next += 1;
        len |= usize::from(byte & !LEN_MORE) << shift;
        if byte & LEN_MORE == 0 {
            return (len, next);
        }
        shift += LEN_BITS;
    }
}

#[cfg(test)]
mod tests {
    use crate::model::EventView;

    use super::super::model_test::encode;
    use super::*;

    fn properties(block: &Block) -> Vec<(&str, &str)> {
        let (text, mut at) = block.properties();
        let mut all = Vec::new();
        while let Some(span) = Span::read(text, at) {
            all.push((&text[span.name..span.value], &text[span.value..span.end]));
            at = span.end;
        }
        all
    }

    #[test]
    fn lengths_come_back_in_the_bytes_they_need() {
        for (len, bytes) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (4095, 2),
            (4096, 3),
            (u32::MAX as usize, 6),
        ] {
            let mut text = "é".to_owned();
            write_len(&mut text, len);
            assert_eq!(text.len(), 2 + bytes);
            assert_eq!(read_len(&text, 2), (len, text.len()));
        }
    }

    #[test]
    fn merging_replaces_adds_and_keeps() {
        let check = |old: &[(&str, &str)], new: &[(&str, &str)], expected: &[(&str, &str)]| {
            let mut scratch = "left over".to_owned();
            let first = encode("ns/é", old);
            let first = EventView::decode(&first).unwrap().properties();
            let mut block = Block::new("ns/é", first, &mut scratch);
            assert_eq!(properties(&block), old);
            let second = encode("ns/é", new);
            block.merge(
                EventView::decode(&second).unwrap().properties(),
                &mut scratch,
            );
            assert_eq!(block.id(), "ns/é");
            assert_eq!(properties(&block), expected, "{new:?} onto {old:?}");
        };
        let old = &[("b", "10"), ("d", "\"é\""), ("f", "null")][..];
        check(&[], &[], &[]);
        check(&[], old, old);
        check(old, &[], old);
        check(
            old,
            &[("b", "11")],
            &[("b", "11"), ("d", "\"é\""), ("f", "null")],
        );
        check(
            old,
            &[("d", "[00]"), ("f", "true")],
            &[("b", "10"), ("d", "[00]"), ("f", "true")],
        );
        check(
            old,
            &[("b", "1"), ("f", "22")],
            &[("b", "1"), ("d", "\"é\""), ("f", "22")],
        );
        check(
            old,
            &[("a", "1")],
            &[("a", "1"), ("b", "10"), ("d", "\"é\""), ("f", "null")],
        );
        check(
            old,
            &[("g", "1")],
            &[("b", "10"), ("d", "\"é\""), ("f", "null"), ("g", "1")],
        );
        check(
            old,
            &[
                ("b", "99"),
                ("c", "0"),
                ("e", "0"),
                ("f", "1"),
                ("g", "2"),
                ("h", "3"),
            ],
            &[
                ("b", "99"),
                ("c", "0"),
                ("d", "\"é\""),
                ("e", "0"),
                ("f", "1"),
                ("g", "2"),
                ("h", "3"),
            ],
        );
        check(
            &[("", "1")],
            &[("", "2"), ("\0", "3")],
            &[("", "2"), ("\0", "3")],
        );
    }

    #[test]
    fn a_value_of_the_same_length_but_other_characters_is_replaced_whole() {
        let mut scratch = String::new();
        let first = encode("x", &[("a", "\"éé\"")]);
        let mut block = Block::new(
            "x",
            EventView::decode(&first).unwrap().properties(),
            &mut scratch,
        );
        let second = encode("x", &[("a", "\"aéb\"")]);
        assert!(block.overwrite(EventView::decode(&second).unwrap().properties()));
        assert_eq!(properties(&block), [("a", "\"aéb\"")]);
    }

    #[test]
    fn huge_values_and_thousands_of_properties_are_merged_like_small_ones() {
        let mut scratch = String::new();
        let huge = format!("\"{}\"", "x".repeat(10 * 1024 * 1024));
        let names: Vec<String> = (0..5000)
            .map(|number| format!("name-{number:05}"))
            .collect();
        let old: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "0")).collect();
        let first = encode("x", &old);
        let mut block = Block::new(
            "x",
            EventView::decode(&first).unwrap().properties(),
            &mut scratch,
        );
        for value in [huge.as_str(), "1", &huge.replace('x', "y")] {
            let new = [("name-02500", value), ("zz", value)];
            let second = encode("x", &new);
            block.merge(
                EventView::decode(&second).unwrap().properties(),
                &mut scratch,
            );
            let merged = properties(&block);
            assert_eq!(merged.len(), 5001);
            assert!(merged[2500] == new[0] && merged[5000] == new[1]);
            assert_eq!(merged[2499], ("name-02499", "0"));
            assert_eq!(merged[2501], ("name-02501", "0"));
        }
    }
}

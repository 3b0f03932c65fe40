//! The scanner: one pass over a body, driven by whoever knows what should be in it.
//!
//! ```text
//! begin_object ─▶ next_key ─▶ (one value: string | raw_value | begin_…) ─▶ next_key ─▶ … ─▶ None
//! begin_array  ─▶ next_element ─▶ (one value) ─▶ next_element ─▶ … ─▶ false
//! finish: only white space may follow
//! ```
//!
//! The scanner keeps no stack: its caller knows whether it is inside an object or an array. Only
//! `raw_value`, which passes over containers that nobody asked about, needs to remember which kind
//! encloses which, and one bit for each of the few levels allowed is enough. So nothing recurses,
//! and nesting costs no memory.
//!
//! Invariants: `at` is never inside a character, since only ASCII is stepped over outside of
//! strings, and never beyond the body.

use std::fmt;

use crate::limits::JSON_DEPTH_MAX;

use super::names::{NameVisitor, OpenNames};
use super::{JsonError, JsonStr, Word, number, string};

/// `raw_value` keeps one bit per open container.
const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS as usize);

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
        })
    }
}

/// A value of the body, checked in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawValue<'a> {
    /// The text from the value's first byte to its last.
    pub text: &'a str,
    /// What it is.
    pub kind: Kind,
    /// There is white space inside it, outside its strings.
    pub has_space: bool,
    /// An object in it may name a member twice; false is certain.
    pub may_repeat: bool,
}

impl RawValue<'_> {
    /// True if the text is the value's stored form, which [`Compactor`](super::Compactor) would
    /// write.
    pub const fn is_compact(&self) -> bool {
        !self.has_space && !self.may_repeat
    }
}

/// A walk over one JSON document.
///
/// Every method but [`known_key`](Self::known_key) skips white space first. After an error the
/// scanner is not to be used further, except after [`JsonError::Kind`], which consumes nothing.
/// Calls in an order that the document's structure does not have (a key asked of an array) give an
/// error, never a panic.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    /// The next byte to look at.
    at: usize,
    /// Containers open here, the outermost counted.
    depth: usize,
    /// A container was opened and nothing in it has been asked for yet: no comma is due.
    opened: bool,
    /// White space was skipped since `raw_value` last cleared this.
    skipped_space: bool,
}

/// Where a walk is, without its document: it can go on later over the same text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    at: usize,
    depth: usize,
    opened: bool,
}

impl Place {
    /// In bytes from the start of the document.
    pub const fn offset(self) -> usize {
        self.at
    }

    /// The same as deep, but so many bytes from the start: what lies between is white space.
    #[must_use]
    pub const fn moved_to(self, offset: usize) -> Self {
        Self { at: offset, ..self }
    }
}

/// The text of a body.
///
/// # Errors
/// [`JsonError::Utf8`] and [`JsonError::ByteOrderMark`].
pub fn text(body: &[u8]) -> Result<&str, JsonError> {
    let text = str::from_utf8(body).map_err(|error| JsonError::Utf8 {
        offset: error.valid_up_to(),
    })?;
    without_mark(text)
}

fn without_mark(text: &str) -> Result<&str, JsonError> {
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark { offset: 0 });
    }
    Ok(text)
}

impl<'a> Scanner<'a> {
    /// A walk that starts before the document in `body`. Checks that all of it is UTF-8.
    ///
    /// # Errors
    /// [`JsonError::Utf8`] and [`JsonError::ByteOrderMark`].
    pub fn new(body: &'a [u8]) -> Result<Self, JsonError> {
        text(body).map(Self::over)
    }

    /// The same over what is text already.
    ///
    /// # Errors
    /// [`JsonError::ByteOrderMark`].
    pub fn of_text(text: &'a str) -> Result<Self, JsonError> {
        without_mark(text).map(Self::over)
    }

    /// A walk that goes on where another one was. `text`: that one's document, as [`text`] gave it,
    /// or a beginning of it that holds the place.
    pub const fn resume(text: &'a str, place: Place) -> Self {
        Self {
            text,
            at: place.at,
            depth: place.depth,
            opened: place.opened,
            skipped_space: false,
        }
    }

    /// Where the walk is. Not to be asked after an error.
    pub const fn place(&self) -> Place {
        Place {
            at: self.at,
            depth: self.depth,
            opened: self.opened,
        }
    }

    /// A walk over a text that is known to be UTF-8 without a byte order mark.
    pub(in crate::api) const fn over(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            opened: false,
            skipped_space: false,
        }
    }

    /// How far the walk is, in bytes from the start of the body.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// What the next value is, judged by its first byte; consumes only white space.
    ///
    /// # Errors
    /// [`JsonError::Value`] or [`JsonError::End`] where no value starts here.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind, JsonError> {
        Ok(match self.peek()? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            _ => return Err(self.no_value()),
        })
    }

    /// Enters an object. Call [`next_key`](Self::next_key) until it gives `None`.
    ///
    /// # Errors
    /// [`JsonError::Kind`] where the next value is no object; [`JsonError::Depth`].
    pub fn begin_object(&mut self) -> Result<(), JsonError> {
        self.expect(Kind::Object)?;
        self.open()
    }

    /// Enters the next value where it is an object; false where it is another, which is left.
    ///
    /// # Errors
    /// [`JsonError::Depth`], or [`JsonError::End`].
    #[inline]
    pub fn object_or_other(&mut self) -> Result<bool, JsonError> {
        let is_object = self.peek()? == b'{';
        if is_object {
            self.open()?;
        }
        Ok(is_object)
    }

    /// Enters an array. Call [`next_element`](Self::next_element) until it gives `false`.
    ///
    /// # Errors
    /// [`JsonError::Kind`] where the next value is no array; [`JsonError::Depth`].
    pub fn begin_array(&mut self) -> Result<(), JsonError> {
        self.expect(Kind::Array)?;
        self.open()
    }

    /// The key of the object's next member, whose value the caller must consume before it asks
    /// again; `None` at the object's end, which is consumed.
    ///
    /// # Errors
    /// What is wrong between the value before and the value of this key.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<JsonStr<'a>>, JsonError> {
        let mut byte = self.peek()?;
        if byte == b'}' {
            self.close();
            return Ok(None);
        }
        if !self.opened {
            if byte != b',' {
                return Err(JsonError::ObjectEnd { offset: self.at });
            }
            self.step();
            byte = self.peek()?;
        }
        self.opened = false;
        if byte != b'"' {
            return Err(JsonError::Key { offset: self.at });
        }
        let key = self.take_string()?;
        if self.peek()? != b':' {
            return Err(JsonError::Colon { offset: self.at });
        }
        self.step();
        Ok(Some(key))
    }

    /// Consumes the object's next key, as [`next_key`](Self::next_key) does, if `known` recognises
    /// it: from the text that begins with the key's opening quote, `known` says which key it is and
    /// how many bytes it takes, quotes included. `None` if it does not, or if there is any white
    /// space besides one space before the key: nothing is consumed then, and `next_key` takes it.
    ///
    /// An expected key is recognised in a fraction of the time that it takes to scan a key and to
    /// compare it with the expected names.
    #[inline]
    pub fn known_key<T>(&mut self, known: impl FnOnce(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        let mut rest = self.text.as_bytes().get(self.at..)?;
        if !self.opened {
            rest = rest.strip_prefix(b",")?;
        }
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let (key, len) = known(rest)?;
        let after = rest.get(len..)?.strip_prefix(b":")?;
        self.at = self.text.len().wrapping_sub(after.len());
        self.opened = false;
        Some(key)
    }

    /// Whether the array has a next element, which the caller must consume before it asks again;
    /// `false` at the array's end, which is consumed.
    ///
    /// # Errors
    /// What is wrong between the element before and this one.
    #[inline]
    pub fn next_element(&mut self) -> Result<bool, JsonError> {
        let byte = self.peek()?;
        if byte == b']' {
            self.close();
            return Ok(false);
        }
        if self.opened {
            self.opened = false;
            return Ok(true);
        }
        if byte != b',' {
            return Err(JsonError::ArrayEnd { offset: self.at });
        }
        self.step();
        Ok(true)
    }

    /// Consumes a string.
    ///
    /// # Errors
    /// [`JsonError::Kind`] where the next value is none; what is wrong inside it.
    #[inline]
    pub fn string(&mut self) -> Result<JsonStr<'a>, JsonError> {
        self.expect(Kind::String)?;
        self.take_string()
    }

    /// Consumes the next value where it is a string; `None` where it is another, which is left.
    ///
    /// # Errors
    /// What is wrong inside the string, or [`JsonError::End`].
    #[inline]
    pub fn string_or_other(&mut self) -> Result<Option<JsonStr<'a>>, JsonError> {
        if self.peek()? == b'"' {
            self.take_string().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Consumes a value of any kind, checking all of it.
    ///
    /// # Errors
    /// What is wrong inside it.
    // Inline, so that a scalar's result stays in registers: through memory its flags are stored one
    // by one and loaded as a word, which stalls for each property.
    #[inline]
    pub fn raw_value(&mut self) -> Result<RawValue<'a>, JsonError> {
        let kind = self.kind()?;
        let start = self.at;
        self.skipped_space = false;
        let may_repeat = match kind {
            Kind::Object | Kind::Array => self.container_may_repeat()?,
            Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null => {
                self.pass_scalar(kind)?;
                false
            }
        };
        Ok(RawValue {
            text: self
                .text
                .get(start..self.at)
                .expect("a value starts and ends at a character's edge"),
            kind,
            has_space: self.skipped_space,
            may_repeat,
        })
    }

    /// Consumes the container that starts here. Returns whether an object in it may name a member
    /// twice.
    #[inline(never)]
    fn container_may_repeat(&mut self) -> Result<bool, JsonError> {
        let mut names = OpenNames::default();
        self.pass_container(&mut names)?;
        Ok(names.may_repeat())
    }

    /// Consumes a value of any kind, and shows the names in it.
    pub(super) fn visit(&mut self, names: &mut impl NameVisitor<'a>) -> Result<(), JsonError> {
        match self.kind()? {
            Kind::Object | Kind::Array => self.pass_container(names),
            kind @ (Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null) => {
                self.pass_scalar(kind)
            }
        }
    }

    /// Ends the walk: nothing but white space may be left.
    ///
    /// # Errors
    /// [`JsonError::Trailing`]; [`JsonError::End`] where a container is still open.
    pub fn finish(mut self) -> Result<(), JsonError> {
        match self.peek() {
            Ok(_) => Err(JsonError::Trailing { offset: self.at }),
            Err(end) if self.depth > 0 => Err(end),
            Err(_) => Ok(()),
        }
    }

    /// Ends the walk behind a value: if it lies in an object, no other member may follow it.
    ///
    /// # Errors
    /// [`JsonError::Trailing`] if one does, and what [`finish`](Self::finish) says.
    pub fn finish_last(mut self) -> Result<(), JsonError> {
        if self.depth > 0 && self.next_key()?.is_some() {
            return Err(JsonError::Trailing { offset: self.at });
        }
        self.finish()
    }

    /// Consumes the container that starts here with everything in it.
    fn pass_container(&mut self, names: &mut impl NameVisitor<'a>) -> Result<(), JsonError> {
        let outside = self.depth;
        // The lowest bit is the innermost open container: set for an object.
        let mut objects = 0_u128;
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.open()?;
                    objects = objects << 1 | 1;
                }
                Kind::Array => {
                    self.open()?;
                    objects <<= 1;
                }
                scalar @ (Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null) => {
                    self.pass_scalar(scalar)?;
                }
            }
            while !self.has_next(objects & 1 == 1, names)? {
                objects >>= 1;
                if self.depth == outside {
                    return Ok(());
                }
            }
        }
    }

    #[inline]
    fn has_next(
        &mut self,
        in_object: bool,
        names: &mut impl NameVisitor<'a>,
    ) -> Result<bool, JsonError> {
        if !in_object {
            return self.next_element();
        }
        let depth = self.depth;
        let name = self.next_key()?;
        match name {
            Some(name) => names.name(depth, name),
            None => names.end(depth),
        }
        Ok(name.is_some())
    }

    /// Consumes the value of `kind` that starts here; `kind` is no container.
    #[inline]
    fn pass_scalar(&mut self, kind: Kind) -> Result<(), JsonError> {
        match kind {
            Kind::String => {
                let (end, _escaped) = string::find_end(self.text, self.at.wrapping_add(1))?;
                self.at = end.wrapping_add(1);
                Ok(())
            }
            Kind::Number => {
                self.at = number::scan(self.text, self.at)?;
                Ok(())
            }
            Kind::True => self.take_word(b"true"),
            Kind::False => self.take_word(b"false"),
            Kind::Null => self.take_word(b"null"),
            Kind::Object | Kind::Array => unreachable!("containers are passed by `pass_container`"),
        }
    }

    #[inline]
    fn take_string(&mut self) -> Result<JsonStr<'a>, JsonError> {
        let (string, end) = string::scan(self.text, self.at.wrapping_add(1))?;
        self.at = end;
        Ok(string)
    }

    fn take_word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        for expected in word {
            match self.text.as_bytes().get(self.at) {
                Some(byte) if byte == expected => self.step(),
                Some(_) => return Err(self.no_value()),
                None => return Err(JsonError::End { offset: self.at }),
            }
        }
        Ok(())
    }

    /// There is no value here.
    #[cold]
    fn no_value(&self) -> JsonError {
        JsonError::Value {
            offset: self.at,
            found: Word::at(self.text, self.at),
        }
    }

    #[inline]
    fn expect(&mut self, expected: Kind) -> Result<(), JsonError> {
        let found = self.kind()?;
        if found == expected {
            return Ok(());
        }
        Err(JsonError::Kind {
            expected,
            found,
            offset: self.at,
        })
    }

    #[inline]
    fn open(&mut self) -> Result<(), JsonError> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(JsonError::Depth { offset: self.at });
        }
        self.depth = self.depth.wrapping_add(1);
        self.opened = true;
        self.step();
        Ok(())
    }

    #[inline]
    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.opened = false;
        self.step();
    }

    #[inline]
    fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Result<u8, JsonError> {
        match self.text.as_bytes().get(self.at) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => self.peek_after_space(),
        }
    }

    fn peek_after_space(&mut self) -> Result<u8, JsonError> {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.step(),
                _ => return Ok(byte),
            }
            self.skipped_space = true;
        }
        Err(JsonError::End { offset: self.at })
    }
}

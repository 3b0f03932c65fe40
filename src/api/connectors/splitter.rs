//! Separates the items of a source's answer while it arrives, without checking them.
//!
//! ```text
//! {"next": NaN, "list": [ {"a":1}, oops, {"a":2} ], "x": 1}
//! └──── frame ─────────┘ └─item─┘  └item┘ └item─┘ └─frame──┘
//! ```
//!
//! A source's answer may hold one bad item among good ones: `NaN`, an unpaired surrogate, a number
//! beyond a double's range. The strict scanner stops at the first fault, so this module separates
//! the items first, and the scanner then judges each of them by itself. The splitter looks at
//! quotes, brackets and commas only; an answer whose brackets or quotes are out of balance can't be
//! separated.
//!
//! The pointer is followed while the answer is read: of repeated members the last counts, so a
//! second member of the same name makes the splitter forget the items of the first. What lies
//! around the items, the *frame*, is kept and can be judged by the scanner at the end. The memory
//! is that of the frame and of one item, and never more than the answer has bytes.

use super::pointer::Pointer;
use crate::api::json::Scanner;
use crate::limits::JSON_DEPTH_MAX;
use memchr::memchr2;

/// Bytes of room that are kept from one item to the next.
const ITEM_BYTES_KEPT: usize = 64 * 1024;

/// Takes the items that a [`Splitter`] finds.
pub(super) trait ItemSink {
    /// An element of the list, without the white space around it. It may be no JSON.
    fn item(&mut self, index: usize, text: &[u8]);

    /// Another list counts in place of the one whose items came so far.
    fn restart(&mut self);
}

/// What is at the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or nothing that can be separated from the rest.
    Nothing,
    /// Something that is no array.
    Other,
    /// An array of so many elements.
    List(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Step>,
    /// Elements beyond this number are counted and not given.
    items_max: usize,
    /// The open containers on the way to the list, the list included.
    path: Vec<Open>,
    piece: Piece,
    /// Brackets that are open within the piece.
    depth: usize,
    text: TextState,
    /// The name of the member that is being read, quotes included.
    key: Vec<u8>,
    item: Vec<u8>,
    found: Found,
    frame: Frame,
}

#[derive(Debug)]
struct Step {
    name: String,
    /// The step as the index of an element.
    index: Option<usize>,
}

/// A container on the way.
#[derive(Debug)]
struct Open {
    closing: u8,
    /// The element that is being read.
    index: usize,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing in it lies on the way so far.
    Searched,
    /// A value in it lies on the way.
    Followed,
    /// An array whose element that lies on the way has ended with a comma: what is behind it does
    /// not matter.
    Settled,
    /// The list itself.
    List,
}

impl Open {
    fn is_list(&self) -> bool {
        self.role == Role::List
    }
}

/// Where the splitter is between two commas of the innermost container on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Before the first byte that is not white space.
    Start,
    /// In the name of a member.
    Key,
    /// Behind it.
    AfterKey,
    /// Behind the colon of a member on the way.
    BeforeValue,
    /// In something that does not lie on the way.
    Skipped,
    /// Behind a container on the way: only white space may follow.
    Tail,
    /// In an element of the list.
    Item,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextState {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

/// What lies around the items.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Its text: the answer without what is in the list.
    pub(super) text: Vec<u8>,
    /// Where in `text` bytes were left out, and how many.
    gaps: Vec<(usize, usize)>,
    /// Where in the answer an element of the list is nested too deeply.
    pub(super) too_deep: Option<usize>,
}

impl Frame {
    /// The offset in the answer of what is at `offset` in the frame.
    pub(super) fn offset_in_answer(&self, offset: usize) -> usize {
        let before = self.gaps.iter().take_while(|(at, _)| *at <= offset);
        let left_out = before.fold(0_usize, |sum, (_, count)| sum.saturating_add(*count));
        offset.saturating_add(left_out)
    }

    fn bytes_read(&self) -> usize {
        self.offset_in_answer(self.text.len())
    }

    fn leave_out(&mut self, count: usize) {
        if let Some((_, left_out)) = self.gaps.last_mut() {
            *left_out = left_out.saturating_add(count);
        }
    }
}

impl Splitter {
    /// For the list at `pointer`, of which at most `items_max` elements are given.
    pub(super) fn new(pointer: &Pointer, items_max: usize) -> Self {
        let steps = pointer.steps().map(|name| Step {
            index: name
                .parse()
                .ok()
                .filter(|it: &usize| it.to_string() == name),
            name,
        });
        Self {
            steps: steps.collect(),
            items_max,
            path: Vec::new(),
            piece: Piece::Start,
            depth: 0,
            text: TextState::Outside,
            key: Vec::new(),
            item: Vec::new(),
            found: Found::Nothing,
            frame: Frame::default(),
        }
    }

    /// Bytes of the answer that are kept.
    pub(super) fn held_bytes(&self) -> usize {
        let gaps = self
            .frame
            .gaps
            .capacity()
            .saturating_mul(size_of::<(usize, usize)>());
        let buffers = [&self.key, &self.item, &self.frame.text];
        buffers
            .iter()
            .fold(gaps, |sum, buffer| sum.saturating_add(buffer.len()))
    }

    /// Takes the next bytes of the answer, however it was split.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl ItemSink) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            let run = self.run_len(rest);
            if run > 0 {
                let (run, behind) = rest.split_at_checked(run).unwrap_or((rest, &[]));
                self.keep(run);
                rest = behind;
                continue;
            }
            self.take(byte, sink);
            rest = behind;
        }
    }

    /// What is at the pointer, now that the answer is read, and what lies around it.
    pub(super) fn finish(self) -> (Found, Frame) {
        let is_closed = self.path.iter().all(|open| open.role == Role::Settled);
        let found = if is_closed {
            self.found
        } else {
            Found::Nothing
        };
        (found, self.frame)
    }

    /// The bytes at the beginning of `rest` that change nothing but what is kept.
    fn run_len(&self, rest: &[u8]) -> usize {
        let end = match (self.text, self.piece) {
            (TextState::Inside, _) => memchr2(b'"', b'\\', rest),
            (TextState::Outside, Piece::Skipped | Piece::Item) => {
                let at_comma = self.depth == 0;
                rest.iter().position(|byte| match byte {
                    b'"' | b'{' | b'}' | b'[' | b']' => true,
                    b',' => at_comma,
                    _ => false,
                })
            }
            (TextState::Escaped | TextState::Outside, _) => Some(0),
        };
        end.unwrap_or(rest.len())
    }

    /// Keeps bytes where they belong.
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(open) = self.path.last().filter(|open| open.is_list()) {
            if self.piece == Piece::Item && open.index < self.items_max {
                self.item.extend_from_slice(bytes);
            }
            self.frame.leave_out(bytes.len());
            return;
        }
        // No name of the way is longer, however it is escaped.
        if self.piece == Piece::Key {
            let room = self.key_bytes_max().saturating_sub(self.key.len());
            let kept = bytes.get(..room).unwrap_or(bytes);
            self.key.extend_from_slice(kept);
        }
        self.frame.text.extend_from_slice(bytes);
    }

    fn key_bytes_max(&self) -> usize {
        let step = self.step();
        step.map_or(0, |step| {
            step.name.len().saturating_mul(6).saturating_add(3)
        })
    }

    /// The step that the innermost container on the way is to be followed by.
    fn step(&self) -> Option<&Step> {
        self.steps.get(self.path.len().checked_sub(1)?)
    }

    fn take(&mut self, byte: u8, sink: &mut impl ItemSink) {
        match self.text {
            TextState::Escaped => {
                self.text = TextState::Inside;
                self.keep(&[byte]);
            }
            TextState::Inside => {
                self.keep(&[byte]);
                if byte == b'\\' {
                    self.text = TextState::Escaped;
                } else if byte == b'"' {
                    self.text = TextState::Outside;
                    if self.piece == Piece::Key {
                        self.piece = Piece::AfterKey;
                    }
                }
            }
            TextState::Outside => self.take_outside(byte, sink),
        }
    }

    /// Takes a byte outside of strings.
    fn take_outside(&mut self, byte: u8, sink: &mut impl ItemSink) {
        if self.depth == 0 && !self.path.is_empty() {
            match byte {
                b',' => return self.end_piece(sink),
                b'}' | b']' => return self.close(byte, sink),
                _ => {}
            }
        }
        if !byte.is_ascii_whitespace() {
            let is_value = self.begin(byte, sink);
            if is_value && self.begin_value(byte) {
                return;
            }
        }
        match byte {
            b'"' => self.text = TextState::Inside,
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.look_at_depth();
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.keep(&[byte]);
    }

    /// Goes on to the part of the piece that `byte`, which is no white space, belongs to. True if
    /// it begins a value on the way.
    fn begin(&mut self, byte: u8, sink: &mut impl ItemSink) -> bool {
        match self.piece {
            Piece::Start => {
                let Some(open) = self.path.last() else {
                    return true;
                };
                if open.is_list() {
                    self.piece = Piece::Item;
                } else if open.closing == b'}' {
                    self.key.clear();
                    self.piece = if byte == b'"' {
                        Piece::Key
                    } else {
                        Piece::Skipped
                    };
                } else if self.step().and_then(|step| step.index) == Some(open.index) {
                    self.forget(sink);
                    return true;
                } else {
                    self.piece = Piece::Skipped;
                }
                false
            }
            Piece::AfterKey if byte == b':' && self.is_key_on_the_way() => {
                self.forget(sink);
                self.piece = Piece::BeforeValue;
                false
            }
            Piece::AfterKey => {
                self.piece = Piece::Skipped;
                false
            }
            Piece::BeforeValue => true,
            Piece::Tail => {
                // The container before it is none, so neither is what it held.
                self.found = Found::Nothing;
                self.piece = Piece::Skipped;
                false
            }
            Piece::Key | Piece::Skipped | Piece::Item => false,
        }
    }

    fn is_key_on_the_way(&self) -> bool {
        let key = Scanner::new(&self.key).and_then(|mut scanner| scanner.string());
        let name = key.as_ref().map(|key| key.to_cow());
        self.step()
            .is_some_and(|step| name.is_ok_and(|name| name == *step.name))
    }

    /// Another value is at the pointer from now on, or nothing.
    fn forget(&mut self, sink: &mut impl ItemSink) {
        sink.restart();
        self.found = Found::Nothing;
        if let Some(open) = self.path.last_mut() {
            open.role = Role::Followed;
        }
    }

    /// A value on the way begins with `byte`. True if it is a container that is entered.
    fn begin_value(&mut self, byte: u8) -> bool {
        let is_target = self.path.len() == self.steps.len();
        let closing = match byte {
            b'[' => b']',
            b'{' if !is_target => b'}',
            _ => {
                if is_target {
                    self.found = Found::Other;
                }
                self.piece = Piece::Skipped;
                return false;
            }
        };
        self.frame.text.push(byte);
        if is_target {
            self.found = Found::List(0);
            self.item.clear();
            self.frame.gaps.push((self.frame.text.len(), 0));
        }
        self.path.push(Open {
            closing,
            index: 0,
            role: if is_target {
                Role::List
            } else {
                Role::Searched
            },
        });
        self.piece = Piece::Start;
        true
    }

    /// Notes an element of the list that is nested too deeply, which its own nesting may not show.
    fn look_at_depth(&mut self) {
        let is_item = self.piece == Piece::Item;
        let deepest = self.path.len().saturating_add(self.depth);
        if is_item && deepest > JSON_DEPTH_MAX && self.frame.too_deep.is_none() {
            self.frame.too_deep = Some(self.frame.bytes_read());
        }
    }

    /// A comma ends the piece.
    fn end_piece(&mut self, sink: &mut impl ItemSink) {
        self.end_item(sink);
        self.piece = Piece::Start;
        self.keep(b",");
        if let Some(open) = self.path.last_mut() {
            if open.role == Role::Followed && open.closing == b']' {
                open.role = Role::Settled;
            }
            open.index = open.index.saturating_add(1);
        }
    }

    /// A bracket ends the innermost container on the way, or breaks it.
    fn close(&mut self, byte: u8, sink: &mut impl ItemSink) {
        let is_empty = self.piece == Piece::Start;
        let is_first = self.path.last().is_some_and(|open| open.index == 0);
        if !(is_empty && is_first) {
            self.end_item(sink);
        }
        let open = self.path.pop();
        self.frame.text.push(byte);
        self.piece = Piece::Tail;
        let Some(open) = open else { return };
        if open.role == Role::Settled {
            self.piece = Piece::Skipped;
        } else if open.closing != byte {
            self.found = Found::Nothing;
            self.piece = Piece::Skipped;
        }
    }

    /// If the piece is an element of the list, it is whole.
    fn end_item(&mut self, sink: &mut impl ItemSink) {
        let Some(open) = self.path.last().filter(|open| open.is_list()) else {
            return;
        };
        if open.index < self.items_max {
            sink.item(open.index, self.item.trim_ascii_end());
        }
        self.found = Found::List(open.index.saturating_add(1));
        self.item.clear();
        self.item.shrink_to(ITEM_BYTES_KEPT);
    }
}

//! The patterns of `like`: `*` is any run of characters, everything else is itself.
//!
//! The pieces between stars are searched one after the other, each from where the one before ended,
//! and never again. The first place of each is the right one, because a star matches anything. A
//! vector search finds it in a string without escapes. In another, Knuth, Morris and Pratt's
//! automaton takes the characters one by one and never goes back, so that nothing is copied. Either
//! way the cost is linear in the string, whatever the pattern is.

use super::json::Unescaped;

/// A pattern, and of each piece its automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Between stars; one without a star in the pattern.
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    bytes: Box<[u8]>,
    /// For each length of a match: the longest shorter match that its end is as well.
    fallback: Box<[u16]>,
}

impl Piece {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0_u16; bytes.len() + 1];
        let mut matched = 0_usize;
        for (at, byte) in bytes.iter().enumerate().skip(1) {
            while matched > 0 && bytes[matched] != *byte {
                matched = usize::from(fallback[matched]);
            }
            matched += usize::from(bytes[matched] == *byte);
            // A filter is at most 4 KiB.
            fallback[at + 1] = u16::try_from(matched).unwrap_or(0);
        }
        Self {
            bytes: bytes.into(),
            fallback: fallback.into(),
        }
    }

    /// Bytes matched after `byte`, if `matched` were before it.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        loop {
            if self.bytes.get(matched) == Some(&byte) {
                return matched + 1;
            }
            if matched == 0 {
                return 0;
            }
            matched = usize::from(self.fallback[matched]);
        }
    }

    /// Takes bytes until the piece was found.
    fn find(&self, bytes: &mut impl Iterator<Item = u8>) -> bool {
        let mut matched = 0;
        while matched < self.bytes.len() {
            let Some(byte) = bytes.next() else {
                return false;
            };
            matched = self.step(matched, byte);
        }
        true
    }

    /// Takes all bytes. True if they end with the piece.
    fn ends(&self, bytes: impl Iterator<Item = u8>) -> bool {
        let matched = bytes.fold(0, |matched, byte| self.step(matched, byte));
        matched == self.bytes.len()
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self {
            pieces: text.split('*').map(Piece::new).collect(),
        }
    }

    /// True if the whole string, given by the text between its quotes, matches.
    pub(super) fn matches(&self, raw: &str) -> bool {
        if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
            self.matches_plain(raw.as_bytes())
        } else {
            self.matches_bytes(Unescaped::new(raw))
        }
    }

    /// The same for a string without escapes, by vector search: of a string of megabytes it takes
    /// a small part of the automaton's time.
    fn matches_plain(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return false;
        };
        let Some(mut text) = text.strip_prefix(&*first.bytes) else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return text.is_empty();
        };
        for piece in middle {
            let Some(at) = memchr::memmem::find(text, &piece.bytes) else {
                return false;
            };
            text = &text[at + piece.bytes.len()..];
        }
        text.ends_with(&last.bytes)
    }

    fn matches_bytes(&self, mut bytes: Unescaped<'_>) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return false;
        };
        let begins = first.bytes.iter().all(|byte| bytes.next() == Some(*byte));
        if !begins {
            return false;
        }
        match rest.split_last() {
            None => bytes.next().is_none(),
            Some((last, middle)) => {
                middle.iter().all(|piece| piece.find(&mut bytes)) && last.ends(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By recursion on both texts: short, and slow.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && slow(rest, &text[1..]),
        }
    }

    #[test]
    fn a_star_is_any_run_and_all_else_is_itself() {
        for (pattern, text, expected) in [
            ("pump-*", "pump-", true),
            ("pump-*", "pump-1", true),
            ("pump-*", "a pump-1", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?[b].", "a?[b].", true),
            ("a?", "ab", false),
            ("*é*", "caf\\u00e9!", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*aab", "aaaab", true),
            ("a\\*", "a\\\\b", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn patterns_agree_with_recursion() {
        let mut random = fastrand::Rng::with_seed(15);
        let mut word = |letters: &[u8], len: usize| -> String {
            let letter = |_| char::from(letters[random.usize(..letters.len())]);
            (0..len).map(letter).collect()
        };
        for round in 0..20_000_usize {
            let (pattern, text) = (word(b"ab*", round % 9), word(b"ab", round / 9 % 12));
            let expected = slow(pattern.as_bytes(), text.as_bytes());
            let pattern = Pattern::new(&pattern);
            assert_eq!(pattern.matches(&text), expected, "{pattern:?} {text}");
            let by_automaton = pattern.matches_bytes(Unescaped::new(&text));
            assert_eq!(by_automaton, expected, "{pattern:?} {text}");
        }
    }

    #[test]
    fn the_worst_pattern_costs_no_more_than_the_text_is_long() {
        // By going back this would take 10^10 steps and more.
        let text = "a".repeat(4 * 1024 * 1024);
        let pattern = Pattern::new(&format!("*{}b*", "a".repeat(2000)));
        assert!(!pattern.matches(&text));
        assert!(!pattern.matches(&format!("\\n{text}")));
        assert!(!Pattern::new(&format!("{}b", "*a".repeat(2000))).matches(&text));
    }
}

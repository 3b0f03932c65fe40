//! Makes new inputs out of old ones.

use fastrand::Rng;

/// Bytes of the longest input.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Mutations of one input, at most.
const MUTATIONS_MAX: usize = 6;
/// Values at the edges of lengths and counters.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    125,
    126,
    127,
    128,
    255,
    256,
    4095,
    4096,
    65_535,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A source of inputs. The same seed gives the same inputs from the same corpus.
#[derive(Debug)]
pub struct Mutator<'c> {
    random: Rng,
    corpus: &'c [Vec<u8>],
    dictionary: &'c [&'c [u8]],
}

impl<'c> Mutator<'c> {
    /// A source over `corpus`, with the target's tokens.
    pub fn new(seed: u64, corpus: &'c [Vec<u8>], dictionary: &'c [&'c [u8]]) -> Self {
        Self {
            random: Rng::with_seed(seed),
            corpus,
            dictionary,
        }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any_input().to_vec();
        for _ in 0..self.random.usize(1..=MUTATIONS_MAX) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn any_input(&mut self) -> &'c [u8] {
        let inputs = self.corpus;
        self.random.choice(inputs).map_or(&[], Vec::as_slice)
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(0..=input.len());
        let end = input.len().min(at + self.random.usize(0..=16));
        match self.random.u8(0..10) {
            0 => self.change(input, |random, byte| byte ^ (1 << random.u8(0..8))),
            1 => self.change(input, |random, _| random.u8(..)),
            2 => self.change(input, |random, byte| {
                byte.wrapping_add(random.choice([1, 2, 255]).unwrap_or(1))
            }),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let part = input[at..end].to_vec();
                let times = self.random.usize(1..=64);
                input.splice(at..at, part.repeat(times));
            }
            6 => {
                let token = self.random.choice(self.dictionary).copied();
                let token = token.unwrap_or(b"\0");
                let replaced = if self.random.bool() { at } else { end };
                input.splice(at..replaced, token.iter().copied());
            }
            7 => {
                let other = self.any_input();
                let from = self.random.usize(0..=other.len());
                let to = self.random.usize(from..=other.len());
                let replaced = if self.random.bool() { at } else { input.len() };
                input.splice(at..replaced, other[from..to].iter().copied());
            }
            8 => self.set_number(input, at),
            _ => self.set_digits(input, at),
        }
    }

    fn change(&mut self, input: &mut [u8], change: impl FnOnce(&mut Rng, u8) -> u8) {
        if !input.is_empty() {
            let at = self.random.usize(0..input.len());
            input[at] = change(&mut self.random, input[at]);
        }
    }

    /// Writes an integer over what is there, as length fields have it: 1 to 8 bytes, of either
    /// endianness.
    fn set_number(&mut self, input: &mut [u8], at: usize) {
        let edge = self.random.choice(EDGES).copied().unwrap_or(0);
        let width = self.random.choice([1, 2, 4, 8]).unwrap_or(1);
        let big = edge.to_be_bytes();
        let little = edge.to_le_bytes();
        let bytes = if self.random.bool() {
            &big[8 - width..]
        } else {
            &little[..width]
        };
        for (place, byte) in input[at..].iter_mut().zip(bytes) {
            *place = *byte;
        }
    }

    /// Writes an integer as text, decimal or hexadecimal, over the digits that are there.
    fn set_digits(&mut self, input: &mut Vec<u8>, at: usize) {
        let digits = input[at..].iter().take_while(|it| it.is_ascii_hexdigit());
        let end = at + digits.count();
        let edge = self.random.choice(EDGES).copied().unwrap_or(0);
        let text = if self.random.bool() {
            format!("{edge}")
        } else {
            format!("{edge:x}")
        };
        input.splice(at..end, text.into_bytes());
    }
}

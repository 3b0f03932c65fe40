//! The entities that a run writes and reads: numbered, spread over namespaces, with ids of one
//! length.
//!
//! Entity `n` is `<namespace>-<n mod K>/e-<n>`, digits padded to a fixed width, so that every
//! request of a workload has the same length and its head can be written once. With one namespace
//! the name stands alone, so that a token for it fits; with none the id is `e-<n>`.

use crate::options::EntityOptions;
use anyhow::{Result, bail};

/// Digits of an entity's number.
const ENTITY_DIGITS: usize = 8;
/// Digits of a namespace's number.
const NAMESPACE_DIGITS: usize = 4;
/// Digits of a counter value: fits microseconds since 1970 until 2286, and a double.
pub(crate) const COUNTER_DIGITS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Entities {
    /// How many there are.
    pub(crate) count: u64,
    /// Over how many namespaces they are spread; 0: ids without a namespace.
    pub(crate) namespaces: u64,
    base: String,
}

impl Entities {
    /// # Errors
    /// When a number would need more digits than an id has room for, or nothing would be written.
    pub(crate) fn new(options: &EntityOptions) -> Result<Self> {
        if options.entities == 0 || options.entities > 10u64.pow(8) {
            bail!("--entities must be 1 to {}", 10u64.pow(8));
        }
        if options.namespaces > 10u64.pow(4) {
            bail!("--namespaces must be 0 to {}", 10u64.pow(4));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if options.namespace.is_empty() || !options.namespace.bytes().all(is_plain) {
            bail!("--namespace must be letters, digits, - and _");
        }
        Ok(Self {
            count: options.entities,
            namespaces: options.namespaces,
            base: options.namespace.clone(),
        })
    }

    /// Appends the id of entity `number`.
    pub(crate) fn write_id(&self, number: u64, out: &mut Vec<u8>) {
        if self.namespaces > 0 {
            self.write_namespace(number % self.namespaces, out);
            out.push(b'/');
        }
        out.extend_from_slice(b"e-");
        write_digits(number, ENTITY_DIGITS, out);
    }

    /// Appends the name of namespace `number`.
    pub(crate) fn write_namespace(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.base.as_bytes());
        if self.namespaces > 1 {
            out.push(b'-');
            write_digits(number, NAMESPACE_DIGITS, out);
        }
    }

    pub(crate) fn id(&self, number: u64) -> String {
        let mut id = Vec::new();
        self.write_id(number, &mut id);
        String::from_utf8(id).expect("made of a str and digits")
    }
}

/// Appends `value` in decimal, padded with zeros to `width` digits; higher digits are cut off.
pub(crate) fn write_digits(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b"0123456789"[crate::numbers::index(value % 10)];
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_space_have_one_length() {
        let check = |namespaces, number, expected: &str| {
            let entities = Entities {
                count: 100,
                namespaces,
                base: "load".to_owned(),
            };
            assert_eq!(entities.id(number), expected);
        };
        check(0, 7, "e-00000007");
        check(1, 7, "load/e-00000007");
        check(16, 7, "load-0007/e-00000007");
        check(16, 99, "load-0003/e-00000099");
    }

    #[test]
    fn digits_are_padded_and_cut_to_their_width() {
        let check = |value, width, expected: &[u8]| {
            let mut out = b"x".to_vec();
            write_digits(value, width, &mut out);
            assert_eq!(out, expected);
        };
        check(0, 3, b"x000");
        check(42, 4, b"x0042");
        check(12345, 3, b"x345");
    }
}

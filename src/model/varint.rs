//! Unsigned LEB128 of at most 32 bits: the lengths inside a stored event.
//!
//! Most lengths are below 128 and cost one byte; fixed fields would cost four each, on every event,
//! for ever.

/// Appends `value` in one to five bytes.
pub(super) fn write(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Takes one value off the front of `input`; `None` where it is cut off or does not fit 32 bits.
#[inline]
pub(super) fn read(input: &mut &[u8]) -> Option<u32> {
    if let [byte @ ..0x80, rest @ ..] = *input {
        *input = rest;
        return Some(u32::from(*byte));
    }
    read_longer(input)
}

fn read_longer(input: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u32::from(byte & 0x7f);
        if shift == 28 && byte > 0x0f {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends `value` in one to ten bytes.
pub(super) fn write_long(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Takes a value that [`write_long`] wrote off the front of `input`; `None` if it is cut off or
/// does not fit 64 bits.
pub(super) fn read_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_come_back() {
        for value in [0, 1, 127, 128, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            write_long(&mut bytes, value);
            assert_eq!(read_long(&mut bytes.as_slice()), Some(value));
            assert_eq!(read_long(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(read_long(&mut &[0xff; 10][..]), None);
    }

    #[test]
    fn values_come_back_and_take_the_bytes_they_need() {
        let check = |value: u32, len: usize| {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(bytes.len(), len, "{value}");
            let mut rest = bytes.as_slice();
            assert_eq!(read(&mut rest), Some(value));
            assert!(rest.is_empty());
        };
        check(0, 1);
        check(127, 1);
        check(128, 2);
        check(16_383, 2);
        check(16_384, 3);
        check(u32::MAX, 5);
    }

    #[test]
    fn cut_off_and_oversized_values_are_refused() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            let mut rest = bytes;
            assert_eq!(read(&mut rest), None, "{bytes:?}");
        }
    }
}

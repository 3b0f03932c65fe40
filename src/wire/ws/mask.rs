//! Masking (RFC 6455 §5.3): every byte of a client's payload is combined with the key by exclusive
//! or, cycling through its four bytes. It is its own inverse.

/// Applies `key` to `payload`, eight bytes at a time, which the compiler widens further.
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_le_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §5.3, word for word.
    fn by_definition(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ key[index % 4])
            .collect()
    }

    #[test]
    fn every_length_and_alignment_agrees_with_the_definition() {
        let bytes: Vec<u8> = (0..200_u8).map(|index| index.wrapping_mul(37)).collect();
        for key in [[0; 4], [1, 2, 3, 4], [0xff, 0x80, 0x7f, 0x01]] {
            for start in 0..9 {
                for end in start..bytes.len() {
                    let mut masked = bytes.clone();
                    apply(&mut masked[start..end], key);
                    assert_eq!(masked[start..end], by_definition(&bytes[start..end], key));
                    assert_eq!(
                        (&masked[..start], &masked[end..]),
                        (&bytes[..start], &bytes[end..])
                    );
                }
            }
        }
    }
}

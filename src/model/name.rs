//! The rule for names of namespaces and connectors.

/// Bytes of the shortest name.
const NAME_BYTES_MIN: usize = 3;
/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 32;

/// The rule for names of namespaces and connectors, as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRule;

impl NameRule {
    /// The rule, as an error message shows it.
    pub const TEXT: &'static str = "3 to 32 of the characters a-z, 0-9, `-` and `_`";
}

/// Checks the form of a name. A reserved name passes: that it is taken is checked elsewhere.
///
/// # Errors
/// [`NameRule`].
pub fn check_name(name: &str) -> Result<(), NameRule> {
    let fits = (NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&name.len());
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    if fits && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameRule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rule() {
        for name in ["abc", "a-b", "0_9", "---", &"n".repeat(32)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let bad = [
            "",
            "ab",
            "ABC",
            "a b",
            "a/b",
            "a.b",
            "äbc",
            "abc\n",
            "abc%20",
            "*ab",
            &"n".repeat(33),
        ];
        for name in bad {
            assert_eq!(check_name(name), Err(NameRule), "{name}");
        }
    }
}

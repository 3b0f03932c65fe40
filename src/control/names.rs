//! Names of namespaces that the server makes up.

const ADJECTIVES: &[&str] = &[
    "amber", "ample", "azure", "bold", "brave", "bright", "brisk", "calm", "clear", "cosmic",
    "crisp", "dapper", "dawn", "deep", "eager", "early", "fabled", "fair", "fleet", "fresh",
    "gentle", "gilded", "glad", "golden", "grand", "happy", "hidden", "humble", "icy", "jolly",
    "keen", "kind", "lively", "lofty", "lucid", "lunar", "mellow", "merry", "mighty", "misty",
    "noble", "odd", "pale", "plain", "polar", "proud", "quick", "quiet", "rapid", "rare", "royal",
    "rustic", "sage", "scarlet", "serene", "sharp", "silent", "silver", "sleek", "solar", "steady",
    "still", "stout", "sunny", "swift", "tidal", "tidy", "vast", "vivid", "warm", "wild", "wise",
];

const NOUNS: &[&str] = &[
    "anchor", "arch", "ash", "badger", "bay", "beacon", "birch", "bloom", "breeze", "bridge",
    "brook", "canyon", "cedar", "cliff", "cloud", "comet", "coral", "cove", "crane", "creek",
    "delta", "dune", "eagle", "ember", "falcon", "fern", "field", "fjord", "forest", "fox", "gale",
    "garden", "glade", "grove", "harbor", "haven", "hawk", "heron", "hill", "island", "lagoon",
    "lake", "lark", "leaf", "lynx", "maple", "marsh", "meadow", "mesa", "moon", "moss", "mountain",
    "oak", "ocean", "orchard", "otter", "peak", "pine", "plateau", "pond", "prairie", "raven",
    "reef", "ridge", "river", "shore", "sky", "spring", "star", "stone", "storm", "summit",
    "thicket", "thunder", "tide", "trail", "valley", "wave", "willow", "wolf",
];

/// A name that the server makes up: an adjective and a noun, such as `dawn-coral`; with a number
/// behind them once `attempt` says that plain pairs were taken.
pub fn automatic_name(attempt: usize, random: &mut impl FnMut() -> u64) -> String {
    /// Attempts with a plain pair.
    const PLAIN: usize = 8;
    let (adjective, noun) = (pick(ADJECTIVES, random()), pick(NOUNS, random()));
    if attempt < PLAIN {
        format!("{adjective}-{noun}")
    } else {
        format!("{adjective}-{noun}-{}", random() % 1_000_000)
    }
}

fn pick(words: &'static [&'static str], random: u64) -> &'static str {
    let index = usize::try_from(random)
        .unwrap_or(0)
        .checked_rem(words.len());
    index
        .and_then(|index| words.get(index))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::check_name;

    #[test]
    fn every_name_that_is_made_up_keeps_the_rule() {
        for adjective in ADJECTIVES {
            for noun in NOUNS {
                let name = format!("{adjective}-{noun}-999999");
                assert!(check_name(&name).is_ok(), "{name}");
            }
        }
        let mut next = 0;
        let mut random = || {
            next += 1;
            next
        };
        assert_eq!(automatic_name(0, &mut random), "ample-ash");
        assert_eq!(automatic_name(8, &mut random), "bold-bay-5");
    }

    #[test]
    fn no_word_stands_twice() {
        for words in [ADJECTIVES, NOUNS] {
            assert!(words.is_sorted_by(|left, right| left < right), "{words:?}");
        }
    }
}

//! The corpora: every input that was worth keeping passes its target, and the mutator is a function
//! of its seed.

use flux_fuzz::{Mutator, TARGETS, load_corpus};

#[test]
fn every_input_of_the_corpora_passes_its_target() {
    for target in TARGETS {
        let corpus = load_corpus(target.name).unwrap();
        assert!(corpus.len() >= 3, "{} has a corpus", target.name);
        for (path, input) in corpus {
            let passed = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(
                passed.is_ok(),
                "{} fails on {}",
                target.name,
                path.display()
            );
        }
    }
}

#[test]
fn corpora_are_small() {
    let all = TARGETS.iter().flat_map(|it| load_corpus(it.name).unwrap());
    let bytes: usize = all.map(|(_, input)| input.len()).sum();
    assert!(bytes <= 200 * 1024, "{bytes} bytes");
}

#[test]
fn a_seed_gives_the_same_inputs_again_and_another_seed_others() {
    let corpus = vec![b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"abc".to_vec()];
    let inputs = |seed| -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(seed, &corpus, &[b"token"]);
        (0..1000).map(|_| mutator.next_input()).collect()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
    let has_token = |input: &Vec<u8>| input.windows(5).any(|it| it == b"token");
    assert!(inputs(1).iter().any(has_token));
}

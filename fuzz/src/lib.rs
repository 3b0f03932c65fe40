//! Fuzz targets over every decoder of Flux that meets bytes from outside.
//!
//! | file | job |
//! | --- | --- |
//! | `targets/` | the targets: functions of bytes that panic if an invariant does not hold |
//! | `edits` | bytes → damage to files, for the targets that read files |
//! | `mutate` | makes inputs: bit flips, splices, tokens, truncation, repetition, lengths |
//! | `corpus` | the inputs that are kept, in `corpus/<target>/` |
//! | `main` | the runner: mutates by a seed, notices panics and hangs, keeps the input |
//!
//! The runner needs no special compiler. `coverage/` compiles the same targets for libFuzzer, which
//! is guided by coverage; the inputs that it finds useful belong in the corpus. `tests/corpus.rs`
//! replays the corpus.

mod corpus;
mod edits;
mod mutate;
pub mod targets;

pub use corpus::{corpus_dir, load_corpus};
pub use mutate::Mutator;
pub use targets::{TARGETS, Target};

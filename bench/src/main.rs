//! Benchmarks of Flux.
fn main() {}

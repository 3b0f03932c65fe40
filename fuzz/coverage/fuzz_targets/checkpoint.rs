//! The target `checkpoint` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_fuzz::targets::checkpoint::target(data));

//! The target `filter` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_fuzz::targets::filter::target(data));

//! The target `json` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_fuzz::targets::json::target(data));

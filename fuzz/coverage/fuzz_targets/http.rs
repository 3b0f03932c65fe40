//! The target `http` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_fuzz::targets::http::target(data));

//! The target `mcp` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_fuzz::targets::mcp::target(data));

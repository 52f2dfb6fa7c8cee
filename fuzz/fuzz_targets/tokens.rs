//! `tokens` under libFuzzer: see `galaxy_push_fuzz_targets::tokens`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| galaxy_push_fuzz_targets::tokens(data));

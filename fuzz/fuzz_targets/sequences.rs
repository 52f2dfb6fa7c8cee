//! `sequences` under libFuzzer: see `galaxy_push_fuzz_targets::sequences`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| galaxy_push_fuzz_targets::sequences(data));

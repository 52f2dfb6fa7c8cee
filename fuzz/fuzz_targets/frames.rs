//! `frames` under libFuzzer: see `galaxy_push_fuzz_targets::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| galaxy_push_fuzz_targets::frames(data));

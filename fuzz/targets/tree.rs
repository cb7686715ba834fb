//! The program of the target `tree`.

#![no_main]

mod random;

libfuzzer_sys::fuzz_target!(|data: &[u8]| edgewright_fuzz::tree(data));

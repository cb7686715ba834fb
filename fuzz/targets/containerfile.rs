//! The program of the target `containerfile`.

#![no_main]

mod random;

libfuzzer_sys::fuzz_target!(|data: &[u8]| edgewright_fuzz::containerfile(data));

//! The program of the target `definition`.

#![no_main]

mod random;

libfuzzer_sys::fuzz_target!(|data: &[u8]| edgewright_fuzz::definition(data));

//! The program of the target `layer`.

#![no_main]

mod random;

libfuzzer_sys::fuzz_target!(|data: &[u8]| edgewright_fuzz::layer(data));

//! JSON bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::body(b"application/json", data));

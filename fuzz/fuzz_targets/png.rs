//! PNG by the `png` crate.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::image(b"\x89PNG\r\n\x1A\n", data));

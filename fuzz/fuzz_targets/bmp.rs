//! BMP by `image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::image(b"BM", data));

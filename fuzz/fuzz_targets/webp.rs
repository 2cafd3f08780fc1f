//! WebP by `image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::image(b"RIFF\0\0\0\0WEBP", data));

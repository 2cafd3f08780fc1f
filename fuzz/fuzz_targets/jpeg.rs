//! JPEG by `zune-jpeg` and, where a smaller picture will do, `jpeg-decoder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::image(b"\xFF\xD8\xFF", data));

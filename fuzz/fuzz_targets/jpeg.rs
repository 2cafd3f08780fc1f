//! JPEG by the decoder of libjpeg-turbo, which is C.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvage_fuzz::image(b"\xFF\xD8\xFF", data));

//! What a gateway looks at of an image: its first bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = selvage_gateway::http::upload::check(data, selvage_fuzz::PIXELS);
});

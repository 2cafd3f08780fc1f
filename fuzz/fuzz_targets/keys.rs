//! The file of API keys. Whatever is wrong with it, no message repeats what it holds.
#![no_main]

use selvage_gateway::http::access::Keys;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(keys) = Keys::parse(text) {
        assert_eq!(keys.is_empty(), keys.len() == 0);
        assert!(keys.find(data).is_none(), "a file is no key to itself");
    }
});

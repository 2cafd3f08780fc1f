//! Inference requests: a line with the length of the JSON, or an empty one, then the body. What the gateway takes must be
//! right for the worker too.
#![no_main]

use bytes::Bytes;
use selvage_gateway::http::oip::{parse, rows};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let length = (at > 0).then_some(&data[..at]);
    let body = Bytes::copy_from_slice(data.get(at + 1..).unwrap_or_default());
    let Ok(request) = parse(length, &body) else {
        return;
    };
    for model in selvage_fuzz::models() {
        for row in rows(&request, model).unwrap_or_default() {
            let prepared = selvage_fuzz::prepare(&row, model);
            assert!(prepared.is_ok(), "the worker refuses what the gateway took: {prepared:?}");
        }
    }
});

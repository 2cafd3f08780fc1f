//! Multipart bodies: a line with the header's parameters, then the body.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let kind = [b"multipart/form-data; ", &data[..at]].concat();
    selvage_fuzz::body(&kind, data.get(at + 1..).unwrap_or_default());
});

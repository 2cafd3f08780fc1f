//! Messages between gateways and workers: what was read is written and read again as it was.
#![no_main]

use selvage_core::queue::wire::{decode_jobs, decode_reports, encode_jobs, encode_reports};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(jobs) = decode_jobs(&data.to_vec().into()) {
        let again = encode_jobs(&jobs).expect("what was read can be written");
        let again = decode_jobs(&again.into()).expect("what was written can be read");
        assert_eq!(format!("{jobs:?}"), format!("{again:?}"));
    }
    if let Ok(reports) = decode_reports(data) {
        let again = encode_reports(&reports).expect("what was read can be written");
        let again = decode_reports(&again).expect("what was written can be read");
        assert_eq!(format!("{reports:?}"), format!("{again:?}"));
    }
});

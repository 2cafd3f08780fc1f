//! A request's line and headers: a line with path and query, then lines of names and values.
#![no_main]

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use selvage_gateway::http::idempotency::IdempotencyKey;
use selvage_gateway::http::options::{Query, Reader, cache_policy};
use selvage_gateway::http::prefer::{PREFERENCE_APPLIED, Prefer, applied_wait};
use selvage_gateway::http::upload::refuse_encoding;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let uri = lines.next().and_then(|line| Uri::try_from(line).ok());
    if let Some(query) = uri.and_then(|uri| Query::of(&uri).ok()) {
        let _ = Reader::default().take_query(&query);
        let _ = (query.clone().only_wait(), query.nothing());
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Some(seconds) = Prefer::of(&headers).wait {
        headers.insert(PREFERENCE_APPLIED, applied_wait(seconds.into()));
    }
    let _ = IdempotencyKey::of(&headers, "somebody");
    let _ = (cache_policy(&headers), refuse_encoding(&headers));
});

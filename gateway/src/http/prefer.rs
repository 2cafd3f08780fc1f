//! The `Prefer` request header (RFC 7240): `wait=N` and `respond-async`. Anything else in it is ignored.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// `Prefer`.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// `Preference-Applied`.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What the client prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `wait=N`: seconds the client will wait.
    pub wait: Option<u32>,
    /// `respond-async`: the client would rather have a 202.
    pub respond_async: bool,
}

impl Prefer {
    /// Reads all `Prefer` headers. RFC 7240 §2: of a preference given twice the first counts, and one that cannot be
    /// understood is ignored, not refused.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        for value in headers.get_all(PREFER) {
            let Ok(text) = value.to_str() else { continue };
            for preference in text.split(',') {
                prefer.take(preference);
            }
        }
        prefer
    }

    fn take(&mut self, preference: &str) {
        // Parameters after a semicolon refine a preference; none is defined for these two.
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = match preference.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
            None => (preference.trim(), ""),
        };
        if name.eq_ignore_ascii_case("respond-async") {
            self.respond_async = true;
        } else if name.eq_ignore_ascii_case("wait") && self.wait.is_none() {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            // More digits than fit are a very long wait, which the maximum bounds anyway.
            self.wait = digits.then(|| value.parse().unwrap_or(u32::MAX));
        }
    }
}

/// `Preference-Applied: wait=N`, with the wait as it was applied.
#[must_use]
pub fn applied_wait(seconds: u64) -> HeaderValue {
    HeaderValue::try_from(format!("wait={seconds}"))
        .unwrap_or_else(|_| HeaderValue::from_static("wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(values: &[&str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        Prefer::of(&headers)
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_says() {
        let cases: &[(&[&str], Option<u32>, bool)] = &[
            (&[], None, false),
            (&["wait=10"], Some(10), false),
            (&["Wait = 10"], Some(10), false),
            (&["wait=\"7\""], Some(7), false),
            (&["respond-async"], None, true),
            (&["respond-async, wait=5"], Some(5), true),
            (&["respond-async", "wait=5"], Some(5), true),
            (&["wait=1, wait=2"], Some(1), false),
            (&["wait=5; foo=bar"], Some(5), false),
            (&["handling=lenient, wait=0"], Some(0), false),
            (&["wait=99999999999999999999"], Some(u32::MAX), false),
            (&["wait"], None, false),
            (&["wait="], None, false),
            (&["wait=-1"], None, false),
            (&["wait=abc"], None, false),
            (&["wait=1.5"], None, false),
            (&[",,=,;,"], None, false),
            (&["waiting=4, respond-asynchronously"], None, false),
        ];
        for (values, wait, respond_async) in cases {
            let expected = Prefer {
                wait: *wait,
                respond_async: *respond_async,
            };
            assert_eq!(prefer(values), expected, "{values:?}");
        }
    }
}

//! Where traces are sent.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::address;

/// The address of an OpenTelemetry collector; shows host and path only, never user or password.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpUrl(Url);

impl OtlpUrl {
    /// Where traces are posted, credentials included: `/v1/traces` below the address, as OTLP has it.
    #[must_use]
    pub fn traces(&self) -> String {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        url.into()
    }
}

impl FromStr for OtlpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        address::parse(text, &["http", "https"]).map(Self)
    }
}

impl fmt::Display for OtlpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        address::show(&self.0, f)
    }
}

address::debug_as_display!(OtlpUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_their_path_and_no_password_is_shown() {
        for (text, traces) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            (
                "https://u:s3cret@otel/a/",
                "https://u:s3cret@otel/a/v1/traces",
            ),
        ] {
            let url: OtlpUrl = text.parse().unwrap();
            assert_eq!(url.traces(), traces);
            assert!(!format!("{url} {url:?}").contains("s3cret"));
        }
        let error = "grpc://u:s3cret@otel".parse::<OtlpUrl>().unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

//! Moments as the API writes them.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use selvage_core::clock::UnixMillis;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A moment as RFC 3339 in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, Default, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(crate) struct Time(pub(crate) UnixMillis);

/// The last millisecond of the year 9999, the last RFC 3339 can write.
const LAST_MOMENT: u64 = 253_402_300_799_999;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = Duration::from_millis(self.0.0.min(LAST_MOMENT));
        humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_never_beyond_writing() {
        let last = serde_json::to_string(&Time(UnixMillis(u64::MAX))).unwrap();
        assert_eq!(last, "\"9999-12-31T23:59:59.999Z\"");
    }
}

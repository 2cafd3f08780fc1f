//! Which calls are tried again, how often, and when.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::failure::{Exit, Failure};

/// The first delay where the server names none; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest of those.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Added to every delay, up to this part of it: clients that were refused together do not come back together.
const JITTER: f64 = 0.1;

/// An attempt that gave nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// The status, where there was an answer.
    pub(super) status: Option<u16>,
    /// When the server wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// No answer, or none that came to an end.
    pub(super) fn unreachable(url: &str, cause: String) -> Self {
        let url = url.to_owned();
        Self {
            failure: Failure::Unreachable { url, cause },
            status: None,
            retry_after: None,
        }
    }

    /// Whether another attempt could fare better: the server is busy, or something between here and there is broken.
    fn is_passing(&self) -> bool {
        matches!(self.status, None | Some(429 | 502..=504)) || self.failure.exit() == Exit::Busy
    }
}

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Tries {
    made: u32,
    most: u32,
}

impl Tries {
    pub(super) const fn of(most: u32) -> Self {
        Self { made: 0, most }
    }

    /// Counts a try that failed; when the next one is to be made, if any is.
    pub(super) fn next(&mut self, refusal: &Refusal) -> Option<Duration> {
        self.made += 1;
        if !refusal.is_passing() || self.made >= self.most {
            return None;
        }
        let doubled = FIRST_DELAY.saturating_mul(1 << (self.made - 1).min(16));
        let delay = refusal.retry_after.unwrap_or(doubled.min(LONGEST_DELAY));
        Some(delay.mul_f64(1.0 + rand::rng().random_range(0.0..JITTER)))
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "try {} of {}", self.made + 1, self.most)
    }
}

/// `Retry-After` in seconds. Its other form, a date, is not used by Selvage; without it the delays grow by themselves.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    // What no deadline of a user's reaches is as good as any number.
    Some(Duration::from_secs(u64::from(text.parse::<u32>().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: Option<u16>, retry_after: Option<u64>) -> Refusal {
        let mut refusal = Refusal::unreachable("http://h", "x".to_owned());
        refusal.status = status;
        refusal.retry_after = retry_after.map(Duration::from_secs);
        refusal
    }

    #[test]
    fn the_server_says_when_and_delays_grow_otherwise() {
        let mut tries = Tries::of(4);
        let reported = tries.next(&refusal(Some(429), Some(7))).unwrap();
        assert!((7.0..7.7).contains(&reported.as_secs_f64()), "{reported:?}");
        let second = tries.next(&refusal(None, None)).unwrap();
        assert!(second >= FIRST_DELAY * 2 && second < FIRST_DELAY * 3);
        assert_eq!(tries.to_string(), "try 3 of 4");
        assert!(tries.next(&refusal(Some(503), None)).is_some());
        assert!(
            tries.next(&refusal(Some(503), None)).is_none(),
            "four tries"
        );
    }

    #[test]
    fn long_rows_of_tries_stay_within_the_longest_delay() {
        let mut tries = Tries::of(100);
        for _ in 0..98 {
            let delay = tries.next(&refusal(None, None)).unwrap();
            assert!(delay < LONGEST_DELAY.mul_f64(1.0 + JITTER));
        }
    }

    #[test]
    fn what_would_fare_the_same_is_not_tried_again() {
        for status in [301, 400, 401, 404, 409, 415, 422, 500] {
            assert!(
                Tries::of(5).next(&refusal(Some(status), None)).is_none(),
                "{status}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        for (text, seconds) in [
            ("3", Some(3)),
            ("0", Some(0)),
            ("soon", None),
            ("-1", None),
            ("9999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(
                retry_after(&headers),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}

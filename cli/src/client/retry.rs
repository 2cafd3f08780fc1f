//! Which calls are retried, how often, and when.

use std::iter;
use std::time::Duration;

use rand::Rng as _;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::failure::{Exit, Failure};

/// Attempts, unless the user sets another number.
pub(super) const DEFAULT_ATTEMPTS: u32 = 5;
/// The first delay if the server names none; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest of those.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Up to this part is added to every delay, so that rejected clients do not all come back at once.
const JITTER: f64 = 0.1;

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// The status, if there was an answer.
    pub(super) status: Option<u16>,
    /// When the server wants the next attempt.
    pub(super) retry_after: Option<Duration>,
    /// There was no connection.
    pub(super) is_connect: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            status: None,
            retry_after: None,
            is_connect: false,
        }
    }
}

impl Refusal {
    /// Whether another attempt could succeed: the server is busy, or the connection broke.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.status, None | Some(429 | 502..=504)) || self.failure.exit() == Exit::Busy
    }

    /// The delay until the next attempt: what the server says, or else this one.
    pub(super) fn delay(&self, otherwise: Duration) -> Duration {
        let delay = self.retry_after.unwrap_or(otherwise);
        delay.mul_f64(1.0 + rand::rng().random_range(0.0..JITTER))
    }
}

/// The delays between so many attempts, if the server names none.
pub(super) fn delays(attempts: u32) -> impl Iterator<Item = Duration> {
    let doubled = |delay: &Duration| Some((*delay * 2).min(LONGEST_DELAY));
    iter::successors(Some(FIRST_DELAY), doubled).take(attempts as usize - 1)
}

/// `Retry-After` in seconds. Selvage does not use its other form, a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    // No user's deadline is that far.
    Some(Duration::from_secs(u64::from(text.parse::<u32>().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: Option<u16>, retry_after: Option<u64>) -> Refusal {
        let mut refusal = Refusal::from(Failure::TimedOut);
        refusal.status = status;
        refusal.retry_after = retry_after.map(Duration::from_secs);
        refusal
    }

    #[test]
    fn the_server_says_when_and_delays_grow_otherwise() {
        let reported = refusal(Some(429), Some(7)).delay(FIRST_DELAY);
        assert!((7.0..7.7).contains(&reported.as_secs_f64()), "{reported:?}");
        let own = refusal(None, None).delay(FIRST_DELAY);
        assert!((0.2..0.22).contains(&own.as_secs_f64()), "{own:?}");
        let delays: Vec<_> = delays(4).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [200, 400, 800], "four attempts");
        assert_eq!(super::delays(1).count(), 0);
        assert_eq!(super::delays(100).max(), Some(LONGEST_DELAY));
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        for status in [301, 400, 401, 404, 409, 415, 422, 500] {
            assert!(!refusal(Some(status), None).is_passing(), "{status}");
        }
        for status in [None, Some(429), Some(502), Some(503), Some(504)] {
            assert!(refusal(status, None).is_passing(), "{status:?}");
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

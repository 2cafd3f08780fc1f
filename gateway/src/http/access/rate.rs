//! How often a client may ask: rates as they are written, what is left of them, and what clients see of it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::http::error::{ApiError, Code};

/// draft-ietf-httpapi-ratelimit-headers-10 §3 and §4.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
/// Most requests in one window.
const MAX_REQUESTS: u32 = 1_000_000;

/// So many requests per second, minute or hour, all of them at once if the client likes. Written `600/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    requests: NonZeroU32,
    per: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number from 1 to 1000000 per s, m or h, such as 600/m")]
pub struct NoRate;

impl Unit {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    const fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// How long it takes until all requests are there again.
    pub(super) const fn window(self) -> Duration {
        Duration::from_secs(self.per.seconds() as u64)
    }

    /// How long it takes until one more request is there.
    const fn interval(self) -> Duration {
        Duration::from_nanos(self.window().as_nanos() as u64 / self.requests.get() as u64)
    }
}

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (requests, symbol) = text.split_once('/').ok_or(NoRate)?;
        let digits = requests.bytes().all(|b| b.is_ascii_digit());
        let requests: NonZeroU32 = requests.parse().map_err(|_| NoRate)?;
        let mut units = Unit::ALL.into_iter();
        let per = units.find(|unit| unit.symbol() == symbol).ok_or(NoRate)?;
        if !digits || requests.get() > MAX_REQUESTS {
            return Err(NoRate);
        }
        Ok(Self { requests, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.per.symbol())
    }
}

/// What is left to one client of its rate; it fills up as time goes by.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
}

/// What is there instead, and how long it takes until all is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missing {
    left: u32,
    wait: Duration,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.interval());
        // An interval is a microsecond at least.
        let quota = quota.unwrap_or_else(|| Quota::per_second(rate.requests));
        let limiter = RateLimiter::direct(quota.allow_burst(rate.requests));
        Self {
            rate,
            limiter: limiter.with_middleware(),
        }
    }

    /// The rate it fills up at.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes so many requests, all or none; gives what is left.
    fn take(&self, requests: NonZeroU32) -> Result<u32, Missing> {
        let all = self.rate.requests.get();
        match self.limiter.check_n(requests) {
            Ok(Ok(state)) => Ok(state.remaining_burst_capacity()),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let coming = wait.as_nanos().div_ceil(self.rate.interval().as_nanos());
                let coming = u32::try_from(coming).unwrap_or(u32::MAX);
                let left = requests.get().saturating_sub(coming).min(all);
                Err(Missing { left, wait })
            }
            // More than there ever is; a window gives all there is.
            Err(_never) => Err(Missing {
                left: all,
                wait: self.rate.window(),
            }),
        }
    }
}

/// What one request's client has left, for its answer to say.
#[derive(Debug)]
pub(super) struct Allowance {
    policy: &'static str,
    bucket: Arc<Bucket>,
    left: AtomicU32,
}

impl Allowance {
    /// Of a bucket that is called so.
    pub(super) fn new(policy: &'static str, bucket: Arc<Bucket>) -> Self {
        let left = AtomicU32::new(bucket.rate.requests.get());
        Self {
            policy,
            bucket,
            left,
        }
    }

    /// Takes one request.
    pub(super) fn take_request(&self) -> Result<(), ApiError> {
        self.take(1, Duration::ZERO)
    }

    /// Takes what a request with so many images is more than one.
    pub(super) fn take_images(&self, images: usize) -> Result<(), ApiError> {
        let rate = self.bucket.rate;
        if images > rate.requests.get() as usize {
            let detail = format!("{images} images count as {images} requests; {rate} are allowed");
            return Err(ApiError::option("#/images", detail));
        }
        let more = u32::try_from(images.saturating_sub(1)).unwrap_or(u32::MAX);
        // When it comes again, it has to take the first one again too.
        self.take(more, rate.interval())
    }

    fn take(&self, requests: u32, besides: Duration) -> Result<(), ApiError> {
        let Some(requests) = NonZeroU32::new(requests) else {
            return Ok(());
        };
        let (left, taken) = match self.bucket.take(requests) {
            Ok(left) => (left, Ok(())),
            Err(Missing { left, wait }) => {
                let wait = wait + besides;
                let (rate, seconds) = (self.bucket.rate, wait.as_secs_f64());
                let detail = format!("{rate} requests are allowed; come back in {seconds:.1} s");
                let error = ApiError::new(Code::RateLimited, detail).retry_after(wait);
                (left, Err(error))
            }
        };
        self.left.store(left, Ordering::Relaxed);
        taken
    }

    /// `RateLimit-Policy` and `RateLimit`.
    pub(super) fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let Self { policy, bucket, .. } = self;
        let (all, window) = (bucket.rate.requests.get(), bucket.rate.window().as_secs());
        let left = self.left.load(Ordering::Relaxed).min(all);
        let full = bucket.rate.interval() * (all - left);
        let full = full.as_millis().div_ceil(1000);
        let value = |text: String| {
            // Digits and fixed words are always a header's value.
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        [
            (POLICY, value(format!("\"{policy}\";q={all};w={window}"))),
            (LEFT, value(format!("\"{policy}\";r={left};t={full}"))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(rate: &str) -> Allowance {
        let bucket = Bucket::new(rate.parse().unwrap());
        Allowance::new("key", Arc::new(bucket))
    }

    fn shown(allowance: &Allowance) -> [String; 2] {
        let headers = allowance.headers();
        headers.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn rates_are_written_as_they_are_read_and_nothing_else_is_one() {
        for text in ["1/s", "600/m", "1000000/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "600",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "1/d",
            "1/",
            "/s",
            "1000001/s",
            "1/s/s",
            " 1/s",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate), "{text:?}");
        }
        assert_eq!(
            "1000000/s".parse::<Rate>().unwrap().interval().as_nanos(),
            1000
        );
    }

    #[test]
    fn a_rate_is_given_at_once_and_then_one_by_one() {
        let allowance = allowance("3/h");
        assert_eq!(shown(&allowance), ["\"key\";q=3;w=3600", "\"key\";r=3;t=0"]);
        for left in [2, 1, 0] {
            allowance.take_request().unwrap();
            let full = (3 - left) * 1200;
            assert_eq!(shown(&allowance)[1], format!("\"key\";r={left};t={full}"));
        }
        let refused = allowance.take_request().unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        let wait = refused.after().unwrap();
        assert!((1100..=1200).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(shown(&allowance)[1], "\"key\";r=0;t=3600");
    }

    #[test]
    fn images_are_taken_all_or_none() {
        let allowance = allowance("10/h");
        let ask = |images| {
            allowance.take_request()?;
            allowance.take_images(images)
        };
        ask(1).unwrap();
        assert_eq!(shown(&allowance)[1], "\"key\";r=9;t=360");
        ask(6).unwrap();
        assert_eq!(shown(&allowance)[1], "\"key\";r=3;t=2520");
        // What is refused has cost its request only.
        let refused = ask(4).unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        assert_eq!(shown(&allowance)[1], "\"key\";r=2;t=2880");
        let wait = refused.after().unwrap();
        assert!(
            (700..=720).contains(&wait.as_secs()),
            "two more are needed: {wait:?}"
        );
        ask(2).unwrap();
        let never = allowance.take_images(11).unwrap_err();
        assert_eq!(never.code(), Code::InvalidOption);
    }

    #[test]
    fn the_whole_rate_fits_into_one_request() {
        let allowance = allowance("64/h");
        allowance.take_request().unwrap();
        allowance.take_images(64).unwrap();
        assert_eq!(shown(&allowance)[1], "\"key\";r=0;t=3600");
    }
}

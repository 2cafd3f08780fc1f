//! The time deadlines are measured by.
//!
//! A fleet's machines disagree about the time, so a deadline made on one and read on another would expire jobs at random.
//! Each process therefore anchors its monotonic clock to one shared clock (Redis `TIME`, see [`Clock::anchor`]) and never
//! reads the wall clock again. Without Redis the anchor is the wall clock at start.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The wall clock's reading; only for what is shown to people and for the first anchor.
    #[must_use]
    pub fn wall() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// This moment plus a span; saturates.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long it is from `earlier` to this moment; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The shared clock as this process knows it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Arc<RwLock<(Instant, UnixMillis)>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            anchor: Arc::new(RwLock::new((Instant::now(), UnixMillis::wall()))),
        }
    }
}

impl Clock {
    /// The shared time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let (instant, millis) = *self.anchor.read();
        millis.after(instant.elapsed())
    }

    /// Sets the shared time as of now.
    pub fn anchor(&self, shared: UnixMillis) {
        *self.anchor.write() = (Instant::now(), shared);
    }

    /// Takes a reading of the shared clock that was asked for at `asked`. One between then and now agrees with this clock and
    /// changes nothing: it would slow the clock by the time that the answer took.
    pub fn correct(&self, shared: UnixMillis, asked: UnixMillis) {
        if !(asked..=self.now()).contains(&shared) {
            self.anchor(shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchored_clock_follows_the_shared_time_and_not_the_wall() {
        let clock = Clock::default();
        let shared = UnixMillis(1_000);
        clock.anchor(shared);
        let now = clock.now();
        assert!(now >= shared && now < UnixMillis::wall(), "{now:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn readings_do_not_slow_a_clock_that_agrees_with_them() {
        let clock = Clock::default();
        let first = clock.now();
        for _ in 0..100 {
            let (asked, shared) = (clock.now(), clock.now());
            tokio::time::advance(Duration::from_micros(3_900)).await;
            clock.correct(shared, asked);
        }
        assert!(clock.now().since(first) >= Duration::from_millis(389));
        let (asked, shared) = (clock.now(), UnixMillis(1_000));
        clock.correct(shared, asked);
        assert_eq!(clock.now(), shared);
    }

    #[test]
    fn spans_saturate_instead_of_wrapping() {
        assert_eq!(
            UnixMillis(u64::MAX).after(Duration::from_secs(1)),
            UnixMillis(u64::MAX)
        );
        assert_eq!(UnixMillis(5).since(UnixMillis(7)), Duration::ZERO);
    }
}

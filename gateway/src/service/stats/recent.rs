//! What came in the last minute: counts of a moment ago, taken off the counts of now.

use std::collections::VecDeque;
use std::time::Duration;

use selvage_core::registry::Traffic;
use tokio::time::Instant;

/// How far back "recent" goes.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Counts of the last minute, one for each time they were noted.
#[derive(Debug, Default)]
pub struct Recent {
    noted: VecDeque<(Instant, Traffic)>,
}

impl Recent {
    /// Notes the counts of a moment, and forgets what is older than needed.
    pub fn note(&mut self, now: Instant, total: Traffic) {
        self.noted.push_back((now, total));
        let old = |(at, _): &(Instant, Traffic)| now.duration_since(*at) >= WINDOW;
        while self.noted.get(1).is_some_and(old) {
            self.noted.pop_front();
        }
    }

    /// What came since the oldest note that still counts, and how long ago that was.
    #[must_use]
    pub fn until(&self, now: Instant, total: &Traffic) -> (Traffic, Duration) {
        match self.noted.front() {
            Some((at, earlier)) => (total.since(earlier), now.duration_since(*at)),
            None => (Traffic::default(), Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(submitted: u64) -> Traffic {
        Traffic {
            submitted,
            ..Traffic::default()
        }
    }

    #[test]
    fn only_the_last_minute_counts() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        assert_eq!(recent.until(start, &submitted(9)).0, Traffic::default());
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            recent.note(now, submitted(second * 10));
        }
        let now = start + Duration::from_secs(199);
        let (grown, span) = recent.until(now, &submitted(1990));
        assert_eq!((grown.submitted, span), (600, WINDOW));
        assert!(recent.noted.len() <= 61, "{}", recent.noted.len());
    }

    #[test]
    fn a_young_gateways_minute_is_its_life() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        recent.note(start, submitted(0));
        let (grown, span) = recent.until(start + Duration::from_secs(3), &submitted(30));
        assert_eq!((grown.submitted, span), (30, Duration::from_secs(3)));
    }
}

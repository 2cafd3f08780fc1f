//! Stops asking a server that has fallen silent, and finds out when it is back. Pure: the caller brings the time.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Failures without a success between them that open the breaker, however far apart: where calls are rare, each must
    /// not have to wait for its timeout again.
    pub(super) failures: u32,
    /// After this span one call is let through to see whether the server is back.
    pub(super) rest: Duration,
}

impl Rule {
    /// For records: two calls without an answer, after each other or at once, then callers are refused for a second.
    pub(super) const RECORDS: Self = Self::new(2);
    /// For cached results: three calls without an answer, then requests go on without the cache for a second.
    pub(super) const RESULTS: Self = Self::new(3);

    const fn new(failures: u32) -> Self {
        let rest = Duration::from_secs(1);
        Self { failures, rest }
    }
}

/// Counts failures; open, it refuses calls at once instead of letting each wait for its timeout.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: Rule,
    state: Mutex<BreakerState>,
}

#[derive(Debug)]
enum BreakerState {
    /// Calls go through; so many have failed since the last success.
    Closed(u32),
    /// Calls are refused until then.
    Open(Instant),
    /// One call is under way to see whether the server is back.
    Probing,
}

/// Leave for one call. Dropped without a verdict (the caller went away) it counts for nothing.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    settled: bool,
}

impl Breaker {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            state: Mutex::new(BreakerState::Closed(0)),
        }
    }

    /// Leave for one call, or `None` while the server rests.
    pub(super) fn admit(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.state.lock();
        let is_probe = match *state {
            BreakerState::Closed(_) => false,
            BreakerState::Open(until) if until <= now => {
                *state = BreakerState::Probing;
                true
            }
            BreakerState::Open(_) | BreakerState::Probing => return None,
        };
        Some(Pass {
            breaker: self,
            is_probe,
            settled: false,
        })
    }
}

impl Pass<'_> {
    /// The server answered, if only with an error: it is there.
    pub(super) fn succeeded(mut self) {
        self.settled = true;
        match &mut *self.breaker.state.lock() {
            BreakerState::Closed(failures) => *failures = 0,
            state @ (BreakerState::Open(_) | BreakerState::Probing) => {
                *state = BreakerState::Closed(0)
            }
        }
    }

    /// The server did not answer; true if this made the breaker refuse calls from now on.
    pub(super) fn failed(mut self, now: Instant) -> bool {
        self.settled = true;
        let rule = self.breaker.rule;
        let mut state = self.breaker.state.lock();
        let opens = match &mut *state {
            BreakerState::Closed(failures) => {
                *failures += 1;
                *failures >= rule.failures
            }
            BreakerState::Probing => self.is_probe,
            BreakerState::Open(_) => false,
        };
        if opens {
            *state = BreakerState::Open(now + rule.rest);
        }
        opens
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.settled {
            let mut state = self.breaker.state.lock();
            if matches!(*state, BreakerState::Probing) {
                *state = BreakerState::Open(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        failures: 3,
        rest: Duration::from_secs(1),
    };

    fn fail(breaker: &Breaker, now: Instant) -> bool {
        breaker.admit(now).expect("closed").failed(now)
    }

    fn open_at(now: Instant) -> Breaker {
        let breaker = Breaker::new(RULE);
        assert_eq!([(); 3].map(|()| fail(&breaker, now)), [false, false, true]);
        breaker
    }

    #[test]
    fn three_failures_open_it_for_a_second() {
        let start = Instant::now();
        let breaker = open_at(start);
        assert!(breaker.admit(start + Duration::from_millis(999)).is_none());
        assert!(breaker.admit(start + RULE.rest).is_some());
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let breaker = Breaker::new(RULE);
        let now = Instant::now();
        for _ in 0..5 {
            assert!(!fail(&breaker, now) && !fail(&breaker, now));
            breaker.admit(now).unwrap().succeeded();
        }
    }

    #[test]
    fn one_probe_at_a_time_decides_for_all() {
        let start = Instant::now();
        let breaker = open_at(start);
        let later = start + RULE.rest;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_none(), "a second probe");
        assert!(probe.failed(later), "a failed probe opens it again");
        assert!(breaker.admit(later).is_none());
        breaker.admit(later + RULE.rest).unwrap().succeeded();
        assert!(breaker.admit(later + RULE.rest).is_some());
        assert!(
            !fail(&breaker, later + RULE.rest),
            "old failures are forgotten"
        );
    }

    #[test]
    fn calls_from_before_it_opened_do_not_open_it_longer() {
        let start = Instant::now();
        let breaker = Breaker::new(RULE);
        let slow = breaker.admit(start).unwrap();
        for _ in 0..3 {
            fail(&breaker, start);
        }
        assert!(!slow.failed(start + Duration::from_millis(500)));
        assert!(breaker.admit(start + RULE.rest).is_some());
    }

    #[test]
    fn a_probe_whose_caller_went_away_frees_its_place() {
        let start = Instant::now();
        let breaker = open_at(start);
        drop(breaker.admit(start + RULE.rest).unwrap());
        assert!(breaker.admit(start + 2 * RULE.rest).is_some());
    }
}

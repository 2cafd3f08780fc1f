//! Who may begin: places in flight, how fast they become free, and when a refused client should come back; and lists of jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use selvage_core::key_name::KeyName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// How long a measured rate counts: after it, an old rate has lost two thirds of its weight.
const MEMORY: Duration = Duration::from_secs(5);
/// Shortest time over which events are counted, so that a burst is not taken for a rate.
const MIN_SPAN: Duration = Duration::from_millis(500);
/// After so long without an event the next one is not measured from the last.
const IDLE: Duration = Duration::from_secs(5);
/// Shortest and longest advice to a refused client.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Advice while nothing has been measured yet.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// A place in flight; free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// No place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Jobs in flight.
    pub in_flight: usize,
    /// When to come back.
    pub retry_after: Duration,
}

/// Places for jobs that somebody waits for.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    max: usize,
    /// How fast this gateway's jobs finish.
    pub pace: Pace,
}

impl Admission {
    /// So many places.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(max)),
            max,
            pace: Pace::default(),
        }
    }

    /// Takes a place, or says when to come back.
    ///
    /// # Errors
    /// [`Full`] where all are taken.
    pub fn admit(&self) -> Result<Permit, Full> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Ok(Permit { _permit: permit }),
            Err(_all_taken) => {
                let in_flight = self.in_flight();
                let retry_after = retry_after(in_flight as u64, self.pace.per_second());
                Err(Full {
                    in_flight,
                    retry_after,
                })
            }
        }
    }

    /// Places taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.max - self.places.available_permits()
    }

    /// All places.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }
}

/// Longest time a list waits for its turn.
const LIST_WAIT: Duration = Duration::from_secs(2);

/// The owner's earlier lists are still being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("earlier lists of this owner are still being read")]
pub struct TooManyLists {
    /// When to come back.
    pub retry_after: Duration,
}

/// Lists of jobs that are answered now, one of each owner; without keys, all clients are one. A list costs far more than other
/// requests: an owner that asks for many at once waits for its own lists, and keeps no more than one thread busy.
#[derive(Debug, Default)]
pub struct Lists(Mutex<HashMap<Option<KeyName>, Arc<Semaphore>>>);

impl Lists {
    /// Waits until this owner may have a list answered; its turn ends when the permit is dropped.
    ///
    /// # Errors
    /// [`TooManyLists`] where the earlier lists take too long.
    pub async fn admit(
        &self,
        owner: Option<&KeyName>,
    ) -> Result<OwnedSemaphorePermit, TooManyLists> {
        let turn = timeout(LIST_WAIT, self.of(owner).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or(TooManyLists {
            retry_after: RETRY_UNKNOWN,
        })
    }

    /// The owner's turns. There are no more entries than owners that have a list read or wait for one.
    fn of(&self, owner: Option<&KeyName>) -> Arc<Semaphore> {
        let mut owners = self.0.lock();
        owners.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = owners.entry(owner.cloned());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

/// The time so much work takes at that pace, as advice to a refused client.
#[must_use]
pub fn retry_after(waiting: u64, per_second: f64) -> Duration {
    span(waiting, per_second)
        .unwrap_or(RETRY_UNKNOWN)
        .clamp(RETRY.0, RETRY.1)
}

/// The time so much work takes at that pace, at most a day; `None` while no pace is known.
#[must_use]
pub fn span(waiting: u64, per_second: f64) -> Option<Duration> {
    // A queue of 2^53 jobs would be a mistake in itself.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = waiting as f64 / per_second;
    (per_second > 0.0).then(|| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)))
}

/// A rate, measured by counting.
#[derive(Debug, Default)]
pub struct Pace {
    counted: AtomicU64,
    measured: Mutex<Option<Measured>>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    counted: u64,
    per_second: f64,
}

impl Pace {
    /// Counts events.
    pub fn count(&self, events: u64) {
        self.counted.fetch_add(events, Ordering::Relaxed);
    }

    /// Sets the count of a counter that is kept elsewhere; one that went back is counted on from there.
    pub fn set(&self, counted: u64) {
        if self.counted.swap(counted, Ordering::Relaxed) > counted
            && let Some(measured) = self.measured.lock().as_mut()
        {
            measured.counted = counted;
            measured.at = Instant::now();
        }
    }

    /// Measures what came since it last measured. An idle time says nothing about how fast work could be done, so it
    /// leaves the rate as it is.
    pub fn tick(&self) {
        let counted = self.counted.load(Ordering::Relaxed);
        let (at, per_second) = (Instant::now(), self.per_second());
        let mut measured = self.measured.lock();
        let Some(last) = *measured else {
            *measured = Some(Measured {
                at,
                counted,
                per_second,
            });
            return;
        };
        let elapsed = at.duration_since(last.at);
        let events = counted.saturating_sub(last.counted);
        if elapsed < MIN_SPAN || (events == 0 && elapsed < IDLE) {
            return;
        }
        *measured = Some(Measured {
            at,
            counted,
            per_second: blend(per_second, events, elapsed),
        });
    }

    /// As [`Pace::tick`], where more could have been counted had there been more to do: the rate does not fall.
    pub fn tick_at_least(&self) {
        let before = self.per_second();
        self.tick();
        if let Some(measured) = self.measured.lock().as_mut() {
            measured.per_second = measured.per_second.max(before);
        }
    }

    /// Passes over the time since it last measured: there was nothing to do.
    pub fn rest(&self) {
        let counted = self.counted.load(Ordering::Relaxed);
        if let Some(measured) = self.measured.lock().as_mut() {
            (measured.at, measured.counted) = (Instant::now(), counted);
        }
    }

    /// Events per second; 0 while nothing has been measured.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.measured
            .lock()
            .map_or(0.0, |measured| measured.per_second)
    }
}

/// The old rate, moved towards the one seen now by as much as the time it was seen for weighs.
fn blend(old: f64, events: u64, elapsed: Duration) -> f64 {
    if events == 0 {
        return old;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seen = events as f64 / elapsed.as_secs_f64();
    if old > 0.0 {
        let weight = 1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        old + weight * (seen - old)
    } else {
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_has_one_list_answered_at_once_and_leaves_no_trace() {
        let lists = Lists::default();
        let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let turn = lists.admit(Some(&ann)).await.unwrap();
        assert!(lists.admit(Some(&ann)).await.is_err());
        assert!(lists.admit(Some(&bob)).await.is_ok(), "others have turns");
        assert!(lists.admit(None).await.is_ok());
        let (next, ()) = tokio::join!(lists.admit(Some(&ann)), async { drop(turn) });
        assert!(next.is_ok(), "the first was over while it waited");
        drop(next);
        drop(lists.admit(Some(&bob)).await);
        assert_eq!(lists.0.lock().len(), 1, "only the last is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_follows_what_is_counted_and_survives_idle_time() {
        let pace = Pace::default();
        pace.tick();
        assert_eq!(pace.per_second(), 0.0);
        for _ in 0..30 {
            pace.count(50);
            tokio::time::advance(Duration::from_secs(1)).await;
            pace.tick();
        }
        assert!(
            (pace.per_second() - 50.0).abs() < 0.5,
            "{}",
            pace.per_second()
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        pace.tick();
        assert!((pace.per_second() - 50.0).abs() < 0.5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_says_when_to_come_back() {
        let admission = Admission::new(2);
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert_eq!(admission.admit().unwrap_err().retry_after, RETRY_UNKNOWN);
        admission.pace.tick();
        admission.pace.count(4);
        tokio::time::advance(Duration::from_secs(1)).await;
        admission.pace.tick();
        let full = admission.admit().unwrap_err();
        let expected = Full {
            in_flight: 2,
            retry_after: Duration::from_millis(500),
        };
        assert_eq!(full, expected);
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn counts_that_come_in_lumps_are_spread_over_their_time() {
        let pace = Pace::default();
        pace.tick();
        for second in 1..=20_u64 {
            tokio::time::advance(Duration::from_secs(1)).await;
            pace.set(second / 2 * 200);
            pace.tick();
            pace.tick();
        }
        assert!(
            (pace.per_second() - 100.0).abs() < 1.0,
            "{}",
            pace.per_second()
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.set(50);
        pace.tick();
        assert!(
            (pace.per_second() - 100.0).abs() < 1.0,
            "a worker that left took its count along"
        );
    }

    #[test]
    fn advice_is_bounded() {
        assert_eq!(retry_after(0, 10.0), RETRY.0);
        assert_eq!(retry_after(u64::MAX, 0.001), RETRY.1);
        assert_eq!(retry_after(5, 0.0), RETRY_UNKNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_starts_again_is_not_a_rate() {
        let pace = Pace::default();
        pace.set(1000);
        pace.tick();
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.set(10);
        pace.tick();
        assert_eq!(pace.per_second(), 0.0);
    }
}

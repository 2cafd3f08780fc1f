//! When the next request may start: at once, or when it is due at a fixed rate.

use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Semaphore;

/// Hands out the starts of requests.
#[derive(Debug)]
pub(super) enum Pace {
    /// Whoever is free starts.
    Closed,
    /// Request `n` starts `n` intervals after the beginning, however slow the answers are.
    Open(Schedule),
}

/// Due times at a fixed rate.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    interval: Duration,
    /// Requests that are due and not yet started.
    due: Arc<Semaphore>,
    started: Cell<u32>,
}

impl Pace {
    /// A pace that begins now.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(per_second: Option<f64>) -> Result<Self> {
        let Some(per_second) = per_second else {
            return Ok(Self::Closed);
        };
        let interval = Duration::from_secs_f64(1.0 / per_second).max(Duration::from_micros(1));
        let (start, due) = (Instant::now(), Arc::new(Semaphore::new(0)));
        let schedule = Arc::downgrade(&due);
        // The runtime's own timers tick once a millisecond, so they would send in bursts; a sleeping thread is exact to some
        // 50 us. It ends with the schedule.
        thread::Builder::new()
            .name("pace".to_owned())
            .spawn(move || keep(start, interval, &schedule))?;
        Ok(Self::Open(Schedule {
            start,
            interval,
            due,
            started: Cell::new(0),
        }))
    }

    /// Waits until a request may start; gives the time from which its answer is waited for.
    ///
    /// That is when it was due, if it had to wait for a free connection. If a connection had to wait for it, it is now: that
    /// this client woke up late is not the server's fault.
    pub(super) async fn turn(&self) -> Instant {
        let Self::Open(schedule) = self else {
            return Instant::now();
        };
        let came = Instant::now();
        let permit = schedule
            .due
            .acquire()
            .await
            .expect("the semaphore is never closed");
        permit.forget();
        let number = schedule.started.get() + 1;
        schedule.started.set(number);
        let due = schedule.start + schedule.interval * number;
        if due < came { due } else { Instant::now() }
    }

    /// Requests that were due and found no free connection yet.
    pub(super) fn backlog(&self) -> usize {
        match self {
            Self::Closed => 0,
            Self::Open(schedule) => schedule.due.available_permits(),
        }
    }
}

/// Makes requests due until nobody is left to send them.
fn keep(start: Instant, interval: Duration, due: &Weak<Semaphore>) {
    let mut made = 0;
    loop {
        thread::sleep((start + interval * (made + 1)).saturating_duration_since(Instant::now()));
        let Some(due) = due.upgrade() else { return };
        let expected =
            (start.elapsed().as_nanos() / interval.as_nanos()).min(u128::from(u32::MAX)) as u32;
        due.add_permits((expected - made) as usize);
        made = expected;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_at_the_rate_and_are_never_early() {
        let begin = Instant::now();
        let pace = Pace::start(Some(2_000.0)).unwrap();
        for number in 1..=100 {
            let start = pace.turn().await;
            assert!(
                start >= begin + Duration::from_micros(500) * number,
                "{number}"
            );
        }
    }

    #[tokio::test]
    async fn a_request_that_waited_for_a_connection_counts_from_when_it_was_due() {
        let pace = Pace::start(Some(1_000.0)).unwrap();
        while pace.backlog() < 20 {
            tokio::task::yield_now().await;
        }
        assert!(pace.turn().await.elapsed() >= Duration::from_millis(19));
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::start(None).unwrap();
        let begin = Instant::now();
        assert!(pace.turn().await >= begin && pace.backlog() == 0);
    }
}

//! When the next request starts: as soon as a connection is free, or when it is due at a fixed rate.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;

/// Decides when requests start.
#[derive(Debug)]
pub(super) enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// Request `n` is due `n` intervals after the beginning, however slow the responses are.
    Open(Schedule),
}

/// Due times at a fixed rate.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    interval: Duration,
    /// Requests that are due and not yet started.
    due: Rc<Semaphore>,
    started: Cell<u32>,
}

impl Pace {
    /// A pace that begins now. Call it in a `LocalSet`, on the thread that sends.
    ///
    /// # Errors
    /// If the system has no timer.
    pub(super) fn start(per_second: Option<f64>) -> Result<Self> {
        let Some(per_second) = per_second else {
            return Ok(Self::Closed);
        };
        let interval = Duration::from_secs_f64(1.0 / per_second).max(Duration::from_micros(1));
        let (start, due) = (Instant::now(), Rc::new(Semaphore::new(0)));
        // The runtime's timers tick once per millisecond and would send in bursts. A timer of the kernel is exact, and wakes this
        // thread where it also waits for responses.
        let timer = timer(interval).context("the system has no timer")?;
        spawn_local(keep(timer, Rc::downgrade(&due)));
        Ok(Self::Open(Schedule {
            start,
            interval,
            due,
            started: Cell::new(0),
        }))
    }

    /// Waits until a request may start, and returns the time from which its latency counts; `None` once the run is over.
    ///
    /// If the request had to wait for a connection, that is the time at which it was due, so a slow server cannot hide latency by
    /// delaying the requests (coordinated omission). If a connection was free, it is now: the delay until this thread woke up is
    /// not the server's.
    pub(super) async fn turn(&self, over: &CancellationToken) -> Option<Instant> {
        let came = Instant::now();
        let Self::Open(schedule) = self else {
            return (!over.is_cancelled()).then_some(came);
        };
        let permit = tokio::select! {
            biased;
            () = over.cancelled() => return None,
            permit = schedule.due.acquire() => permit.ok()?,
        };
        permit.forget();
        let number = schedule.started.get() + 1;
        schedule.started.set(number);
        let due = schedule.start + schedule.interval * number;
        Some(if due < came { due } else { Instant::now() })
    }

    /// Requests that are due and have no connection yet.
    pub(super) fn backlog(&self) -> usize {
        match self {
            Self::Closed => 0,
            Self::Open(schedule) => schedule.due.available_permits(),
        }
    }
}

/// A timer that fires once in each interval from now on.
fn timer(interval: Duration) -> Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let span = Timespec::try_from(interval)?;
    let each = Itimerspec {
        it_interval: span,
        it_value: span,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &each)?;
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, because others may close a descriptor; this one is owned"
    )]
    let timer = AsyncFd::new(timer)?;
    Ok(timer)
}

/// Makes requests due until the schedule is dropped.
async fn keep(timer: AsyncFd<OwnedFd>, due: Weak<Semaphore>) {
    let mut fired = [0; size_of::<u64>()];
    while let Ok(mut ready) = timer.readable().await {
        let times = match rustix::io::read(&timer, &mut fired) {
            Ok(_) => u64::from_ne_bytes(fired),
            Err(Errno::AGAIN) => 0,
            Err(_) => return,
        };
        // If it has fired again meanwhile, it is readable again.
        ready.clear_ready();
        let Some(due) = due.upgrade() else { return };
        due.add_permits(usize::try_from(times).unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "local")]
    async fn turns_come_at_the_rate_and_are_never_early() {
        let begin = Instant::now();
        let pace = Pace::start(Some(2_000.0)).unwrap();
        for number in 1..=100 {
            let start = pace.turn(&CancellationToken::new()).await.unwrap();
            assert!(
                start >= begin + Duration::from_micros(500) * number,
                "{number}"
            );
        }
    }

    #[tokio::test(flavor = "local")]
    async fn a_request_that_waited_for_a_connection_counts_from_when_it_was_due() {
        let pace = Pace::start(Some(1_000.0)).unwrap();
        while pace.backlog() < 20 {
            tokio::task::yield_now().await;
        }
        assert!(
            pace.turn(&CancellationToken::new())
                .await
                .unwrap()
                .elapsed()
                >= Duration::from_millis(19)
        );
    }

    #[tokio::test]
    async fn without_a_rate_no_request_waits() {
        let pace = Pace::start(None).unwrap();
        let begin = Instant::now();
        let start = pace.turn(&CancellationToken::new()).await.unwrap();
        assert!(start >= begin && pace.backlog() == 0);
    }

    #[tokio::test(flavor = "local")]
    async fn nothing_starts_once_the_run_is_over() {
        let over = CancellationToken::new();
        over.cancel();
        for rate in [None, Some(1_000_000.0)] {
            assert_eq!(Pace::start(rate).unwrap().turn(&over).await, None);
        }
    }
}

//! When the next request may start: at once, or when it is due at a fixed rate.

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
    due: Rc<Semaphore>,
    started: Cell<u32>,
}

impl Pace {
    /// A pace that begins now. Has to be called on the thread that sends, in a `LocalSet`.
    ///
    /// # Errors
    /// When the system gives no timer.
    pub(super) fn start(per_second: Option<f64>) -> Result<Self> {
        let Some(per_second) = per_second else {
            return Ok(Self::Closed);
        };
        let interval = Duration::from_secs_f64(1.0 / per_second).max(Duration::from_micros(1));
        let (start, due) = (Instant::now(), Rc::new(Semaphore::new(0)));
        // The runtime's own timers tick once a millisecond, so they would send in bursts; one of the kernel's is exact, and
        // wakes this thread where it waits for answers too. It ends with the schedule.
        let timer = timer(interval).context("the system gives no timer")?;
        spawn_local(keep(timer, Rc::downgrade(&due)));
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
        reason = "what takes its place is unsafe, since a descriptor may be closed behind its back; an owned one is not"
    )]
    let timer = AsyncFd::new(timer)?;
    Ok(timer)
}

/// Makes requests due until nobody is left to send them.
async fn keep(timer: AsyncFd<OwnedFd>, due: Weak<Semaphore>) {
    let mut fired = [0; size_of::<u64>()];
    while let Ok(mut ready) = timer.readable().await {
        let times = match rustix::io::read(&timer, &mut fired) {
            Ok(_) => u64::from_ne_bytes(fired),
            Err(Errno::AGAIN) => 0,
            Err(_) => return,
        };
        // Where it has fired again meanwhile, it is readable again.
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
            let start = pace.turn().await;
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
        assert!(pace.turn().await.elapsed() >= Duration::from_millis(19));
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::start(None).unwrap();
        let begin = Instant::now();
        assert!(pace.turn().await >= begin && pace.backlog() == 0);
    }
}

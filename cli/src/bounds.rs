//! Work that ends early, in good order: at Ctrl-C or SIGTERM, or when the user's time is over.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Longest time for a call that nobody has set a limit to, all its attempts included.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// How long after the deadline an answer may still be under way: the server was asked to answer by then.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Tells whether the user wants an end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(CancellationToken);

/// What one piece of work is bound by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) deadline: Instant,
}

impl Interrupt {
    pub(crate) const fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(crate) async fn comes(&self) {
        self.0.cancelled().await;
    }
}

impl Bounds<'_> {
    /// Does the work, or drops it: at the deadline, or `grace` after an interrupt.
    pub(crate) async fn run<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let interrupted = async {
            self.interrupt.comes().await;
            sleep(grace).await;
        };
        tokio::select! {
            biased;
            done = timeout_at(self.deadline + ON_ITS_WAY, work) => match done {
                Ok(done) => done,
                Err(_) => Err(Failure::TimedOut),
            },
            () = interrupted => Err(Failure::Interrupted),
        }
    }
}

/// Waits for the first SIGINT or SIGTERM; for ever where signals cannot be had.
pub(crate) async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = kinds else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

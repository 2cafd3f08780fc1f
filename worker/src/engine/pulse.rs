//! How long a thread of a pool has been at its step, and how it is asked to break off.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::BreakOff;

/// One thread's step: written by the thread, read by the watchdog.
#[derive(Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Default)]
struct State {
    began: Option<Instant>,
    break_off: Option<Arc<BreakOff>>,
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.lock().began).finish()
    }
}

impl Pulse {
    /// A step begins.
    pub(super) fn begin(&self) {
        self.lock().began = Some(Instant::now());
    }

    /// The step has ended.
    pub(super) fn end(&self) {
        *self.lock() = State::default();
    }

    /// From now until the step's end it can be broken off by this.
    pub(super) fn set_break_off(&self, break_off: Option<Arc<BreakOff>>) {
        self.lock().break_off = break_off;
    }

    /// How long the step has run; zero between steps.
    pub(super) fn age(&self) -> Duration {
        self.lock()
            .began
            .map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Asks a step older than `limit` to break off. Whether there was one that can be asked.
    pub(super) fn break_off(&self, limit: Duration) -> bool {
        // Under the lock: the thread's next step is not begun before this one has been asked.
        let state = self.lock();
        match (&state.began, &state.break_off) {
            (Some(began), Some(break_off)) if began.elapsed() > limit => {
                break_off();
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One thread's step: how long it has run, how it is asked to break off, and the jobs in it. The thread keeps its jobs here
//! rather than on its stack, so that the watchdog can take them away from a step that never ends.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::task::{Completed, DecodedJob, Task};
use crate::onnx::BreakOff;

/// Written by the thread, read by the watchdog.
#[derive(Default)]
pub(super) struct Progress(Mutex<StepState>);

#[derive(Default)]
struct StepState {
    began: Option<Instant>,
    break_off: Option<Arc<BreakOff>>,
    jobs: StepJobs,
    is_abandoned: bool,
}

/// The jobs of one step.
#[derive(Debug, Default)]
pub(super) struct StepJobs {
    /// Not decoded yet.
    pub(super) raw: VecDeque<Task>,
    /// Being decoded.
    pub(super) decoding: Option<Task>,
    /// Decoded in this step.
    pub(super) decoded: Vec<DecodedJob>,
    /// Being run by the model.
    pub(super) inferring: Vec<DecodedJob>,
    /// Ended in this step and not sent out yet.
    pub(super) ended: Vec<Completed>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress")
            .field(&self.0.lock().began)
            .finish()
    }
}

impl Progress {
    /// A step begins.
    pub(super) fn begin(&self) {
        self.0.lock().began = Some(Instant::now());
    }

    /// The step has ended; whatever it still holds is dropped. False where the step was abandoned: the thread is to end.
    pub(super) fn end(&self) -> bool {
        let mut state = self.0.lock();
        let is_abandoned = state.is_abandoned;
        *state = StepState {
            is_abandoned,
            ..StepState::default()
        };
        !is_abandoned
    }

    /// Gives the thread its jobs; `None` once the step was abandoned: they are somebody else's then.
    pub(super) fn jobs<R>(&self, act: impl FnOnce(&mut StepJobs) -> R) -> Option<R> {
        let mut state = self.0.lock();
        (!state.is_abandoned).then(|| act(&mut state.jobs))
    }

    /// From now until the step's end it can be broken off by this.
    pub(super) fn set_break_off(&self, break_off: Option<Arc<BreakOff>>) {
        self.0.lock().break_off = break_off;
    }

    /// How long the step has run; zero between steps.
    pub(super) fn age(&self) -> Duration {
        self.0.lock().age()
    }

    /// Asks a step older than `limit` to break off. Whether there was one that can be asked.
    pub(super) fn break_off(&self, limit: Duration) -> bool {
        // Under the lock: the thread's next step is not begun before this one has been asked.
        let state = self.0.lock();
        match &state.break_off {
            Some(break_off) if state.age() > limit => {
                break_off();
                true
            }
            _ => false,
        }
    }

    /// Takes the jobs away from a step older than `limit`; its thread is to end when it comes back. `None` where there is no
    /// such step.
    pub(super) fn abandon(&self, limit: Duration) -> Option<StepJobs> {
        let mut state = self.0.lock();
        if state.age() <= limit {
            return None;
        }
        state.is_abandoned = true;
        state.began = None;
        Some(std::mem::take(&mut state.jobs))
    }
}

impl StepState {
    fn age(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

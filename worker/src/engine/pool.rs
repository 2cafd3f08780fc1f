//! One model's threads and the work they share, behind one lock. What a thread does with it is in `inference_thread`; `threads` starts them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use selvage_core::catalog::Model;
use selvage_core::clock::Clock;
use selvage_core::outcome::{Cost, Failure};
use selvage_core::registry::Placement;
use selvage_core::store::MAX_ATTEMPTS;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::{self, PriorityQueues, Raw, Role, Step};
use super::policy::Policy;
use super::progress::{Progress, StepJobs};
use super::task::{Completed, Completions, CountAttempts, DecodedJob, End, Isolation, Task};
use crate::image::decode::Limits;
use crate::metrics::ModelMetrics;
use crate::onnx::Open;

/// What a pool is made of.
pub struct PoolSpec {
    /// The model.
    pub model: Arc<Model>,
    /// Makes a session.
    pub open: Arc<Open>,
    /// How many threads do what.
    pub policy: Policy,
    /// What an image may cost.
    pub limits: Limits,
    /// The clock deadlines are measured by.
    pub clock: Clock,
    /// Counts the attempts of jobs that have a record.
    pub starts: Arc<dyn CountAttempts>,
    /// Where jobs go that have ended.
    pub completions: Completions,
    /// What is counted.
    pub metrics: ModelMetrics,
    /// Cancelled where the device fails for good.
    pub device_lost: CancellationToken,
}

impl fmt::Debug for PoolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.model.name;
        f.debug_struct("PoolSpec")
            .field("model", name)
            .finish_non_exhaustive()
    }
}

/// One model's threads and the jobs in their hands.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<PoolState>,
    /// Threads wait here for work; those that only run the model, for a batch.
    work: Condvar,
    batch: Condvar,
    /// Woken whenever a thread has ended a step or itself.
    changed: Notify,
    model: Arc<Model>,
    policy: Policy,
    max_batch: usize,
    placement: Placement,
    /// One for each thread.
    progress: Mutex<Vec<Arc<Progress>>>,
    /// What a further thread is made of; gone once the pool is closed, so that the exits can close.
    spec: Mutex<Option<Arc<PoolSpec>>>,
    jobs: AtomicU64,
    batches: AtomicU64,
}

#[derive(Debug, Default)]
struct PoolState {
    exclusive: VecDeque<Task>,
    raw: PriorityQueues<Task>,
    decoded: PriorityQueues<DecodedJob>,
    /// Largest batch that the device's memory has room for.
    limit: usize,
    /// Threads without work that may decode, and those that only run the model.
    free: usize,
    free_inferring: usize,
    busy: usize,
    /// Of the busy ones, those that only decode.
    decoding: usize,
    alive: usize,
    /// Threads that have not come back from a step they were abandoned in.
    stuck: usize,
    pauses: usize,
    /// The device has failed: nothing is begun any more.
    is_lost: bool,
    closed: bool,
}

impl Raw for Task {
    fn is_alone(&self) -> bool {
        !matches!(self.isolation, Isolation::Together)
    }

    fn bytes(&self) -> usize {
        self.job.image.len()
    }
}

impl Pool {
    /// A pool of threads with these step records, which are about to work.
    pub(super) fn new(
        spec: Arc<PoolSpec>,
        max_batch: usize,
        placement: Placement,
        progress: Vec<Arc<Progress>>,
    ) -> Self {
        Self {
            state: Mutex::new(PoolState {
                alive: spec.policy.threads(),
                limit: max_batch,
                ..PoolState::default()
            }),
            work: Condvar::new(),
            batch: Condvar::new(),
            policy: spec.policy,
            changed: Notify::new(),
            max_batch,
            placement,
            model: Arc::clone(&spec.model),
            progress: Mutex::new(progress),
            spec: Mutex::new(Some(spec)),
            jobs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        }
    }

    /// Takes jobs in, or gives them back where the pool has closed.
    ///
    /// # Errors
    /// The same jobs.
    pub fn push(&self, tasks: Vec<Task>) -> Result<(), Vec<Task>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(tasks);
        }
        for task in tasks {
            match task.isolation {
                Isolation::Exclusive(_) => state.exclusive.push_back(task),
                Isolation::Together | Isolation::Alone => state.raw.push(task.job.priority(), task),
            }
        }
        self.wake(&state);
        Ok(())
    }

    /// The next thing for a free thread to do; blocks until there is one. `None`: the pool has closed.
    pub(super) fn take(&self, role: Role) -> Option<Step<Task, DecodedJob>> {
        let mut state = self.state.lock();
        *state.free(role) += 1;
        loop {
            if let Some(step) = state.next(role) {
                *state.free(role) -= 1;
                state.busy += 1;
                state.decoding += usize::from(role == Role::Decode);
                self.wake(&state);
                return Some(step);
            }
            if state.is_over(role) {
                *state.free(role) -= 1;
                return None;
            }
            match role {
                Role::Infer => self.batch.wait(&mut state),
                Role::Both | Role::Decode => self.work.wait(&mut state),
            }
        }
    }

    /// Wakes a free thread of each kind that there is something for.
    fn wake(&self, state: &PoolState) {
        let shared = state.pauses == 0;
        let has_decoders = self.policy.decoders > 0;
        let batch = shared && !state.decoded.is_empty() || !state.exclusive.is_empty();
        let raw = shared && !state.raw.is_empty();
        if state.free > 0 && (raw || batch && !has_decoders) {
            self.work.notify_one();
        }
        let is_alone = raw && state.raw.peek().is_some_and(Raw::is_alone);
        if state.free_inferring > 0 && (batch || is_alone) {
            self.batch.notify_one();
        }
    }

    /// Puts decoded jobs where any thread can take them. A caller that may run the model is about to look for work itself.
    pub(super) fn decoded(&self, ready: Vec<DecodedJob>) {
        let mut state = self.state.lock();
        for ready in ready {
            state.decoded.push(ready.priority(), ready);
        }
        if self.policy.decoders > 0 {
            self.wake(&state);
        }
    }

    /// Puts a batch back that the device's memory had no room for; from now on, batches are at most half as large.
    pub(super) fn retry_smaller(&self, batch: Vec<DecodedJob>) {
        let mut state = self.state.lock();
        state.limit = state.limit.min(batch.len().div_ceil(2));
        drop(state);
        self.decoded(batch);
    }

    /// The device has failed for good: nothing is begun any more.
    pub(super) fn lose_device(&self) {
        self.state.lock().is_lost = true;
    }

    /// A thread has done its step.
    pub(super) fn done(&self, role: Role) {
        self.state.lock().done(role);
        // A closed pool's batches end with its last decoder.
        self.batch.notify_all();
        self.changed.notify_waiters();
    }

    /// A thread has ended.
    pub(super) fn ended(&self) {
        self.state.lock().alive -= 1;
        self.changed.notify_waiters();
    }

    /// A thread has come back from a step it was abandoned in, and ends.
    pub(super) fn returned(&self) {
        self.state.lock().stuck -= 1;
    }

    /// Counts a batch.
    pub(super) fn count(&self, images: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(images as u64, Ordering::Relaxed);
    }

    /// No thread begins anything but exclusive jobs while the guard lives.
    pub(super) fn pause(self: &Arc<Self>) -> Paused {
        self.state.lock().pauses += 1;
        Paused(Arc::clone(self))
    }

    /// Waits until no thread has anything in hand.
    pub(super) async fn quiet(&self) {
        self.until(|state| state.busy == 0).await;
    }

    /// Takes no more jobs, and returns those that were not begun. What is decoded is still run; then the threads end.
    #[must_use]
    pub fn close(&self) -> Vec<Task> {
        let mut state = self.state.lock();
        state.closed = true;
        *self.spec.lock() = None;
        let waiting = state.raw.len();
        let mut unstarted = state.raw.take(waiting);
        if state.is_lost {
            let decoded = state.decoded.len();
            let decoded = state.decoded.take(decoded).into_iter();
            unstarted.extend(decoded.map(|ready| ready.task));
            unstarted.extend(state.exclusive.drain(..));
        }
        drop(state);
        self.work.notify_all();
        self.batch.notify_all();
        unstarted
    }

    /// Waits until all threads of a closed pool have ended.
    pub async fn stopped(&self) {
        self.until(|state| state.alive == 0).await;
    }

    /// Most images in one inference.
    #[must_use]
    pub const fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// What the sessions run on.
    #[must_use]
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How many sessions there are.
    #[must_use]
    pub const fn sessions(&self) -> usize {
        self.policy.sessions
    }

    /// What the thread of that number is for.
    pub(super) const fn role(&self, number: usize) -> Role {
        self.policy.role(number)
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.model.name.as_str()
    }

    /// How long the longest step has run that a thread is at.
    #[must_use]
    pub fn oldest_step(&self) -> Duration {
        let progress = self.progress.lock();
        let ages = progress.iter().map(|progress| progress.age());
        ages.max().unwrap_or_default()
    }

    /// Asks every inference that has run for longer than `limit` to break off; returns how many were asked.
    #[must_use]
    pub fn break_off(&self, limit: Duration) -> usize {
        let progress = self.progress.lock();
        let asked = progress.iter().filter(|progress| progress.break_off(limit));
        asked.count()
    }

    /// The threads whose step has run for longer than `limit`: their numbers, the step records of their successors, and
    /// their jobs.
    pub(super) fn take_stuck(&self, limit: Duration) -> Vec<(usize, Arc<Progress>, StepJobs)> {
        let mut progress = self.progress.lock();
        let threads = progress.iter_mut().enumerate();
        threads
            .filter_map(|(number, progress)| {
                let jobs = progress.abandon(limit)?;
                *progress = Arc::default();
                Some((number, Arc::clone(progress), jobs))
            })
            .collect()
    }

    /// Counts a thread as stuck. Returns what its successor is made of; `None` where the pool is closed and needs none.
    pub(super) fn lose_thread(&self, role: Role) -> Option<Arc<PoolSpec>> {
        let mut state = self.state.lock();
        let spec = self.spec.lock().clone();
        state.stuck += 1;
        state.done(role);
        if spec.is_none() {
            state.alive -= 1;
        }
        drop(state);
        self.changed.notify_waiters();
        spec
    }

    /// Threads that have not come back from a step they were abandoned in.
    pub(super) fn stuck(&self) -> usize {
        self.state.lock().stuck
    }

    /// Gives each job another start, alone. Returns those that had their last, and those that come too late; they end so.
    pub(super) fn retry_alone(&self, batch: Vec<DecodedJob>, failure: &Failure) -> Vec<Completed> {
        let (last, again): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|ready| ready.task.attempt >= MAX_ATTEMPTS);
        let again = again.into_iter().map(|ready| {
            let mut task = ready.task;
            task.attempt += 1;
            task.isolation = Isolation::Alone;
            task
        });
        let closed = self.push(again.collect()).err().unwrap_or_default();
        let back = |task: Task| task.ends(End::HandedBack, Cost::default());
        let fail = |ready: DecodedJob| ready.fails(failure.clone());
        closed
            .into_iter()
            .map(back)
            .chain(last.into_iter().map(fail))
            .collect()
    }

    /// Sessions that compute now.
    #[must_use]
    pub fn busy(&self) -> usize {
        let state = self.state.lock();
        state.busy - state.decoding
    }

    /// Jobs and batches run so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.jobs), read(&self.batches))
    }

    /// Jobs that wait for a batch.
    #[cfg(test)]
    pub(super) fn decoded_jobs(&self) -> usize {
        self.state.lock().decoded.len()
    }

    /// Jobs that wait for anything.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.raw.len() + state.decoded.len()
    }

    #[cfg(test)]
    pub(super) fn is_paused(&self) -> bool {
        self.state.lock().pauses > 0
    }

    async fn until(&self, condition: impl Fn(&PoolState) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if condition(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl PoolState {
    fn next(&mut self, role: Role) -> Option<Step<Task, DecodedJob>> {
        if self.is_lost {
            return None;
        }
        if role != Role::Decode
            && let Some(task) = self.exclusive.pop_front()
        {
            return Some(Step::Alone(task));
        }
        if self.pauses > 0 {
            return None;
        }
        let (limit, free) = (self.limit, self.free);
        batch::choose(&mut self.raw, &mut self.decoded, limit, free, role)
    }

    /// Threads of that kind that have nothing to do.
    const fn free(&mut self, role: Role) -> &mut usize {
        match role {
            Role::Both | Role::Decode => &mut self.free,
            Role::Infer => &mut self.free_inferring,
        }
    }

    /// Whether nothing comes any more for a thread that there is nothing for now.
    fn is_over(&self, role: Role) -> bool {
        let batches = role == Role::Infer && self.decoding > 0;
        let open = !self.exclusive.is_empty() || self.pauses > 0 || batches;
        self.closed && (self.is_lost || !open)
    }

    /// A thread has ended its step, or was abandoned in it.
    fn done(&mut self, role: Role) {
        self.busy -= 1;
        self.decoding -= usize::from(role == Role::Decode);
    }
}

/// A pool that begins nothing until this is dropped.
#[derive(Debug)]
pub(super) struct Paused(Arc<Pool>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.state.lock().pauses -= 1;
        self.0.work.notify_all();
        self.0.batch.notify_all();
    }
}

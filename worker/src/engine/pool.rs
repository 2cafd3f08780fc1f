//! One model's threads and the work they share, behind one lock. What a thread does with it is in [`super::inference_thread`].

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvage_core::catalog::Model;
use selvage_core::clock::Clock;
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome};
use selvage_core::store::MAX_ATTEMPTS;
use tokio::sync::Notify;

use super::batch::{self, Lanes, Raw, Step};
use super::inference_thread::{InferenceThread, Ready};
use super::progress::{Progress, StepJobs};
use super::{Care, End, Ended, Exits, Task};
use crate::image::decode::Limits;
use crate::metrics::ModelMetrics;
use crate::model::{ModelError, Open};
use crate::starts::Starts;

/// What a pool is made of.
pub struct PoolSpec {
    /// The model.
    pub model: Arc<Model>,
    /// Makes a session.
    pub open: Arc<Open>,
    /// How many threads.
    pub sessions: usize,
    /// What an image may cost.
    pub limits: Limits,
    /// The clock deadlines are measured by.
    pub clock: Clock,
    /// Counts the attempts of jobs that have a record.
    pub starts: Starts,
    /// Where jobs go that have ended.
    pub exits: Exits,
    /// What is counted.
    pub metrics: ModelMetrics,
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
    state: Mutex<State>,
    /// Threads wait here for work.
    work: Condvar,
    /// Woken whenever a thread has ended a step or itself.
    changed: Notify,
    model: Arc<Model>,
    max_batch: usize,
    /// One for each thread.
    progress: Mutex<Vec<Arc<Progress>>>,
    /// What a further thread is made of; gone once the pool is closed, so that the exits can close.
    spec: Mutex<Option<Arc<PoolSpec>>>,
    jobs: AtomicU64,
    batches: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    exclusive: VecDeque<Task>,
    raw: Lanes<Task>,
    decoded: Lanes<Ready>,
    free: usize,
    busy: usize,
    alive: usize,
    /// Threads that have not come back from a step they were abandoned in.
    stuck: usize,
    pauses: usize,
    closed: bool,
}

impl Raw for Task {
    fn is_alone(&self) -> bool {
        !matches!(self.care, Care::Together)
    }

    fn bytes(&self) -> usize {
        self.job.image.len()
    }
}

impl Pool {
    /// Starts the threads; each opens its session at the same time. Blocks until all are ready.
    ///
    /// # Errors
    /// The first session that could not be opened. The threads have ended then: a process that ended while one of them is
    /// in ONNX Runtime would crash.
    pub fn start(spec: PoolSpec) -> Result<Arc<Self>, ModelError> {
        let spec = Arc::new(spec);
        let (report, reports) = mpsc::channel();
        let (hand_over, starts): (Vec<_>, Vec<_>) = (0..spec.sessions)
            .map(|_| mpsc::channel::<Arc<Self>>())
            .unzip();
        let progress: Vec<Arc<Progress>> = starts.iter().map(|_| Arc::default()).collect();
        let mut threads = Vec::with_capacity(spec.sessions);
        for (number, (start, progress)) in starts.into_iter().zip(&progress).enumerate() {
            let progress = Arc::clone(progress);
            let name = format!("{}-{number}", spec.model.name);
            let (spec, report) = (Arc::clone(&spec), report.clone());
            let body = move || {
                let opened = (spec.open)();
                let size = opened.as_ref().map_or(0, |predictor| predictor.max_batch());
                let kept = opened.map(|predictor| InferenceThread::new(&spec, Some(predictor)));
                let thread = match kept {
                    Ok(thread) => thread,
                    Err(error) => return drop(report.send(Err(error))),
                };
                drop(report.send(Ok(size)));
                // Whoever counts the reports waits until the last of these is gone.
                drop(report);
                // No pool comes where another session could not be opened.
                if let Ok(pool) = start.recv() {
                    thread.work(&pool, &progress);
                }
            };
            let spawned = thread::Builder::new().name(name).spawn(body);
            threads.push(spawned);
        }
        drop(report);
        // One for each thread that did not panic; the threads that could not be had come first.
        let reports = reports.iter().collect::<Vec<_>>().into_iter();
        let (threads, unspawned) = split(threads);
        let unspawned = unspawned.into_iter().map(Err);
        let sizes: Result<Vec<usize>, ModelError> = unspawned.chain(reports).collect();
        let sizes = match sizes {
            Ok(sizes) if sizes.len() == spec.sessions => sizes,
            other => {
                drop(hand_over);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                let panicked = "a thread ended while it opened its session";
                return Err(other
                    .err()
                    .unwrap_or_else(|| ModelError::Runtime(panicked.to_owned())));
            }
        };
        let pool = Arc::new(Self {
            state: Mutex::new(State {
                alive: spec.sessions,
                ..State::default()
            }),
            work: Condvar::new(),
            changed: Notify::new(),
            max_batch: sizes.into_iter().min().unwrap_or(1),
            model: Arc::clone(&spec.model),
            progress: Mutex::new(progress),
            spec: Mutex::new(Some(spec)),
            jobs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        });
        for thread in hand_over {
            drop(thread.send(Arc::clone(&pool)));
        }
        Ok(pool)
    }

    /// Takes jobs in, or gives them back where the pool has closed.
    ///
    /// # Errors
    /// The same jobs.
    pub fn push(&self, tasks: Vec<Task>) -> Result<(), Vec<Task>> {
        let mut state = self.lock();
        if state.closed {
            return Err(tasks);
        }
        for task in tasks {
            match task.care {
                Care::Exclusive(_) => state.exclusive.push_back(task),
                Care::Together | Care::Alone => state.raw.push(task.job.lane(), task),
            }
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The next thing for a free thread to do; blocks until there is one. `None`: the pool has closed.
    pub(super) fn take(&self) -> Option<Step<Task, Ready>> {
        let mut state = self.lock();
        state.free += 1;
        loop {
            if let Some(step) = state.next(self.max_batch) {
                state.free -= 1;
                state.busy += 1;
                if state.has_more() {
                    self.work.notify_one();
                }
                return Some(step);
            }
            if state.closed && state.exclusive.is_empty() && state.pauses == 0 {
                state.free -= 1;
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts decoded jobs where any thread can take them. The caller is about to look for work itself.
    pub(super) fn decoded(&self, ready: Vec<Ready>) {
        let mut state = self.lock();
        for ready in ready {
            state.decoded.push(ready.lane(), ready);
        }
    }

    /// A thread has done its step.
    pub(super) fn done(&self) {
        self.lock().busy -= 1;
        self.changed.notify_waiters();
    }

    /// A thread has ended.
    pub(super) fn ended(&self) {
        self.lock().alive -= 1;
        self.changed.notify_waiters();
    }

    /// A thread has come back from a step it was abandoned in, and ends.
    pub(super) fn returned(&self) {
        self.lock().stuck -= 1;
    }

    /// Counts a batch.
    pub(super) fn count(&self, images: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(images as u64, Ordering::Relaxed);
    }

    /// No thread begins anything but exclusive jobs while the guard lives.
    pub(super) fn pause(self: &Arc<Self>) -> Paused {
        self.lock().pauses += 1;
        Paused(Arc::clone(self))
    }

    /// Waits until no thread has anything in hand.
    pub(super) async fn quiet(&self) {
        self.until(|state| state.busy == 0).await;
    }

    /// Takes no more jobs, and returns those that were not begun. What is decoded is still run; then the threads end.
    #[must_use]
    pub fn close(&self) -> Vec<Task> {
        let mut state = self.lock();
        state.closed = true;
        *locked(&self.spec) = None;
        let waiting = state.raw.len();
        let unstarted = state.raw.take(waiting);
        drop(state);
        self.work.notify_all();
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

    /// How many threads there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        locked(&self.progress).len()
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.model.name.as_str()
    }

    /// How long the longest step has run that a thread is at.
    #[must_use]
    pub fn oldest_step(&self) -> Duration {
        let progress = locked(&self.progress);
        let ages = progress.iter().map(|progress| progress.age());
        ages.max().unwrap_or_default()
    }

    /// Asks every inference that has run for longer than `limit` to break off; returns how many were asked.
    #[must_use]
    pub fn break_off(&self, limit: Duration) -> usize {
        let progress = locked(&self.progress);
        let asked = progress.iter().filter(|progress| progress.break_off(limit));
        asked.count()
    }

    /// Takes the jobs away from every step that has run for longer than `limit`, and puts a new thread in its thread's place.
    /// The image that was being decoded, or that was run alone, ends as poison; the others of its step go on, alone where
    /// one of them may be the cause. Returns how many threads are stuck now.
    pub fn abandon_steps(self: &Arc<Self>, limit: Duration) -> usize {
        for (place, progress) in locked(&self.progress).iter_mut().enumerate() {
            if let Some(jobs) = progress.abandon(limit) {
                *progress = Arc::default();
                self.replace(place, Arc::clone(progress), jobs);
            }
        }
        self.lock().stuck
    }

    /// Puts a thread into the place of one that is stuck, and moves its jobs on.
    fn replace(self: &Arc<Self>, place: usize, progress: Arc<Progress>, jobs: StepJobs) {
        let mut state = self.lock();
        state.stuck += 1;
        state.busy -= 1;
        let Some(spec) = locked(&self.spec).clone() else {
            // The pool is closed: the jobs go back by their tickets.
            state.alive -= 1;
            drop(state);
            return self.changed.notify_waiters();
        };
        drop(state);
        self.changed.notify_waiters();
        spec.metrics.busy.dec();
        let detail = "the engine never finished this image and gave it up";
        let failure = Failure::new(FailureCode::Poison, detail);
        let fail = |task: Task| {
            task.ends(
                End::Outcome(Outcome::Failed(failure.clone())),
                Cost::default(),
            )
        };
        let mut ended = jobs.ended;
        ended.extend(jobs.decoding.map(fail));
        if jobs.inferring.len() == 1 {
            ended.extend(
                jobs.inferring
                    .into_iter()
                    .map(|ready| fail(ready.into_task())),
            );
        } else {
            ended.extend(self.retry_alone(jobs.inferring, &failure));
        }
        self.decoded(jobs.decoded);
        // A pool that was closed meanwhile: they go back by their tickets.
        drop(self.push(jobs.raw.into()));
        self.work.notify_all();
        let name = format!("{}-{place}", self.name());
        let pool = Arc::clone(self);
        let body = move || {
            spec.exits.send_blocking(ended);
            let thread = InferenceThread::new(&spec, None);
            drop(spec);
            thread.work(&pool, &progress);
        };
        if let Err(error) = thread::Builder::new().name(name).spawn(body) {
            tracing::error!(%error, model.name = self.name(), "no thread for the place of one that is stuck");
            self.ended();
        }
    }

    /// Gives each job another start, alone. Returns those that had their last, and those that come too late; they end so.
    pub(super) fn retry_alone(&self, batch: Vec<Ready>, failure: &Failure) -> Vec<Ended> {
        let (last, again): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|ready| ready.attempt() >= MAX_ATTEMPTS);
        let again = again.into_iter().map(|ready| {
            let mut task = ready.into_task();
            task.attempt += 1;
            task.care = Care::Alone;
            task
        });
        let closed = self.push(again.collect()).err().unwrap_or_default();
        let back = |task: Task| task.ends(End::HandedBack, Cost::default());
        let fail = |ready: Ready| ready.fails(failure.clone());
        closed
            .into_iter()
            .map(back)
            .chain(last.into_iter().map(fail))
            .collect()
    }

    /// Threads that compute now.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.lock().busy
    }

    /// Jobs and batches run so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.jobs), read(&self.batches))
    }

    #[cfg(test)]
    pub(super) fn is_paused(&self) -> bool {
        self.lock().pauses > 0
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads, and why others could not be had.
fn split(spawned: Vec<io::Result<JoinHandle<()>>>) -> (Vec<JoinHandle<()>>, Vec<ModelError>) {
    let (mut threads, mut errors) = (Vec::new(), Vec::new());
    for spawned in spawned {
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => errors.push(ModelError::Runtime(format!("no thread to be had: {error}"))),
        }
    }
    (threads, errors)
}

impl State {
    fn next(&mut self, max_batch: usize) -> Option<Step<Task, Ready>> {
        if let Some(task) = self.exclusive.pop_front() {
            return Some(Step::Alone(task));
        }
        if self.pauses > 0 {
            return None;
        }
        batch::choose(&mut self.raw, &mut self.decoded, max_batch, self.free)
    }

    fn has_more(&self) -> bool {
        let shared = self.pauses == 0 && !(self.raw.is_empty() && self.decoded.is_empty());
        self.free > 0 && (shared || !self.exclusive.is_empty())
    }
}

/// A pool that begins nothing until this is dropped.
#[derive(Debug)]
pub(super) struct Paused(Arc<Pool>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.lock().pauses -= 1;
        self.0.work.notify_all();
    }
}

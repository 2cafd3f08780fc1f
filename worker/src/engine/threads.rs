//! Starts the threads of a pool, and another one for each that is stuck.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvage_core::catalog::Device;
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome};
use selvage_core::registry::Placement;

use super::batch::Role;
use super::inference_thread::InferenceThread;
use super::pool::{Pool, PoolSpec};
use super::progress::{Progress, StepJobs};
use super::task::{End, Task};
use crate::onnx::ModelError;

impl Pool {
    /// Starts the threads; each opens its session at the same time. Blocks until all are ready.
    ///
    /// # Errors
    /// The first session that could not be opened. The threads have ended then: a process that ended while one of them is
    /// in ONNX Runtime would crash.
    pub fn start(spec: PoolSpec) -> Result<Arc<Self>, ModelError> {
        let spec = Arc::new(spec);
        let (report, reports) = mpsc::channel();
        let (publish_buffer, starts): (Vec<_>, Vec<_>) = (0..spec.policy.threads())
            .map(|_| mpsc::channel::<Arc<Self>>())
            .unzip();
        let progress: Vec<Arc<Progress>> = starts.iter().map(|_| Arc::default()).collect();
        let mut threads = Vec::with_capacity(starts.len());
        for (number, (start, progress)) in starts.into_iter().zip(&progress).enumerate() {
            let progress = Arc::clone(progress);
            let name = format!("{}-{number}", spec.model.name);
            let (spec, report) = (Arc::clone(&spec), report.clone());
            let role = spec.policy.role(number);
            let body = move || {
                let opened = match role {
                    Role::Decode => Ok(None),
                    Role::Both | Role::Infer => (spec.open)().map(Some),
                };
                let predictor = match opened {
                    Ok(predictor) => predictor,
                    Err(error) => return drop(report.send(Err(error))),
                };
                let about = predictor.as_ref();
                let about = about.map(|predictor| (predictor.max_batch(), predictor.placement()));
                drop(report.send(Ok(about)));
                let thread = InferenceThread::new(&spec, predictor);
                // Whoever counts the reports waits until the last of these is gone.
                drop(report);
                // No pool comes where another session could not be opened.
                if let Ok(pool) = start.recv() {
                    thread.work(&pool, &progress, role);
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
        // Threads that only decode open nothing.
        let opened: Result<Vec<Option<(usize, Placement)>>, ModelError> =
            unspawned.chain(reports).collect();
        let opened = match opened {
            Ok(opened) if opened.len() == spec.policy.threads() => opened,
            other => {
                drop(publish_buffer);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                let panicked = "a thread ended while it opened its session";
                return Err(other
                    .err()
                    .unwrap_or_else(|| ModelError::Runtime(panicked.to_owned())));
            }
        };
        let opened: Vec<_> = opened.into_iter().flatten().collect();
        let max_batch = opened.iter().map(|(most, _)| *most).min().unwrap_or(1);
        let placement = opened.into_iter().next().map(|(_, placement)| placement);
        let placement = placement.unwrap_or(Placement::whole(Device::Cpu));
        let pool = Arc::new(Self::new(spec, max_batch, placement, progress));
        for thread in publish_buffer {
            drop(thread.send(Arc::clone(&pool)));
        }
        Ok(pool)
    }

    /// Takes the jobs away from every step that has run for longer than `limit`, and puts a new thread in its thread's place.
    /// The image that was being decoded, or that was run alone, ends as poison; the others of its step go on, alone where
    /// one of them may be the cause. Returns how many threads are stuck now.
    pub fn abandon_steps(self: &Arc<Self>, limit: Duration) -> usize {
        for (number, progress, jobs) in self.take_stuck(limit) {
            if let Some(spec) = self.lose_thread(self.role(number)) {
                self.replace(&spec, number, progress, jobs);
            }
        }
        self.stuck()
    }

    /// Starts a thread in the place of one that is stuck, and moves its jobs on.
    fn replace(
        self: &Arc<Self>,
        spec: &Arc<PoolSpec>,
        number: usize,
        progress: Arc<Progress>,
        jobs: StepJobs,
    ) {
        let role = self.role(number);
        if role != Role::Decode {
            spec.metrics.busy.dec();
        }
        let detail = "the engine never finished this image and gave it up";
        let failure = Failure::new(FailureCode::Poison, detail);
        let fail = |task: Task| {
            let end = End::Outcome(Outcome::Failed(failure.clone()));
            task.ends(end, Cost::default())
        };
        let mut ended = jobs.ended;
        ended.extend(jobs.decoding.map(fail));
        if jobs.inferring.len() == 1 {
            let alone = jobs.inferring.into_iter();
            ended.extend(alone.map(|ready| fail(ready.task)));
        } else {
            ended.extend(self.retry_alone(jobs.inferring, &failure));
        }
        self.decoded(jobs.decoded);
        // Where the pool was closed meanwhile, they are requeued by their delivery guards.
        drop(self.push(jobs.raw.into()));
        let name = format!("{}-{number}", self.name());
        let (pool, spec) = (Arc::clone(self), Arc::clone(spec));
        let body = move || {
            spec.completions.send_blocking(ended);
            let thread = InferenceThread::new(&spec, None);
            drop(spec);
            thread.work(&pool, &progress, role);
        };
        if let Err(error) = thread::Builder::new().name(name).spawn(body) {
            tracing::error!(%error, model.name = self.name(), "no thread for the place of one that is stuck");
            self.ended();
        }
    }
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

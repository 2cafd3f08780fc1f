//! One thread of a pool: its session, its buffers, and what it does with the jobs it takes.
//!
//! No fault in here ends the thread or loses a job. A panic while decoding is one refused image, a failed inference is
//! tried again image by image, a step that never ends loses its jobs to the watchdog, and whatever else goes wrong hands
//! its jobs are requeued by their delivery guards.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvage_core::clock::Clock;
use selvage_core::job::Job;
use selvage_core::key::Digest;
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome, Scores};
use selvage_core::preview;
use selvage_core::program::failpoint;
use tokio_util::sync::CancellationToken;

use super::batch::{Role, Step};
use super::pool::{Pool, PoolSpec};
use super::progress::{Progress, StepJobs};
use super::task::{Completed, Completions, CountAttempts, DecodedJob, End, Task};
use crate::image::tensor::Normaliser;
use crate::image::{ImageError, Prepared, Preparer};
use crate::metrics::ModelMetrics;
use crate::onnx::{ModelError, Open, Predictor};
use crate::output::Finisher;

/// What one thread works with.
pub(super) struct InferenceThread {
    open: Arc<Open>,
    /// `None` after a panic, until the next inference needs one.
    predictor: Option<Box<dyn Predictor>>,
    preparer: Preparer,
    normaliser: Normaliser,
    /// The batch that is run next, filled image by image.
    tensor: Vec<f32>,
    finisher: Finisher,
    clock: Clock,
    starts: Arc<dyn CountAttempts>,
    completions: Completions,
    metrics: ModelMetrics,
    device_lost: CancellationToken,
}

impl InferenceThread {
    /// Without a predictor, it opens one for its first inference.
    pub(super) fn new(spec: &PoolSpec, predictor: Option<Box<dyn Predictor>>) -> Self {
        Self {
            open: Arc::clone(&spec.open),
            predictor,
            preparer: Preparer::new(spec.model.input.clone(), spec.limits),
            normaliser: Normaliser::new(&spec.model.input),
            tensor: Vec::new(),
            finisher: Finisher::new(&spec.model),
            clock: spec.clock.clone(),
            starts: Arc::clone(&spec.starts),
            completions: spec.completions.clone(),
            metrics: spec.metrics.clone(),
            device_lost: spec.device_lost.clone(),
        }
    }

    /// Works until the pool closes, or the watchdog has given its jobs to another thread.
    pub(super) fn work(mut self, pool: &Pool, progress: &Progress, role: Role) {
        let busy = i64::from(role != Role::Decode);
        while let Some(step) = pool.take(role) {
            self.metrics.busy.add(busy);
            progress.begin();
            // Jobs that are lost in a panic here are requeued by their delivery guards; the session may be half-way in a call.
            let step = AssertUnwindSafe(|| self.step(pool, progress, step));
            if catch_unwind(step).is_err() {
                tracing::error!("a step of the engine panicked; its jobs were handed back");
                self.predictor = None;
            }
            if !progress.end() {
                drop(self);
                return pool.returned();
            }
            self.metrics.busy.sub(busy);
            pool.done(role);
        }
        // The session is closed before anyone takes this thread for ended: the process may end at once.
        drop(self);
        pool.ended();
    }

    /// `None` where the step was abandoned meanwhile.
    fn step(
        &mut self,
        pool: &Pool,
        progress: &Progress,
        step: Step<Task, DecodedJob>,
    ) -> Option<()> {
        match step {
            Step::Infer(batch) => self.infer(pool, progress, batch),
            Step::Decode(tasks) => {
                let ready = self.decode(progress, tasks)?;
                pool.decoded(ready);
                Some(())
            }
            Step::Alone(task) => {
                let ready = self.decode(progress, vec![task])?;
                self.infer(pool, progress, ready)
            }
        }
    }

    /// Counts the attempts, then decodes what is still wanted; the rest leaves.
    fn decode(&mut self, progress: &Progress, tasks: Vec<Task>) -> Option<Vec<DecodedJob>> {
        let (tasks, ended) = self.starts.begin(tasks);
        failpoint::reach("after_claim", recorded(&tasks));
        progress.jobs(|jobs| {
            jobs.raw = tasks.into();
            jobs.ended = ended;
        })?;
        let now = self.clock.now();
        let next = |jobs: &mut StepJobs| {
            let task = jobs.raw.pop_front()?;
            let job = &task.job;
            let next = (job.image.clone(), task.arrived, now > job.deadline);
            jobs.decoding = Some(task);
            Some(next)
        };
        while let Some((image, arrived, is_late)) = progress.jobs(next)? {
            let started = Instant::now();
            let waited = started.saturating_duration_since(arrived);
            let mut cost = Cost {
                waited_us: micros(waited),
                ..Cost::default()
            };
            self.metrics.waited.observe(waited.as_secs_f64());
            let decoded = if is_late {
                Err(Outcome::Expired)
            } else {
                let decoded = self.decode_one(&image);
                let took = started.elapsed();
                cost.decode_us = micros(took);
                self.metrics.decode.observe(took.as_secs_f64());
                decoded
            };
            progress.jobs(|jobs| {
                let Some(task) = jobs.decoding.take() else {
                    return;
                };
                match decoded {
                    Ok(image) => jobs.decoded.push(DecodedJob { task, image, cost }),
                    Err(outcome) => jobs.ended.push(task.ends(End::Outcome(outcome), cost)),
                }
            })?;
        }
        let (ready, ended) =
            progress.jobs(|jobs| (mem::take(&mut jobs.decoded), mem::take(&mut jobs.ended)))?;
        self.completions.send_blocking(ended);
        Some(ready)
    }

    /// The prepared image, or how its job ends.
    fn decode_one(&mut self, image: &Bytes) -> Result<Prepared, Outcome> {
        failpoint::hang_if(failpoint::is_set("decode", [image]));
        let asked = preview::read(image);
        let prepared = self.preparer.prepare(asked.unwrap_or(image));
        if self.preparer.lacked_end() {
            self.metrics.images_without_end.inc();
        }
        match prepared {
            Ok(image) if asked.is_some() => {
                Err(Outcome::Succeeded(Scores::new(image.into_values())))
            }
            Ok(image) => Ok(image),
            Err(error) => {
                if error == ImageError::Panicked {
                    self.metrics.decoder_panics.inc();
                    tracing::error!(image_hash = %Digest::of(image), "an image made its decoder panic");
                }
                Err(Outcome::Failed(error.into()))
            }
        }
    }

    /// Runs the model on what is still wanted.
    fn infer(&mut self, pool: &Pool, progress: &Progress, batch: Vec<DecodedJob>) -> Option<()> {
        let now = self.clock.now();
        let (batch, late): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|ready| now <= ready.task.job.deadline);
        let expire =
            |ready: DecodedJob| ready.task.ends(End::Outcome(Outcome::Expired), ready.cost);
        let late: Vec<Completed> = late.into_iter().map(expire).collect();
        self.completions.send_blocking(late);
        let images = batch.len();
        if images == 0 {
            return Some(());
        }
        let started = Instant::now();
        self.fill_tensor(&batch);
        progress.jobs(|jobs| jobs.inferring = batch)?;
        let result = self.run(progress, images);
        let took = started.elapsed();
        let batch = progress.jobs(|jobs| mem::take(&mut jobs.inferring))?;
        self.metrics.inference.observe(took.as_secs_f64());
        self.metrics.batch_size.observe(images as f64);
        pool.count(images);
        failpoint::reach("after_inference", batch.iter().map(|ready| &ready.task.job));
        match result {
            Ok(scores) => self.answer(batch, &scores, took),
            Err(error) => self.retry(pool, batch, &error),
        }
        Some(())
    }

    /// What becomes of a batch that the model could not compute: it is the device's fault, or else an image's.
    fn retry(&mut self, pool: &Pool, batch: Vec<DecodedJob>, error: &ModelError) {
        let images = batch.len();
        match error {
            ModelError::OutOfMemory(_) if images > 1 => {
                self.metrics.out_of_memory.inc();
                tracing::warn!(%error, images, "no memory for a batch; it is tried again in smaller ones");
                pool.retry_smaller(batch);
            }
            ModelError::DeviceLost(_) => {
                self.metrics.device_failures.inc();
                tracing::error!(%error, images, "the device failed; its jobs are handed back");
                let back = |ready: DecodedJob| ready.task.ends(End::HandedBack, Cost::default());
                let back = batch.into_iter().map(back).collect();
                self.reopen(pool);
                self.completions.send_blocking(back);
            }
            _ => {
                self.metrics.failed_inferences.inc();
                tracing::error!(%error, images, "inference failed; each image is tried alone");
                let detail = "the model could not compute this image";
                let failure = Failure::new(FailureCode::InferenceFailed, detail);
                self.completions
                    .send_blocking(pool.retry_alone(batch, &failure));
            }
        }
    }

    /// Opens the session again, after the old one has left the device. If that fails, no session of this process may work again.
    fn reopen(&mut self, pool: &Pool) {
        self.predictor = None;
        match (self.open)() {
            Ok(predictor) => self.predictor = Some(predictor),
            Err(error) => {
                tracing::error!(%error, "the session cannot be opened again; the worker ends");
                pool.lose_device();
                self.device_lost.cancel();
            }
        }
    }

    fn fill_tensor(&mut self, batch: &[DecodedJob]) {
        let image = batch.first().map_or(0, |ready| ready.image.len());
        self.tensor.resize(batch.len() * image, 0.0);
        for (ready, tensor) in batch.iter().zip(self.tensor.chunks_exact_mut(image)) {
            self.normaliser.fill(&ready.image, tensor);
        }
    }

    /// Calls the model on the tensor. A panic costs the session, which is opened again with the next batch.
    fn run(&mut self, progress: &Progress, images: usize) -> Result<Vec<f32>, ModelError> {
        let mut predictor = match self.predictor.take() {
            Some(predictor) => predictor,
            None => (self.open)()?,
        };
        let images_now = |jobs: &mut StepJobs| {
            let images = jobs.inferring.iter().map(|ready| &ready.task.job.image);
            failpoint::is_set("inference", images)
        };
        failpoint::hang_if(progress.jobs(images_now) == Some(true));
        failpoint::prolong(images);
        progress.set_break_off(predictor.break_off());
        let call = AssertUnwindSafe(|| predictor.predict(&self.tensor, images));
        let returned = catch_unwind(call);
        progress.set_break_off(None);
        match returned {
            Ok(result) => {
                self.predictor = Some(predictor);
                result
            }
            Err(_panic) => Err(ModelError::Run("the session panicked".to_owned())),
        }
    }

    fn answer(&self, batch: Vec<DecodedJob>, all: &[f32], took: Duration) {
        let images = batch.len();
        let values = all.len() / images;
        let end = |(at, ready): (usize, DecodedJob)| {
            let raw = &all[at * values..(at + 1) * values];
            let outcome = match self.finisher.finish(raw, ready.image.frame()) {
                Some(values) => Outcome::Succeeded(Scores::new(values)),
                None => {
                    let code = match ready.image {
                        Prepared::Pixels(..) => FailureCode::InferenceFailed,
                        // Whoever chooses the floats can choose such as no model survives.
                        Prepared::Values(_) => FailureCode::InvalidImage,
                    };
                    let detail = "the model's values for this image are no numbers";
                    Outcome::Failed(Failure::new(code, detail))
                }
            };
            let cost = Cost {
                inference_us: micros(took),
                batch_size: u16::try_from(images).unwrap_or(u16::MAX),
                ..ready.cost
            };
            ready.task.ends(End::Outcome(outcome), cost)
        };
        let ended = batch.into_iter().enumerate().map(end);
        self.completions.send_blocking(ended.collect());
    }
}

/// The jobs that have a record.
fn recorded(tasks: &[Task]) -> impl Iterator<Item = &Job> {
    let jobs = tasks.iter().map(|task| &task.job);
    jobs.filter(|job| job.submission.is_some())
}

/// Microseconds, as costs count them; an hour and more stays an hour and eleven minutes.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

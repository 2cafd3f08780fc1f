//! One thread of a pool: its session, its buffers, and what it does with the jobs it takes.
//!
//! No fault in here ends the thread or loses a job. A panic while decoding is one refused image, a failed inference is
//! tried again image by image, and whatever else goes wrong hands its jobs back by their tickets.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::clock::Clock;
use selvage_core::failpoint;
use selvage_core::job::{Job, Lane};
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome, Scores};
use selvage_core::preview;
use selvage_core::store::MAX_ATTEMPTS;

use super::batch::Step;
use super::pool::{Pool, PoolSpec};
use super::pulse::Pulse;
use super::{Care, End, Ended, Exits, Task};
use crate::image::tensor::Normaliser;
use crate::image::{ImageError, Prepared, Preparer};
use crate::metrics::ModelMetrics;
use crate::model::{ModelError, Open, Predictor, scores};
use crate::starts::Starts;

/// A decoded job.
#[derive(Debug)]
pub(super) struct Ready {
    task: Task,
    image: Prepared,
    cost: Cost,
}

impl Ready {
    pub(super) const fn lane(&self) -> Lane {
        self.task.job.lane()
    }
}

/// A thread's belongings.
pub(super) struct Hand {
    open: Arc<Open>,
    /// `None` after a panic, until the next inference needs one.
    predictor: Option<Box<dyn Predictor>>,
    preparer: Preparer,
    normaliser: Normaliser,
    /// The batch that is run next, filled image by image.
    tensor: Vec<f32>,
    softmax: bool,
    clock: Clock,
    starts: Starts,
    exits: Exits,
    metrics: ModelMetrics,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand").finish_non_exhaustive()
    }
}

impl Hand {
    pub(super) fn new(spec: &PoolSpec, predictor: Box<dyn Predictor>) -> Self {
        Self {
            open: Arc::clone(&spec.open),
            predictor: Some(predictor),
            preparer: Preparer::new(spec.model.input.clone(), spec.limits),
            normaliser: Normaliser::new(&spec.model.input),
            tensor: Vec::new(),
            softmax: spec.model.output.softmax,
            clock: spec.clock.clone(),
            starts: spec.starts.clone(),
            exits: spec.exits.clone(),
            metrics: spec.metrics.clone(),
        }
    }

    /// Works until the pool closes.
    pub(super) fn work(mut self, pool: &Pool, pulse: &Pulse) {
        while let Some(step) = pool.take() {
            self.metrics.busy.inc();
            pulse.begin();
            // Jobs that are lost in a panic here go back by their tickets; the session may be half-way in a call.
            if catch_unwind(AssertUnwindSafe(|| self.step(pool, pulse, step))).is_err() {
                tracing::error!("a step of the engine panicked; its jobs were handed back");
                self.predictor = None;
            }
            pulse.end();
            self.metrics.busy.dec();
            pool.done();
        }
        // The session is closed before anyone takes this thread for ended: the process may end at once.
        drop(self);
        pool.ended();
    }

    fn step(&mut self, pool: &Pool, pulse: &Pulse, step: Step<Task, Ready>) {
        match step {
            Step::Infer(batch) => self.infer(pool, pulse, batch),
            Step::Decode(tasks) => {
                let ready = self.decode(tasks);
                pool.decoded(ready);
            }
            Step::Alone(task) => {
                let ready = self.decode(vec![task]);
                self.infer(pool, pulse, ready);
            }
        }
    }

    /// Counts the attempts, then decodes what is still wanted; the rest leaves.
    fn decode(&mut self, tasks: Vec<Task>) -> Vec<Ready> {
        let (tasks, mut ended) = self.starts.begin(tasks);
        failpoint::reach("after_claim", recorded(&tasks));
        let mut ready = Vec::with_capacity(tasks.len());
        let now = self.clock.now();
        for task in tasks {
            let started = Instant::now();
            let waited = started.saturating_duration_since(task.arrived);
            let mut cost = Cost {
                waited_us: micros(waited),
                ..Cost::default()
            };
            self.metrics.waited.observe(waited.as_secs_f64());
            if now > task.job.deadline {
                ended.push(task.ends(End::Outcome(Outcome::Expired), cost));
                continue;
            }
            let asked = preview::read(&task.job.image);
            let is_preview = asked.is_some();
            let prepared = self.preparer.prepare(asked.unwrap_or(&task.job.image));
            let took = started.elapsed();
            cost.decode_us = micros(took);
            self.metrics.decode.observe(took.as_secs_f64());
            match prepared {
                Ok(image) if is_preview => {
                    let outcome = Outcome::Succeeded(Scores::new(image.into_values()));
                    ended.push(task.ends(End::Outcome(outcome), cost));
                }
                Ok(image) => ready.push(Ready { task, image, cost }),
                Err(error) => {
                    if error == ImageError::Panicked {
                        self.metrics.decoder_panics.inc();
                        tracing::error!(job.id = %task.job.id, "an image made its decoder panic");
                    }
                    let outcome = Outcome::Failed(error.into());
                    ended.push(task.ends(End::Outcome(outcome), cost));
                }
            }
        }
        self.exits.send_blocking(ended);
        ready
    }

    /// Runs the model on what is still wanted.
    fn infer(&mut self, pool: &Pool, pulse: &Pulse, batch: Vec<Ready>) {
        let now = self.clock.now();
        let (batch, late): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|ready| now <= ready.task.job.deadline);
        let expire = |ready: Ready| ready.task.ends(End::Outcome(Outcome::Expired), ready.cost);
        let late: Vec<Ended> = late.into_iter().map(expire).collect();
        self.exits.send_blocking(late);
        if batch.is_empty() {
            return;
        }
        let started = Instant::now();
        let result = self.run(pulse, &batch);
        let took = started.elapsed();
        self.metrics.inference.observe(took.as_secs_f64());
        self.metrics.batch_size.observe(batch.len() as f64);
        pool.count(batch.len());
        failpoint::reach("after_inference", batch.iter().map(|ready| &ready.task.job));
        match result {
            Ok(scores) => self.answer(batch, &scores, took),
            Err(error) => {
                self.metrics.failed_inferences.inc();
                tracing::error!(%error, images = batch.len(), "inference failed; each image is tried alone");
                self.again(pool, batch);
            }
        }
    }

    /// Fills the tensor and calls the model. A panic costs the session, which is opened anew with the next batch.
    fn run(&mut self, pulse: &Pulse, batch: &[Ready]) -> Result<Vec<f32>, ModelError> {
        let image = batch.first().map_or(0, |ready| ready.image.len());
        self.tensor.resize(batch.len() * image, 0.0);
        for (ready, tensor) in batch.iter().zip(self.tensor.chunks_exact_mut(image)) {
            self.normaliser.fill(&ready.image, tensor);
        }
        let mut predictor = match self.predictor.take() {
            Some(predictor) => predictor,
            None => (self.open)()?,
        };
        failpoint::hang("inference", batch.iter().map(|ready| &ready.task.job));
        failpoint::prolong(batch.len());
        pulse.set_break_off(predictor.break_off());
        let call = AssertUnwindSafe(|| predictor.predict(&self.tensor, batch.len()));
        let returned = catch_unwind(call);
        pulse.set_break_off(None);
        match returned {
            Ok(result) => {
                self.predictor = Some(predictor);
                result
            }
            Err(_panic) => Err(ModelError::Run("the session panicked".to_owned())),
        }
    }

    fn answer(&self, batch: Vec<Ready>, all: &[f32], took: Duration) {
        let images = batch.len();
        let end = |(ready, scores): (Ready, &[f32])| {
            let mut scores = scores.to_vec();
            if self.softmax {
                scores::softmax(&mut scores);
            }
            let outcome = if scores::are_finite(&scores) {
                Outcome::Succeeded(Scores::new(scores))
            } else {
                let code = match ready.image {
                    Prepared::Pixels(_) => FailureCode::InferenceFailed,
                    // Whoever chooses the floats can choose such as no model survives.
                    Prepared::Values(_) => FailureCode::InvalidImage,
                };
                let detail = "the model's scores for this image are no numbers";
                Outcome::Failed(Failure::new(code, detail))
            };
            let cost = Cost {
                inference_us: micros(took),
                batch_size: u16::try_from(images).unwrap_or(u16::MAX),
                ..ready.cost
            };
            ready.task.ends(End::Outcome(outcome), cost)
        };
        let labels = (all.len() / images).max(1);
        let ended = batch.into_iter().zip(all.chunks_exact(labels)).map(end);
        self.exits.send_blocking(ended.collect());
    }

    /// Gives each job another start, alone, or its end where it had its last.
    fn again(&self, pool: &Pool, batch: Vec<Ready>) {
        let mut ended = Vec::new();
        let mut again = Vec::new();
        for Ready { mut task, cost, .. } in batch {
            if task.attempt >= MAX_ATTEMPTS {
                let failure = Failure::new(
                    FailureCode::InferenceFailed,
                    "the model could not compute this image",
                );
                ended.push(task.ends(End::Outcome(Outcome::Failed(failure)), cost));
            } else {
                task.attempt += 1;
                task.care = Care::Alone;
                again.push(task);
            }
        }
        if let Err(tasks) = pool.push(again) {
            let back = |task: Task| task.ends(End::HandedBack, Cost::default());
            ended.extend(tasks.into_iter().map(back));
        }
        self.exits.send_blocking(ended);
    }
}

/// The jobs that have a record.
fn recorded(tasks: &[Task]) -> impl Iterator<Item = &Job> {
    let jobs = tasks.iter().map(|task| &task.job);
    jobs.filter(|job| job.promise.is_some())
}

/// Microseconds, as costs count them; an hour and more stays an hour and eleven minutes.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

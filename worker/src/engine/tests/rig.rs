//! A pool on a predictor that behaves as its input says: each image is one grey pixel, and its value says what happens.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use bytes::Bytes;
use prometheus::Registry;
use selvage_core::catalog::{self, Channels, Input, Model, Output};
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::{CachePolicy, Job, JobId, Priority, Submission};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::{FailureCode, Outcome};
use selvage_core::output::Meaning;
use selvage_core::queue::{Settle, Settlement};
use selvage_core::store::MemoryStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::*;
use crate::consume::starts::Starts;
use crate::engine::delivery_guard::DeliveryGuard;
use crate::image::decode::Limits;
use crate::metrics::Metrics;
use crate::onnx::{BreakOff, ModelError, Predictor};

pub(super) const PANICS: u8 = 250;
pub(super) const FAILS: u8 = 251;
pub(super) const NO_NUMBER: u8 = 252;
pub(super) const HANGS: u8 = 253;
/// The device has memory for two images at once.
pub(super) const LARGE: u8 = 254;
/// The device fails.
pub(super) const BREAKS_DEVICE: u8 = 255;

/// What the predictors of one test have seen, and a gate they wait at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) batches: Mutex<Vec<Vec<u8>>>,
    pub(super) opened: Mutex<usize>,
    pub(super) closed_gate: Mutex<bool>,
    pub(super) broken_off: Mutex<bool>,
    pub(super) released: Mutex<bool>,
    /// No session can be opened any more.
    pub(super) gone: Mutex<bool>,
    pub(super) gate: Condvar,
}

impl Watched {
    pub(super) fn batches(&self) -> Vec<Vec<u8>> {
        self.batches.lock().unwrap().clone()
    }

    pub(super) fn close_gate(&self) {
        *self.closed_gate.lock().unwrap() = true;
    }

    pub(super) fn open_gate(&self) {
        *self.closed_gate.lock().unwrap() = false;
        self.gate.notify_all();
    }

    /// Lets images that hang come to their end.
    pub(super) fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.gate.notify_all();
    }

    pub(super) async fn until_batches(&self, n: usize) {
        while self.batches.lock().unwrap().len() < n {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) struct Fake {
    pub(super) watched: Arc<Watched>,
    pub(super) max_batch: usize,
}

impl Predictor for Fake {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn predict(&mut self, input: &[f32], images: usize) -> Result<Vec<f32>, ModelError> {
        assert_eq!(input.len(), images);
        let values: Vec<u8> = input.iter().map(|v| (v * 255.0).round() as u8).collect();
        self.watched.batches.lock().unwrap().push(values.clone());
        let mut closed = self.watched.closed_gate.lock().unwrap();
        while *closed {
            closed = self.watched.gate.wait(closed).unwrap();
        }
        drop(closed);
        let mut released = self.watched.released.lock().unwrap();
        while values.contains(&HANGS) && !*released {
            released = self.watched.gate.wait(released).unwrap();
        }
        drop(released);
        if std::mem::take(&mut *self.watched.broken_off.lock().unwrap()) {
            return Err(ModelError::Run("broken off".to_owned()));
        }
        assert!(!values.contains(&PANICS), "asked to panic");
        if values.contains(&LARGE) && values.len() > 2 {
            return Err(ModelError::OutOfMemory("scripted".to_owned()));
        }
        if values.contains(&BREAKS_DEVICE) {
            return Err(ModelError::DeviceLost("scripted".to_owned()));
        }
        if values.contains(&FAILS) {
            return Err(ModelError::Run("asked to fail".to_owned()));
        }
        let score = |value: &u8| match *value {
            NO_NUMBER => [f32::NAN, 0.0],
            value => [f32::from(value), 0.0],
        };
        Ok(values.iter().flat_map(score).collect())
    }

    fn break_off(&self) -> Option<Arc<BreakOff>> {
        let watched = Arc::clone(&self.watched);
        Some(Arc::new(move || {
            *watched.broken_off.lock().unwrap() = true;
            watched.open_gate();
        }))
    }
}

#[derive(Debug)]
pub(super) struct Settled;

impl Settle for Settled {
    fn settle(self: Box<Self>, _: Settlement) {}
}

/// One pool with its exits, and the jobs that were pushed by their values.
pub(super) struct Bench {
    pub(super) pool: Arc<Pool>,
    pub(super) engine: Engine,
    pub(super) watched: Arc<Watched>,
    pub(super) interactive: mpsc::Receiver<Vec<Completed>>,
    pub(super) batch: mpsc::Receiver<Vec<Completed>>,
    pub(super) clock: Clock,
    pub(super) store: Arc<MemoryStore>,
    pub(super) metrics: Metrics,
    pub(super) device_lost: CancellationToken,
}

pub(super) fn model(max_batch: usize) -> Model {
    Model {
        name: "fake".parse().unwrap(),
        version: "1".to_owned(),
        description: String::new(),
        folder: "tiny".into(),
        file: "fake.onnx".into(),
        external: Vec::new(),
        digest: Digest::of(b"fake"),
        task: catalog::Task::Classify,
        labels: vec!["a".to_owned(), "b".to_owned()].into(),
        max_batch,
        device: None,
        device_strict: false,
        input: Input::new(1, 1, Channels::Gray),
        output: Output::default(),
        preprocessing: 1,
    }
}

pub(super) fn store() -> Arc<MemoryStore> {
    let retention = std::time::Duration::from_secs(60);
    Arc::new(MemoryStore::new(1_000, retention, Clock::default()))
}

impl Bench {
    pub(super) fn new(sessions: usize, max_batch: usize) -> Self {
        let policy = Policy {
            sessions,
            decoders: 0,
        };
        Self::with(policy, max_batch)
    }

    /// A pool whose threads are arranged so.
    pub(super) fn with(policy: Policy, max_batch: usize) -> Self {
        let watched = Arc::new(Watched::default());
        let (to_interactive, interactive) = mpsc::channel(1_000);
        let (to_batch, batch) = mpsc::channel(1_000);
        let model = model(max_batch);
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let device_lost = CancellationToken::new();
        let (clock, store) = (Clock::default(), store());
        let (seen, size) = (Arc::clone(&watched), max_batch);
        let open = move || {
            if *seen.gone.lock().unwrap() {
                return Err(ModelError::Run("the device is gone".to_owned()));
            }
            *seen.opened.lock().unwrap() += 1;
            let fake = Fake {
                watched: Arc::clone(&seen),
                max_batch: size,
            };
            Ok(Box::new(fake) as Box<dyn Predictor>)
        };
        let pool = Pool::start(PoolSpec {
            metrics: metrics.of_model(&model.name),
            model: Arc::new(model),
            open: Arc::new(open),
            policy,
            limits: Limits::with_pixels(1_000_000),
            clock: clock.clone(),
            starts: Arc::new(Starts::new(Arc::clone(&store) as _)),
            completions: Completions {
                interactive: to_interactive,
                batch: to_batch,
            },
            device_lost: device_lost.clone(),
        })
        .unwrap();
        Self {
            engine: Engine::new(vec![Arc::clone(&pool)]),
            pool,
            watched,
            interactive,
            batch,
            clock,
            store,
            metrics,
            device_lost,
        }
    }

    pub(super) fn push(&self, values: impl IntoIterator<Item = u8>, priority: Priority) {
        self.pool
            .push(
                values
                    .into_iter()
                    .map(|value| task(value, priority))
                    .collect(),
            )
            .unwrap();
    }

    /// The ends of `n` jobs of the interactive queue, by image value.
    pub(super) async fn ends(&mut self, n: usize) -> HashMap<u8, Completed> {
        let mut ends = HashMap::new();
        while ends.len() < n {
            for ended in self.interactive.recv().await.unwrap() {
                ends.insert(value(&ended.task), ended);
            }
        }
        ends
    }
}

pub(super) fn bmp(value: u8) -> Bytes {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(1, 1, image::Luma([value]))
        .write_to(&mut bytes, image::ImageFormat::Bmp)
        .unwrap();
    bytes.into_inner().into()
}

pub(super) fn value(task: &Task) -> u8 {
    let image = image::load_from_memory(&task.job.image).unwrap();
    image.into_luma8().get_pixel(0, 0).0[0]
}

pub(super) fn task(value: u8, priority: Priority) -> Task {
    let submission = Submission {
        version: "1".to_owned(),
        top_k: 1,
        metadata: serde_json::Map::new(),
        idempotency: None,
        owner: None,
        webhook: None,
        retry_of: None,
        image_hash: None,
    };
    let image = bmp(value);
    let now = UnixMillis::wall();
    Task {
        job: Job {
            id: JobId::new(),
            model: "fake".parse().unwrap(),
            key: PredictionKey {
                model: Digest::of(b"fake"),
                preprocessing: 1,
                image: Digest::of(&image),
            },
            created_at: now,
            deadline: now.after(std::time::Duration::from_secs(600)),
            cache: CachePolicy::default(),
            earlier_attempts: 0,
            reply_to: None,
            request_id: None,
            traceparent: None,
            submission: (priority == Priority::Batch).then_some(submission),
            image,
        },
        attempt: 1,
        isolation: Isolation::Together,
        running: None,
        arrived: Instant::now(),
        delivery_guard: DeliveryGuard::shares(Box::new(Settled), 1, None)
            .pop()
            .unwrap(),
        meaning: Meaning {
            task: catalog::Task::Classify,
            threshold: 0.0,
            labels: Arc::default(),
        },
    }
}

pub(super) fn scores(ended: &Completed) -> &[f32] {
    match &ended.end {
        End::Outcome(Outcome::Succeeded(scores)) => scores.as_slice(),
        other => panic!("no success: {other:?}"),
    }
}

pub(super) fn failure(ended: &Completed) -> FailureCode {
    match &ended.end {
        End::Outcome(Outcome::Failed(failure)) => failure.code,
        other => panic!("no failure: {other:?}"),
    }
}

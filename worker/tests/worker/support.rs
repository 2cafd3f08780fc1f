//! One worker on backends in memory, with the small colour model of `tests/fixtures`, and what tests do to it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use image::{ImageFormat, Rgb, RgbImage};
use prometheus::Registry;
use prometheus::proto::Metric;
use selvage_core::cache::MemoryCache;
use selvage_core::catalog::follow::Source;
use selvage_core::catalog::{Catalog, Device, Model};
use selvage_core::clock::Clock;
use selvage_core::job::{CachePolicy, Job, JobId, Priority, ReplyAddress, Submission};
use selvage_core::job_state::JobState;
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::{Outcome, Report};
use selvage_core::output::Output;
use selvage_core::program::StartError;
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::queue::{Queue, Reports};
use selvage_core::registry::MemoryFleet;
use selvage_core::store::{JobStore as _, MemoryStore, Record, Seed, WorkerStore};
use selvage_worker::config::{EngineSettings, WorkerSettings};
use selvage_worker::{Backends, Worker};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; only a failing test waits so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const RED: [u8; 3] = [250, 10, 10];
pub(crate) const GREEN: [u8; 3] = [10, 250, 10];
pub(crate) const BLUE: [u8; 3] = [10, 10, 250];

/// The counter of ended jobs.
pub(crate) const JOBS: &str = "selvage_worker_jobs_total";

/// The place of the highest score; panics unless the scores are probabilities.
pub(crate) fn best(outcome: &Outcome) -> usize {
    let Outcome::Succeeded(scores) = outcome else {
        panic!("no success: {outcome:?}");
    };
    let scores = scores.as_slice();
    let sum: f32 = scores.iter().sum();
    assert!((sum - 1.0).abs() < 1e-5, "no probabilities: {scores:?}");
    (0..scores.len())
        .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
        .unwrap()
}

/// A worker and all it stands on.
pub(crate) struct Rig {
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) reports: Reports,
    pub(crate) cache: MemoryCache,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) fleet: Arc<MemoryFleet>,
    pub(crate) clock: Clock,
    pub(crate) model: Arc<Model>,
    pub(crate) registry: Registry,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
    running: JoinSet<Result<(), StartError>>,
    worker: Option<Worker>,
    pub(crate) models: tempfile::TempDir,
}

impl Rig {
    /// A prepared worker that does not run yet.
    pub(crate) async fn prepared() -> Self {
        Self::with_store(|store| store).await
    }

    /// The same, whose worker sees the store through something else.
    pub(crate) async fn with_store<S: WorkerStore + 'static>(
        wrap: impl FnOnce(Arc<MemoryStore>) -> Arc<S>,
    ) -> Self {
        let models = tempfile::tempdir().unwrap();
        let fixture = project().join("tests/fixtures/rgb-tiny");
        let folder = models.path().join("rgb-tiny");
        std::fs::create_dir(&folder).unwrap();
        for file in ["model.toml", "model.onnx"] {
            std::fs::copy(fixture.join(file), folder.join(file)).unwrap();
        }
        let catalog = Catalog::read(models.path()).unwrap();
        let model = Arc::clone(&catalog.models()[0]);
        let clock = Clock::default();
        let (queue, reports) = MemoryQueue::new(10_000);
        let cache = MemoryCache::new(1 << 20, LIMIT * 100);
        let store = Arc::new(MemoryStore::new(10_000, LIMIT * 100, clock.clone()));
        let fleet = Arc::new(MemoryFleet::new(clock.clone()));
        let registry = Registry::new();
        let settings = WorkerSettings {
            models: Source {
                folder: models.path().to_owned(),
                every: Some(Duration::from_millis(20)),
            },
            engine: EngineSettings {
                sessions: Some(2),
                intra_threads: 1,
                oversubscribe: true,
                inference_timeout: 60,
                device: Device::Cpu,
                device_strict: false,
                ep_library: None,
                onnxruntime: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
            },
            max_pixels: 1_000_000,
            prefetch: None,
            drain_timeout: LIMIT,
        };
        let backends = Backends {
            queue: queue.clone(),
            cache: Arc::new(cache.clone()),
            store: wrap(Arc::clone(&store)),
            fleet: fleet.clone(),
            clock: clock.clone(),
        };
        let stop = CancellationToken::new();
        let worker = Worker::prepare(catalog, settings, backends, &registry, &stop)
            .await
            .unwrap();
        Self {
            queue,
            reports,
            cache,
            store,
            fleet,
            clock,
            model,
            registry,
            ready: worker.ready(),
            stop,
            running: JoinSet::new(),
            worker: Some(worker),
            models,
        }
    }

    /// A worker that runs.
    pub(crate) async fn running() -> Self {
        let mut rig = Self::prepared().await;
        rig.start().await;
        rig
    }

    /// Lets the worker run.
    pub(crate) async fn start(&mut self) {
        let worker = self.worker.take().expect("a worker is started once");
        self.running.spawn(worker.run(self.stop.clone()));
        let ready = self.ready.wait_for(|ready| *ready);
        timeout(LIMIT, ready).await.unwrap().unwrap();
    }

    /// Tells the worker to stop and waits until it has.
    pub(crate) async fn end(&mut self) {
        self.stop.cancel();
        let ended = timeout(LIMIT, self.running.join_next()).await.unwrap();
        ended.unwrap().unwrap().unwrap();
    }

    /// A job somebody waits for.
    pub(crate) fn waited_for(&self, image: Bytes) -> Job {
        let now = self.clock.now();
        Job {
            id: JobId::new(),
            model: self.model.name.clone(),
            key: PredictionKey {
                model: self.model.digest,
                preprocessing: self.model.preprocessing,
                image: Digest::of(&image),
            },
            created_at: now,
            deadline: now.after(LIMIT * 10),
            cache: CachePolicy::default(),
            earlier_attempts: 0,
            reply_to: self.queue.reply_address(),
            request_id: None,
            traceparent: None,
            submission: None,
            image,
        }
    }

    /// An asynchronous job nobody waits for, without its record.
    pub(crate) fn submitted(&self, image: Bytes) -> Job {
        Job {
            reply_to: None,
            submission: Some(Submission {
                version: "1".to_owned(),
                top_k: 2,
                metadata: serde_json::Map::new(),
                idempotency: None,
                owner: None,
                webhook: None,
                retry_of: None,
                image_hash: None,
            }),
            ..self.waited_for(image)
        }
    }

    /// Writes an asynchronous job's record.
    pub(crate) async fn submit(&self, job: &Job) {
        self.store.submit(&Seed::of(job).unwrap()).await.unwrap();
    }

    /// Publishes jobs.
    pub(crate) async fn publish(&self, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            self.queue.publish(job).await.unwrap();
        }
    }

    /// The next report.
    pub(crate) async fn report(&mut self) -> Report {
        self.reports(1).await.pop().unwrap()
    }

    /// So many reports, in the order they come.
    pub(crate) async fn reports(&mut self, count: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        while reports.len() < count {
            let more = timeout(LIMIT, self.reports.recv()).await.unwrap().unwrap();
            reports.extend(more);
        }
        reports
    }

    /// A job's record once it has ended.
    pub(crate) async fn ended(&self, id: JobId) -> Record {
        let look = async {
            loop {
                let record = self.record(id).await;
                match record {
                    Some(record) if record.state.is_terminal() => return record,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(LIMIT, look).await.unwrap()
    }

    /// A job's record now.
    pub(crate) async fn record(&self, id: JobId) -> Option<Record> {
        self.store.get(&[id]).await.unwrap().pop().unwrap()
    }

    /// Jobs that wait in both queues.
    pub(crate) async fn waiting(&self) -> u64 {
        let mut waiting = 0;
        for priority in Priority::ALL {
            waiting += self.queue.depth(&self.model.name, priority).await.unwrap();
        }
        waiting
    }

    /// Takes what waits in both queues, as another worker would.
    pub(crate) async fn take_all_waiting(&self) -> HashSet<JobId> {
        let mut ids = HashSet::new();
        let stop = CancellationToken::new();
        for priority in Priority::ALL {
            let name = &self.model.name;
            let consumer = self.queue.consume(name, priority, u16::MAX, stop.clone());
            let mut consumer = consumer.await.unwrap();
            while self.queue.depth(name, priority).await.unwrap() > 0 {
                let delivery = timeout(LIMIT, consumer.next()).await.unwrap().unwrap();
                ids.extend(delivery.jobs.iter().map(|job| job.id));
                delivery.settle.ack();
            }
        }
        ids
    }

    /// The value of a metric's series that have these label values, summed.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.series(name, labels);
        series.iter().map(|one| one.get_counter().get_value()).sum()
    }

    /// How often a time was measured, and all that was measured together, in seconds.
    pub(crate) fn measured(&self, name: &str, labels: &[&str]) -> (u64, f64) {
        let series = self.series(name, labels);
        let histograms = series.iter().map(|one| one.get_histogram());
        histograms.fold((0, 0.0), |(count, sum), one| {
            (count + one.get_sample_count(), sum + one.get_sample_sum())
        })
    }

    fn series(&self, name: &str, labels: &[&str]) -> Vec<Metric> {
        let mut families = self.registry.gather();
        families.retain(|family| family.name() == name);
        let series = families.iter().flat_map(|family| family.get_metric());
        let wanted = series.filter(|series| {
            let values: Vec<_> = series.get_label().iter().map(|pair| pair.value()).collect();
            labels.iter().all(|label| values.contains(label))
        });
        wanted.cloned().collect()
    }

    /// Waits until a metric has reached a value.
    pub(crate) async fn until_count(&self, name: &str, labels: &[&str], value: f64) {
        let reached = async {
            while self.count(name, labels) < value {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, reached).await.unwrap();
    }
}

/// An address nobody has.
pub(crate) fn nowhere() -> ReplyAddress {
    ReplyAddress("nowhere".into())
}

/// The project's folder.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A picture of one colour; `salt` makes its bytes unlike those of others of the same colour.
pub(crate) fn picture(colour: [u8; 3], salt: u8) -> Bytes {
    let mut image = RgbImage::from_pixel(9, 9, Rgb(colour));
    image.put_pixel(0, 0, Rgb([salt, salt, salt]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

/// The state a record has ended in, and the label it shows.
pub(crate) fn shown(record: &Record) -> (JobState, Option<&str>) {
    let label = record.output.as_ref().and_then(|output| match output {
        Output::Classify { label, .. } => Some(label.as_str()),
        _ => None,
    });
    (record.state, label)
}

//! What the worker counts. One struct, cheap to clone, registered once; names begin with `selvage_worker_`.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry,
    register_histogram_vec_with_registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_vec_with_registry,
};
use selvage_core::clock::UnixMillis;
use selvage_core::job::{Job, ModelName, Priority};
use selvage_core::queue::Delivery;
use selvage_core::registry::Ends;

/// Upper bounds in seconds: a cheap inference takes a quarter of a millisecond, a large photograph tenths of a second.
const SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// The same for what goes on before a worker has a job, which may take as long as an asynchronous job may.
const LONG_SECONDS: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    60.0, 300.0, 900.0,
];
/// How jobs end here: the terminal states, and `dropped`, nobody waited for it any more.
const OUTCOMES: [&str; 5] = ["succeeded", "failed", "canceled", "expired", "dropped"];
/// Upper bounds of batch sizes.
const IMAGES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// All metrics of a worker.
#[derive(Clone, Debug)]
pub struct Metrics {
    jobs: IntCounterVec,
    queue_wait: HistogramVec,
    total: HistogramVec,
    redelivered: IntCounterVec,
    batch_size: HistogramVec,
    decode: HistogramVec,
    inference: HistogramVec,
    waited: HistogramVec,
    busy: IntGaugeVec,
    model_changes: IntCounterVec,
    model_files: IntGaugeVec,
    /// Images that made a decoder panic.
    pub decoder_panics: IntCounter,
    /// Images that had all of their picture, but not the end of their file.
    pub images_without_end: IntCounter,
    /// Inferences that panicked or returned an error; their jobs were tried again alone.
    pub failed_inferences: IntCounter,
    /// Jobs handed back to the broker unfinished.
    pub given_back: IntCounter,
    /// Cache requests that were refused or too slow.
    pub cache_errors: IntCounter,
    /// Store requests that were refused or too slow; each was repeated.
    pub store_errors: IntCounter,
    /// Reply messages that could not be sent.
    pub reply_errors: IntCounter,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When the registry has one of the names already: two workers in one process need two registries.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let named = |name: &str| format!("selvage_worker_{name}");
        let counter = |name: &str, help: &str| {
            register_int_counter_with_registry!(named(name), help, registry)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register_int_counter_vec_with_registry!(named(name), help, labels, registry)
        };
        let gauges = |name: &str, help: &str, label: &str| {
            register_int_gauge_vec_with_registry!(named(name), help, &[label], registry)
        };
        let histograms = |name: &str, help: &str, bounds: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(named(name), help).buckets(bounds.to_vec());
            register_histogram_vec_with_registry!(options, labels, registry)
        };
        let seconds = |name: &str, help: &str| histograms(name, help, &SECONDS, &["model"]);
        let by_priority =
            |name: &str, help: &str| histograms(name, help, &LONG_SECONDS, &["model", "priority"]);
        let build = gauges("build_info", "Version of this program", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            jobs: counters(
                "jobs_total",
                "Jobs this worker ended",
                &["model", "outcome"],
            )?,
            queue_wait: by_priority(
                "queue_wait_seconds",
                "From a job's acceptance at a gateway to its arrival at a worker, in whole milliseconds",
            )?,
            total: by_priority(
                "total_seconds",
                "From a job's acceptance at a gateway to its end here, in whole milliseconds",
            )?,
            redelivered: counters(
                "redelivered_total",
                "Messages that had been handed out before",
                &["model"],
            )?,
            busy: gauges("busy_sessions", "Sessions that compute now", "model")?,
            model_changes: counters(
                "model_changes_total",
                "Models that changed in the folder, by whether the new file was taken",
                &["model", "result"],
            )?,
            model_files: gauges(
                "model_files",
                "Files of a model in memory: two while one takes over from the other",
                "model",
            )?,
            batch_size: histograms("batch_size", "Images per inference", &IMAGES, &["model"])?,
            decode: seconds("decode_seconds", "Decoding one image")?,
            inference: seconds("inference_seconds", "One inference, whatever its batch")?,
            waited: seconds(
                "waited_seconds",
                "From a job's arrival at the worker to its start",
            )?,
            decoder_panics: counter("decoder_panics_total", "Images that made a decoder panic")?,
            images_without_end: counter(
                "images_without_end_total",
                "Images that were accepted although their file lacked its end mark",
            )?,
            failed_inferences: counter(
                "failed_inferences_total",
                "Inferences that failed or panicked",
            )?,
            given_back: counter("given_back_total", "Jobs handed back unfinished")?,
            cache_errors: counter("cache_errors_total", "Cache requests that failed")?,
            store_errors: counter("store_errors_total", "Job store requests that failed")?,
            reply_errors: counter("reply_errors_total", "Replies that could not be sent")?,
        })
    }

    /// Counts a job that was finished here, and the time since its acceptance.
    pub fn finished(&self, job: &Job, outcome: &str, now: UnixMillis) {
        self.ended(&job.model, outcome);
        let labels = [job.model.as_str(), job.priority().as_str()];
        let total = self.total.with_label_values(&labels);
        total.observe(now.since(job.created_at).as_secs_f64());
    }

    /// Counts a job's end. Outcomes beside the terminal states: `dropped`, nobody waited for it any more.
    pub fn ended(&self, model: &ModelName, outcome: &str) {
        self.jobs
            .with_label_values(&[model.as_str(), outcome])
            .inc();
    }

    /// Counts a change of a model: `taken`, or `refused`.
    pub fn model_changed(&self, model: &ModelName, result: &str) {
        let labels = [model.as_str(), result];
        self.model_changes.with_label_values(&labels).inc();
    }

    /// Says how many files of a model are in memory.
    pub fn model_files(&self, model: &ModelName, files: usize) {
        let gauge = self.model_files.with_label_values(&[model.as_str()]);
        gauge.set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    /// Shows the counters of a model before there is anything to count, so that the first is an increase.
    pub fn begin(&self, model: &ModelName) {
        self.model_files(model, 1);
        for outcome in OUTCOMES {
            self.jobs.with_label_values(&[model.as_str(), outcome]);
        }
        for priority in Priority::ALL {
            let labels = [model.as_str(), priority.as_str()];
            self.total.with_label_values(&labels);
        }
        for result in ["taken", "refused"] {
            self.model_changes
                .with_label_values(&[model.as_str(), result]);
        }
    }

    /// How jobs of a model have ended here.
    #[must_use]
    pub fn ends(&self, model: &ModelName) -> Ends {
        let count = |outcome| {
            let labels = [model.as_str(), outcome];
            self.jobs.with_label_values(&labels).get()
        };
        Ends {
            succeeded: count("succeeded"),
            failed: count("failed"),
            canceled: count("canceled"),
            expired: count("expired"),
        }
    }

    /// The metrics of one queue's deliveries, looked up once.
    #[must_use]
    pub fn of_priority(&self, model: &ModelName, priority: Priority) -> PriorityMetrics {
        let labels = [model.as_str(), priority.as_str()];
        PriorityMetrics {
            queue_wait: self.queue_wait.with_label_values(&labels),
            redelivered: self.redelivered.with_label_values(&[model.as_str()]),
        }
    }

    /// The metrics of one model's engine, looked up once.
    #[must_use]
    pub fn of_model(&self, model: &ModelName) -> ModelMetrics {
        let label = &[model.as_str()];
        ModelMetrics {
            batch_size: self.batch_size.with_label_values(label),
            decode: self.decode.with_label_values(label),
            inference: self.inference.with_label_values(label),
            waited: self.waited.with_label_values(label),
            busy: self.busy.with_label_values(label),
            decoder_panics: self.decoder_panics.clone(),
            images_without_end: self.images_without_end.clone(),
            failed_inferences: self.failed_inferences.clone(),
        }
    }
}

/// What is counted of one queue's deliveries.
#[derive(Clone, Debug)]
pub struct PriorityMetrics {
    queue_wait: Histogram,
    redelivered: IntCounter,
}

impl PriorityMetrics {
    /// Counts a delivery that has just arrived. A job that comes again has waited before, and its time in other hands is no
    /// wait: only its first arrival counts.
    pub fn arrived(&self, delivery: &Delivery, now: UnixMillis) {
        if delivery.earlier_deliveries > 0 {
            self.redelivered.inc();
            return;
        }
        for job in delivery.jobs.iter().filter(|job| job.earlier_attempts == 0) {
            let wait = now.since(job.created_at);
            self.queue_wait.observe(wait.as_secs_f64());
        }
    }
}

/// What one model's engine counts.
#[derive(Clone, Debug)]
pub struct ModelMetrics {
    /// Images per inference.
    pub batch_size: Histogram,
    /// Seconds per decoded image.
    pub decode: Histogram,
    /// Seconds per inference.
    pub inference: Histogram,
    /// Seconds from arrival to start.
    pub waited: Histogram,
    /// Threads that compute now.
    pub busy: prometheus::IntGauge,
    /// Images that made a decoder panic.
    pub decoder_panics: IntCounter,
    /// Images that had all of their picture, but not the end of their file.
    pub images_without_end: IntCounter,
    /// Inferences that failed.
    pub failed_inferences: IntCounter,
}

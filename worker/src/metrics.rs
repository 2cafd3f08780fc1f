//! What the worker counts. One struct, cheap to clone, registered once; names begin with `selvage_worker_`.

use prometheus::core::Collector as _;
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use selvage_core::clock::UnixMillis;
use selvage_core::job::{Job, ModelName, Priority};
use selvage_core::metrics;
use selvage_core::queue::Delivery;
use selvage_core::registry::{Ends, Placement};

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

metrics! {
    /// All metrics of a worker.
    pub struct Metrics("selvage_worker_") {
        /// Version of this program
        build_info: IntGaugeVec = "build_info" by ["version"];
        /// Jobs this worker ended
        jobs: IntCounterVec = "jobs_total" by ["model", "outcome"];
        /// From a job's acceptance at a gateway to its arrival at a worker, in whole milliseconds
        queue_wait: HistogramVec = "queue_wait_seconds" by ["model", "priority"] in LONG_SECONDS;
        /// From a job's acceptance at a gateway to its end here, in whole milliseconds
        total: HistogramVec = "total_seconds" by ["model", "priority"] in LONG_SECONDS;
        /// Messages that had been handed out before
        redelivered: IntCounterVec = "redelivered_total" by ["model"];
        /// Sessions that compute now
        busy: IntGaugeVec = "busy_sessions" by ["model"];
        /// Models that changed in the folder, by whether the new file was taken
        model_changes: IntCounterVec = "model_changes_total" by ["model", "result"];
        /// Files of a model in memory: two while one takes over from the other
        model_files: IntGaugeVec = "model_files" by ["model"];
        /// The share of a model's nodes that run on its device; the CPU runs the others
        device_share: GaugeVec = "device_nodes_ratio" by ["model", "device"];
        /// Images per inference
        batch_size: HistogramVec = "batch_size" by ["model"] in IMAGES;
        /// Decoding one image
        decode: HistogramVec = "decode_seconds" by ["model"] in SECONDS;
        /// One inference, whatever its batch
        inference: HistogramVec = "inference_seconds" by ["model"] in SECONDS;
        /// From a job's arrival at the worker to its start
        waited: HistogramVec = "waited_seconds" by ["model"] in SECONDS;
        /// Images that made a decoder panic
        pub decoder_panics: IntCounter = "decoder_panics_total";
        /// Images that were accepted although their file lacked its end mark
        pub images_without_end: IntCounter = "images_without_end_total";
        /// Inferences that failed or panicked; their jobs were tried again alone
        pub failed_inferences: IntCounter = "failed_inferences_total";
        /// Batches that the device had no memory for; they were tried again in smaller ones
        pub out_of_memory: IntCounter = "out_of_memory_total";
        /// Inferences that ended with a failure of the device; their jobs were handed back
        pub device_failures: IntCounter = "device_failures_total";
        /// Jobs handed back unfinished
        pub given_back: IntCounter = "given_back_total";
        /// Cache requests that failed
        pub cache_errors: IntCounter = "cache_errors_total";
        /// Job store requests that failed; each was repeated
        pub store_errors: IntCounter = "store_errors_total";
        /// Replies that could not be sent
        pub reply_errors: IntCounter = "reply_errors_total";
    }
}

impl Metrics {
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

    /// Says what a model runs on, and no longer what it ran on before.
    pub fn model_device(&self, model: &ModelName, placement: &Placement) {
        let families = self.device_share.collect();
        for shown in families.iter().flat_map(|family| family.get_metric()) {
            let label = |name| shown.get_label().iter().find(|label| label.name() == name);
            if label("model").is_some_and(|label| label.value() == model.as_str()) {
                let device = label("device").map_or("", |label| label.value());
                let labels = [model.as_str(), device];
                self.device_share.remove_label_values(&labels).ok();
            }
        }
        let labels = [model.as_str(), &placement.device.to_string()];
        let share = self.device_share.with_label_values(&labels);
        share.set(placement.device_share);
    }

    /// Shows the program's version, and the counters of a model before there is anything to count, so that the first is an increase.
    pub fn begin(&self, model: &ModelName) {
        let version = [env!("CARGO_PKG_VERSION")];
        self.build_info.with_label_values(&version).set(1);
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
            out_of_memory: self.out_of_memory.clone(),
            device_failures: self.device_failures.clone(),
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
    pub busy: IntGauge,
    /// Images that made a decoder panic.
    pub decoder_panics: IntCounter,
    /// Images that had all of their picture, but not the end of their file.
    pub images_without_end: IntCounter,
    /// Inferences that failed.
    pub failed_inferences: IntCounter,
    /// Batches that the device had no memory for.
    pub out_of_memory: IntCounter,
    /// Inferences that ended with the device's failure.
    pub device_failures: IntCounter,
}

//! The gateway's metrics: names, help and labels in one place. Nothing is measured here.

use prometheus::core::Collector as _;
use prometheus::proto::Bucket;
use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use selvage_core::dead_letters::Reason;
use selvage_core::job::ModelName;
use selvage_core::metrics;
use selvage_core::registry::{ANSWER_SECONDS, Traffic};

use crate::service::predictions::Finished;

/// Refusals that are no fault of the request: it may be tried again.
pub(crate) const TURNED_AWAY: [&str; 5] = [
    "queue_full",
    "broker_unavailable",
    "store_unavailable",
    "store_full",
    "draining",
];

metrics! {
    /// All of the gateway's own metrics; cheap to clone, clones count together.
    pub struct Metrics("selvage_gateway_") {
        /// Version of this program
        build_info: IntGaugeVec = "build_info" by ["version"];
        /// Answers by route, method and status code
        pub requests: IntCounterVec = "http_requests_total" by ["route", "method", "code"];
        /// Time from a request's head to its answer's head
        pub seconds: HistogramVec = "http_request_seconds" by ["route"] in ANSWER_SECONDS;
        /// Time from a request's acceptance to its answer, where its client waited and got one
        pub answers: HistogramVec = "answer_seconds" by ["source"] in ANSWER_SECONDS;
        /// Jobs that are waited for at this gateway
        pub in_flight: IntGauge = "in_flight";
        /// Requests answered out of the cache
        pub cache_hits: IntCounter = "cache_hits_total";
        /// Requests the cache had no answer for
        pub cache_misses: IntCounter = "cache_misses_total";
        /// Requests during which the cache was away
        pub cache_errors: IntCounter = "cache_errors_total";
        /// Requests that shared another one's computation
        pub collapsed: IntCounter = "collapsed_total";
        /// Jobs abandoned because every client that waited for them had left
        pub abandoned: IntCounter = "jobs_abandoned_total";
        /// Jobs accepted with a 202
        pub submitted: IntCounter = "jobs_submitted_total";
        /// Requests refused, by error code
        pub refused: IntCounterVec = "refused_total" by ["code"];
        /// Reports nobody waited for any more
        pub late_reports: IntCounter = "late_reports_total";
        /// Overdue records ended here, by state
        pub swept: IntCounterVec = "swept_total" by ["state"];
        /// Dead letters taken in here, by reason
        pub dead_letters: IntCounterVec = "dead_letters_total" by ["reason"];
        /// Dead letters there are in the fleet
        pub dead_letters_kept: IntGauge = "dead_letters";
        /// Messages waiting in a queue
        pub queue_depth: IntGaugeVec = "queue_depth" by ["model", "priority"];
        /// Jobs all workers finish per second, as last measured
        pub drain_rate: GaugeVec = "drain_rate" by ["model"];
        /// How long the oldest message of a queue waits at most; 0 for an empty queue
        pub queue_oldest: GaugeVec = "queue_oldest_seconds" by ["model", "priority"];
        /// Workers that announce themselves
        pub workers: IntGauge = "workers";
        /// Workers that hold a model: the file this gateway asks for, or another
        pub model_workers: IntGaugeVec = "model_workers" by ["model", "file"];
        /// Models that changed in the folder, by whether the new file was taken
        model_changes: IntCounterVec = "model_changes_total" by ["model", "result"];
        /// 1 while broker, store or cache answers
        pub dependency_up: IntGaugeVec = "dependency_up" by ["dependency"];
        /// Open client connections
        pub connections: IntGauge = "connections";
        /// Connections cut for a slow head, a client that does not read, too many of its address, a newcomer that needs its
        /// slot, or the end of a drain
        pub cut: IntCounterVec = "connections_cut_total" by ["reason"];
        /// Attempts to accept a connection that failed, for want of descriptors most likely
        pub accept_errors: IntCounter = "accept_errors_total";
        /// Attempts to deliver webhooks, by how they ended
        pub webhooks: IntCounterVec = "webhook_attempts_total" by ["result"];
        /// 1 while this gateway is ready for traffic
        pub ready: Gauge = "ready";
    }
}

impl Metrics {
    /// Shows what is to be there before anything was counted, so that the first one is an increase.
    pub fn begin(&self) {
        let version = [env!("CARGO_PKG_VERSION")];
        self.build_info.with_label_values(&version).set(1);
        for reason in Reason::ALL {
            self.dead_letters.with_label_values(&[reason.as_str()]);
        }
    }

    /// Counts the answer to a client that waited.
    pub fn answered(&self, finished: &Finished) {
        let seconds = finished.total.as_secs_f64();
        let source = [finished.source.as_str()];
        self.answers.with_label_values(&source).observe(seconds);
    }

    /// Counts a change of a model: `taken`, or `refused`.
    pub fn model_changed(&self, model: &ModelName, result: &str) {
        let labels = [model.as_str(), result];
        self.model_changes.with_label_values(&labels).inc();
    }

    /// What the fleet adds up.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let refused = |code: &&str| self.refused.with_label_values(&[*code]).get();
        Traffic {
            submitted: self.submitted.get(),
            refused: TURNED_AWAY.iter().map(refused).sum(),
            expired: self.swept.with_label_values(&["expired"]).get(),
            cache_hits: self.cache_hits.get(),
            cache_misses: self.cache_misses.get(),
            cache_errors: self.cache_errors.get(),
            collapsed: self.collapsed.get(),
            answers: self.answers_by_class(),
        }
    }

    /// Answers by the classes of [`ANSWER_SECONDS`] and one beyond, wherever they came from.
    fn answers_by_class(&self) -> Vec<u64> {
        let mut classes = vec![0; ANSWER_SECONDS.len() + 1];
        for family in self.answers.collect() {
            for metric in family.get_metric() {
                let histogram = metric.get_histogram();
                let bounded = histogram.get_bucket().iter().map(Bucket::cumulative_count);
                let mut below = 0;
                let all = bounded.chain([histogram.get_sample_count()]);
                for (class, up_to) in classes.iter_mut().zip(all) {
                    // Counts move while they are read.
                    *class += up_to.saturating_sub(below);
                    below = below.max(up_to);
                }
            }
        }
        classes
    }
}

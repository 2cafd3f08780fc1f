//! The gateway's metrics: names, help and labels in one place. Nothing is measured here.

use prometheus::core::Collector as _;
use prometheus::proto::Bucket;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};
use selvage_core::dead_letters::Reason;
use selvage_core::job::ModelName;
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

/// All of the gateway's own metrics; cheap to clone, clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Answers, by route, method and status code.
    pub requests: IntCounterVec,
    /// Time to answer, by route.
    pub seconds: HistogramVec,
    /// Time from a request's acceptance to its answer, for clients that waited and got one, by where it came from.
    pub answers: HistogramVec,
    /// Jobs that are waited for.
    pub in_flight: IntGauge,
    /// Requests answered out of the cache.
    pub cache_hits: IntCounter,
    /// Requests the cache had no answer for.
    pub cache_misses: IntCounter,
    /// Requests during which the cache could not be asked.
    pub cache_errors: IntCounter,
    /// Requests that shared another one's computation.
    pub collapsed: IntCounter,
    /// Jobs that nobody waited for any more before their answer.
    pub abandoned: IntCounter,
    /// Jobs accepted with a 202.
    pub submitted: IntCounter,
    /// Requests refused, by error code.
    pub refused: IntCounterVec,
    /// Reports nobody waited for any more.
    pub late_reports: IntCounter,
    /// Overdue records ended by this gateway, by the state they were given.
    pub swept: IntCounterVec,
    /// Dead letters taken in by this gateway, by reason.
    pub dead_letters: IntCounterVec,
    /// Dead letters there are in the fleet.
    pub dead_letters_kept: IntGauge,
    /// Messages waiting, by model and queue.
    pub queue_depth: IntGaugeVec,
    /// Jobs finished per second, as measured, by model.
    pub drain_rate: GaugeVec,
    /// How long the oldest message of a queue waits at most, in seconds, by model and queue.
    pub queue_oldest: GaugeVec,
    /// Workers that announce themselves.
    pub workers: IntGauge,
    /// Workers that hold a model, by model and whether its file is the one this gateway asks for.
    pub model_workers: IntGaugeVec,
    /// Models that changed in the folder, by model and whether the new file was taken.
    model_changes: IntCounterVec,
    /// 1 while a dependency answers, by its name.
    pub dependency_up: IntGaugeVec,
    /// Open connections.
    pub connections: IntGauge,
    /// Connections that were cut, by reason: a slow head, a client that does not read, too many from one address, a newcomer
    /// that needs its slot, the end of a drain.
    pub cut: IntCounterVec,
    /// Tries to accept a connection that failed, for want of descriptors most likely.
    pub accept_errors: IntCounter,
    /// Tries to tell webhooks, by how they ended.
    pub webhooks: IntCounterVec,
    /// 1 while ready.
    pub ready: Gauge,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter =
            |name: &str, help: &str| registered(registry, IntCounter::with_opts(opts(name, help))?);
        let gauge =
            |name: &str, help: &str| registered(registry, IntGauge::with_opts(opts(name, help))?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(opts(name, help), labels)?)
        };
        let seconds = |name: &str, help: &str, label: &str| {
            let options = HistogramOpts::new(format!("selvage_gateway_{name}"), help)
                .buckets(ANSWER_SECONDS.to_vec());
            registered(registry, HistogramVec::new(options, &[label])?)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntGaugeVec::new(opts(name, help), labels)?)
        };
        let decimals = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, GaugeVec::new(opts(name, help), labels)?)
        };
        let build = gauges("build_info", "Version of this program", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let dead_letters = counters(
            "dead_letters_total",
            "Dead letters taken in here, by reason",
            &["reason"],
        )?;
        // Shown before there is one, so that the first is an increase.
        for reason in Reason::ALL {
            dead_letters.with_label_values(&[reason.as_str()]);
        }
        Ok(Self {
            requests: counters(
                "http_requests_total",
                "Answers by route, method and status code",
                &["route", "method", "code"],
            )?,
            seconds: seconds(
                "http_request_seconds",
                "Time from a request's head to its answer's head",
                "route",
            )?,
            answers: seconds(
                "answer_seconds",
                "Time from a request's acceptance to its answer, where its client waited and got one",
                "source",
            )?,
            in_flight: gauge("in_flight", "Jobs that are waited for at this gateway")?,
            cache_hits: counter("cache_hits_total", "Requests answered out of the cache")?,
            cache_misses: counter("cache_misses_total", "Requests the cache had no answer for")?,
            cache_errors: counter(
                "cache_errors_total",
                "Requests during which the cache was away",
            )?,
            collapsed: counter(
                "collapsed_total",
                "Requests that shared another one's computation",
            )?,
            abandoned: counter(
                "jobs_abandoned_total",
                "Jobs abandoned because every client that waited for them had left",
            )?,
            submitted: counter("jobs_submitted_total", "Jobs accepted with a 202")?,
            refused: counters(
                "refused_total",
                "Requests refused, by error code",
                &["code"],
            )?,
            late_reports: counter("late_reports_total", "Reports nobody waited for any more")?,
            swept: counters(
                "swept_total",
                "Overdue records ended here, by state",
                &["state"],
            )?,
            dead_letters,
            dead_letters_kept: gauge("dead_letters", "Dead letters there are in the fleet")?,
            queue_depth: gauges(
                "queue_depth",
                "Messages waiting in a queue",
                &["model", "priority"],
            )?,
            drain_rate: decimals(
                "drain_rate",
                "Jobs all workers finish per second, as last measured",
                &["model"],
            )?,
            queue_oldest: decimals(
                "queue_oldest_seconds",
                "How long the oldest message of a queue waits at most; 0 for an empty queue",
                &["model", "priority"],
            )?,
            workers: gauge("workers", "Workers that announce themselves")?,
            model_workers: gauges(
                "model_workers",
                "Workers that hold a model: the file this gateway asks for, or another",
                &["model", "file"],
            )?,
            model_changes: counters(
                "model_changes_total",
                "Models that changed in the folder, by whether the new file was taken",
                &["model", "result"],
            )?,
            dependency_up: gauges(
                "dependency_up",
                "1 while broker, store or cache answers",
                &["dependency"],
            )?,
            connections: gauge("connections", "Open client connections")?,
            cut: counters(
                "connections_cut_total",
                "Connections cut for a slow head, a client that does not read, too many of its address, a newcomer that needs its slot, or the end of a drain",
                &["reason"],
            )?,
            accept_errors: counter(
                "accept_errors_total",
                "Tries to accept a connection that failed, for want of descriptors most likely",
            )?,
            webhooks: counters(
                "webhook_tries_total",
                "Tries to tell webhooks, by how they ended",
                &["result"],
            )?,
            ready: registered(
                registry,
                Gauge::with_opts(opts("ready", "1 while this gateway is ready for traffic"))?,
            )?,
        })
    }
}

impl Metrics {
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

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("selvage_gateway_{name}"), help)
}

fn registered<C>(registry: &Registry, collector: C) -> prometheus::Result<C>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

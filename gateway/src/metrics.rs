//! The gateway's metrics: names, help and labels in one place. Nothing is measured here.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Buckets of durations, in seconds: from a cache hit to the longest wait.
const BUCKETS: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

/// All of the gateway's own metrics; cheap to clone, clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Answers, by route, method and status code.
    pub requests: IntCounterVec,
    /// Time to answer, by route.
    pub seconds: HistogramVec,
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
    pub recalled: IntCounter,
    /// Jobs promised with a 202.
    pub promised: IntCounter,
    /// Requests refused, by error code.
    pub refused: IntCounterVec,
    /// Reports nobody waited for any more.
    pub late_reports: IntCounter,
    /// Overdue records ended by this gateway, by the state they were given.
    pub swept: IntCounterVec,
    /// Messages waiting, by model and lane.
    pub queue_depth: IntGaugeVec,
    /// Jobs finished per second, as measured, by model.
    pub drain_rate: prometheus::GaugeVec,
    /// Workers that announce themselves.
    pub workers: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// Connections that were cut, by reason: a slow head, a client that does not read, too many from one address, the end
    /// of a drain.
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
        let seconds = HistogramOpts::new(
            "selvage_gateway_http_request_seconds",
            "Time from a request's head to its answer's head",
        )
        .buckets(BUCKETS.to_vec());
        let build = IntGaugeVec::new(opts("build_info", "Version of this program"), &["version"])?;
        registered(registry, build)?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            requests: counters(
                "http_requests_total",
                "Answers by route, method and status code",
                &["route", "method", "code"],
            )?,
            seconds: registered(registry, HistogramVec::new(seconds, &["route"])?)?,
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
            recalled: counter(
                "recalled_total",
                "Jobs recalled because every client that waited for them had left",
            )?,
            promised: counter("promised_total", "Jobs promised with a 202")?,
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
            queue_depth: registered(
                registry,
                IntGaugeVec::new(
                    opts("queue_depth", "Messages waiting in a lane"),
                    &["model", "lane"],
                )?,
            )?,
            drain_rate: registered(
                registry,
                prometheus::GaugeVec::new(
                    opts(
                        "drain_rate",
                        "Jobs all workers finish per second, as last measured",
                    ),
                    &["model"],
                )?,
            )?,
            workers: gauge("workers", "Workers that announce themselves")?,
            connections: gauge("connections", "Open client connections")?,
            cut: counters(
                "connections_cut_total",
                "Connections cut for a slow head, a client that does not read, too many of its address, or the end of a drain",
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

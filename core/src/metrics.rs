//! Tables of Prometheus metrics: field, name, help, labels and buckets of a metric in one row. Counts nothing itself.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// A kind of metric.
pub trait Metric: Collector + Clone + 'static {
    /// A metric that no registry has. Kinds without labels or buckets take none.
    ///
    /// # Errors
    /// For a name, a label or buckets that Prometheus does not allow.
    fn new(opts: Opts, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;

    /// A metric that the registry shows.
    ///
    /// # Errors
    /// As [`Metric::new`], and where the registry has a metric of that name.
    fn register(
        registry: &Registry,
        opts: Opts,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<Self> {
        let metric = Self::new(opts, labels, buckets)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

macro_rules! kinds {
    ($($kind:ident: |$opts:ident, $labels:ident, $buckets:ident| $new:expr;)+) => {
        $(impl Metric for $kind {
            fn new($opts: Opts, $labels: &[&str], $buckets: &[f64]) -> prometheus::Result<Self> {
                $new
            }
        })+
    };
}

kinds! {
    Gauge: |opts, _labels, _buckets| Self::with_opts(opts);
    GaugeVec: |opts, labels, _buckets| Self::new(opts, labels);
    Histogram: |opts, _labels, buckets| Self::with_opts(HistogramOpts::from(opts).buckets(buckets.to_vec()));
    HistogramVec: |opts, labels, buckets| Self::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), labels);
    IntCounter: |opts, _labels, _buckets| Self::with_opts(opts);
    IntCounterVec: |opts, labels, _buckets| Self::new(opts, labels);
    IntGauge: |opts, _labels, _buckets| Self::with_opts(opts);
    IntGaugeVec: |opts, labels, _buckets| Self::new(opts, labels);
}

/// Defines a struct of metrics and its `register`. A field's documentation is the metric's help text.
///
/// ```text
/// metrics! {
///     /// All of them.
///     pub struct Metrics("selvage_gateway_") {
///         /// Answers by route and status code
///         pub requests: IntCounterVec = "http_requests_total" by ["route", "code"];
///         /// Time to answer
///         pub seconds: Histogram = "http_request_seconds" in [0.1, 1.0];
///     }
/// }
/// ```
#[macro_export]
macro_rules! metrics {
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident($prefix:literal) {
            $(
                $(#[doc = $help:literal])+
                $field_vis:vis $field:ident: $kind:ident = $metric:literal
                    $(by [$($label:literal),+])? $(in $buckets:expr)?;
            )+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[doc = $help])+ $field_vis $field: $kind,)+
        }

        impl $name {
            /// Registers all metrics.
            ///
            /// # Errors
            /// When the registry has a metric of one of the names already.
            pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
                Ok(Self {
                    $($field: $crate::metrics::Metric::register(
                        registry,
                        prometheus::Opts::new(concat!($prefix, $metric), concat!($($help),+).trim()),
                        &[$($($label),+)?],
                        $crate::metrics!(@buckets $($buckets)?),
                    )?,)+
                })
            }
        }
    };
}

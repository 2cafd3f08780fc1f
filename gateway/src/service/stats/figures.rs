//! The figures of a moment: what charts show, and what a history is kept of.

use selvage_core::registry::Ends;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::time::Time;

/// The figures of a moment, of which a history is kept.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = StatsFigures)]
pub struct Figures {
    pub(super) at: Time,
    pub(super) jobs: Jobs,
    pub(super) rates: Rates,
    pub(super) cache: CacheStats,
    pub(super) latency_ms: Latency,
    pub(super) waiting: Waiting,
    /// `null` while the list of processes could not be read.
    pub(super) sessions: Option<Sessions>,
}

/// Messages in all queues of a priority.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = WaitingStats)]
pub(super) struct Waiting {
    pub(super) interactive: u64,
    pub(super) batch: u64,
}

/// Sessions of all workers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = SessionStats)]
pub(super) struct Sessions {
    pub(super) busy: u32,
    pub(super) total: u32,
}

/// Counts of all processes since their start. Those that ended stay counted while the gateway that says this runs.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = JobStats)]
pub(super) struct Jobs {
    pub(super) in_flight: u64,
    pub(super) in_flight_limit: u64,
    pub(super) submitted: u64,
    pub(super) refused: u64,
    #[serde(flatten)]
    pub(super) ended: Ends,
    /// Dead letters that are stored, as this gateway last counted them.
    pub(super) dead_letters: u64,
}

/// Per second, over the window.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = RateStats)]
pub(super) struct Rates {
    pub(super) answered_per_s: f64,
    pub(super) submitted_per_s: f64,
    pub(super) refused_per_s: f64,
}

#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct CacheStats {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) collapsed: u64,
    pub(super) errors: u64,
    /// Over the window; `null` where nothing was asked.
    pub(super) hit_ratio: Option<f64>,
}

/// Of answers to clients that waited, over the window; estimated within classes of half their size.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = LatencyStats)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// Adds the second counts to the first.
pub(crate) fn add_ends(sum: &mut Ends, one: &Ends) {
    sum.succeeded += one.succeeded;
    sum.failed += one.failed;
    sum.canceled += one.canceled;
    sum.expired += one.expired;
}

//! The report of a run, as it is printed. Numbers only; what they are compared with is somebody else's.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Options;
use super::course::Measured;
use super::follow::Followed;
use super::tally::{Problems, Tally};

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: Scenario,
    /// Right answers per second of the measurement.
    requests_per_second: f64,
    latency_ms: Latency,
    /// Answers of the measurement by status.
    statuses: BTreeMap<u16, u64>,
    /// Share of the right answers that came out of the server's cache.
    cached_share: f64,
    /// Mean size of a right answer: head and body, and body alone.
    answer_bytes: f64,
    body_bytes: f64,
    /// Processor time per answer, by process; `client` is this program.
    cpu_us_per_request: BTreeMap<String, f64>,
    /// Cores kept busy by others meanwhile, and cores that were taken from this machine.
    foreign_cores: f64,
    stolen_cores: f64,
    /// Requests that were due at the end and had no connection to go out on; always 0 without a rate.
    backlog: usize,
    problems: Problems,
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<Followed>,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Scenario {
    path: &'static str,
    connections: u32,
    pictures: usize,
    unique: bool,
    rate: Option<f64>,
    warmup_s: f64,
    seconds: f64,
}

/// Times from the start of a request to the end of its answer.
#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Report {
    /// Puts the numbers together; takes the problems out of the tally.
    pub(super) fn new(
        options: &Options,
        pictures: usize,
        measured: &Measured,
        tally: &mut Tally,
    ) -> Self {
        let usage = measured.after.since(&measured.before);
        let right = tally.latencies.total();
        let answered = tally.statuses.values().sum::<u64>();
        let per_answer = |seconds: f64| seconds * 1e6 / answered.max(1) as f64;
        let mean = |total: u64| total as f64 / right.max(1) as f64;
        Self {
            scenario: Scenario {
                path: options.path.as_str(),
                connections: options.connections,
                pictures,
                unique: options.unique,
                rate: options.rate,
                warmup_s: options.warmup,
                seconds: measured.seconds,
            },
            requests_per_second: right as f64 / measured.seconds,
            latency_ms: Latency {
                mean: tally.latencies.mean_ms(),
                p50: tally.latencies.quantile_ms(0.5),
                p95: tally.latencies.quantile_ms(0.95),
                p99: tally.latencies.quantile_ms(0.99),
                max: tally.latencies.max_ms(),
            },
            cached_share: mean(tally.cached),
            answer_bytes: mean(tally.answer_bytes),
            body_bytes: mean(tally.body_bytes),
            cpu_us_per_request: usage
                .seconds
                .into_iter()
                .map(|(name, seconds)| (name, per_answer(seconds)))
                .collect(),
            foreign_cores: usage.foreign_cores,
            stolen_cores: usage.stolen_cores,
            backlog: measured.backlog,
            statuses: std::mem::take(&mut tally.statuses),
            problems: std::mem::take(&mut tally.problems),
            followed: None,
        }
    }

    /// Adds what became of accepted jobs.
    pub(super) fn add_followed(&mut self, followed: Followed) {
        self.followed = (followed != Followed::default()).then_some(followed);
    }

    /// Whether there were answers and none of them was wrong.
    pub(super) fn is_good(&self) -> bool {
        let is_followed_good = self
            .followed
            .as_ref()
            .is_none_or(|jobs| jobs.wrong + jobs.unfinished == 0);
        self.problems.is_none() && self.requests_per_second > 0.0 && is_followed_good
    }
}

//! The figures of a run, as JSON and as a row of the table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::{Measured, Plan};
use super::tally::{Errors, Tally};
use crate::output::Row;

/// The client's threads are busy beyond this share: then it measures itself.
const SATURATED: f64 = 0.9;

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    connections: u32,
    threads: u32,
    /// Requests per second that were to be sent.
    rate: Option<f64>,
    seconds: f64,
    /// Right responses per second.
    requests_per_second: f64,
    /// Mean, quantiles and maximum of the times from the start of a request to the end of its response.
    latency_ms: BTreeMap<&'static str, f64>,
    /// Share of the right responses that came from the server's cache.
    cached_share: f64,
    /// Mean size of a response's body.
    body_bytes: f64,
    errors: BTreeMap<String, Errors>,
    /// Requests that were due at the end and could not be sent, because every connection was busy.
    backlog: usize,
    /// Processor time per request by process; `client` is this program.
    cpu_us_per_request: BTreeMap<String, f64>,
    /// Busy cores of this program.
    client_cores: f64,
    /// Cores used by others meanwhile, and cores taken away from this machine.
    foreign_cores: f64,
    stolen_cores: f64,
}

impl Report {
    /// Computes the figures.
    pub(super) fn new(plan: &Plan, measured: Measured) -> Self {
        let (tally, usage) = (measured.tally, measured.usage);
        let (right, seconds) = (tally.latencies.len(), measured.elapsed.as_secs_f64());
        let wrong: u64 = tally.errors.values().map(|errors| errors.count).sum();
        let requests = (right + wrong).max(1) as f64;
        let mean = |total: u64| total as f64 / right.max(1) as f64;
        let client_cores = usage.seconds.get("client").copied().unwrap_or_default() / seconds;
        let per_request = |(name, spent)| (name, spent * 1e6 / requests);
        Self {
            connections: plan.connections,
            threads: plan.threads.min(plan.connections),
            rate: plan.rate,
            seconds,
            requests_per_second: right as f64 / seconds,
            latency_ms: latencies(&tally),
            cached_share: mean(tally.cached),
            body_bytes: mean(tally.body_bytes),
            errors: tally.errors,
            backlog: measured.backlog,
            cpu_us_per_request: usage.seconds.into_iter().map(per_request).collect(),
            client_cores,
            foreign_cores: usage.foreign_cores,
            stolen_cores: usage.stolen_cores,
        }
    }

    /// Whether there were responses, and all of them right.
    pub(super) fn is_good(&self) -> bool {
        self.errors.is_empty() && self.requests_per_second > 0.0
    }

    /// The row of the table.
    pub(super) fn row(&self) -> Row {
        let errors: u64 = self.errors.values().map(|errors| errors.count).sum();
        let client = self.cpu_us_per_request.get("client").copied();
        let rate = self.rate.map(|rate| rate.to_string()).unwrap_or_default();
        let row = Row::new()
            .number("CONNECTIONS", &self.connections)
            .number("RATE", &rate)
            .number("REQUESTS/S", &format!("{:.1}", self.requests_per_second));
        let shown = [
            ("P50 MS", "p50"),
            ("P90 MS", "p90"),
            ("P99 MS", "p99"),
            ("MAX MS", "max"),
        ];
        let row = shown.into_iter().fold(row, |row, (column, name)| {
            row.number(column, &format!("{:.2}", self.latency_ms[name]))
        });
        row.number("CACHED", &format!("{:.0} %", self.cached_share * 100.0))
            .number("ERRORS", &errors)
            .number("CLIENT US", &format!("{:.0}", client.unwrap_or_default()))
    }

    /// What a reader of the table has to know about this run.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self
            .errors
            .iter()
            .map(|(code, errors)| format!("{} × {code}: {}", errors.count, errors.example))
            .collect();
        if self.requests_per_second == 0.0 {
            remarks.push("no request was answered; use a longer --seconds".to_owned());
        }
        if self.backlog > 0 {
            remarks.push(format!(
                "{} requests were due and could not be sent: the server is too slow for this rate, or --concurrency is too low",
                self.backlog
            ));
        }
        if self.client_cores > SATURATED * f64::from(self.threads) {
            remarks.push("the client itself is the limit; use more --threads".to_owned());
        }
        remarks
    }
}

fn latencies(tally: &Tally) -> BTreeMap<&'static str, f64> {
    let latencies = &tally.latencies;
    let quantiles = [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p95", 0.95),
        ("p99", 0.99),
        ("p999", 0.999),
    ];
    let micros = quantiles.map(|(name, q)| (name, latencies.value_at_quantile(q) as f64));
    let ends = [("mean", latencies.mean()), ("max", latencies.max() as f64)];
    let all = micros.into_iter().chain(ends);
    all.map(|(name, micros)| (name, micros / 1e3)).collect()
}

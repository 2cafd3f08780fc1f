//! What someone on call needs to see, on the scrapes of real programs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{bail, ensure};
use selvage_tests::scrape::Scrape;
use selvage_tests::{Client, Deployment, Settings, Shape, eventually, pictures};
use tokio::time::timeout;

use super::jobs::end_of;

/// Longest wait for anything; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(30);
/// The finest class of whatever is a time.
const FINEST: &str = "0.00025";
/// Labels of clients' making would have no end; these have one.
const LABELS: [&str; 15] = [
    "code",
    "dependency",
    "device",
    "file",
    "priority",
    "le",
    "method",
    "model",
    "outcome",
    "reason",
    "result",
    "route",
    "source",
    "state",
    "version",
];

/// One gateway, so that all is counted in one place.
pub(super) fn fresh() -> Settings {
    Settings {
        gateways: 1,
        ..Settings::default()
    }
}

/// One line of the list: a metric, its kind, labels, and what is to be seen of it.
type Line<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], See);

/// What is to be seen.
#[derive(Clone, Copy)]
enum See {
    /// It has been counted or measured.
    Some,
    /// It is there, and nothing of the kind has happened.
    None,
    /// It is there.
    Any,
}
use See::{Any, None as Never, Some as Seen};

const MODEL: (&str, &str) = ("model", "fashion-mnist");
const INTERACTIVE: (&str, &str) = ("priority", "interactive");
const BATCH: (&str, &str) = ("priority", "batch");

const GATEWAY: [Line<'static>; 23] = [
    (
        "http_requests_total",
        "counter",
        &[("route", "/predict"), ("method", "POST"), ("code", "200")],
        Seen,
    ),
    (
        "http_requests_total",
        "counter",
        &[("route", "/jobs"), ("method", "POST"), ("code", "202")],
        Seen,
    ),
    (
        "http_request_seconds",
        "histogram",
        &[("route", "/predict")],
        Seen,
    ),
    (
        "answer_seconds",
        "histogram",
        &[("source", "computed")],
        Seen,
    ),
    ("answer_seconds", "histogram", &[("source", "cache")], Seen),
    ("cache_hits_total", "counter", &[], Seen),
    ("cache_misses_total", "counter", &[], Seen),
    ("cache_errors_total", "counter", &[], Never),
    ("collapsed_total", "counter", &[], Any),
    ("queue_depth", "gauge", &[MODEL, INTERACTIVE], Any),
    ("queue_depth", "gauge", &[MODEL, BATCH], Any),
    ("queue_oldest_seconds", "gauge", &[MODEL, INTERACTIVE], Any),
    ("queue_oldest_seconds", "gauge", &[MODEL, BATCH], Any),
    ("workers", "gauge", &[], Seen),
    (
        "model_workers",
        "gauge",
        &[MODEL, ("file", "current")],
        Seen,
    ),
    ("dead_letters", "gauge", &[], Never),
    (
        "dead_letters_total",
        "counter",
        &[("reason", "poison")],
        Never,
    ),
    (
        "refused_total",
        "counter",
        &[("code", "unsupported_media_type")],
        Seen,
    ),
    ("dependency_up", "gauge", &[("dependency", "broker")], Seen),
    ("dependency_up", "gauge", &[("dependency", "store")], Seen),
    ("dependency_up", "gauge", &[("dependency", "cache")], Seen),
    ("ready", "gauge", &[], Seen),
    (
        "build_info",
        "gauge",
        &[("version", env!("CARGO_PKG_VERSION"))],
        Seen,
    ),
];

const WORKER: [Line<'static>; 18] = [
    (
        "jobs_total",
        "counter",
        &[MODEL, ("outcome", "succeeded")],
        Seen,
    ),
    (
        "jobs_total",
        "counter",
        &[MODEL, ("outcome", "failed")],
        Seen,
    ),
    (
        "jobs_total",
        "counter",
        &[MODEL, ("outcome", "expired")],
        Never,
    ),
    (
        "queue_wait_seconds",
        "histogram",
        &[MODEL, INTERACTIVE],
        Seen,
    ),
    ("queue_wait_seconds", "histogram", &[MODEL, BATCH], Seen),
    ("waited_seconds", "histogram", &[MODEL], Seen),
    ("decode_seconds", "histogram", &[MODEL], Seen),
    ("inference_seconds", "histogram", &[MODEL], Seen),
    ("total_seconds", "histogram", &[MODEL, INTERACTIVE], Seen),
    ("total_seconds", "histogram", &[MODEL, BATCH], Seen),
    ("busy_sessions", "gauge", &[MODEL], Any),
    ("redelivered_total", "counter", &[MODEL], Never),
    (
        "device_nodes_ratio",
        "gauge",
        &[MODEL, ("device", "cpu")],
        Seen,
    ),
    ("out_of_memory_total", "counter", &[], Never),
    ("device_failures_total", "counter", &[], Never),
    ("cache_errors_total", "counter", &[], Never),
    ("store_errors_total", "counter", &[], Never),
    (
        "build_info",
        "gauge",
        &[("version", env!("CARGO_PKG_VERSION"))],
        Seen,
    ),
];

pub(super) async fn everything_worth_a_look_is_measured(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    something_of_each(&client).await?;
    let (gateway, workers) = until_all_are_delivered(&on, &client).await?;
    // Image by image and job by job, nothing is counted twice.
    let count = |name: &str, priority| workers.sum(name, &[MODEL, priority]);
    for name in [
        "selvage_worker_queue_wait_seconds_count",
        "selvage_worker_total_seconds_count",
    ] {
        assert_eq!(
            (count(name, INTERACTIVE), count(name, BATCH)),
            (2.0, 1.0),
            "{name}"
        );
    }
    assert_eq!(workers.sum("selvage_worker_batch_size_sum", &[MODEL]), 2.0);
    // Inside a worker nothing takes longer than from acceptance to the end; both ends are rounded to milliseconds.
    let sum = |name: &str| workers.sum(&format!("selvage_worker_{name}_seconds_sum"), &[MODEL]);
    let inside = sum("waited") + sum("decode");
    assert!(
        inside <= sum("total") + 0.003,
        "{inside} of {}",
        sum("total")
    );
    for scrape in [&gateway, &workers] {
        let labels: BTreeSet<&str> = scrape
            .samples
            .iter()
            .flat_map(|sample| sample.labels.keys().map(String::as_str))
            .collect();
        let unknown: Vec<_> = labels
            .difference(&BTreeSet::from(LABELS))
            .copied()
            .collect();
        assert!(
            unknown.is_empty(),
            "{unknown:?}: which values can they have?"
        );
    }
    if on.shape == Shape::Fleet {
        assert!(
            gateway
                .series("selvage_worker_jobs_total", &[])
                .next()
                .is_none()
        );
        assert!(
            workers
                .series("selvage_gateway_workers", &[])
                .next()
                .is_none()
        );
    }
    Ok(())
}

/// An answer, the same one out of the cache, a job, and two pictures that are none: for the gateway, and for the worker.
async fn something_of_each(client: &Client) -> anyhow::Result<()> {
    let picture = pictures::unique();
    for _ in 0..2 {
        let answer = client
            .post_image("/predict?wait=60", picture.clone())
            .await?;
        answer.expect(200);
    }
    let job = client
        .post_image("/jobs", pictures::unique())
        .await?
        .expect(202);
    assert_eq!(end_of(client, job.id()).await.json["status"], "succeeded");
    let broken = pictures::broken_by(1);
    client
        .post_image("/predict?wait=60", broken)
        .await?
        .expect(422);
    client
        .post_image("/predict", b"no picture".to_vec())
        .await?
        .expect(415);
    Ok(())
}

/// Both scrapes, once everything of the list is on them: depths, workers and dependencies are looked at every now and then, and a
/// job is counted after its answer.
async fn until_all_are_delivered(
    on: &Deployment,
    client: &Client,
) -> anyhow::Result<(Scrape, Scrape)> {
    let wrong = Mutex::new(String::new());
    let reported = || async {
        let gateway = Scrape::of(client).await.ok()?;
        let workers = Scrape::of_workers(on).await.ok()?;
        let judged = judge(&gateway, "gateway", &GATEWAY);
        match judged.and_then(|()| judge(&workers, "worker", &WORKER)) {
            Ok(()) => Some((gateway, workers)),
            Err(error) => {
                *wrong.lock().unwrap() = format!("{error:#}");
                None
            }
        }
    };
    match timeout(LIMIT, eventually("all is exported", LIMIT * 2, reported)).await {
        Ok(reported) => Ok(reported),
        Err(_) => bail!("{}", wrong.lock().unwrap()),
    }
}

/// Whether each line of the list is on a program's scrape.
fn judge(scrape: &Scrape, program: &str, list: &[Line<'_>]) -> anyhow::Result<()> {
    for (name, kind, labels, see) in list {
        let name = format!("selvage_{program}_{name}");
        let what = format!("{name}{labels:?}");
        let found = scrape.kinds.get(&name).map(String::as_str);
        ensure!(found == Some(kind), "{what} is {found:?}");
        let counted = if *kind == "histogram" {
            let buckets = format!("{name}_bucket");
            let finest = [*labels, &[("le", FINEST)]].concat();
            let has_finest = scrape.series(&buckets, &finest).next().is_some();
            ensure!(
                has_finest,
                "{what} does not begin at a quarter of a millisecond"
            );
            format!("{name}_count")
        } else {
            name
        };
        ensure!(
            scrape.series(&counted, labels).next().is_some(),
            "{what} is not there"
        );
        let value = scrape.sum(&counted, labels);
        match see {
            Seen => ensure!(value > 0.0, "{what} is {value}"),
            Never => ensure!(value == 0.0, "{what} is {value}"),
            Any => {}
        }
    }
    if program == "worker" {
        let sizes = scrape.sum("selvage_worker_batch_size_count", &[MODEL]);
        ensure!(sizes > 0.0, "no batch was measured");
    }
    Ok(())
}

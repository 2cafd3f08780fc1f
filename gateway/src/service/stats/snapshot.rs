//! The fleet's numbers as `GET /stats` shows them. Adds up; reads and counts nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use selvage_core::clock::UnixMillis;
use selvage_core::job::Priority;
use selvage_core::key::Digest;
use selvage_core::registry::{
    GatewayStatus, Members, ModelStatus, Placement, Traffic, WorkerStatus,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::dependencies::Dependencies;
use super::events::{Condition, Event};
use super::figures::{CacheStats, Figures, Jobs, Latency, Rates, Sessions, Waiting, add_ends};
use super::latest::Found;
use super::recent::WINDOW;
use super::status::status;
use crate::service::gateway::Gateway;
use crate::service::time::Time;

/// The fleet as this gateway sees it; at most about a second and a half old, but for its own counts, which are those of now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct Snapshot {
    mode: &'static str,
    /// How far back rates, the hit ratio and quantiles reach.
    window_s: u64,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Faults that last; empty if all is well.
    conditions: Vec<Condition>,
    /// What happened last, newest first, as this gateway saw it.
    events: Vec<Event>,
    models: Vec<ModelStats>,
    queues: Vec<QueueStats>,
    /// Messages that were dead-lettered and wait for somebody to look at them.
    dead_letters: i64,
    /// Those that were heard of in the last moments; unknown while the list could never be read.
    workers: Option<Vec<WorkerStats>>,
    gateways: Vec<GatewayStats>,
    dependencies: Dependencies,
}

#[derive(Debug, Serialize, ToSchema)]
struct ModelStats {
    name: String,
    version: String,
    digest: Digest,
    /// As last measured; an idle time leaves it as it is.
    drain_per_s: f64,
    /// How many workers hold each file of this model.
    holders: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize, ToSchema)]
struct QueueStats {
    model: String,
    priority: Priority,
    depth: u64,
    /// How long the oldest message waits at most; `null` for an empty queue.
    oldest_ms: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WorkerStats {
    id: String,
    uptime_s: u64,
    sessions: u32,
    busy: u32,
    models: Vec<WorkerModelStats>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WorkerModelStats {
    name: String,
    version: String,
    digest: Digest,
    sessions: u16,
    busy: u16,
    jobs: u64,
    batches: u64,
    /// `null` before the first batch.
    mean_batch: Option<f64>,
    /// What the worker runs it on; `null` for workers of earlier versions.
    placement: Option<Placement>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GatewayStats {
    id: String,
    /// Whether it is the one that says this.
    answering: bool,
    status: String,
    uptime_s: u64,
    in_flight: u64,
    in_flight_limit: u64,
    connections: u64,
}

/// The numbers now.
#[must_use]
pub fn of(app: &Gateway) -> Snapshot {
    let now = app.predictions.clock.now();
    let members = app.predictions.queues.members();
    let gateways = with_this_one(members.as_deref(), status(app));
    let is_silent = |id: &str| members.as_ref().is_some_and(|list| list.is_silent(id));
    let workers = members.as_deref().map(|members| workers(members, now));
    let queues = queues(app);
    let found = app.stats.found.lock();
    Snapshot {
        mode: app.mode(),
        window_s: WINDOW.as_secs(),
        figures: Figures {
            at: Time(now),
            waiting: waiting(&queues),
            sessions: workers.as_deref().map(sessions),
            ..figures(app, &gateways, &found)
        },
        conditions: found.log.conditions().to_vec(),
        events: found.log.events().cloned().collect(),
        models: models(app, members.as_deref()),
        queues,
        dead_letters: app.metrics.dead_letters_kept.get(),
        workers,
        gateways: gateways
            .iter()
            .filter(|gateway| gateway.id == app.stats.id || !is_silent(&gateway.id))
            .map(|gateway| shown(gateway, app, now))
            .collect(),
        dependencies: found.dependencies,
    }
}

fn figures(app: &Gateway, gateways: &[GatewayStatus], found: &Found) -> Figures {
    let mut total = found.others.sum(Traffic::add);
    total.add(&app.metrics.traffic());
    let mut recent = Traffic::default();
    gateways.iter().for_each(|one| recent.add(&one.recent));
    let mut ended = found.workers.sum(add_ends);
    ended.expired += total.expired;
    let sum = |count: fn(&GatewayStatus) -> u64| gateways.iter().map(count).sum();
    Figures {
        jobs: Jobs {
            in_flight: sum(|gateway| gateway.in_flight),
            in_flight_limit: sum(|gateway| gateway.in_flight_limit),
            submitted: total.submitted,
            refused: total.refused,
            ended,
            dead_letters: u64::try_from(app.metrics.dead_letters_kept.get()).unwrap_or_default(),
        },
        rates: rates(gateways),
        cache: CacheStats {
            hits: total.cache_hits,
            misses: total.cache_misses,
            collapsed: total.collapsed,
            errors: total.cache_errors,
            hit_ratio: ratio(recent.cache_hits, recent.cache_hits + recent.cache_misses),
        },
        latency_ms: latency(&recent),
        ..Figures::default()
    }
}

fn waiting(queues: &[QueueStats]) -> Waiting {
    let sum = |priority| {
        let of_it = queues.iter().filter(|queue| queue.priority == priority);
        of_it.map(|queue| queue.depth).sum()
    };
    Waiting {
        interactive: sum(Priority::Interactive),
        batch: sum(Priority::Batch),
    }
}

fn sessions(workers: &[WorkerStats]) -> Sessions {
    Sessions {
        busy: workers.iter().map(|worker| worker.busy).sum(),
        total: workers.iter().map(|worker| worker.sessions).sum(),
    }
}

/// All gateways; this one as it is now, whatever the list has of it.
fn with_this_one(members: Option<&Members>, this: GatewayStatus) -> Vec<GatewayStatus> {
    let listed = members.map_or(&[][..], |members| &members.gateways);
    let others = listed.iter().filter(|gateway| gateway.id != this.id);
    let mut all: Vec<_> = others.cloned().collect();
    all.push(this);
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn rates(gateways: &[GatewayStatus]) -> Rates {
    let mut sum = Rates::default();
    for gateway in gateways.iter().filter(|gateway| gateway.recent_ms > 0) {
        let per_second = |count: u64| ratio(count * 1000, gateway.recent_ms).unwrap_or_default();
        sum.answered_per_s += per_second(gateway.recent.answered());
        sum.submitted_per_s += per_second(gateway.recent.submitted);
        sum.refused_per_s += per_second(gateway.recent.refused);
    }
    sum
}

fn latency(recent: &Traffic) -> Latency {
    let ms = |share| {
        recent
            .quantile(share)
            .map(|seconds| rounded(seconds * 1000.0))
    };
    Latency {
        count: recent.answered(),
        p50: ms(0.5),
        p90: ms(0.9),
        p99: ms(0.99),
    }
}

fn models(app: &Gateway, members: Option<&Members>) -> Vec<ModelStats> {
    let workers = members.map_or(&[][..], |members| &members.workers);
    let holders = |name: &str| {
        let mut by_digest = BTreeMap::new();
        for worker in workers {
            // While a model's description changes, a worker holds its file twice.
            let held = worker
                .models
                .iter()
                .filter(|held| held.name.as_str() == name);
            let digests: BTreeSet<String> = held.map(|held| held.digest.to_string()).collect();
            for digest in digests {
                *by_digest.entry(digest).or_default() += 1;
            }
        }
        by_digest
    };
    let catalog = app.models.catalog();
    let all = catalog.models().iter();
    all.map(|model| ModelStats {
        name: model.name.to_string(),
        version: model.version.clone(),
        digest: model.digest,
        drain_per_s: rounded(app.predictions.queues.per_second(&model.name)),
        holders: holders(model.name.as_str()),
    })
    .collect()
}

fn queues(app: &Gateway) -> Vec<QueueStats> {
    let queues = &app.predictions.queues;
    let catalog = app.models.catalog();
    let both = catalog.models().iter().flat_map(|model| {
        Priority::ALL.map(|priority| QueueStats {
            model: model.name.to_string(),
            priority,
            depth: queues.depth(&model.name, priority),
            oldest_ms: queues.oldest(&model.name, priority).map(whole_ms),
        })
    });
    both.collect()
}

fn workers(members: &Members, now: UnixMillis) -> Vec<WorkerStats> {
    let sum = |worker: &WorkerStatus, count: fn(&ModelStatus) -> u16| {
        worker
            .models
            .iter()
            .map(|held| u32::from(count(held)))
            .sum()
    };
    let shown = |worker: &WorkerStatus| WorkerStats {
        id: worker.id.clone(),
        uptime_s: now.since(worker.started_at).as_secs(),
        sessions: sum(worker, |held| held.sessions),
        busy: sum(worker, |held| held.busy),
        models: worker.models.iter().map(held).collect(),
    };
    let heard = members
        .workers
        .iter()
        .filter(|worker| !members.is_silent(&worker.id));
    heard.map(shown).collect()
}

fn held(held: &ModelStatus) -> WorkerModelStats {
    WorkerModelStats {
        name: held.name.to_string(),
        version: held.version.clone(),
        digest: held.digest,
        sessions: held.sessions,
        busy: held.busy,
        jobs: held.jobs,
        batches: held.batches,
        mean_batch: ratio(held.jobs, held.batches),
        placement: held.placement.clone(),
    }
}

fn shown(gateway: &GatewayStatus, app: &Gateway, now: UnixMillis) -> GatewayStats {
    GatewayStats {
        id: gateway.id.clone(),
        answering: gateway.id == app.stats.id,
        status: gateway.status.clone(),
        uptime_s: now.since(gateway.started_at).as_secs(),
        in_flight: gateway.in_flight,
        in_flight_limit: gateway.in_flight_limit,
        connections: gateway.connections,
    }
}

/// `None` where nothing is divided by.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    let ratio = part as f64 / whole as f64;
    (whole > 0).then(|| rounded(ratio))
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

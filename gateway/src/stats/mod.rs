//! The fleet in numbers: one task reads them once a second and feeds all streams, another says what this gateway counts.
//!
//! | module | owns |
//! |---|---|
//! | [`recent`] | what came in the last minute |
//! | [`mod@standing`] | what this gateway depends on, and whether traffic should come here |
//! | [`snapshot`] | the numbers as JSON |

pub mod recent;
pub mod snapshot;
pub mod standing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvage_core::clock::UnixMillis;
use selvage_core::fleet::{ANNOUNCE_EVERY, GatewayStatus, Member, member_id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{App, changes};
use recent::Recent;
use standing::{Dependencies, standing};

/// How often everything is read.
const EVERY: Duration = Duration::from_secs(1);
/// Shortest time from one reading to the next: many may fall silent one after the other.
const APART: Duration = Duration::from_millis(100);
/// Longest time for one announcement, and for taking leave.
const LIMIT: Duration = Duration::from_secs(1);
/// Most streams of these numbers at one gateway; dashboards need a few.
const MAX_STREAMS: usize = 256;

/// What the sampler found, and places for those who follow it.
#[derive(Debug)]
pub struct Stats {
    id: String,
    started_at: UnixMillis,
    found: Mutex<(Recent, Dependencies)>,
    latest: watch::Sender<Arc<str>>,
    streams: Arc<Semaphore>,
}

/// A place among the streams, and what is told on it.
#[derive(Debug)]
pub struct Following {
    /// The numbers as JSON; empty while nothing was read.
    pub latest: watch::Receiver<Arc<str>>,
    _permit: OwnedSemaphorePermit,
}

impl Stats {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(started_at: UnixMillis) -> Self {
        Self {
            id: member_id("gateway"),
            started_at,
            found: Mutex::default(),
            latest: watch::Sender::new("".into()),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// A place among the streams; `None` where all are taken.
    #[must_use]
    pub fn follow(&self) -> Option<Following> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        Some(Following {
            latest,
            _permit: permit,
        })
    }

    fn dependencies(&self) -> Dependencies {
        self.lock().1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Recent, Dependencies)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until `stop` fires: everything once a second, and the list of processes also when one of them falls silent, so that
/// it is seen to vanish then and not up to a second later.
pub async fn read(app: App, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let queues = &app.predictions.queues;
    loop {
        // One that has passed was looked at already, or the list could not be read: then the next tick looks again.
        let now = Instant::now();
        let silence = queues.next_silence().filter(|at| *at > now);
        let silence = silence.map(|at| at.max(now + APART));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => read_all(&app).await,
            () = sleep_until(silence.unwrap_or(now)), if silence.is_some() => drop(queues.read_members().await),
        }
        match serde_json::to_string(&snapshot::of(&app)) {
            Ok(json) => drop(app.stats.latest.send_replace(json.into())),
            Err(error) => tracing::error!(%error, "the fleet's numbers could not be written"),
        }
    }
}

async fn read_all(app: &App) {
    app.predictions.admission.pace.tick();
    let (dependencies, ()) = tokio::join!(Dependencies::check(app), app.predictions.queues.read());
    if let Some(members) = app.predictions.queues.members() {
        changes::look_at(app, &members);
    }
    let mut found = app.stats.lock();
    found.0.note(Instant::now(), app.metrics.traffic());
    found.1 = dependencies;
}

/// Announces this gateway until `stop` fires, then takes it off the fleet's list.
pub async fn announce(app: App, stop: CancellationToken) {
    let mut ticks = interval(ANNOUNCE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let me = Member::Gateway(status(&app));
        let announcing = app.predictions.queues.fleet.announce(&me);
        if !matches!(timeout(LIMIT, announcing).await, Ok(Ok(_))) {
            tracing::debug!("nobody heard this gateway's announcement");
        }
    }
    // Who cannot say goodbye is missed after a moment anyway.
    let leaving = app.predictions.queues.fleet.leave(&app.stats.id);
    timeout(LIMIT, leaving).await.ok();
}

/// This gateway now.
fn status(app: &App) -> GatewayStatus {
    let admission = &app.predictions.admission;
    let total = app.metrics.traffic();
    let found = app.stats.lock();
    let (recent, span) = found.0.until(Instant::now(), &total);
    let workers = app.predictions.queues.members();
    GatewayStatus {
        id: app.stats.id.clone(),
        started_at: app.stats.started_at,
        status: standing(app, found.1, workers.map(|members| members.workers.len())).to_owned(),
        in_flight: admission.in_flight() as u64,
        in_flight_limit: admission.max() as u64,
        connections: u64::try_from(app.metrics.connections.get()).unwrap_or_default(),
        total,
        recent,
        recent_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
        asks: Some(app.models.asked()),
    }
}

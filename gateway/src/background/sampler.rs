//! The tasks: one reads the numbers once a second for all streams, another announces this gateway.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::program::ticks;
use selvage_core::registry::{Member, keep_announced};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::background::changes;
use crate::service::gateway::Gateway;
use crate::service::stats::conditions;
use crate::service::stats::dependencies::Dependencies;
use crate::service::stats::snapshot;
use crate::service::stats::status::status;

/// How often everything is read.
const EVERY: Duration = Duration::from_secs(1);
/// Conditions are judged from then on: at the start, processes have not announced themselves and connections are being made.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Shortest time from one reading to the next: many may fall silent one after the other.
const APART: Duration = Duration::from_millis(100);

/// Reads until `stop` fires: everything once a second, and the list of processes also when one of them falls silent, so that
/// it is seen to vanish then and not up to a second later.
pub async fn read(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = ticks(EVERY);
    let started = Instant::now();
    let queues = &gateway.predictions.queues;
    loop {
        // One that has passed was looked at already, or the list could not be read: then the next tick looks again.
        let now = Instant::now();
        let silence = queues.next_silence().filter(|at| *at > now);
        let silence = silence.map(|at| at.max(now + APART));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => read_all(&gateway).await,
            () = sleep_until(silence.unwrap_or(now)), if silence.is_some() => drop(queues.read_members().await),
        }
        look_at_fleet(&gateway, started.elapsed() >= SETTLED_AFTER);
        let snapshot = snapshot::of(&gateway);
        gateway
            .stats
            .found
            .lock()
            .history
            .offer(Instant::now(), &snapshot.figures);
        match serde_json::to_string(&snapshot) {
            Ok(json) => drop(gateway.stats.latest.send_replace(json.into())),
            Err(error) => tracing::error!(%error, "the fleet's numbers could not be written"),
        }
    }
}

async fn read_all(gateway: &Gateway) {
    gateway.predictions.admission.pace.tick();
    let (dependencies, ()) = tokio::join!(
        Dependencies::check(gateway),
        gateway.predictions.queues.read()
    );
    let mut found = gateway.stats.found.lock();
    found.recent.note(Instant::now(), gateway.metrics.traffic());
    found.dependencies = dependencies;
}

/// Takes over what the processes say of themselves, and notes what has changed.
fn look_at_fleet(gateway: &Gateway, settled: bool) {
    let now = gateway.predictions.clock.now();
    if let Some(members) = gateway.predictions.queues.members() {
        changes::look_at(gateway, &members);
        let mut found = gateway.stats.found.lock();
        found.count(&gateway.stats.id, &members);
        found.log.look_at(now, &members);
    }
    if !settled {
        return;
    }
    let dependencies = gateway.stats.found.lock().dependencies;
    let lasting = conditions::of(gateway, dependencies);
    gateway.stats.found.lock().log.set(now, lasting);
}

/// Announces this gateway until `stop` fires, then takes it off the list of processes.
pub async fn announce(gateway: Arc<Gateway>, stop: CancellationToken) {
    let fleet = gateway.predictions.queues.fleet.as_ref();
    let status = || Member::Gateway(status(&gateway));
    let (clock, unchanged) = (&gateway.predictions.clock, Notify::new());
    keep_announced((fleet, clock), &unchanged, &stop, status).await;
}

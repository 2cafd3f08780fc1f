//! This gateway, as it announces itself.

use selvage_core::registry::GatewayStatus;
use tokio::time::Instant;

use super::standing::standing;
use crate::service::gateway::Gateway;

/// This gateway now.
pub(crate) fn status(app: &Gateway) -> GatewayStatus {
    let admission = &app.predictions.admission;
    let total = app.metrics.traffic();
    let found = app.stats.found.lock();
    let (recent, span) = found.recent.until(Instant::now(), &total);
    let workers = app.predictions.queues.members();
    GatewayStatus {
        id: app.stats.id.clone(),
        started_at: app.stats.started_at,
        status: standing(
            app,
            found.dependencies,
            workers.map(|members| members.workers.len()),
        )
        .to_owned(),
        in_flight: admission.in_flight() as u64,
        in_flight_limit: admission.max() as u64,
        connections: u64::try_from(app.metrics.connections.get()).unwrap_or_default(),
        total,
        recent,
        recent_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
        asks: Some(app.models.asked()),
    }
}

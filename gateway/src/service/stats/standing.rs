//! What this gateway depends on, and whether traffic should come here. For `/readyz`, `/stats` and the fleet's list.

use std::time::Duration;

use selvage_core::queue::Health;
use tokio::time::timeout;

use super::dependencies::Dependencies;
use crate::service::gateway::Gateway;
use crate::service::lifecycle::Phase;

/// Longest time a check may take; a probe's own limit is usually a second or more.
pub const CHECK_LIMIT: Duration = Duration::from_millis(700);

impl Dependencies {
    /// Looks at all of them now; what the metrics show is set by it.
    pub async fn check(gateway: &Gateway) -> Self {
        let (store, cache) = tokio::join!(
            timeout(CHECK_LIMIT, gateway.store.ping()),
            timeout(CHECK_LIMIT, gateway.predictions.cache.ping()),
        );
        let word = |up| if up == Ok(true) { "ok" } else { "down" };
        let found = Self {
            broker: match gateway.predictions.queue.health() {
                Health::Up => "ok",
                Health::Blocked => "blocked",
                Health::Down => "down",
            },
            store: word(store),
            cache: word(cache),
        };
        for (name, state) in [
            ("broker", found.broker),
            ("store", found.store),
            ("cache", found.cache),
        ] {
            let up = gateway.metrics.dependency_up.with_label_values(&[name]);
            up.set(i64::from(state == "ok"));
        }
        found
    }
}

/// One word: `ready`, `degraded` (takes traffic), `unready` or `draining` (does not). What the metrics show is set by it.
#[must_use]
pub fn standing(
    gateway: &Gateway,
    dependencies: Dependencies,
    workers: Option<usize>,
) -> &'static str {
    let serves = gateway.serves();
    gateway.metrics.ready.set(f64::from(u8::from(serves)));
    if gateway.life.phase() > Phase::Serving {
        "draining"
    } else if !serves {
        "unready"
    } else if dependencies.store != "ok"
        || dependencies.cache != "ok"
        || workers.is_none_or(|workers| workers == 0)
    {
        "degraded"
    } else {
        "ready"
    }
}

//! The registry: its suite, and workers that fell silent or speak another language.

use std::sync::Arc;

use selvage_core::registry::suite::{a_worker, worker};
use selvage_core::registry::{Fleet, GONE_AFTER};

use crate::support::{Raw, fleet_of, fresh_prefix, shared_redis};

async fn fresh() -> Arc<dyn Fleet> {
    fleet_of(&fresh_prefix())
}

selvage_core::fleet_suite!(fresh);

#[tokio::test]
async fn a_worker_whose_key_lapsed_is_gone_and_a_strange_status_is_left_out() {
    let prefix = fresh_prefix();
    let (fleet, mut raw) = (fleet_of(&prefix), Raw::connect(&shared_redis()));
    for id in ["a", "b", "c"] {
        fleet.announce(&a_worker(id)).await.unwrap();
    }
    let name = |id: &str| format!("{}:worker:{id}", prefix.as_str());
    let left: u64 = raw.run("PTTL", name("a"));
    assert!(left > 0 && left <= GONE_AFTER.as_millis() as u64, "{left}");
    raw.run::<()>("DEL", name("a"));
    raw.run::<()>(
        "SET",
        (name("b"), "{\"of\":\"another version\"}", "PX", 6_000),
    );
    assert_eq!(fleet.members().await.unwrap().workers, [worker("c")]);
}

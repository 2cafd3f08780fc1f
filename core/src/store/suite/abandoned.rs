//! Jobs that are waited for, and whose clients have left.

use std::time::Duration;

use super::{Store, find, seed};
use crate::clock::UnixMillis;
use crate::job::JobId;

/// Abandoned jobs are found by id, leaves no record, and others are not touched.
pub async fn abandoned_jobs_are_known_by_id(store: Store) {
    let ids: Vec<JobId> = (0..3).map(|_| seed().id).collect();
    let until = UnixMillis::wall().after(Duration::from_secs(60));
    for _ in 0..2 {
        store.abandon(ids[1], until).await.expect("it is up");
    }
    let reported = store.abandoned(&ids).await.expect("it is up");
    assert_eq!(reported, [false, true, false]);
    assert_eq!(find(&store, ids[1]).await, None);
    assert!(store.abandoned(&[]).await.expect("it is up").is_empty());
}

/// An abandoned job is forgotten once it expires.
pub async fn an_abandonment_ends(store: Store) {
    let (over, soon) = (seed().id, seed().id);
    let now = UnixMillis::wall();
    store
        .abandon(over, UnixMillis(now.0 - 1_000))
        .await
        .expect("it is up");
    let until = now.after(Duration::from_millis(1_500));
    store.abandon(soon, until).await.expect("it is up");
    let reported = store.abandoned(&[over]).await.expect("it is up");
    assert_eq!(reported, [false]);
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.abandoned(&[soon]).await.expect("it is up") != [false] {
        assert!(tokio::time::Instant::now() < patience, "it never ended");
        tokio::task::yield_now().await;
    }
}

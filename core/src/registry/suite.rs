//! What every registry must do, as functions any backend's tests can run. Nothing here knows a backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    AskedModel, Ends, Fleet, GatewayStatus, Member, ModelStatus, Placement, Taken, Traffic,
    WorkerStatus,
};
use crate::catalog::Device;
use crate::clock::UnixMillis;
use crate::key::Digest;

/// Makes one test of each guarantee; `$make()` gives a future of an empty `Arc<dyn Fleet>`.
#[macro_export]
macro_rules! fleet_suite {
    ($make:path) => {
        $crate::fleet_suite!($make:
            a_fleet_begins_empty
            announced_workers_are_listed_by_id
            gateways_are_listed_beside_workers
            the_latest_announcement_counts
            a_worker_that_leaves_is_gone_at_once
            who_was_heard_of_just_now_is_not_silent
            the_time_moves_forward_and_is_the_same_for_all
        );
    };
    ($make:path: $($submission:ident)*) => {
        $(
            #[tokio::test]
            async fn $submission() {
                $crate::registry::suite::$submission($make().await).await;
            }
        )*
    };
}

/// A worker of that id with one model.
#[must_use]
pub fn worker(id: &str) -> WorkerStatus {
    let model = ModelStatus {
        name: "fashion-mnist".parse().expect("a good name"),
        version: "1".to_owned(),
        digest: Digest::of(id.as_bytes()),
        preprocessing: Some(u64::MAX),
        sessions: 2,
        busy: 1,
        jobs: u64::MAX,
        batches: 3,
        ended: Ends {
            succeeded: 5,
            ..Ends::default()
        },
        taken: Taken {
            interactive: Some(UnixMillis(1_764_000_000_001)),
            batch: None,
        },
        placement: Some(Placement {
            device: Device::Cuda(1),
            device_share: 0.9,
            cpu_operators: [("TopK".to_owned(), 1)].into(),
        }),
    };
    WorkerStatus {
        id: id.to_owned(),
        started_at: UnixMillis(1_764_000_000_000),
        models: vec![model],
    }
}

/// The same, as it announces itself.
#[must_use]
pub fn a_worker(id: &str) -> Member {
    Member::Worker(worker(id))
}

/// A gateway of that id.
#[must_use]
pub fn gateway(id: &str) -> GatewayStatus {
    let total = Traffic {
        cache_hits: u64::MAX,
        answers: vec![1, 0, 2],
        ..Traffic::default()
    };
    GatewayStatus {
        id: id.to_owned(),
        started_at: UnixMillis(1_764_000_000_000),
        status: "ready".to_owned(),
        in_flight: 1,
        in_flight_limit: 2,
        connections: 3,
        recent: total.since(&Traffic::default()),
        total,
        recent_ms: 60_000,
        asks: Some(vec![AskedModel {
            name: "fashion-mnist".parse().expect("a good name"),
            digest: Digest::of(id.as_bytes()),
            preprocessing: u64::MAX,
        }]),
    }
}

async fn announce(fleet: &Arc<dyn Fleet>, worker: &WorkerStatus) -> UnixMillis {
    let time = fleet.announce(&Member::Worker(worker.clone())).await;
    time.expect("a registry that is up answers")
}

async fn workers(fleet: &Arc<dyn Fleet>) -> Vec<WorkerStatus> {
    fleet
        .members()
        .await
        .expect("a registry that is up answers")
        .workers
}

/// Nobody is there until somebody says so; leaving unannounced is no error.
pub async fn a_fleet_begins_empty(fleet: Arc<dyn Fleet>) {
    assert_eq!(workers(&fleet).await, []);
    fleet
        .leave("nobody")
        .await
        .expect("leaving twice is no error");
}

/// Workers come as they announced themselves, by id.
pub async fn announced_workers_are_listed_by_id(fleet: Arc<dyn Fleet>) {
    for id in ["host-2/9:x", "host-1/10:ä", "host-1/2:y"] {
        announce(&fleet, &worker(id)).await;
    }
    let expected = ["host-1/10:ä", "host-1/2:y", "host-2/9:x"].map(worker);
    assert_eq!(workers(&fleet).await, expected);
}

/// Gateways come as they announced themselves, apart from workers, and leave in the same way.
pub async fn gateways_are_listed_beside_workers(fleet: Arc<dyn Fleet>) {
    announce(&fleet, &worker("a")).await;
    for id in ["c", "b"] {
        let announced = fleet.announce(&Member::Gateway(gateway(id))).await;
        announced.expect("a registry that is up answers");
    }
    let members = fleet.members().await.expect("a registry that is up");
    assert_eq!(members.gateways, ["b", "c"].map(gateway));
    assert_eq!(members.workers, [worker("a")]);
    fleet.leave("b").await.expect("a registry that is up");
    let members = fleet.members().await.expect("a registry that is up");
    assert_eq!(members.gateways, [gateway("c")]);
}

/// A worker is listed once, as it sees itself now.
pub async fn the_latest_announcement_counts(fleet: Arc<dyn Fleet>) {
    let mut status = worker("a");
    announce(&fleet, &status).await;
    status.models[0].jobs = 5;
    announce(&fleet, &status).await;
    assert_eq!(workers(&fleet).await, [status]);
}

/// A drained worker is off the list before its silence would show.
pub async fn a_worker_that_leaves_is_gone_at_once(fleet: Arc<dyn Fleet>) {
    announce(&fleet, &worker("a")).await;
    announce(&fleet, &worker("b")).await;
    fleet.leave("a").await.expect("a registry that is up");
    assert_eq!(workers(&fleet).await, [worker("b")]);
    announce(&fleet, &worker("a")).await;
    assert_eq!(workers(&fleet).await.len(), 2);
}

/// A silence begins with the last announcement, of workers and gateways alike.
pub async fn who_was_heard_of_just_now_is_not_silent(fleet: Arc<dyn Fleet>) {
    let read = || async { fleet.members().await.expect("a registry that is up") };
    assert_eq!(read().await.next_silence(), None);
    let before = Instant::now();
    announce(&fleet, &worker("a")).await;
    let announced = fleet.announce(&Member::Gateway(gateway("b"))).await;
    announced.expect("a registry that is up answers");
    let members = read().await;
    // The shared time is stored in whole milliseconds.
    let most = before.elapsed() + Duration::from_millis(1);
    for id in ["a", "b"] {
        let quiet = members.quiet[id];
        assert!(quiet <= most, "{id}: {quiet:?} of {most:?}");
    }
    assert_eq!(members.quiet.len(), 2);
}

/// The shared time is near the wall clock here, and an announcement tells it too.
pub async fn the_time_moves_forward_and_is_the_same_for_all(fleet: Arc<dyn Fleet>) {
    let wall = UnixMillis::wall();
    let first = fleet.time().await.expect("a registry that is up");
    let second = announce(&fleet, &worker("a")).await;
    let third = fleet.time().await.expect("a registry that is up");
    assert!(first <= second && second <= third);
    let minute = Duration::from_secs(60);
    assert!(first.after(minute) > wall && wall.after(minute) > first);
}

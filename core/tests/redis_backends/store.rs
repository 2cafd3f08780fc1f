//! The job store: its suite, lost and damaged records, and the list of deadlines.

use std::sync::Arc;

use selvage_core::job_state::JobState;
use selvage_core::store::suite::idempotency::a_repeat_takes_over_with_its_own_times;
use selvage_core::store::suite::{answer, completion, overdue_seed, seed};
use selvage_core::store::{Claim, End, JobStore, Progress};

use crate::support::{Raw, chain, deadlines_name, fresh_prefix, job_name, shared_redis, store_of};

async fn fresh() -> Arc<dyn JobStore> {
    store_of(&fresh_prefix())
}

selvage_core::job_store_suite!(fresh);

#[tokio::test]
async fn a_wiped_redis_loses_no_queued_job() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (queued, started) = (seed(), seed());
    store.submit(&queued).await.unwrap();
    store.claim(std::slice::from_ref(&started)).await.unwrap();
    let keys = raw.keys(&prefix);
    assert_eq!(
        keys.len(),
        5,
        "two records, the list of deadlines, the counts and the owner's list: {keys:?}"
    );
    raw.run::<()>("DEL", keys);
    assert_eq!(
        store.get(&[queued.id, started.id]).await.unwrap(),
        [None, None]
    );
    let models = [queued.model.clone()];
    assert_eq!(
        store.progress(&models).await.unwrap(),
        [Progress::default()]
    );
    let jobs = [queued.clone(), started.clone()];
    assert_eq!(
        store.claim(&jobs).await.unwrap(),
        [Claim::Run(1), Claim::Run(1)]
    );
    let done = jobs.map(|job| completion(job.id, End::Succeeded(answer())));
    assert_eq!(store.complete(&done).await.unwrap(), [true, true]);
    let records = store.get(&[queued.id, started.id]).await.unwrap();
    let ended: Vec<_> = records
        .iter()
        .flatten()
        .map(|r| (r.state, r.number))
        .collect();
    assert_eq!(
        ended,
        [1, 2].map(|number| (JobState::Succeeded, Some(number)))
    );
    let (submitted, ended) = (2, 2);
    let counted = Progress { submitted, ended };
    assert_eq!(store.progress(&models).await.unwrap(), [counted]);
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_does_not_stop_the_sweeper() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (bad, good) = (overdue_seed(), overdue_seed());
    for job in [&bad, &good] {
        store.submit(job).await.unwrap();
    }
    raw.run::<()>("SET", (job_name(&prefix, &bad), "a string", "EX", 60));
    let error = store.get(&[bad.id]).await.unwrap_err();
    assert!(chain(&error).contains("WRONGTYPE"), "{}", chain(&error));
    store.submit(&bad).await.unwrap_err();
    store.claim(std::slice::from_ref(&bad)).await.unwrap_err();
    store.release(&[bad.id]).await.unwrap_err();
    store.cancel(bad.id).await.unwrap_err();
    store
        .complete(&[completion(bad.id, End::Expired)])
        .await
        .unwrap_err();
    for _ in 0..2 {
        let due: Vec<_> = store
            .overdue(10)
            .await
            .unwrap()
            .iter()
            .map(|record| record.seed.id)
            .collect();
        assert_eq!(due, [good.id]);
    }
    assert_eq!(raw.run::<u32>("ZCARD", deadlines_name(&prefix)), 1);
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_does_not_stop_the_sweeper() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (bad, good) = (overdue_seed(), overdue_seed());
    for job in [&bad, &good] {
        store.submit(job).await.unwrap();
    }
    raw.run::<()>("HSET", (job_name(&prefix, &bad), "seed", "{}"));
    let error = store.get(&[good.id, bad.id]).await.unwrap_err();
    assert!(chain(&error).contains("field seed"), "{}", chain(&error));
    for _ in 0..2 {
        let due: Vec<_> = store
            .overdue(10)
            .await
            .unwrap()
            .iter()
            .map(|record| record.seed.id)
            .collect();
        assert_eq!(due, [good.id]);
    }
}

#[tokio::test]
async fn the_sweeper_forgets_deadlines_without_an_unfinished_record() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let deadlines = deadlines_name(&prefix);
    let (lost, ended, due) = (overdue_seed(), overdue_seed(), overdue_seed());
    for job in [&lost, &ended, &due] {
        store.submit(job).await.unwrap();
    }
    store
        .complete(&[completion(ended.id, End::Canceled)])
        .await
        .unwrap();
    raw.run::<()>("ZADD", (&deadlines, 1, ended.id.to_string()));
    raw.run::<()>("ZADD", (&deadlines, 2, "not an id"));
    raw.run::<()>("DEL", job_name(&prefix, &lost));
    let found = store.overdue(10).await.unwrap();
    assert_eq!(found.len(), 1);
    let listed: Vec<String> = raw.run("ZRANGE", (&deadlines, 0, -1));
    assert_eq!(listed, [due.id.to_string()]);
}

#[tokio::test]
async fn a_job_whose_deadline_was_lost_is_listed_again_by_its_claim() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let job = seed();
    store.submit(&job).await.unwrap();
    let deadlines = deadlines_name(&prefix);
    raw.run::<()>("DEL", &deadlines);
    assert_eq!(
        store.claim(std::slice::from_ref(&job)).await.unwrap(),
        [Claim::Run(1)]
    );
    let listed: Vec<String> = raw.run("ZRANGE", (&deadlines, 0, -1));
    assert_eq!(listed, [job.id.to_string()]);
}

#[tokio::test]
async fn a_job_that_has_ended_leaves_the_list_of_deadlines_at_once() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (completed, canceled, released, open) = (seed(), seed(), seed(), seed());
    for job in [&completed, &canceled, &released, &open] {
        store.submit(job).await.unwrap();
    }
    let done = completion(completed.id, End::Succeeded(answer()));
    store.complete(&[done]).await.unwrap();
    store.cancel(canceled.id).await.unwrap();
    store.claim(std::slice::from_ref(&released)).await.unwrap();
    store.cancel(released.id).await.unwrap();
    store.release(&[released.id]).await.unwrap();
    let listed: Vec<String> = raw.run("ZRANGE", (deadlines_name(&prefix), 0, -1));
    assert_eq!(listed, [open.id.to_string()]);
}

#[tokio::test]
async fn tidying_spares_a_job_that_came_back_meanwhile() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (back, gone) = (seed(), seed());
    for job in [&back, &gone] {
        store.submit(job).await.unwrap();
    }
    raw.run::<()>("DEL", job_name(&prefix, &gone));
    let script = concat!(
        include_str!("../../src/redis/scripts/prelude.lua"),
        include_str!("../../src/redis/scripts/tidy.lua")
    );
    let deadlines = deadlines_name(&prefix);
    let records = [&back, &gone].map(|job| job_name(&prefix, job));
    let ids = [&back, &gone].map(|job| job.id.to_string());
    raw.run::<()>("EVAL", (script, 3, &deadlines, &records, &ids));
    let listed: Vec<String> = raw.run("ZRANGE", (&deadlines, 0, -1));
    assert_eq!(listed, [back.id.to_string()]);
}

#[tokio::test]
async fn a_repeat_takes_over_once_the_lease_is_over() {
    let prefix = fresh_prefix();
    let raw = std::sync::Mutex::new(Raw::connect(&shared_redis()));
    a_repeat_takes_over_with_its_own_times(store_of(&prefix), |id| {
        let record = format!("{}:job:{id}", prefix.as_str());
        let mut raw = raw.lock().unwrap();
        let pending: String = raw.run("HGET", (&record, "pending"));
        let (_, submitter) = pending.split_once(' ').unwrap();
        raw.run::<()>("HSET", (&record, "pending", format!("1 {submitter}")));
        std::future::ready(())
    })
    .await;
    let mut raw = raw.into_inner().unwrap();
    assert_eq!(raw.run::<u32>("ZCARD", deadlines_name(&prefix)), 1);
}

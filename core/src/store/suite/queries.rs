//! What is asked of a store: records, overdue jobs, slices, health.

use std::time::Duration;

use super::{
    Store, claimed, completed, completion, every_end, finished_jobs, record, running, seed,
    seed_due, submitted,
};
use crate::clock::UnixMillis;
use crate::job::JobId;
use crate::job_state::JobState;
use crate::store::{Claim, End, Seed};

/// Ids, records, repeats and unknown ones keep their places.
pub async fn records_come_in_the_order_of_the_ids(store: Store) {
    let (first, second, unknown) = (seed(), running(&store).await, seed());
    submitted(&store, &first).await;
    let ids = [second.id, unknown.id, first.id, second.id];
    let found = store.get(&ids).await.expect("it is up");
    let found: Vec<Option<JobId>> = found
        .iter()
        .map(|record| record.as_ref().map(|record| record.seed.id))
        .collect();
    assert_eq!(
        found,
        [Some(second.id), None, Some(first.id), Some(second.id)]
    );
}

async fn overdue(store: &Store, limit: usize) -> Vec<JobId> {
    let due = store.overdue(limit).await.expect("it is up");
    due.iter().map(|record| record.seed.id).collect()
}

/// The sweeper gets the longest overdue first, and no more than it asked for.
pub async fn overdue_jobs_come_oldest_first_up_to_the_limit(store: Store) {
    let now = UnixMillis::wall().0;
    let due: Vec<Seed> = [5_000, 3_000, 4_000]
        .map(|ago| seed_due(UnixMillis(now - ago)))
        .into();
    for seed in due.iter().chain(&[seed()]) {
        submitted(&store, seed).await;
    }
    let oldest_first = [due[0].id, due[2].id, due[1].id];
    assert_eq!(overdue(&store, 10).await, oldest_first);
    assert_eq!(overdue(&store, 2).await, oldest_first[..2]);
    assert!(overdue(&store, 0).await.is_empty());
    assert!(completed(&store, due[0].id, End::Expired).await);
    assert_eq!(overdue(&store, 10).await, oldest_first[1..]);
}

/// A worker that is gone for good does not keep its job from ending.
pub async fn a_job_that_runs_past_its_deadline_is_overdue(store: Store) {
    let seed = seed_due(UnixMillis::wall().after(Duration::from_secs(2)));
    assert_eq!(claimed(&store, &seed).await, Claim::Run(1));
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while overdue(&store, 10).await != [seed.id] {
        assert!(
            tokio::time::Instant::now() < patience,
            "it never became overdue"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(record(&store, seed.id).await.state, JobState::Running);
    assert_eq!(claimed(&store, &seed).await, Claim::Overdue);
}

/// What has ended is not swept again.
pub async fn finished_jobs_are_never_overdue(store: Store) {
    for end in every_end() {
        let seed = super::overdue_seed();
        submitted(&store, &seed).await;
        assert_eq!(overdue(&store, 10).await, [seed.id]);
        assert!(completed(&store, seed.id, end).await);
        assert!(overdue(&store, 10).await.is_empty());
    }
    finished_jobs(&store).await;
    assert!(overdue(&store, 10).await.is_empty());
}

/// A batch is claimed and completed in one call, each job by its own state.
pub async fn a_slice_of_jobs_is_one_call(store: Store) {
    let fresh: Vec<Seed> = (0..100).map(|_| seed()).collect();
    let ended = finished_jobs(&store).await;
    let mut slice: Vec<Seed> = ended.iter().map(|(seed, _)| seed.clone()).collect();
    slice.extend(fresh.clone());
    slice.push(fresh[0].clone());
    let claims = store.claim(&slice).await.expect("it is up");
    let mut expected = vec![Claim::Finished; ended.len()];
    expected.extend(vec![Claim::Run(1); fresh.len()]);
    expected.push(Claim::Run(2));
    assert_eq!(claims, expected);

    let completions: Vec<_> = slice
        .iter()
        .map(|seed| completion(seed.id, End::Expired))
        .collect();
    let done = store.complete(&completions).await.expect("it is up");
    let mut expected = vec![false; ended.len()];
    expected.extend(vec![true; fresh.len()]);
    expected.push(false);
    assert_eq!(done, expected);
}

/// Empty slices are answered.
pub async fn nothing_to_do_is_no_error(store: Store) {
    assert_eq!(store.claim(&[]).await.expect("it is up"), []);
    assert!(store.complete(&[]).await.expect("it is up").is_empty());
    assert_eq!(store.get(&[]).await.expect("it is up"), []);
    store.release(&[]).await.expect("it is up");
}

/// Health is reported.
pub async fn a_store_that_is_up_says_so(store: Store) {
    assert!(store.ping().await);
}

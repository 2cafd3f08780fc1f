//! Every transition of a record, and every one that is refused.

use std::time::Duration;

use super::{
    COST, Store, answer, canceled, checked, claimed, completed, every_end, failure, find,
    finished_jobs, overdue_seed, record, released, running, seed, submitted, withdrawn,
};
use crate::clock::UnixMillis;
use crate::job_state::JobState;
use crate::outcome::Cost;
use crate::store::{Cancel, Claim, Completion, End};

/// A submitted job is there as it was given, queued.
pub async fn a_submitted_job_is_queued(store: Store) {
    let seed = seed();
    submitted(&store, &seed).await;
    let record = record(&store, seed.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Queued, 0));
    assert_eq!((record.cost, record.cached), (Cost::default(), false));
    assert_eq!(
        record.expires_at,
        seed.deadline.after(Duration::from_secs(3600))
    );
    assert_eq!(record.seed, seed);
}

/// A record that is there stays as it is, in any state.
pub async fn submitting_again_changes_nothing(store: Store) {
    let queued = seed();
    submitted(&store, &queued).await;
    let mut jobs = vec![queued, running(&store).await];
    jobs.extend(finished_jobs(&store).await.into_iter().map(|(job, _)| job));
    for mut job in jobs {
        let before = record(&store, job.id).await;
        job.submission.top_k += 1;
        submitted(&store, &job).await;
        assert_eq!(record(&store, job.id).await, before);
    }
}

/// The first claim starts the job.
pub async fn a_claim_starts_a_queued_job(store: Store) {
    let before = UnixMillis::wall();
    let seed = running(&store).await;
    let record = record(&store, seed.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Running, 1));
    let started = record.started_at.expect("it was started");
    let second = Duration::from_secs(1);
    assert!(before <= started.after(second) && started <= UnixMillis::wall().after(second));
}

/// A wiped store loses no queued job.
pub async fn a_claim_of_a_missing_record_writes_it_again(store: Store) {
    let seed = seed();
    assert_eq!(claimed(&store, &seed).await, Claim::Run(1));
    let record = record(&store, seed.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Running, 1));
    assert_eq!(record.seed, seed);
    assert!(completed(&store, seed.id, End::Succeeded(answer())).await);
}

/// Nothing is written for a job that is over before it is known.
pub async fn a_claim_of_a_missing_overdue_job_leaves_no_record(store: Store) {
    let seed = overdue_seed();
    assert_eq!(claimed(&store, &seed).await, Claim::Overdue);
    assert_eq!(find(&store, seed.id).await, None);
    assert!(!completed(&store, seed.id, End::Expired).await);
}

/// A deadline that has passed is reported, and nothing is counted.
pub async fn an_overdue_job_is_not_started(store: Store) {
    let seed = overdue_seed();
    submitted(&store, &seed).await;
    let before = record(&store, seed.id).await;
    assert_eq!(claimed(&store, &seed).await, Claim::Overdue);
    assert_eq!(record(&store, seed.id).await, before);
    assert!(completed(&store, seed.id, End::Expired).await);
    assert_eq!(record(&store, seed.id).await.state, JobState::Expired);
}

/// A job that waits for a thread is charged for no worker's fall, and is queued until a thread begins it.
pub async fn a_check_counts_no_start(store: Store) {
    let fresh = seed();
    for _ in 0..4 {
        assert_eq!(checked(&store, &fresh).await, Claim::Run(1));
        let record = record(&store, fresh.id).await;
        assert_eq!((record.state, record.attempts), (JobState::Queued, 0));
        assert_eq!(record.started_at, None);
    }
    let again = running(&store).await;
    assert_eq!(checked(&store, &again).await, Claim::Run(2));
    released(&store, again.id).await;
    let record = record(&store, again.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Queued, 1));
    for start in 2..=3 {
        assert_eq!(claimed(&store, &again).await, Claim::Run(start));
    }
    assert_eq!(checked(&store, &again).await, Claim::Exhausted);
    assert_eq!(canceled(&store, fresh.id).await, Cancel::Canceled);
    assert_eq!(checked(&store, &fresh).await, Claim::Finished);
    assert_eq!(claimed(&store, &fresh).await, Claim::Finished);
}

/// A job that takes down whoever runs it is given out three times, then no more.
pub async fn a_job_is_started_three_times_at_most(store: Store) {
    let seed = running(&store).await;
    let first_start = record(&store, seed.id).await.started_at;
    assert_eq!(claimed(&store, &seed).await, Claim::Run(2));
    assert_eq!(claimed(&store, &seed).await, Claim::Run(3));
    let before = record(&store, seed.id).await;
    assert_eq!(before.started_at, first_start);
    for _ in 0..2 {
        assert_eq!(claimed(&store, &seed).await, Claim::Exhausted);
        assert_eq!(record(&store, seed.id).await, before);
    }
    assert!(completed(&store, seed.id, End::Failed(failure())).await);
    assert_eq!(claimed(&store, &seed).await, Claim::Finished);
}

/// A redelivered job that has ended is only acknowledged.
pub async fn a_finished_job_is_not_started(store: Store) {
    for (seed, state) in finished_jobs(&store).await {
        let before = record(&store, seed.id).await;
        assert_eq!(before.state, state);
        assert_eq!(claimed(&store, &seed).await, Claim::Finished);
        assert_eq!(record(&store, seed.id).await, before);
    }
}

/// A refused job leaves nothing behind; one that was started keeps its record, and one that ended its end.
pub async fn a_withdrawn_job_is_forgotten_unless_it_was_started(store: Store) {
    let refused = overdue_seed();
    submitted(&store, &refused).await;
    withdrawn(&store, refused.id).await;
    withdrawn(&store, refused.id).await;
    assert_eq!(find(&store, refused.id).await, None);
    let overdue = store.overdue(100).await.expect("the store answers");
    assert!(overdue.iter().all(|record| record.seed.id != refused.id));
    let mut kept = vec![running(&store).await];
    kept.extend(finished_jobs(&store).await.into_iter().map(|(job, _)| job));
    for job in kept {
        let before = record(&store, job.id).await;
        withdrawn(&store, job.id).await;
        assert_eq!(record(&store, job.id).await, before);
    }
}

/// A job handed back before it was run has not been started.
pub async fn a_released_job_is_queued_again_without_the_start(store: Store) {
    let seed = running(&store).await;
    released(&store, seed.id).await;
    let first = record(&store, seed.id).await;
    assert_eq!((first.state, first.attempts), (JobState::Queued, 0));
    assert_eq!(claimed(&store, &seed).await, Claim::Run(1));
    assert_eq!(claimed(&store, &seed).await, Claim::Run(2));
    released(&store, seed.id).await;
    let second = record(&store, seed.id).await;
    assert_eq!((second.state, second.attempts), (JobState::Queued, 1));
    assert_eq!(claimed(&store, &seed).await, Claim::Run(2));
}

/// A second release, or one of a job that ended, does nothing.
pub async fn a_release_touches_running_jobs_only(store: Store) {
    let queued = seed();
    submitted(&store, &queued).await;
    let mut jobs = vec![queued];
    jobs.extend(finished_jobs(&store).await.into_iter().map(|(job, _)| job));
    for job in jobs {
        let before = record(&store, job.id).await;
        released(&store, job.id).await;
        assert_eq!(record(&store, job.id).await, before);
    }
    let unknown = seed();
    released(&store, unknown.id).await;
    assert_eq!(find(&store, unknown.id).await, None);
}

/// Who asked a job to stop does not see it queued again.
pub async fn a_release_ends_a_job_that_was_asked_to_stop(store: Store) {
    let seed = running(&store).await;
    assert_eq!(canceled(&store, seed.id).await, Cancel::Requested);
    released(&store, seed.id).await;
    assert_eq!(record(&store, seed.id).await.state, JobState::Canceled);
    assert_eq!(claimed(&store, &seed).await, Claim::Finished);
}

/// The answer is kept with what it cost, for the retention.
pub async fn an_answer_completes_a_running_job(store: Store) {
    let seed = running(&store).await;
    let before = UnixMillis::wall();
    let done = Completion {
        id: seed.id,
        end: End::Succeeded(answer()),
        cost: COST,
        cached: true,
    };
    assert_eq!(store.complete(&[done]).await.expect("it is up"), [true]);
    let record = record(&store, seed.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
    assert_eq!(
        (record.output, record.cost, record.cached),
        (Some(answer()), COST, true)
    );
    let finished = record.finished_at.expect("it has ended");
    assert!(before <= finished.after(Duration::from_secs(1)));
    assert_eq!(record.expires_at, finished.after(Duration::from_secs(3600)));
}

/// The reason is kept.
pub async fn a_failure_completes_a_running_job(store: Store) {
    let seed = running(&store).await;
    assert!(completed(&store, seed.id, End::Failed(failure())).await);
    let record = record(&store, seed.id).await;
    assert_eq!(
        (record.state, record.failure),
        (JobState::Failed, Some(failure()))
    );
    assert_eq!((record.cost, record.cached), (COST, false));
}

/// Answers out of the cache, expiry and refused publishing end jobs that never ran.
pub async fn every_end_completes_a_job_that_waits_or_runs(store: Store) {
    for end in every_end() {
        let queued = seed();
        submitted(&store, &queued).await;
        for seed in [queued, running(&store).await] {
            assert!(completed(&store, seed.id, end.clone()).await);
            assert_eq!(record(&store, seed.id).await.state, end.state());
        }
    }
}

/// The first writer wins.
pub async fn a_second_completion_is_refused(store: Store) {
    for (seed, _) in finished_jobs(&store).await {
        let before = record(&store, seed.id).await;
        for end in every_end() {
            assert!(!completed(&store, seed.id, end).await);
            assert_eq!(record(&store, seed.id).await, before);
        }
    }
}

/// A completion makes no record.
pub async fn an_unknown_job_is_not_completed(store: Store) {
    let seed = seed();
    for end in every_end() {
        assert!(!completed(&store, seed.id, end).await);
        assert_eq!(find(&store, seed.id).await, None);
    }
}

/// A client that got a requested cancellation never finds another end.
pub async fn a_job_asked_to_stop_ends_canceled_whatever_completes_it(store: Store) {
    for end in every_end() {
        let seed = running(&store).await;
        assert_eq!(canceled(&store, seed.id).await, Cancel::Requested);
        assert!(completed(&store, seed.id, end.clone()).await);
        assert_eq!(record(&store, seed.id).await.state, JobState::Canceled);
        assert!(!completed(&store, seed.id, end).await);
    }
}

/// A queued job is canceled at once, and once.
pub async fn canceling_a_queued_job_ends_it(store: Store) {
    let seed = seed();
    submitted(&store, &seed).await;
    assert_eq!(canceled(&store, seed.id).await, Cancel::Canceled);
    let ended = record(&store, seed.id).await;
    assert_eq!(ended.state, JobState::Canceled);
    assert_eq!(canceled(&store, seed.id).await, Cancel::Canceled);
    assert_eq!(record(&store, seed.id).await, ended);
    assert_eq!(claimed(&store, &seed).await, Claim::Finished);
}

/// A running job is asked to stop; a worker that claims it learns that.
pub async fn canceling_a_running_job_asks_it_to_stop(store: Store) {
    let seed = running(&store).await;
    let before = record(&store, seed.id).await;
    for _ in 0..2 {
        assert_eq!(canceled(&store, seed.id).await, Cancel::Requested);
        assert_eq!(record(&store, seed.id).await, before);
        assert_eq!(claimed(&store, &seed).await, Claim::CancelRequested);
    }
    assert!(completed(&store, seed.id, End::Canceled).await);
    assert_eq!(canceled(&store, seed.id).await, Cancel::Canceled);
}

/// What has ended is not canceled, and what is unknown is unknown.
pub async fn canceling_a_finished_or_unknown_job_says_so(store: Store) {
    for (seed, state) in finished_jobs(&store).await {
        let expected = match state {
            JobState::Canceled => Cancel::Canceled,
            ended => Cancel::Finished(ended),
        };
        let before = record(&store, seed.id).await;
        assert_eq!(canceled(&store, seed.id).await, expected);
        assert_eq!(record(&store, seed.id).await, before);
    }
    assert_eq!(canceled(&store, seed().id).await, Cancel::Unknown);
}

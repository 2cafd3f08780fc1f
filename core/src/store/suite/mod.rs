//! What every job store must do, as functions any backend's tests can run. Nothing here knows a backend.

mod abandoned;
mod changes;
pub mod idempotency;
mod lists;
mod queries;
mod races;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

pub use abandoned::*;
pub use changes::*;
pub use idempotency::*;
pub use lists::*;
pub use queries::*;
pub use races::*;
pub use webhooks::*;

use super::{Claim, Completion, End, JobState, JobStore, Record, Seed};
use crate::catalog::Task;
use crate::clock::UnixMillis;
use crate::job::{JobId, Submission};
use crate::key::{Digest, PredictionKey};
use crate::outcome::{Cost, Failure, FailureCode, Scores};
use crate::output::{Meaning, Output};

/// Makes one test of each guarantee; `$make()` gives a future of a fresh `Arc<dyn JobStore>` with a retention of an hour.
#[macro_export]
macro_rules! job_store_suite {
    ($make:path) => {
        $crate::job_store_suite!($make:
            a_submitted_job_is_queued
            submitting_again_changes_nothing
            a_repeated_request_finds_its_first_job
            an_idempotency_key_belongs_to_one_request
            a_withdrawn_job_frees_its_key
            a_repeat_is_not_given_an_unconfirmed_job
            a_claim_confirms_a_job
            a_job_that_expires_unconfirmed_sends_no_webhook_and_frees_its_key
            a_late_confirm_sends_the_webhook_of_an_expired_job
            a_job_that_ended_unconfirmed_keeps_its_key
            a_job_with_a_key_is_withdrawn_by_its_submitter_until_it_is_confirmed
            a_claim_takes_a_free_key_again
            many_repeats_at_once_make_one_job
            a_webhook_is_due_once_its_job_has_ended_as_asked
            a_webhook_is_leased_to_one_caller
            a_webhook_is_due_again_or_never
            a_claim_starts_a_queued_job
            a_check_counts_no_start
            a_claim_of_a_missing_record_writes_it_again
            a_claim_of_a_missing_overdue_job_leaves_no_record
            an_overdue_job_is_not_started
            a_job_is_started_three_times_at_most
            a_finished_job_is_not_started
            a_withdrawn_job_is_forgotten_unless_it_was_started
            a_released_job_is_queued_again_without_the_start
            a_release_touches_running_jobs_only
            a_release_ends_a_job_that_was_asked_to_stop
            an_answer_completes_a_running_job
            a_failure_completes_a_running_job
            every_end_completes_a_job_that_waits_or_runs
            a_second_completion_is_refused
            an_unknown_job_is_not_completed
            a_job_asked_to_stop_ends_canceled_whatever_completes_it
            canceling_a_queued_job_ends_it
            canceling_a_running_job_asks_it_to_stop
            canceling_a_finished_or_unknown_job_says_so
            records_come_in_the_order_of_the_ids
            jobs_are_listed_by_owner_newest_first
            a_job_is_listed_as_long_as_its_record_is_there
            a_list_can_be_of_one_state
            positions_fall_as_earlier_jobs_end
            every_job_is_counted_once
            thousands_of_jobs_share_a_call
            overdue_jobs_come_oldest_first_up_to_the_limit
            a_job_that_runs_past_its_deadline_is_overdue
            finished_jobs_are_never_overdue
            a_slice_of_jobs_is_one_call
            nothing_to_do_is_no_error
            abandoned_jobs_are_known_by_id
            an_abandonment_ends
            a_store_that_is_up_says_so
            one_of_many_completions_wins
            a_completion_and_a_cancellation_agree_on_one_end
            many_submissions_at_once_all_arrive
        );
    };
    ($make:path: $($submission:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $submission() {
                $crate::store::suite::$submission($make().await).await;
            }
        )*
    };
}

/// A store as the suite takes it.
pub type Store = Arc<dyn JobStore>;

/// A fresh job that is due in an hour.
#[must_use]
pub fn seed() -> Seed {
    seed_due(UnixMillis::wall().after(Duration::from_secs(3600)))
}

/// A fresh job whose deadline passed a minute ago.
#[must_use]
pub fn overdue_seed() -> Seed {
    seed_due(UnixMillis(UnixMillis::wall().0 - 60_000))
}

/// A fresh job with that deadline.
#[must_use]
pub fn seed_due(deadline: UnixMillis) -> Seed {
    let metadata =
        serde_json::json!({"note": "ä \"quoted\" \u{0} line\n", "deep": {"n": [1, -2.5, null]}});
    let serde_json::Value::Object(metadata) = metadata else {
        unreachable!("an object was written above")
    };
    Seed {
        id: JobId::new(),
        model: "fashion-mnist".parse().expect("a good name"),
        key: PredictionKey {
            model: Digest::of(b"model"),
            preprocessing: u64::MAX,
            image: Digest::of(b"image"),
        },
        created_at: UnixMillis(deadline.0 - 120_000),
        deadline,
        submission: Submission {
            version: "1".to_owned(),
            top_k: 3,
            metadata,
            idempotency: None,
            owner: Some("acme".parse().expect("a good name")),
            webhook: None,
            retry_of: None,
            image_hash: None,
        },
    }
}

/// An answer with two labels.
#[must_use]
pub fn answer() -> Output {
    let meaning = Meaning {
        task: Task::Classify,
        threshold: 0.0,
        labels: ["Ankle boot".to_owned(), "Bag".to_owned()].into(),
    };
    let output = meaning.output(&Scores::new(vec![0.9, 0.1]), 2);
    output.expect("labels and scores fit")
}

/// A reason.
#[must_use]
pub fn failure() -> Failure {
    Failure::new(FailureCode::InvalidImage, "not an image: \"x\"")
}

/// What the suite's jobs cost.
pub const COST: Cost = Cost {
    waited_us: 1,
    decode_us: 2,
    inference_us: u32::MAX,
    batch_size: 4,
};

/// A completion of that job.
#[must_use]
pub fn completion(id: JobId, end: End) -> Completion {
    Completion {
        id,
        end,
        cost: COST,
        cached: false,
    }
}

/// One of each end.
#[must_use]
pub fn every_end() -> [End; 4] {
    [
        End::Succeeded(answer()),
        End::Failed(failure()),
        End::Canceled,
        End::Expired,
    ]
}

/// Checks what holds for every record at any time.
///
/// # Panics
/// When it does not hold.
pub fn assert_sound(record: &Record) {
    let state = record.state;
    assert_eq!(
        record.output.is_some(),
        state == JobState::Succeeded,
        "{record:?}"
    );
    assert_eq!(
        record.failure.is_some(),
        state == JobState::Failed,
        "{record:?}"
    );
    assert_eq!(
        record.finished_at.is_some(),
        state.is_terminal(),
        "{record:?}"
    );
    assert_eq!(
        record.started_at.is_some(),
        record.attempts > 0,
        "{record:?}"
    );
    assert!(record.attempts <= super::MAX_ATTEMPTS, "{record:?}");
    assert!(
        state != JobState::Running || record.attempts > 0,
        "{record:?}"
    );
}

async fn submitted(store: &Store, seed: &Seed) {
    store
        .submit(seed)
        .await
        .expect("a store that is up takes jobs");
}

async fn checked(store: &Store, seed: &Seed) -> Claim {
    let claims = store.check(std::slice::from_ref(seed)).await;
    claims.expect("a store that is up answers")[0]
}

async fn claimed(store: &Store, seed: &Seed) -> Claim {
    let claims = store.claim(std::slice::from_ref(seed)).await;
    claims.expect("a store that is up answers")[0]
}

async fn completed(store: &Store, id: JobId, end: End) -> bool {
    let done = store.complete(&[completion(id, end)]).await;
    done.expect("a store that is up answers")[0]
}

async fn withdrawn(store: &Store, id: JobId) {
    store.withdraw(id, id).await.expect("the store answers");
}

async fn confirmed(store: &Store, id: JobId) {
    store.confirm(id).await.expect("the store answers");
}

async fn released(store: &Store, id: JobId) {
    store
        .release(&[id])
        .await
        .expect("a store that is up answers");
}

async fn canceled(store: &Store, id: JobId) -> super::Cancel {
    store.cancel(id).await.expect("a store that is up answers")
}

async fn find(store: &Store, id: JobId) -> Option<Record> {
    let found = store.get(&[id]).await.expect("a store that is up answers");
    let record = found.into_iter().next().expect("one id, one answer");
    record.as_ref().inspect(|record| assert_sound(record));
    record
}

async fn record(store: &Store, id: JobId) -> Record {
    find(store, id).await.expect("the record is there")
}

/// A job that a worker has started.
async fn running(store: &Store) -> Seed {
    let seed = seed();
    submitted(store, &seed).await;
    assert_eq!(claimed(store, &seed).await, Claim::Run(1));
    seed
}

/// One job in each terminal state.
async fn finished_jobs(store: &Store) -> Vec<(Seed, JobState)> {
    let mut jobs = Vec::new();
    for end in every_end() {
        let (seed, state) = (running(store).await, end.state());
        assert!(completed(store, seed.id, end).await);
        jobs.push((seed, state));
    }
    jobs
}

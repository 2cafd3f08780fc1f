//! Idempotency keys: one request, one job.

use std::time::Duration;

use tokio::task::JoinSet;

use super::webhooks::{hooked, lease_webhooks};
use super::{
    Store, answer, canceled, checked, claimed, completed, confirmed, failure, find, record,
    released, seed, submitted, withdrawn,
};
use crate::clock::UnixMillis;
use crate::job::{Idempotency, JobId};
use crate::job_state::JobState;
use crate::key::Digest;
use crate::store::{Claim, End, Progress, Seed, Submitted};

/// A fresh job whose request had an idempotency key.
#[must_use]
pub fn keyed(key: &[u8], request: &[u8]) -> Seed {
    let idempotency = Idempotency {
        key: Digest::of(key),
        fingerprint: Digest::of(request),
    };
    let mut seed = seed();
    seed.submission.idempotency = Some(idempotency);
    seed
}

fn unique() -> Vec<u8> {
    seed().id.as_bytes().to_vec()
}

async fn submit(store: &Store, seed: &Seed) -> Submitted {
    store
        .submit(seed)
        .await
        .expect("a store that is up answers")
}

/// A job's number, where its record is there.
async fn recorded(store: &Store, seed: &Seed) -> u64 {
    match submit(store, seed).await {
        Submitted::Recorded(Some(number)) => number,
        other => unreachable!("it is to be recorded: {other:?}"),
    }
}

/// A repeat writes nothing and gets the first one's job, whatever has become of it.
pub async fn a_repeated_request_finds_its_first_job(store: Store) {
    let key = unique();
    let (first, repeat) = (keyed(&key, b"request"), keyed(&key, b"request"));
    let number = recorded(&store, &first).await;
    assert_eq!(recorded(&store, &first).await, number, "a retried call");
    assert_eq!(record(&store, first.id).await.number, Some(number));
    confirmed(&store, first.id).await;
    assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
    assert!(completed(&store, first.id, End::Succeeded(answer())).await);
    assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
    assert!(find(&store, repeat.id).await.is_none());
}

/// Another request under the same key is refused; other keys and no key are no one's business.
pub async fn an_idempotency_key_belongs_to_one_request(store: Store) {
    let key = unique();
    let first = keyed(&key, b"request");
    submitted(&store, &first).await;
    let other = keyed(&key, b"another");
    assert_eq!(submit(&store, &other).await, Submitted::Mismatch);
    assert!(find(&store, other.id).await.is_none());
    for free in [keyed(&unique(), b"request"), seed()] {
        recorded(&store, &free).await;
        assert!(find(&store, free.id).await.is_some());
    }
}

/// A request that was refused after its record had been written may be repeated.
pub async fn a_withdrawn_job_frees_its_key(store: Store) {
    let key = unique();
    let (first, repeat) = (keyed(&key, b"request"), keyed(&key, b"another"));
    submitted(&store, &first).await;
    withdrawn(&store, first.id).await;
    recorded(&store, &repeat).await;
    assert!(find(&store, repeat.id).await.is_some());
}

/// The id of a job that may yet be refused is given to nobody.
pub async fn a_repeat_is_not_given_an_unconfirmed_job(store: Store) {
    let key = unique();
    let (first, repeat) = (keyed(&key, b"request"), keyed(&key, b"request"));
    submitted(&store, &first).await;
    assert_eq!(submit(&store, &repeat).await, Submitted::InProgress);
    assert_eq!(
        submit(&store, &keyed(&key, b"another")).await,
        Submitted::Mismatch
    );
    withdrawn(&store, first.id).await;
    recorded(&store, &repeat).await;
    confirmed(&store, repeat.id).await;
    assert_eq!(submit(&store, &first).await, Submitted::Existing(repeat.id));
}

/// A job that a worker has taken up was in the queue, whether or not its gateway lived to say so.
pub async fn a_claim_confirms_a_job(store: Store) {
    for by_check in [true, false] {
        let key = unique();
        let (first, repeat) = (keyed(&key, b"request"), keyed(&key, b"request"));
        submitted(&store, &first).await;
        if by_check {
            assert_eq!(checked(&store, &first).await, Claim::Run(1));
        } else {
            assert_eq!(claimed(&store, &first).await, Claim::Run(1));
            released(&store, first.id).await;
        }
        assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
    }
}

/// A fresh job whose request had an idempotency key, and with a webhook for its expiry.
fn keyed_and_hooked(key: &[u8]) -> Seed {
    let mut seed = hooked(&[JobState::Expired]);
    seed.submission.idempotency = keyed(key, b"request").submission.idempotency;
    seed
}

/// Nobody knows the id of such a job, so a repeat is a request of its own.
pub async fn a_job_that_expires_unconfirmed_sends_no_webhook_and_frees_its_key(store: Store) {
    let key = unique();
    let (first, repeat) = (keyed_and_hooked(&key), keyed_and_hooked(&key));
    submitted(&store, &first).await;
    assert!(completed(&store, first.id, End::Expired).await);
    assert!(
        !lease_webhooks(&store, Duration::ZERO)
            .await
            .contains(&first.id)
    );
    recorded(&store, &repeat).await;
    confirmed(&store, repeat.id).await;
    let third = keyed_and_hooked(&key);
    assert_eq!(submit(&store, &third).await, Submitted::Existing(repeat.id));
    assert!(completed(&store, repeat.id, End::Expired).await);
    assert!(
        lease_webhooks(&store, Duration::ZERO)
            .await
            .contains(&repeat.id)
    );
    assert_eq!(submit(&store, &third).await, Submitted::Existing(repeat.id));
}

/// The deadline may be shorter than the broker takes to confirm.
pub async fn a_late_confirm_sends_the_webhook_of_an_expired_job(store: Store) {
    let key = unique();
    let (first, repeat) = (keyed_and_hooked(&key), keyed_and_hooked(&key));
    submitted(&store, &first).await;
    assert!(completed(&store, first.id, End::Expired).await);
    confirmed(&store, first.id).await;
    assert!(
        lease_webhooks(&store, Duration::ZERO)
            .await
            .contains(&first.id)
    );
    assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
}

/// It was answered or canceled, so somebody knows of it.
pub async fn a_job_that_ended_unconfirmed_keeps_its_key(store: Store) {
    for end in [
        Some(End::Succeeded(answer())),
        Some(End::Failed(failure())),
        None,
    ] {
        let key = unique();
        let (first, repeat) = (keyed(&key, b"request"), keyed(&key, b"request"));
        submitted(&store, &first).await;
        match end {
            Some(end) => assert!(completed(&store, first.id, end).await),
            None => drop(canceled(&store, first.id).await),
        }
        assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
    }
}

/// A repeat that takes over an unconfirmed job makes it its own, but for the id. `end_lease` lets the lease of a record's
/// submitter run out.
///
/// # Panics
/// When it does not.
pub async fn a_repeat_takes_over_with_its_own_times<F: Future<Output = ()>>(
    store: Store,
    end_lease: impl Fn(JobId) -> F,
) {
    let key = unique();
    let soon = UnixMillis::wall().after(Duration::from_secs(60));
    let first = Seed {
        deadline: soon,
        created_at: UnixMillis(soon.0 - 120_000),
        ..keyed(&key, b"request")
    };
    let mut other_file = keyed(&key, b"request");
    other_file.submission.version = "2".to_owned();
    let (repeat, late) = (keyed(&key, b"request"), keyed(&key, b"request"));
    submitted(&store, &first).await;
    let number = record(&store, first.id).await.number;
    let later = Seed {
        model: first.model.clone(),
        ..seed()
    };
    submitted(&store, &later).await;
    canceled(&store, later.id).await;
    assert_eq!(submit(&store, &repeat).await, Submitted::InProgress);
    end_lease(first.id).await;
    for taker in [&other_file, &repeat] {
        let taken = Submitted::TakenOver(first.id);
        assert_eq!(submit(&store, taker).await, taken);
        assert_eq!(submit(&store, taker).await, taken, "a retried call");
        assert_eq!(submit(&store, &late).await, Submitted::InProgress);
        let expected = Seed {
            id: first.id,
            ..taker.clone()
        };
        let record = record(&store, first.id).await;
        assert_eq!((record.seed, record.state), (expected, JobState::Queued));
        assert_eq!(record.number, number, "its position does not rise");
        assert!(record.expires_at > taker.deadline);
        assert!(find(&store, taker.id).await.is_none());
        let progress = store.progress(std::slice::from_ref(&taker.model)).await;
        let counted_once = Progress {
            submitted: 2,
            ended: 1,
        };
        assert_eq!(progress.expect("it is up"), [counted_once]);
        store.withdraw(first.id, first.id).await.expect("it is up");
        assert!(find(&store, first.id).await.is_some(), "another's by now");
        if taker.id == other_file.id {
            end_lease(first.id).await;
        }
    }
    confirmed(&store, first.id).await;
    assert_eq!(submit(&store, &late).await, Submitted::Existing(first.id));
    assert_eq!(claimed(&store, &first).await, Claim::Run(1));
}

/// A gateway that comes late takes nothing from clients that have the id.
pub async fn a_job_with_a_key_is_withdrawn_by_its_submitter_until_it_is_confirmed(store: Store) {
    let first = keyed(&unique(), b"request");
    submitted(&store, &first).await;
    store
        .withdraw(first.id, seed().id)
        .await
        .expect("the store answers");
    assert!(find(&store, first.id).await.is_some(), "another's");
    confirmed(&store, first.id).await;
    withdrawn(&store, first.id).await;
    assert!(find(&store, first.id).await.is_some(), "confirmed");
}

/// A hundred repeats at once make one job, and all get its id.
pub async fn many_repeats_at_once_make_one_job(store: Store) {
    let key = unique();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (store, seed) = (store.clone(), keyed(&key, b"request"));
        tasks.spawn(async move {
            loop {
                match submit(&store, &seed).await {
                    Submitted::Recorded(_) => {
                        confirmed(&store, seed.id).await;
                        return (true, seed.id);
                    }
                    Submitted::Existing(id) => return (false, id),
                    Submitted::InProgress => tokio::task::yield_now().await,
                    other => unreachable!("the requests are the same, in time: {other:?}"),
                }
            }
        });
    }
    let reported = tasks.join_all().await;
    assert_eq!(reported.iter().filter(|(first, _)| *first).count(), 1);
    assert!(
        reported.iter().all(|(_, id)| *id == reported[0].1),
        "{reported:?}"
    );
}

/// A store that was wiped learns of a job from its message, and of its idempotency key with it; a key that has another job
/// stays that one's.
pub async fn a_claim_takes_a_free_key_again(store: Store) {
    let key = unique();
    let (first, second) = (keyed(&key, b"request"), keyed(&key, b"request"));
    for seed in [&first, &second] {
        assert_eq!(claimed(&store, seed).await, Claim::Run(1));
    }
    let repeat = keyed(&key, b"request");
    assert_eq!(submit(&store, &repeat).await, Submitted::Existing(first.id));
}

//! The in-memory store.

use std::sync::Arc;

use super::*;
use crate::store::End;
use crate::store::suite::idempotency::a_repeat_takes_over_with_its_own_times;
use crate::store::suite::{completion, hooked, overdue_seed, seed};

const RETENTION: Duration = Duration::from_secs(3600);

fn roomy() -> std::future::Ready<Arc<dyn JobStore>> {
    let store = MemoryStore::new(10_000, RETENTION, Clock::default());
    std::future::ready(Arc::new(store))
}

crate::job_store_suite!(roomy);

#[tokio::test]
async fn a_full_store_forgets_what_finished_first_and_nothing_unfinished() {
    let store = MemoryStore::new(3, RETENTION, Clock::default());
    let jobs = [seed(), seed(), seed()];
    for job in &jobs {
        store.submit(job).await.unwrap();
    }
    let error = store.submit(&seed()).await.unwrap_err();
    assert!(StoreFull::is_in(error.0.as_ref()), "{}", error.0);
    store.claim(&[seed()]).await.unwrap_err();

    let ended = completion(jobs[1].id, End::Expired);
    assert_eq!(store.complete(&[ended]).await.unwrap(), [true]);
    let newcomer = seed();
    store.submit(&newcomer).await.unwrap();
    let ids = [jobs[0].id, jobs[1].id, jobs[2].id, newcomer.id];
    let known: Vec<bool> = store
        .get(&ids)
        .await
        .unwrap()
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(known, [true, false, true, true]);
}

#[tokio::test]
async fn a_full_store_keeps_records_until_their_webhooks_have_ended() {
    let store = MemoryStore::new(2, RETENTION, Clock::default());
    let jobs = [hooked(&[JobState::Canceled]), hooked(&[JobState::Canceled])];
    for job in &jobs {
        store.submit(job).await.unwrap();
        store.cancel(job.id).await.unwrap();
    }
    for tried in [None, Some(Next::After(Duration::ZERO))] {
        if let Some(next) = tried {
            store
                .complete_webhook(jobs[1].id, None, next)
                .await
                .unwrap();
        }
        let error = store.submit(&seed()).await.unwrap_err();
        assert!(StoreFull::is_in(error.0.as_ref()), "{}", error.0);
        let due = store.lease_webhooks(10, Duration::ZERO).await.unwrap();
        assert_eq!(due.len(), 2);
    }
    store
        .complete_webhook(jobs[1].id, None, Next::Nothing)
        .await
        .unwrap();
    store.submit(&seed()).await.unwrap();
    let due = store.lease_webhooks(10, Duration::ZERO).await.unwrap();
    assert_eq!(due[0].seed.id, jobs[0].id);
    assert_eq!(store.get(&[jobs[1].id]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_finished_record_is_forgotten_after_its_retention() {
    let clock = Clock::default();
    let store = MemoryStore::new(10, RETENTION, clock.clone());
    let job = seed();
    store.submit(&job).await.unwrap();
    store
        .complete(&[completion(job.id, End::Canceled)])
        .await
        .unwrap();
    let expires_at = store.get(&[job.id]).await.unwrap()[0]
        .as_ref()
        .unwrap()
        .expires_at;

    clock.anchor(UnixMillis(expires_at.0 - 60_000));
    assert!(store.get(&[job.id]).await.unwrap()[0].is_some());
    clock.anchor(expires_at);
    assert_eq!(store.get(&[job.id]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_record_nobody_ends_goes_a_retention_after_its_deadline() {
    let clock = Clock::default();
    let store = MemoryStore::new(10, RETENTION, clock.clone());
    let job = overdue_seed();
    store.submit(&job).await.unwrap();
    assert_eq!(store.overdue(10).await.unwrap()[0].state, JobState::Queued);
    clock.anchor(job.deadline.after(RETENTION));
    assert_eq!(store.get(&[job.id]).await.unwrap(), [None]);
    assert!(store.overdue(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeat_takes_over_once_the_lease_is_over() {
    let clock = Clock::default();
    let store = Arc::new(MemoryStore::new(10, RETENTION, clock.clone()));
    a_repeat_takes_over_with_its_own_times(store.clone(), |_| {
        clock.anchor(clock.now().after(SUBMIT_LEASE));
        std::future::ready(())
    })
    .await;
    assert_eq!(store.unfinished(), 1);
}

#[tokio::test]
async fn a_record_is_kept_until_its_webhook_has_ended_or_for_a_day_and_an_hour() {
    for confirms in [true, false] {
        let clock = Clock::default();
        let store = MemoryStore::new(10, RETENTION, clock.clone());
        let job = hooked(&[JobState::Canceled]);
        store.submit(&job).await.unwrap();
        store.cancel(job.id).await.unwrap();
        let record = store.get(&[job.id]).await.unwrap().remove(0).unwrap();
        let kept_until = record.finished_at.unwrap().after(KEPT_FOR);
        clock.anchor(UnixMillis(kept_until.0 - 60_000));
        let due = store.lease_webhooks(10, Duration::ZERO).await.unwrap();
        assert_eq!(due.len(), 1, "its retention was over before");
        if confirms {
            let done = Delivery::default();
            store
                .complete_webhook(job.id, Some(&done), Next::Nothing)
                .await
                .unwrap();
        } else {
            clock.anchor(kept_until);
        }
        assert_eq!(store.get(&[job.id]).await.unwrap(), [None], "{confirms}");
    }
}

#[tokio::test]
async fn abandoned_jobs_are_bounded_and_the_live_ones_stay() {
    let store = MemoryStore::new(10, RETENTION, Clock::default());
    let live = UnixMillis::wall().after(Duration::from_secs(600));
    let first = seed().id;
    store.abandon(first, live).await.unwrap();
    let over = UnixMillis(1);
    for _ in 0..MAX_ABANDONED {
        store.abandon(JobId::new(), over).await.unwrap();
    }
    let last = seed().id;
    store.abandon(last, live).await.unwrap();
    assert_eq!(store.abandoned(&[first, last]).await.unwrap(), [true, true]);
    assert!(store.records.lock().abandoned.len() <= MAX_ABANDONED);
}

//! The outbox of webhooks: what is due, to whom, and what has become of it.

use std::time::Duration;

use super::{Store, answer, completed, every_end, failure, record, seed, submitted};
use crate::job::JobId;
use crate::job_state::JobState;
use crate::store::{End, Seed};
use crate::webhook::{Delivery, Next, Webhook};

const LONG: Duration = Duration::from_secs(3600);

/// A fresh job with a webhook for these states.
#[must_use]
pub fn hooked(events: &[JobState]) -> Seed {
    let webhook = Webhook {
        url: "https://example.org/hook".to_owned(),
        events: events.to_vec(),
    };
    let mut seed = seed();
    seed.submission.webhook = Some(webhook);
    seed
}

/// What is due now, of those jobs: other tests may share the store.
pub(super) async fn lease_webhooks(store: &Store, lease: Duration) -> Vec<JobId> {
    let due = store.lease_webhooks(100, lease).await.expect("it is up");
    due.into_iter().map(|record| record.seed.id).collect()
}

/// Only a state that was asked for, only after the end, and only with a webhook.
pub async fn a_webhook_is_due_once_its_job_has_ended_as_asked(store: Store) {
    let asked = [JobState::Succeeded, JobState::Canceled];
    let mut expected = Vec::new();
    for end in every_end() {
        let (job, plain) = (hooked(&asked), seed());
        for job in [&job, &plain] {
            submitted(&store, job).await;
            assert!(
                !lease_webhooks(&store, Duration::ZERO)
                    .await
                    .contains(&job.id)
            );
            assert!(completed(&store, job.id, end.clone()).await);
        }
        expected.extend(asked.contains(&end.state()).then_some(job.id));
    }
    let canceled = hooked(&asked);
    submitted(&store, &canceled).await;
    store.cancel(canceled.id).await.expect("it is up");
    expected.push(canceled.id);
    let mut due = lease_webhooks(&store, LONG).await;
    due.sort_unstable();
    expected.sort_unstable();
    assert_eq!(due, expected);
}

/// A lease keeps others away, and ends by itself.
pub async fn a_webhook_is_leased_to_one_caller(store: Store) {
    let job = hooked(&[JobState::Failed]);
    submitted(&store, &job).await;
    assert!(completed(&store, job.id, End::Failed(failure())).await);
    assert_eq!(lease_webhooks(&store, Duration::ZERO).await, [job.id]);
    assert_eq!(
        lease_webhooks(&store, LONG).await,
        [job.id],
        "the lease was over at once"
    );
    assert_eq!(lease_webhooks(&store, LONG).await, []);
}

/// What was noted is in the record.
pub async fn a_webhook_is_due_again_or_never(store: Store) {
    let job = hooked(&[JobState::Succeeded]);
    submitted(&store, &job).await;
    assert!(completed(&store, job.id, End::Succeeded(answer())).await);
    assert_eq!(lease_webhooks(&store, LONG).await, [job.id]);
    assert_eq!(record(&store, job.id).await.delivery, None);
    let failed = Delivery {
        attempts: 1,
        last_status: Some(500),
        ..Delivery::default()
    };
    let again = Next::After(Duration::ZERO);
    store
        .complete_webhook(job.id, Some(&failed), again)
        .await
        .expect("it is up");
    assert_eq!(record(&store, job.id).await.delivery, Some(failed.clone()));
    assert_eq!(lease_webhooks(&store, LONG).await, [job.id]);
    // Put back untried, it keeps what was noted.
    store
        .complete_webhook(job.id, None, again)
        .await
        .expect("it is up");
    assert_eq!(record(&store, job.id).await.delivery, Some(failed.clone()));
    assert_eq!(lease_webhooks(&store, LONG).await, [job.id]);
    store
        .complete_webhook(job.id, Some(&failed), Next::Nothing)
        .await
        .expect("it is up");
    assert_eq!(lease_webhooks(&store, LONG).await, []);
    let unknown = seed().id;
    store
        .complete_webhook(unknown, Some(&failed), again)
        .await
        .expect("it is up");
    assert!(store.get(&[unknown]).await.expect("it is up")[0].is_none());
}

//! A worker whose job store fails, and a worker that is stopped under load.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{GREEN, RED, Rig, picture, shown};
use async_trait::async_trait;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{Job, JobId};
use selvage_core::job_state::JobState;
use selvage_core::outcome::Outcome;
use selvage_core::store::{
    Claim, Completion, JobStore as _, MemoryStore, Seed, StoreError, WorkerStore,
};

/// A store that can be away, for starts and for ends apart.
#[derive(Debug)]
struct Flaky {
    inner: Arc<MemoryStore>,
    claims_fail: AtomicBool,
    completions_fail: AtomicBool,
    starts_hang: AtomicBool,
    failed: AtomicU32,
}

impl Flaky {
    fn new(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            claims_fail: AtomicBool::new(false),
            completions_fail: AtomicBool::new(false),
            starts_hang: AtomicBool::new(false),
            failed: AtomicU32::new(0),
        })
    }

    fn may(&self, fails: &AtomicBool) -> Result<(), StoreError> {
        if fails.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError("made unavailable".into()));
        }
        Ok(())
    }

    async fn until_failed(&self, times: u32) {
        while self.failed.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl WorkerStore for Flaky {
    async fn check(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.may(&self.claims_fail)?;
        self.inner.check(seeds).await
    }

    async fn claim(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.may(&self.claims_fail)?;
        if self.may(&self.starts_hang).is_err() {
            std::future::pending::<()>().await;
        }
        self.inner.claim(seeds).await
    }

    async fn release(&self, ids: &[JobId]) -> Result<(), StoreError> {
        self.may(&self.completions_fail)?;
        self.inner.release(ids).await
    }

    async fn complete(&self, completions: &[Completion]) -> Result<Vec<bool>, StoreError> {
        self.may(&self.completions_fail)?;
        self.inner.complete(completions).await
    }

    async fn abandoned(&self, ids: &[JobId]) -> Result<Vec<bool>, StoreError> {
        self.may(&self.claims_fail)?;
        self.inner.abandoned(ids).await
    }

    async fn ping(&self) -> bool {
        let fails = |fault: &AtomicBool| fault.load(Ordering::SeqCst);
        !fails(&self.claims_fail) && !fails(&self.starts_hang)
    }
}

/// A running worker behind a flaky store.
async fn rig() -> (Rig, Arc<Flaky>) {
    let mut flaky = None;
    let mut rig = Rig::with_store(|inner| {
        let store = Flaky::new(inner);
        flaky = Some(Arc::clone(&store));
        store
    })
    .await;
    rig.start().await;
    (rig, flaky.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_jobs_wait_for_their_store_and_waited_for_ones_do_not() {
    let (mut rig, store) = rig().await;
    store.completions_fail.store(true, Ordering::SeqCst);
    let submitted: Vec<_> = (0..20).map(|n| rig.submitted(picture(RED, n))).collect();
    for job in &submitted {
        rig.submit(job).await;
    }
    rig.publish(submitted.clone()).await;
    store.until_failed(1).await;
    // Far more than there is room for in one round.
    let waited_for: Vec<_> = (0..200)
        .map(|n| rig.waited_for(picture(GREEN, n)))
        .collect();
    rig.publish(waited_for).await;
    for report in rig.reports(200).await {
        assert!(matches!(report.outcome, Outcome::Succeeded(_)));
    }
    assert!(rig.record(submitted[0].id).await.unwrap().state == JobState::Running);
    store.completions_fail.store(false, Ordering::SeqCst);
    for job in &submitted {
        assert_eq!(
            shown(&rig.ended(job.id).await),
            (JobState::Succeeded, Some("red"))
        );
    }
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_cannot_be_claimed_are_claimed_when_the_store_is_back() {
    let (mut rig, store) = rig().await;
    store.claims_fail.store(true, Ordering::SeqCst);
    let job = rig.submitted(picture(RED, 1));
    rig.submit(&job).await;
    rig.publish([job.clone()]).await;
    store.until_failed(3).await;
    assert_eq!(rig.record(job.id).await.unwrap().state, JobState::Queued);
    store.claims_fail.store(false, Ordering::SeqCst);
    let record = rig.ended(job.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
    rig.end().await;
}

/// Others wait for the thread: one that got no answer from the store is enough.
#[tokio::test(flavor = "multi_thread")]
async fn no_second_thread_waits_for_a_store_that_does_not_count() {
    let (mut rig, store) = rig().await;
    store.starts_hang.store(true, Ordering::SeqCst);
    for n in 0..10 {
        let job = rig.submitted(picture(RED, n));
        rig.submit(&job).await;
        rig.publish([job.clone()]).await;
        let record = rig.ended(job.id).await;
        assert_eq!((record.state, record.attempts), (JobState::Succeeded, 0));
    }
    assert_eq!(store.failed.load(Ordering::SeqCst), 1);
    store.starts_hang.store(false, Ordering::SeqCst);
    let mut attempts = 0;
    for n in 10..=255 {
        let job = rig.submitted(picture(RED, n));
        rig.submit(&job).await;
        rig.publish([job.clone()]).await;
        attempts = rig.ended(job.id).await.attempts;
        if attempts > 0 {
            break;
        }
        // Until the next ping.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(attempts, 1, "a store that is back counts again");
    rig.end().await;
}

#[tokio::test]
async fn while_the_store_stays_away_the_queue_pauses_instead_of_spinning() {
    let (mut rig, store) = rig().await;
    let job = Job {
        // It outlives the outage below.
        deadline: rig.clock.now().after(Duration::from_secs(3600)),
        ..rig.submitted(picture(RED, 1))
    };
    rig.submit(&job).await;
    // Nothing is computed while the store is away, so the clock may jump from pause to pause.
    tokio::time::pause();
    store.claims_fail.store(true, Ordering::SeqCst);
    rig.publish([job.clone()]).await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    // Given back when its patience ended, perhaps taken once more by the consumer that was about to end; never again.
    let given_back = rig.count("selvage_worker_given_back_total", &[]);
    assert!((1.0..=2.0).contains(&given_back), "{given_back}");
    assert_eq!(rig.waiting().await, 1);
    assert!(store.failed.load(Ordering::SeqCst) < 100);
    store.claims_fail.store(false, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    tokio::time::resume();
    let record = rig.ended(job.id).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_up_on_a_store_that_stays_away_and_loses_nothing() {
    let (mut rig, store) = rig().await;
    store.claims_fail.store(true, Ordering::SeqCst);
    let job = rig.submitted(picture(RED, 1));
    rig.submit(&job).await;
    rig.publish([job.clone()]).await;
    store.until_failed(1).await;
    rig.end().await;
    assert_eq!(rig.waiting().await, 1);
    assert_eq!(rig.record(job.id).await.unwrap().state, JobState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_drain_finishes_what_it_began_and_hands_back_the_rest() {
    let mut rig = Rig::running().await;
    let jobs: Vec<_> = (0..=255).map(|n| rig.waited_for(picture(RED, n))).collect();
    let waited_for: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let submitted: Vec<_> = (0..=255)
        .map(|n| rig.submitted(picture(GREEN, n)))
        .collect();
    for job in &submitted {
        rig.submit(job).await;
    }
    for pair in jobs.into_iter().zip(submitted.iter().cloned()) {
        rig.publish([pair.0, pair.1]).await;
    }
    let mut answered: HashSet<JobId> = rig.reports(10).await.iter().map(|r| r.id).collect();
    rig.end().await;
    while let Ok(more) = rig.reports.try_recv() {
        answered.extend(more.iter().map(|report| report.id));
    }
    // What went back can be taken by the next worker.
    let waiting = rig.take_all_waiting().await;
    let waits = |id: JobId| waiting.contains(&id);
    assert!(
        waited_for
            .iter()
            .all(|id| answered.contains(id) || waits(*id))
    );
    let mut finished = 0;
    for job in &submitted {
        let record = rig.record(job.id).await.unwrap();
        match record.state {
            JobState::Succeeded => finished += 1,
            // Its start was taken back, and it waits.
            JobState::Queued => assert!(record.attempts == 0 && waits(job.id)),
            other => panic!("{other:?} after a drain"),
        }
    }
    assert!(finished + answered.len() >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_jobs_are_run_where_nobody_knows_whether_they_are_wanted() {
    let (mut rig, store) = rig().await;
    store.claims_fail.store(true, Ordering::SeqCst);
    let job = selvage_core::job::Job {
        created_at: UnixMillis(rig.clock.now().0 - 1_000),
        ..rig.waited_for(picture(RED, 1))
    };
    rig.store.abandon(job.id, job.deadline).await.unwrap();
    rig.publish([job]).await;
    assert!(matches!(rig.report().await.outcome, Outcome::Succeeded(_)));
    rig.end().await;
}

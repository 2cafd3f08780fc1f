//! Jobs that were started before: how often they may be, and what becomes of those with no attempts left.

use selvage_core::cache::Cache;
use selvage_core::job::Job;
use selvage_core::job_state::JobState;
use selvage_core::outcome::{FailureCode, Scores};
use selvage_core::store::{Claim, Seed, WorkerStore as _};

use crate::support::{BLUE, GREEN, JOBS, RED, Rig, best, picture, shown};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_never_finished_three_starts_is_poison() {
    let mut rig = Rig::running().await;
    let job = rig.submitted(picture(RED, 1));
    rig.submit(&job).await;
    for start in 1..=3 {
        let claims = rig.store.claim(&[Seed::of(&job).unwrap()]).await.unwrap();
        assert_eq!(claims, [Claim::Run(start)]);
    }
    rig.publish([job.clone()]).await;
    let record = rig.ended(job.id).await;
    assert_eq!(record.failure.unwrap().code, FailureCode::Poison);
    rig.end().await;
    let arrival = rig.queue.dead_letters().next().await.unwrap();
    assert_eq!(arrival.unwrap().dead_letters[0].job(), Some(&job));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_start_is_run_and_its_record_counts_it() {
    let mut rig = Rig::running().await;
    let submitted = Job {
        earlier_attempts: 2,
        ..rig.submitted(picture(GREEN, 1))
    };
    rig.submit(&submitted).await;
    for _ in 0..2 {
        rig.store
            .claim(&[Seed::of(&submitted).unwrap()])
            .await
            .unwrap();
    }
    let waited_for = Job {
        earlier_attempts: 2,
        ..rig.waited_for(picture(BLUE, 1))
    };
    let fresh: Vec<Job> = (0..50).map(|n| rig.waited_for(picture(RED, n))).collect();
    rig.publish(fresh).await;
    rig.publish([submitted.clone(), waited_for.clone()]).await;
    let record = rig.ended(submitted.id).await;
    assert_eq!(shown(&record), (JobState::Succeeded, Some("green")));
    assert_eq!((record.attempts, record.cost.batch_size), (3, 1));
    let reports = rig.reports(51).await;
    let report = reports.iter().find(|r| r.id == waited_for.id).unwrap();
    assert_eq!((best(&report.outcome), report.attempts), (2, 3));
    assert_eq!(report.cost.batch_size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waited_for_job_that_seems_worn_out_is_let_go_unless_its_answer_is_there() {
    let mut rig = Rig::running().await;
    let attempts_exhausted = |job| Job {
        earlier_attempts: 3,
        ..job
    };
    let unknown = attempts_exhausted(rig.waited_for(picture(RED, 1)));
    let known = attempts_exhausted(rig.waited_for(picture(RED, 2)));
    let planted = Scores::new(vec![1.0, 0.0, 0.0]);
    rig.cache.put(&[(known.key, planted)]).await.unwrap();
    rig.publish([unknown, known.clone()]).await;
    let report = rig.report().await;
    assert_eq!((report.id, report.cached), (known.id, true));
    rig.until_count(JOBS, &["dropped"], 1.0).await;
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert!(rig.reports.try_recv().is_err());
}

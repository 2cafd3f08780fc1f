//! What becomes of jobs: a whole worker with real inference, on backends in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{BLUE, GREEN, JOBS, LIMIT, RED, Rig, best, nowhere, picture, shown};
use selvage_core::cache::Cache;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{CachePolicy, Job, Priority};
use selvage_core::job_state::JobState;
use selvage_core::key::Digest;
use selvage_core::outcome::{Failure, FailureCode, Outcome, Scores};
use selvage_core::output::Output;
use selvage_core::queue::Queue;
use selvage_core::registry::suite::worker;
use selvage_core::registry::{ANNOUNCE_EVERY, Fleet, Member};
use selvage_core::store::{Cancel, JobStore as _, Seed, WorkerStore as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn failure(outcome: &Outcome) -> &Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_waiter_gets_the_answer_for_its_own_picture() {
    let mut rig = Rig::running().await;
    let jobs: Vec<(Job, usize)> = (0..90)
        .map(|n| {
            (
                rig.waited_for(picture([RED, GREEN, BLUE][n % 3], n as u8)),
                n % 3,
            )
        })
        .collect();
    rig.publish(jobs.iter().map(|(job, _)| job.clone())).await;
    for report in rig.reports(90).await {
        let (_, colour) = jobs.iter().find(|(job, _)| job.id == report.id).unwrap();
        assert_eq!(best(&report.outcome), *colour);
        assert_eq!((report.attempts, report.cached), (1, false));
        assert!(report.cost.batch_size >= 1);
    }
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert_eq!(rig.count(JOBS, &["rgb-tiny", "succeeded"]), 90.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_jobs_end_in_their_records_and_in_the_cache() {
    let mut rig = Rig::running().await;
    let job = rig.submitted(picture(GREEN, 1));
    rig.submit(&job).await;
    rig.publish([job.clone()]).await;
    let record = rig.ended(job.id).await;
    assert_eq!(shown(&record), (JobState::Succeeded, Some("green")));
    assert_eq!((record.attempts, record.cached), (1, false));
    let Some(Output::Classify { top, .. }) = record.output else {
        panic!("{:?}", record.output);
    };
    assert_eq!(top.len(), 2);
    assert!(record.cost.batch_size == 1 && record.cost.inference_us > 0);
    assert!(rig.cache.find(&job.key).is_some());
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_asynchronous_job_without_a_record_is_not_lost() {
    let rig = Rig::running().await;
    let job = rig.submitted(picture(BLUE, 1));
    rig.publish([job.clone()]).await;
    assert_eq!(
        shown(&rig.ended(job.id).await),
        (JobState::Succeeded, Some("blue"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_waits_for_an_asynchronous_job_gets_a_report() {
    let mut rig = Rig::running().await;
    let job = Job {
        reply_to: rig.queue.reply_address(),
        ..rig.submitted(picture(RED, 1))
    };
    rig.submit(&job).await;
    rig.publish([job.clone()]).await;
    let report = rig.report().await;
    assert_eq!((report.id, best(&report.outcome)), (job.id, 0));
    // What a waiter gets is in the record already.
    assert_eq!(rig.record(job.id).await.unwrap().state, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_image_fails_alone_with_a_sentence() {
    let mut rig = Rig::running().await;
    let whole = picture(RED, 1);
    let broken = rig.waited_for(whole.slice(..whole.len() - 30));
    let submitted = rig.submitted(whole.slice(..whole.len() - 31));
    rig.submit(&submitted).await;
    let fine = rig.waited_for(whole);
    rig.publish([broken.clone(), submitted.clone(), fine.clone()])
        .await;
    for report in rig.reports(2).await {
        if report.id == fine.id {
            assert_eq!(best(&report.outcome), 0);
        } else {
            let failure = failure(&report.outcome);
            assert_eq!(failure.code, FailureCode::InvalidImage);
            assert_eq!(failure.detail, "the PNG ends too early");
        }
    }
    let record = rig.ended(submitted.id).await;
    assert_eq!(record.state, JobState::Failed);
    assert_eq!(record.failure.unwrap().code, FailureCode::InvalidImage);
    assert!(rig.cache.find(&broken.key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_there_completes_a_submission_without_inference() {
    let rig = Rig::running().await;
    let job = rig.submitted(picture(RED, 1));
    rig.submit(&job).await;
    // A wrong answer on purpose: only the cache can have given it.
    let planted = Scores::new(vec![0.0, 0.0, 1.0]);
    rig.cache.put(&[(job.key, planted)]).await.unwrap();
    rig.publish([job.clone()]).await;
    let record = rig.ended(job.id).await;
    assert_eq!(shown(&record), (JobState::Succeeded, Some("blue")));
    assert!(record.cached && record.cost.batch_size == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_neither_read_nor_written_against_the_clients_will() {
    let rig = Rig::running().await;
    let job = Job {
        cache: CachePolicy {
            read: false,
            write: false,
        },
        ..rig.submitted(picture(RED, 1))
    };
    rig.submit(&job).await;
    let planted = Scores::new(vec![0.0, 0.0, 1.0]);
    rig.cache.put(&[(job.key, planted.clone())]).await.unwrap();
    rig.publish([job.clone()]).await;
    let record = rig.ended(job.id).await;
    assert_eq!(shown(&record), (JobState::Succeeded, Some("red")));
    assert_eq!(rig.cache.find(&job.key).unwrap().scores, planted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_job_is_not_run() {
    let mut rig = Rig::prepared().await;
    let queued = rig.submitted(picture(RED, 1));
    rig.submit(&queued).await;
    let asked = rig.submitted(picture(RED, 2));
    rig.submit(&asked).await;
    rig.store.claim(&[Seed::of(&asked).unwrap()]).await.unwrap();
    assert_eq!(rig.store.cancel(queued.id).await.unwrap(), Cancel::Canceled);
    assert_eq!(rig.store.cancel(asked.id).await.unwrap(), Cancel::Requested);
    rig.publish([queued.clone(), asked.clone()]).await;
    rig.start().await;
    assert_eq!(rig.ended(asked.id).await.state, JobState::Canceled);
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert_eq!(rig.count(JOBS, &["succeeded"]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_past_their_deadline_end_expired_or_are_let_go() {
    let mut rig = Rig::prepared().await;
    let submitted = Job {
        deadline: UnixMillis(rig.clock.now().0 + 1),
        ..rig.submitted(picture(RED, 1))
    };
    rig.submit(&submitted).await;
    let waited_for = Job {
        deadline: UnixMillis(1),
        ..rig.waited_for(picture(RED, 2))
    };
    rig.publish([submitted.clone(), waited_for]).await;
    rig.clock
        .anchor(rig.clock.now().after(Duration::from_secs(1)));
    rig.start().await;
    assert_eq!(rig.ended(submitted.id).await.state, JobState::Expired);
    rig.until_count(JOBS, &["expired"], 2.0).await;
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert!(rig.reports.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_delivered_holds_nobody_up() {
    let mut rig = Rig::running().await;
    let lost = Job {
        reply_to: Some(nowhere()),
        ..rig.waited_for(picture(RED, 1))
    };
    let found = rig.waited_for(picture(GREEN, 1));
    rig.publish([lost.clone(), found.clone()]).await;
    assert_eq!(rig.report().await.id, found.id);
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert_eq!(rig.count("selvage_worker_reply_errors_total", &[]), 1.0);
    // The answer is not lost with the reply.
    assert!(rig.cache.find(&lost.key).is_some());
}

#[tokio::test]
async fn a_job_for_a_model_file_that_nobody_holds_is_passed_on_and_then_given_up() {
    let mut rig = Rig::running().await;
    // Only pauses lie before these jobs' ends, so the clock may jump over them.
    tokio::time::pause();
    let foreign = |job: Job| Job {
        key: selvage_core::key::PredictionKey {
            model: Digest::of(b"another file"),
            ..job.key
        },
        ..job
    };
    let waited_for = foreign(rig.waited_for(picture(RED, 1)));
    let submitted = foreign(rig.submitted(picture(RED, 2)));
    rig.submit(&submitted).await;
    rig.publish([waited_for, submitted.clone()]).await;
    let report = rig.report().await;
    assert_eq!(failure(&report.outcome).code, FailureCode::ModelGone);
    let mut record = rig.record(submitted.id).await.unwrap();
    while !record.state.is_terminal() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        record = rig.record(submitted.id).await.unwrap();
    }
    assert_eq!(record.failure.unwrap().code, FailureCode::ModelGone);
    assert!(rig.count("selvage_worker_given_back_total", &[]) >= 12.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_a_model_file_that_another_worker_holds_is_passed_on_unworn() {
    let rig = Rig::running().await;
    let digest = Digest::of(b"another file");
    let mut other = worker("other");
    other.models[0].name = rig.model.name.clone();
    other.models[0].digest = digest;
    other.models[0].preprocessing = Some(rig.model.preprocessing);
    let (fleet, mut announcing) = (Arc::clone(&rig.fleet), JoinSet::new());
    let member = Member::Worker(other);
    fleet.announce(&member).await.unwrap();
    announcing.spawn(async move {
        let mut ticks = tokio::time::interval(ANNOUNCE_EVERY);
        loop {
            ticks.tick().await;
            fleet.announce(&member).await.unwrap();
        }
    });
    let mut job = rig.waited_for(picture(RED, 1));
    job.key.model = digest;
    rig.publish([job.clone()]).await;
    // More often than a job is given back while nobody holds its file.
    rig.until_count("selvage_worker_given_back_total", &[], 8.0)
        .await;
    let consuming = rig.queue.consume(
        &rig.model.name,
        Priority::Interactive,
        1,
        CancellationToken::new(),
    );
    let mut consumer = consuming.await.unwrap();
    let taken = timeout(LIMIT, consumer.next()).await.unwrap().unwrap();
    assert_eq!(taken.jobs[0].id, job.id);
    assert_eq!(
        (taken.earlier_deliveries, taken.jobs[0].earlier_attempts),
        (0, 0)
    );
    taken.settle.ack();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_announces_what_it_holds_and_takes_its_leave() {
    let mut rig = Rig::running().await;
    let job = rig.waited_for(picture(RED, 1));
    rig.publish([job]).await;
    rig.report().await;
    let seen = async {
        loop {
            let workers = rig.fleet.members().await.unwrap().workers;
            if let [worker] = workers.as_slice() {
                return worker.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let worker = tokio::time::timeout(crate::support::LIMIT, seen)
        .await
        .unwrap();
    let [held] = worker.models.as_slice() else {
        panic!("one model is held: {worker:?}");
    };
    assert_eq!((held.name.as_str(), held.sessions), ("rgb-tiny", 2));
    assert_eq!(held.digest, rig.model.digest);
    rig.end().await;
    assert!(rig.fleet.members().await.unwrap().workers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_jobs_are_dropped_unrun() {
    let mut rig = Rig::prepared().await;
    let long_ago = UnixMillis(rig.clock.now().0 - 1_000);
    let mut jobs: Vec<Job> = (0..40)
        .map(|n| Job {
            created_at: long_ago,
            ..rig.waited_for(picture(RED, n))
        })
        .collect();
    // Its client cannot have left yet, so nobody asks.
    jobs[39].created_at = rig.clock.now().after(Duration::from_secs(60));
    for job in jobs.iter().skip(10) {
        rig.store.abandon(job.id, job.deadline).await.unwrap();
    }
    let (fresh, old) = (jobs.split_off(39), jobs);
    rig.publish(old.clone()).await;
    rig.start().await;
    let (mut canceled, mut answered) = (0, 0);
    for report in rig.reports(39).await {
        let at = old.iter().position(|job| job.id == report.id).unwrap();
        if report.outcome == Outcome::Canceled {
            assert!(at >= 10, "{at}");
            canceled += 1;
        } else {
            assert_eq!((at < 10, best(&report.outcome)), (true, 0));
            answered += 1;
        }
    }
    assert_eq!((canceled, answered), (29, 10));
    rig.publish(fresh).await;
    assert_eq!(best(&rig.report().await.outcome), 0);
    rig.end().await;
    assert_eq!(rig.waiting().await, 0);
    assert_eq!(rig.count(JOBS, &["rgb-tiny", "canceled"]), 29.0);
    assert_eq!(rig.count(JOBS, &["rgb-tiny", "succeeded"]), 11.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_in_the_queue_is_measured_at_a_jobs_first_arrival() {
    const WAIT: &str = "selvage_worker_queue_wait_seconds";
    const TOTAL: &str = "selvage_worker_total_seconds";
    let mut rig = Rig::prepared().await;
    let again = rig.waited_for(picture(RED, 1));
    rig.publish([again.clone()]).await;
    let stop = CancellationToken::new();
    let consumer = rig
        .queue
        .consume(&again.model, Priority::Interactive, 1, stop);
    let taken = consumer.await.unwrap().next().await.unwrap();
    taken.settle.give_back();
    let once_before = Job {
        earlier_attempts: 1,
        ..rig.waited_for(picture(RED, 2))
    };
    let submitted = rig.submitted(picture(RED, 3));
    rig.submit(&submitted).await;
    rig.publish([rig.waited_for(picture(RED, 4)), once_before, submitted])
        .await;
    rig.clock
        .anchor(rig.clock.now().after(Duration::from_secs(3)));
    rig.start().await;
    rig.until_count(JOBS, &["succeeded"], 4.0).await;
    rig.end().await;
    for priority in ["interactive", "batch"] {
        let (count, sum) = rig.measured(WAIT, &["rgb-tiny", priority]);
        assert_eq!(count, 1, "{priority}");
        assert!(sum >= 3.0, "{priority}: {sum}");
    }
    let (count, sum) = rig.measured(TOTAL, &[]);
    assert_eq!(count, 4);
    assert!(sum >= 12.0, "{sum}");
    assert_eq!(rig.count("selvage_worker_redelivered_total", &[]), 1.0);
}

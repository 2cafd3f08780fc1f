//! Idempotency keys: the same request is the same job.

use std::collections::HashSet;
use std::time::Duration;

use selvage_core::job::Priority;
use selvage_core::outcome::FailureCode;
use selvage_core::store::{JobStore as _, Seed};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::gated::Published;
use crate::rig::{Answer, Plan, Rig, boots, failed, png, post};

const KEY: (&str, &str) = ("idempotency-key", "\"k 1\"");

#[tokio::test]
async fn a_hundred_repeats_at_once_are_one_job() {
    let rig = std::sync::Arc::new(Rig::new(Plan::default()));
    let mut repeats = JoinSet::new();
    for n in 0..100 {
        let rig = rig.clone();
        repeats.spawn(async move {
            let path = if n % 2 == 0 { "/predict" } else { "/jobs" };
            rig.post_with(path, png(1), &[KEY]).await
        });
    }
    rig.wait_for_depth(Priority::Batch, 1).await;
    rig.work(boots);
    let answers: Vec<Answer> = repeats.join_all().await;
    let ids: HashSet<&str> = answers.iter().map(Answer::id).collect();
    assert_eq!(ids.len(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 200 | 202))
    );
    assert_eq!(rig.computed.load(std::sync::atomic::Ordering::Relaxed), 1);
    let late = rig.post_with("/predict", png(1), &[KEY]).await.expect(200);
    assert!(ids.contains(late.id()));
    assert_eq!(late.json["status"], "succeeded");
    assert!(late.header("server-timing").contains("total;dur="));
    rig.get(late.json["urls"]["self"].as_str().unwrap())
        .await
        .expect(200);
}

#[tokio::test]
async fn an_unfinished_job_is_joined_and_waited_for() {
    let rig = Rig::new(Plan::default());
    let first = rig
        .post_with("/predict?wait=0", png(1), &[KEY])
        .await
        .expect(202);
    let second = rig.post_with("/predict?wait=20", png(1), &[KEY]);
    let (second, ()) = tokio::join!(second, async { rig.work(boots) });
    assert_eq!(second.expect(200).id(), first.id());
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    rig.post_with("/predict", png(1), &[KEY]).await.expect(200);
    for (path, image) in [
        ("/predict", png(2)),
        ("/predict?top_k=1", png(1)),
        ("/predict?timeout_ms=5000", png(1)),
        ("/jobs?metadata=%7B%22a%22:1%7D", png(1)),
    ] {
        rig.post_with(path, image, &[KEY])
            .await
            .expect_problem(422, "idempotency_mismatch");
    }
    // How long a client waits is not part of what it asks.
    rig.post_with("/predict?wait=3", png(1), &[KEY, ("prefer", "wait=2")])
        .await
        .expect(200);
    rig.post_with("/predict", png(2), &[("idempotency-key", "k2")])
        .await
        .expect(200);
}

#[tokio::test]
async fn an_answer_from_the_cache_keeps_its_job() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    rig.post("/predict", png(1)).await.expect(200);
    let first = rig.post_with("/jobs", png(1), &[KEY]).await.expect(200);
    assert_eq!(
        (&first.json["cached"], &first.json["status"]),
        (&true.into(), &"succeeded".into())
    );
    assert_eq!(first.header("cache-status"), "selvage; hit");
    let repeat = rig.post_with("/predict", png(1), &[KEY]).await.expect(200);
    assert_eq!(repeat.id(), first.id());
    assert_eq!(rig.computed.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_repeat_gets_the_same_failure() {
    let rig = Rig::new(Plan::default());
    rig.work(|_| failed(FailureCode::InvalidImage));
    for _ in 0..2 {
        rig.post_with("/predict", png(1), &[KEY])
            .await
            .expect_problem(422, "invalid_image");
    }
    let job = rig.post_with("/jobs", png(1), &[KEY]).await.expect(200);
    assert_eq!(job.json["status"], "failed");
    assert_eq!(rig.computed.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refused_request_may_be_repeated_under_its_key() {
    let full = Rig::new(Plan {
        queue_capacity: 1,
        ..Plan::default()
    });
    full.post("/jobs", png(9)).await.expect(202);
    full.post_with("/jobs", png(1), &[KEY])
        .await
        .expect_problem(429, "queue_full");
    full.work(boots);
    full.wait_for_depth(Priority::Batch, 0).await;
    full.post_with("/predict", png(1), &[KEY]).await.expect(200);
}

#[tokio::test]
async fn without_a_store_a_key_cannot_be_kept() {
    let rig = Rig::new(Plan {
        store_down: true,
        ..Plan::default()
    });
    rig.work(boots);
    rig.post_with("/predict", png(1), &[KEY])
        .await
        .expect_problem(503, "store_unavailable");
    rig.post("/predict", png(1)).await.expect(200);
}

#[tokio::test]
async fn a_waiting_client_learns_that_its_job_was_canceled() {
    let rig = Rig::new(Plan::default());
    let job = rig.post_with("/jobs", png(1), &[KEY]).await.expect(202);
    let waiting = rig.send(post("/predict?wait=60", png(1), &[KEY]));
    let cancel = async {
        rig.post(&format!("/jobs/{}/cancel", job.id()), vec![])
            .await
            .expect(200);
    };
    let (reported, ()) = tokio::join!(waiting, cancel);
    reported.expect_problem(409, "job_canceled");
}

/// Another gateway's cancellation is a change in the store that nobody here is notified of. Time is virtual.
#[tokio::test(start_paused = true)]
async fn a_waiting_client_learns_within_a_second_of_a_cancellation_elsewhere() {
    let rig = Rig::new(Plan::default());
    let waiting = rig.post_with("/predict?wait=60", png(1), &[KEY]);
    let cancel = async {
        let delivery = rig.take(Priority::Batch).await;
        // The longer a client waits, the more seldom its record is looked at, down to once a second.
        sleep(Duration::from_secs(30)).await;
        rig.store.cancel(delivery.jobs[0].id).await.unwrap();
        delivery.settle.ack();
        Instant::now()
    };
    let reported = async { (waiting.await, Instant::now()) };
    let ((reported, reported_at), canceled_at) = tokio::join!(reported, cancel);
    reported.expect_problem(409, "job_canceled");
    assert!(reported_at - canceled_at <= Duration::from_secs(1));
}

/// A gateway and the jobs that it publishes, each waiting for the broker's answer.
fn gated() -> (Rig, mpsc::UnboundedReceiver<Published>) {
    let (gate, published) = mpsc::unbounded_channel();
    let gate = Some(gate);
    let plan = Plan {
        gate,
        ..Plan::default()
    };
    (Rig::new(plan), published)
}

/// Lets every task go on until it waits. Time is virtual: it moves once nothing else can.
async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

/// Time is virtual.
#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_after_the_first_ones_confirm() {
    let (rig, mut published) = gated();
    let first = rig.post_with_later("/jobs", png(1), &[KEY]);
    let job = published.recv().await.unwrap();
    let repeats =
        ["/jobs", "/predict?wait=0"].map(|path| rig.post_with_later(path, png(1), &[KEY]));
    settle().await;
    assert!(!first.is_finished() && !repeats.iter().any(|repeat| repeat.is_finished()));
    let id = job.job.id.to_string();
    job.confirm();
    assert_eq!(first.await.unwrap().expect(202).id(), id);
    for repeat in repeats {
        assert_eq!(repeat.await.unwrap().expect(202).id(), id);
    }
    assert!(published.is_empty(), "one job");
}

/// Time is virtual.
#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_refused_request_is_a_request_of_its_own() {
    let (rig, mut published) = gated();
    for repeat_is_refused in [true, false] {
        let first = rig.post_with_later("/jobs", png(1), &[KEY]);
        let job = published.recv().await.unwrap();
        let repeat = rig.post_with_later("/jobs", png(1), &[KEY]);
        settle().await;
        let first_id = job.job.id;
        job.refuse();
        first.await.unwrap().expect_problem(429, "queue_full");
        let own = published.recv().await.unwrap();
        assert_ne!(own.job.id, first_id);
        if repeat_is_refused {
            own.refuse();
            repeat.await.unwrap().expect_problem(429, "queue_full");
            continue;
        }
        own.confirm();
        let repeat = repeat.await.unwrap().expect(202);
        let path = format!("/jobs/{}", repeat.id());
        assert_eq!(rig.get(&path).await.expect(200).id(), repeat.id());
        let late = rig.post_with("/jobs", png(1), &[KEY]).await.expect(202);
        assert_eq!(late.id(), repeat.id());
    }
}

/// What a gateway leaves that died before the broker's confirm: first nobody knows whether it has died. Time is virtual.
#[tokio::test(start_paused = true)]
async fn a_job_whose_gateway_died_is_published_by_a_repeat() {
    let (rig, mut published) = gated();
    let first = rig.post_with_later("/jobs", png(1), &[KEY]);
    let job = published.recv().await.unwrap();
    let seed = Seed::of(&job.job).unwrap();
    job.refuse();
    first.await.unwrap().expect(429);
    rig.store.submit(&seed).await.unwrap();

    let early = rig.post_with("/jobs", png(1), &[KEY]).await;
    let early = early.expect_problem(409, "request_in_progress");
    assert_eq!(early.header("retry-after"), "1");
    assert!(published.is_empty());

    let repeat = rig.post_with_later("/predict?wait=20", png(1), &[KEY]);
    let job = published.recv().await.unwrap();
    assert_eq!(job.job.id, seed.id);
    assert!(job.job.deadline > seed.deadline, "it has the repeat's time");
    job.confirm();
    rig.work(boots);
    let repeat = repeat.await.unwrap().expect(200);
    assert_eq!(repeat.id(), seed.id.to_string());
    assert_eq!(repeat.json["status"], "succeeded");
    let record = rig.get(&format!("/jobs/{}", seed.id)).await.expect(200);
    assert_eq!(record.json["status"], "succeeded");
}

#[tokio::test]
async fn no_id_of_a_202_is_unknown_where_the_queue_is_full() {
    let rig = Rig::new(Plan {
        queue_capacity: 2,
        ..Plan::default()
    });
    let keys = ["a", "b", "c", "d", "a", "b", "c", "d"];
    let pairs = keys.map(|key| rig.post_with_later("/jobs", png(1), &[("idempotency-key", key)]));
    let mut accepted = HashSet::new();
    for answer in pairs {
        let answer = answer.await.unwrap();
        if answer.status == 202 {
            accepted.insert(answer.id().to_owned());
        } else {
            answer.expect_problem(429, "queue_full");
        }
    }
    assert_eq!(accepted.len(), 2);
    for id in accepted {
        rig.get(&format!("/jobs/{id}")).await.expect(200);
    }
}

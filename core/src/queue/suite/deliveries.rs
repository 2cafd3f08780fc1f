//! Guarantees about single deliveries: what arrives, what comes back, what is dead-lettered, what travels together.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::fixture::{take, take_end};
use super::{Fixture, alone, eventually, job, submitted};
use crate::dead_letters::Reason;
use crate::job::{CachePolicy, Job, JobId, Priority, ReplyAddress};
use crate::queue::{DELIVERY_LIMIT, Delivery, split};

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// An acked job is delivered once.
pub async fn an_acked_job_is_delivered_once(fixture: &mut Fixture) {
    let jobs = [fixture.job(1), fixture.job(2)];
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    for job in &jobs {
        fixture.publish_each(std::slice::from_ref(job)).await;
        let delivery = take(&mut consumer).await;
        assert_eq!(ids(&delivery.jobs), [job.id]);
        assert_eq!(delivery.earlier_deliveries, 0);
        delivery.settle.ack();
    }
    drop(consumer);
    // Nothing came back to a consumer that might have it.
    fixture.publish_each(&[fixture.job(3)]).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 8).await;
    let delivery = take(&mut consumer).await;
    assert_eq!(delivery.jobs[0].request_id.as_deref(), Some("3"));
    delivery.settle.ack();
}

/// Every field of a job arrives as it was sent.
pub async fn every_field_of_a_job_arrives(fixture: &mut Fixture) {
    let sent = Job {
        cache: CachePolicy {
            read: false,
            write: true,
        },
        earlier_attempts: 2,
        reply_to: Some(ReplyAddress("somewhere".into())),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..submitted(fixture.job(1))
    };
    let mut consumer = fixture.consumer(Priority::Batch, 1).await;
    fixture.publish_each(std::slice::from_ref(&sent)).await;
    let delivery = take(&mut consumer).await;
    assert_eq!(delivery.jobs, [sent]);
    delivery.settle.ack();
}

/// A delivery that is given back comes again, with its count raised each time.
pub async fn a_delivery_given_back_comes_again_and_says_so(fixture: &mut Fixture) {
    let job = fixture.job(1);
    fixture.publish_each(std::slice::from_ref(&job)).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    for earlier in 0..3 {
        let delivery = take(&mut consumer).await;
        assert_eq!(ids(&delivery.jobs), [job.id]);
        assert_eq!(delivery.earlier_deliveries, earlier);
        assert_eq!(
            delivery.jobs[0].earlier_attempts, 0,
            "the job itself is as sent"
        );
        delivery.settle.give_back();
    }
    take(&mut consumer).await.settle.ack();
}

/// A delivery that is dropped without a word comes again.
pub async fn a_delivery_dropped_unsettled_comes_again(fixture: &mut Fixture) {
    let job = fixture.job(1);
    fixture.publish_each(std::slice::from_ref(&job)).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    drop(take(&mut consumer).await);
    let delivery = take(&mut consumer).await;
    assert_eq!(ids(&delivery.jobs), [job.id]);
    assert_eq!(delivery.earlier_deliveries, 1);
    delivery.settle.ack();
}

/// A delivery that is dead-lettered is kept, and the next one arrives.
pub async fn a_delivery_dead_lettered_is_kept_and_not_delivered(fixture: &mut Fixture) {
    let jobs = [alone(fixture.job(1)), alone(fixture.job(2))];
    fixture.publish_each(&jobs).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    take(&mut consumer).await.settle.dead_letter();
    let delivery = take(&mut consumer).await;
    assert_eq!(ids(&delivery.jobs), [jobs[1].id]);
    delivery.settle.ack();
    one_dead_letter(fixture, Reason::Rejected).await;
}

/// A delivery that is always given back ends among the dead letters, not in an endless round.
pub async fn a_delivery_that_always_goes_back_is_dead_lettered_in_the_end(fixture: &mut Fixture) {
    fixture.publish_each(&[fixture.job(1)]).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    for earlier in 0..=DELIVERY_LIMIT {
        let delivery = take(&mut consumer).await;
        assert_eq!(delivery.earlier_deliveries, earlier);
        delivery.settle.give_back();
    }
    one_dead_letter(fixture, Reason::DeliveryLimit).await;
}

async fn one_dead_letter(fixture: &Fixture, reason: Reason) {
    eventually("one dead letter", || async {
        fixture
            .dead_letters
            .count()
            .await
            .is_ok_and(|count| count == 1)
    })
    .await;
    let next = fixture.dead_letters.next().await;
    let arrival = next.expect("dead letters can be read");
    let dead_letter = &arrival.as_ref().expect("just counted").dead_letters[0];
    assert_eq!(dead_letter.reason, reason);
    assert!(
        dead_letter.queue.ends_with("first.interactive"),
        "{dead_letter:?}"
    );
}

/// Nine mebibytes arrive whole.
pub async fn a_large_job_arrives_whole(fixture: &mut Fixture) {
    let bytes: Vec<u8> = (0..9 * 1024 * 1024_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let sent = Job {
        image: bytes.into(),
        ..fixture.job(1)
    };
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    fixture.publish_each(std::slice::from_ref(&sent)).await;
    let delivery = take(&mut consumer).await;
    assert!(delivery.jobs == [sent], "the image was altered");
    delivery.settle.ack();
}

/// A job reaches consumers of its own model and queue only.
pub async fn queues_and_models_do_not_mix(fixture: &mut Fixture) {
    let waited_for = fixture.job(1);
    let submitted = submitted(fixture.job(2));
    let others = job(&fixture.other_model, 3);
    fixture
        .publish_each(&[others, submitted.clone(), waited_for.clone()])
        .await;
    for (priority, expected) in [
        (Priority::Interactive, waited_for),
        (Priority::Batch, submitted),
    ] {
        let mut consumer = fixture.consumer(priority, 8).await;
        let delivery = take(&mut consumer).await;
        assert_eq!(ids(&delivery.jobs), [expected.id], "{priority:?}");
        delivery.settle.ack();
    }
}

/// Jobs published in one moment may share messages; each arrives once, and within a message in order.
pub async fn jobs_of_one_moment_arrive_once_each_and_in_order(fixture: &mut Fixture) {
    let jobs: Vec<_> = (0..40).map(|n| fixture.job(n)).collect();
    let mut consumer = fixture.consumer(Priority::Interactive, 64).await;
    publish_together(fixture, &jobs).await;
    let sent = ids(&jobs);
    let mut seen = HashSet::new();
    let mut shared = false;
    while seen.len() < jobs.len() {
        let delivery = take(&mut consumer).await;
        let places: Vec<_> = ids(&delivery.jobs)
            .into_iter()
            .map(|id| sent.iter().position(|sent| *sent == id))
            .collect();
        assert!(places.is_sorted(), "out of order: {places:?}");
        shared |= places.len() > 1;
        for id in ids(&delivery.jobs) {
            assert!(seen.insert(id), "delivered twice");
        }
        delivery.settle.ack();
    }
    assert!(shared, "jobs of one moment share messages");
}

/// A job that was started before never shares its message.
pub async fn jobs_started_before_travel_alone(fixture: &mut Fixture) {
    let jobs: Vec<_> = (0..12)
        .map(|n| match n % 4 {
            0 => alone(fixture.job(n)),
            _ => fixture.job(n),
        })
        .collect();
    let mut consumer = fixture.consumer(Priority::Interactive, 64).await;
    publish_together(fixture, &jobs).await;
    let mut seen = 0;
    while seen < jobs.len() {
        let delivery = take(&mut consumer).await;
        let started = delivery.jobs.iter().any(|job| job.earlier_attempts > 0);
        assert!(!started || delivery.jobs.len() == 1);
        seen += delivery.jobs.len();
        delivery.settle.ack();
    }
}

async fn publish_together(fixture: &Fixture, jobs: &[Job]) {
    let publishing = jobs.iter().map(|job| fixture.gateway.publish(job.clone()));
    for published in join_all(publishing).await {
        published.expect("a queue that is up takes a job");
    }
}

/// A message of several jobs that came back is split: each job alone, with what the message has seen added to it.
pub async fn splitting_sends_each_job_alone(fixture: &mut Fixture) {
    let jobs: Vec<_> = (0..24).map(|n| fixture.job(n)).collect();
    publish_together(fixture, &jobs).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    let delivery = take_shared(&mut consumer).await;
    let expected = ids(&delivery.jobs);
    delivery.settle.give_back();
    let delivery = take_again(&mut consumer).await;
    assert_eq!(ids(&delivery.jobs), expected);
    split(&*fixture.worker, delivery).await;
    let mut arrived = Vec::new();
    while arrived.len() < expected.len() {
        let delivery = take(&mut consumer).await;
        if let [job] = &delivery.jobs[..]
            && expected.contains(&job.id)
        {
            assert_eq!(job.earlier_attempts, 1);
            arrived.push(job.id);
        }
        delivery.settle.ack();
    }
    arrived.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(arrived, sorted);
}

async fn take_shared(consumer: &mut Box<dyn crate::queue::Consumer>) -> Delivery {
    loop {
        let delivery = take(consumer).await;
        if delivery.jobs.len() > 1 {
            return delivery;
        }
        delivery.settle.ack();
    }
}

async fn take_again(consumer: &mut Box<dyn crate::queue::Consumer>) -> Delivery {
    loop {
        let delivery = take(consumer).await;
        if delivery.earlier_deliveries > 0 {
            return delivery;
        }
        delivery.settle.ack();
    }
}

/// After the queue is closed nothing is taken, and consumers end.
pub async fn a_closed_queue_takes_and_gives_nothing(fixture: &mut Fixture) {
    use crate::queue::{Health, PublishError};

    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    assert_eq!(fixture.gateway.health(), Health::Up);
    fixture.gateway.close().await;
    fixture.worker.close().await;
    assert_eq!(fixture.gateway.health(), Health::Down);
    assert_eq!(fixture.gateway.reply_address(), None);
    let refused = fixture.gateway.publish(fixture.job(1)).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))));
    take_end(&mut consumer).await;
}

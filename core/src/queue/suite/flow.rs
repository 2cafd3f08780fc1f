//! Guarantees about the flow: bounds, stopping, and the way back.

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fixture::{PATIENCE, take, take_end};
use super::{Fixture, alone, eventually};
use crate::job::{Job, Priority, ReplyAddress};
use crate::outcome::{Cost, Failure, FailureCode, Outcome, Report, Scores};
use crate::queue::PublishError;

fn jobs_alone(fixture: &Fixture, count: u32) -> Vec<Job> {
    (0..count).map(|n| alone(fixture.job(n))).collect()
}

/// No more messages than the prefetch are in hand; settling one brings the next.
pub async fn prefetch_bounds_what_is_in_hand(fixture: &mut Fixture) {
    fixture.publish_each(&jobs_alone(fixture, 5)).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 2).await;
    let first = take(&mut consumer).await;
    let second = take(&mut consumer).await;
    eventually("two in hand, three waiting", || async {
        fixture.depth().await == 3
    })
    .await;
    assert!(consumer.next().now_or_never().is_none());
    first.settle.ack();
    let third = take(&mut consumer).await;
    second.settle.ack();
    third.settle.ack();
    for _ in 0..2 {
        take(&mut consumer).await.settle.ack();
    }
}

/// A full queue refuses at once, holds at least what it should, and takes jobs again once some are gone.
pub async fn a_full_queue_says_so_and_takes_jobs_again(fixture: &mut Fixture) {
    let mut taken = 0;
    loop {
        let published = fixture.gateway.publish(alone(fixture.job(0))).await;
        if let Err(refused) = published {
            assert!(matches!(refused, PublishError::Full), "{refused}");
            break;
        }
        taken += 1;
        // Brokers may overshoot a little, never without end.
        assert!(taken <= 4 * fixture.capacity, "the queue has no bound");
    }
    assert!(taken >= fixture.capacity, "{taken}");
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    for _ in 0..taken {
        take(&mut consumer).await.settle.ack();
    }
    eventually("room again", || async {
        fixture.gateway.publish(fixture.job(1)).await.is_ok()
    })
    .await;
}

/// Depth counts messages that wait, not those in workers' hands.
pub async fn depth_counts_what_waits(fixture: &mut Fixture) {
    assert_eq!(fixture.depth().await, 0);
    fixture.publish_each(&jobs_alone(fixture, 3)).await;
    eventually("three waiting", || async { fixture.depth().await == 3 }).await;
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    let delivery = take(&mut consumer).await;
    eventually("two waiting", || async { fixture.depth().await == 2 }).await;
    delivery.settle.ack();
    for _ in 0..2 {
        take(&mut consumer).await.settle.ack();
    }
    eventually("none waiting", || async { fixture.depth().await == 0 }).await;
}

/// A stopped consumer still gives what had arrived, then ends.
pub async fn stop_ends_a_consumer_after_what_had_arrived(fixture: &mut Fixture) {
    let stop = CancellationToken::new();
    let mut consumer = fixture
        .consumer_until(Priority::Interactive, 8, stop.clone())
        .await;
    fixture.publish_each(&jobs_alone(fixture, 4)).await;
    let first = take(&mut consumer).await;
    if fixture.sends_ahead {
        eventually("all four are sent", || async { fixture.depth().await == 0 }).await;
    }
    stop.cancel();
    first.settle.ack();
    for _ in 0..3 {
        take(&mut consumer).await.settle.ack();
    }
    take_end(&mut consumer).await;
    take_end(&mut consumer).await;
}

/// What had not arrived stays for other consumers, and an idle consumer ends at once.
pub async fn a_stopped_consumer_leaves_the_rest_to_others(fixture: &mut Fixture) {
    let stop = CancellationToken::new();
    let mut stopped = fixture
        .consumer_until(Priority::Interactive, 1, stop.clone())
        .await;
    let mut idle = fixture
        .consumer_until(Priority::Batch, 1, stop.clone())
        .await;
    fixture.publish_each(&jobs_alone(fixture, 3)).await;
    let delivery = take(&mut stopped).await;
    stop.cancel();
    take_end(&mut stopped).await;
    take_end(&mut idle).await;
    delivery.settle.ack();
    let mut other = fixture.consumer(Priority::Interactive, 1).await;
    for _ in 0..2 {
        take(&mut other).await.settle.ack();
    }
    let mut late = fixture.consumer_until(Priority::Batch, 1, stop).await;
    take_end(&mut late).await;
}

/// A caller that goes away does not unsend its job.
pub async fn a_dropped_publish_still_sends_its_job(fixture: &mut Fixture) {
    let mut consumer = fixture.consumer(Priority::Interactive, 1).await;
    let job = fixture.job(1);
    // Polled once, then dropped.
    let _ = fixture.gateway.publish(job.clone()).now_or_never();
    let delivery = take(&mut consumer).await;
    assert_eq!(delivery.jobs, [job]);
    delivery.settle.ack();
}

/// Reports reach the gateway whose address the job named, whatever else is sent astray.
pub async fn replies_reach_the_gateway(fixture: &mut Fixture) {
    eventually("an address", || async {
        fixture.gateway.reply_address().is_some()
    })
    .await;
    let address = fixture.gateway.reply_address().expect("just seen");
    let report = |n: u32, outcome| Report {
        id: fixture.job(n).id,
        outcome,
        cost: Cost {
            waited_us: 1,
            decode_us: 2,
            inference_us: 3,
            batch_size: 2,
        },
        attempts: n,
        cached: n == 2,
    };
    let outcomes = [
        Outcome::Succeeded(Scores::new(vec![0.25, 0.75])),
        Outcome::Failed(Failure::new(FailureCode::InvalidImage, "no image")),
        Outcome::Expired,
    ];
    let sent: Vec<_> = (1..)
        .zip(outcomes)
        .map(|(n, outcome)| report(n, outcome))
        .collect();
    let nowhere = ReplyAddress("nowhere".into());
    let astray = fixture.worker.reply(&nowhere, sent.clone()).await;
    assert!(astray.is_err(), "an address of no gateway");
    let replied = fixture.worker.reply(&address, sent.clone()).await;
    replied.expect("a queue that is up takes replies");
    let received = timeout(PATIENCE, fixture.reports.recv()).await;
    assert_eq!(received.expect("a reply comes in time"), Some(sent));
}

//! Connections, queues and patience that are lost: publishing and consuming go on, and no confirmed job is missing.

use std::collections::HashSet;
use std::sync::Arc;

use selvage_core::job::Priority;
use selvage_core::outcome::{Cost, Outcome, Report};
use selvage_core::queue::rabbit::{QueueCounters, RabbitQueue, Role};
use selvage_core::queue::suite::{alone, eventually, job};
use selvage_core::queue::{Consumer, Health, PublishError, Queue};
use tokio::time::timeout;

use crate::fleet::{Fleet, PATIENCE, take, url};
use crate::proxy::{Mode, Proxy};

/// Publishes until it is taken.
async fn publish(fleet: &Fleet, gateway: &RabbitQueue, n: u32) {
    eventually("a job is taken", || async {
        gateway.publish(fleet.job(n)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn no_confirmed_job_is_missing_after_cuts() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Open).await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, proxy.url()).await;
    let (worker, _) = fleet.connect(Role::Worker, proxy.url()).await;
    let mut consumer = fleet.consumer(&worker, 16).await;
    let publishing = async {
        let mut confirmed = HashSet::new();
        for round in 0..4 {
            for n in 0..50 {
                let job = fleet.job(n);
                let id = job.id;
                if gateway.publish(job).await.is_ok() {
                    confirmed.insert(id);
                }
            }
            if round < 3 {
                proxy.cut();
                publish(&fleet, &gateway, 1000).await;
            }
        }
        let last = alone(fleet.job(2000));
        eventually("the last is taken", || async {
            gateway.publish(last.clone()).await.is_ok()
        })
        .await;
        (confirmed, last.id)
    };
    let consuming = async {
        let mut seen = HashSet::new();
        loop {
            let delivery = take(&mut consumer).await;
            seen.extend(delivery.jobs.iter().map(|job| job.id));
            let end = delivery.jobs[0].request_id.as_deref() == Some("2000");
            delivery.settle.ack();
            if end {
                return (seen, consumer);
            }
        }
    };
    let ((confirmed, last), (mut seen, mut consumer)) = tokio::join!(publishing, consuming);
    assert!(confirmed.len() >= 4, "some were confirmed between the cuts");
    assert!(seen.contains(&last));
    // What the cuts have sent back may come after the last one.
    while !seen.is_superset(&confirmed) {
        let delivery = take(&mut consumer).await;
        seen.extend(delivery.jobs.iter().map(|job| job.id));
        delivery.settle.ack();
    }
    fleet.end(&[&gateway, &worker]).await;
}

#[tokio::test]
async fn a_delivery_whose_connection_was_cut_comes_again_and_its_settlement_is_counted() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Open).await;
    let counters = QueueCounters::default();
    let mut settings = fleet.settings(Role::Worker, proxy.url());
    settings.counters = counters.clone();
    let (worker, _) = RabbitQueue::connect(settings).await.unwrap();
    let (gateway, _reports) = fleet.connect(Role::Gateway, url()).await;
    publish(&fleet, &gateway, 1).await;
    let mut consumer = fleet.consumer(&worker, 1).await;
    let held = take(&mut consumer).await;
    proxy.cut();
    let again = take(&mut consumer).await;
    assert_eq!(again.jobs, held.jobs);
    assert_eq!(again.earlier_deliveries, 1);
    held.settle.ack();
    assert_eq!(counters.lost_settlements.get(), 1);
    assert_eq!(counters.lost_consumers.get(), 1);
    again.settle.ack();
    publish(&fleet, &gateway, 2).await;
    let next = take(&mut consumer).await;
    assert_eq!(next.earlier_deliveries, 0);
    next.settle.ack();
    fleet.end(&[&gateway, &worker]).await;
}

#[tokio::test]
async fn a_worker_that_closes_gives_back_what_it_holds() {
    let fleet = Fleet::new().await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, url()).await;
    let (leaving, _) = fleet.connect(Role::Worker, url()).await;
    let (staying, _) = fleet.connect(Role::Worker, url()).await;
    publish(&fleet, &gateway, 1).await;
    let held = take(&mut fleet.consumer(&leaving, 1).await).await;
    leaving.close().await;
    let mut consumer = fleet.consumer(&staying, 1).await;
    let again = take(&mut consumer).await;
    assert_eq!(again.jobs, held.jobs);
    again.settle.ack();
    fleet.end(&[&gateway, &staying]).await;
}

/// Publishes two jobs, of which each consumer gets one.
async fn one_for_each(
    fleet: &Fleet,
    gateway: &RabbitQueue,
    consumers: &mut [Box<dyn Consumer>; 2],
) {
    let [first, second] = consumers;
    let publishing = async {
        publish(fleet, gateway, 1).await;
        publish(fleet, gateway, 2).await;
    };
    let (one, other, ()) = tokio::join!(take(first), take(second), publishing);
    assert_ne!(one.jobs[0].id, other.jobs[0].id);
    one.settle.ack();
    other.settle.ack();
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumers_is_made_again_for_all_of_them() {
    let fleet = Fleet::new().await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, url()).await;
    let (worker, _) = fleet.connect(Role::Worker, url()).await;
    let (other, _) = fleet.connect(Role::Worker, url()).await;
    let mut consumers = [
        fleet.consumer(&worker, 1).await,
        fleet.consumer(&other, 1).await,
    ];
    // Once before, so that the numbers of the new queue's messages could be taken for old ones, and once after.
    one_for_each(&fleet, &gateway, &mut consumers).await;
    fleet.broker.delete(&fleet.interactive()).await.unwrap();
    one_for_each(&fleet, &gateway, &mut consumers).await;
    fleet.end(&[&gateway, &worker, &other]).await;
}

#[tokio::test]
async fn a_missing_queue_is_said_and_made_again() {
    let fleet = Fleet::new().await;
    let counters = QueueCounters::default();
    let mut settings = fleet.settings(Role::Gateway, url());
    settings.counters = counters.clone();
    let (gateway, _reports) = RabbitQueue::connect(settings).await.unwrap();
    fleet.broker.delete(&fleet.interactive()).await.unwrap();
    let refused = gateway.publish(fleet.job(1)).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))));
    assert_eq!(counters.returned.get(), 1);
    publish(&fleet, &gateway, 2).await;
    let waiting = fleet.broker.waiting(&fleet.interactive()).await;
    assert_eq!(waiting.unwrap(), Some(1));
    fleet.end(&[&gateway]).await;
}

#[tokio::test]
async fn a_missing_queue_brings_no_other_back() {
    let fleet = Fleet::new().await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, url()).await;
    // Deleted a moment ago, its consumers may not be canceled yet: it has to be missed by itself.
    let other = fleet
        .broker
        .priority(&fleet.other_model, Priority::Interactive);
    fleet.broker.delete(&fleet.interactive()).await.unwrap();
    fleet.broker.delete(&other).await.unwrap();
    publish(&fleet, &gateway, 1).await;
    assert_eq!(fleet.broker.waiting(&other).await.unwrap(), None);
    eventually("a job is taken there too", || async {
        let job = job(&fleet.other_model, 2);
        gateway.publish(job).await.is_ok()
    })
    .await;
    fleet.end(&[&gateway]).await;
}

#[tokio::test]
async fn a_blocked_broker_is_refused_at_once_and_waited_for() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Open).await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, proxy.url()).await;
    publish(&fleet, &gateway, 1).await;
    // As a broker does under an alarm: it says so and reads no more. One message is on its way already.
    proxy.set(Mode::Stalled);
    let on_its_way = {
        let gateway = Arc::clone(&gateway);
        let job = fleet.job(2);
        async move { gateway.publish(job).await }
    };
    let blocking = async {
        proxy.say_blocked();
        eventually("blocked", || async { gateway.health() == Health::Blocked }).await;
    };
    let (on_its_way, ()) = tokio::join!(on_its_way, blocking);
    let error = on_its_way.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error}");
    let refused = gateway.publish(fleet.job(3)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Unavailable(_)), "{refused}");
    proxy.set(Mode::Open);
    proxy.say_unblocked();
    eventually("up", || async { gateway.health() == Health::Up }).await;
    publish(&fleet, &gateway, 4).await;
    fleet.end(&[&gateway]).await;
}

#[tokio::test]
async fn a_silent_broker_is_given_up_and_found_again() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Open).await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, proxy.url()).await;
    publish(&fleet, &gateway, 1).await;
    proxy.set(Mode::Stalled);
    // More jobs than can be on their way at once: those behind them are answered all the same.
    let publishing = (0..8).map(|n| gateway.publish(alone(fleet.job(n))));
    let answers = timeout(PATIENCE, futures_util::future::join_all(publishing)).await;
    for answer in answers.unwrap() {
        assert!(matches!(answer, Err(PublishError::Unavailable(_))));
    }
    proxy.set(Mode::Open);
    proxy.cut();
    publish(&fleet, &gateway, 9).await;
    fleet.end(&[&gateway]).await;
}

#[tokio::test]
async fn reports_find_a_gateway_that_has_reconnected() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Open).await;
    let (gateway, mut reports) = fleet.connect(Role::Gateway, proxy.url()).await;
    let (worker, _) = fleet.connect(Role::Worker, url()).await;
    let before = gateway.reply_address().unwrap();
    proxy.cut();
    eventually("another address", || async {
        gateway
            .reply_address()
            .is_some_and(|address| address != before)
    })
    .await;
    let report = Report {
        id: fleet.job(1).id,
        outcome: Outcome::Canceled,
        cost: Cost::default(),
        attempts: 1,
        cached: false,
    };
    // To the queue that is gone: lost, and no harm to what follows.
    worker.reply(&before, vec![report.clone()]).await.unwrap();
    let after = gateway.reply_address().unwrap();
    worker.reply(&after, vec![report.clone()]).await.unwrap();
    let received = timeout(PATIENCE, reports.recv()).await.unwrap();
    assert_eq!(received, Some(vec![report]));
    fleet.end(&[&gateway, &worker]).await;
}

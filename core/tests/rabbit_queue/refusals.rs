//! What the broker refuses for good makes the program exit with the broker's words; what it cannot read is dead-lettered.

use std::time::Duration;

use bytes::Bytes;
use selvage_core::job::{Job, Priority};
use selvage_core::outcome::{Cost, Outcome, Report};
use selvage_core::program::config::AmqpUrl;
use selvage_core::queue::rabbit::{QueueCounters, RabbitQueue, Role};
use selvage_core::queue::suite::{eventually, job, submitted};
use selvage_core::queue::wire::encode_jobs;
use selvage_core::queue::{Health, PublishError, Queue, QueueError};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, take, url, url_with};
use crate::proxy::{Mode, Proxy};

fn refusal<T: std::fmt::Debug>(result: Result<T, QueueError>) -> String {
    match result.unwrap_err() {
        QueueError::Refused(answer) => answer,
        error @ QueueError::Unavailable(_) => panic!("not refused but {error:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let fleet = Fleet::new().await;
    let url = url_with(|url| url.set_password(Some("s3cret-and-wrong")).unwrap());
    let error = RabbitQueue::connect(fleet.settings(Role::Worker, url)).await;
    let shown = format!("{error:?}");
    let answer = refusal(error);
    assert!(answer.contains("ACCESS_REFUSED"), "{answer}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn a_virtual_host_that_is_not_there_is_refused() {
    let fleet = Fleet::new().await;
    let url = url_with(|url| url.set_path("nowhere"));
    let error = RabbitQueue::connect(fleet.settings(Role::Gateway, url)).await;
    let answer = refusal(error);
    assert!(answer.contains("nowhere"), "{answer}");
}

/// A user of one test with these rights on a fleet's names, as `docs/OPERATIONS.md` writes them for `selvage`.
fn user_with(fleet: &Fleet, rights: [&str; 3]) -> AmqpUrl {
    let name = fleet.prefix.as_str();
    let rights = rights.map(|right| right.replace("selvage", name));
    rabbitmqctl(&["add_user", name, "PASSWORD"]);
    rabbitmqctl(&[
        "set_permissions",
        "-p",
        "/",
        name,
        &rights[0],
        &rights[1],
        &rights[2],
    ]);
    url_with(|url| {
        url.set_username(name).unwrap();
        url.set_password(Some("PASSWORD")).unwrap();
    })
}

fn rabbitmqctl(arguments: &[&str]) {
    let folder = std::env::var("SELVAGE_TEST_SERVICES_DIR").expect("run by scripts/services");
    let services = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services");
    let mut tool = std::process::Command::new(services);
    tool.args(["rabbitmqctl", &folder, "-q"]).args(arguments);
    assert!(tool.status().expect("scripts/services runs").success());
}

/// Configure, write and read, as the page has them.
fn documented_rights() -> [&'static str; 3] {
    let page = include_str!("../../../docs/OPERATIONS.md");
    let start = "rabbitmqctl set_permissions -p / selvage ";
    let rights = page
        .lines()
        .find_map(|line| line.strip_prefix(start))
        .unwrap();
    let rights: Vec<&str> = rights
        .split(' ')
        .map(|right| right.trim_matches('\''))
        .collect();
    rights.try_into().unwrap()
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let fleet = Fleet::new().await;
    let url = user_with(&fleet, documented_rights());
    let (gateway, mut reports) = fleet.connect(Role::Gateway, url.clone()).await;
    let (worker, _) = fleet.connect(Role::Worker, url).await;
    gateway.publish(fleet.job(1)).await.unwrap();
    let mut consumer = fleet.consumer(&worker, 1).await;
    let delivery = take(&mut consumer).await;
    let report = Report {
        id: delivery.jobs[0].id,
        outcome: Outcome::Canceled,
        cost: Cost::default(),
        attempts: 1,
        cached: false,
    };
    let address = gateway.reply_address().unwrap();
    worker.reply(&address, vec![report.clone()]).await.unwrap();
    assert_eq!(reports.recv().await.unwrap(), [report]);
    delivery.settle.dead_letter();
    let dead_letters = gateway.dead_letters();
    eventually("it is among the dead letters", || async {
        dead_letters.count().await.is_ok_and(|count| count == 1)
    })
    .await;
    dead_letters.next().await.unwrap().unwrap().ack();
    fleet.end(&[&gateway, &worker]).await;
}

#[tokio::test]
async fn a_user_that_may_not_publish_is_refused() {
    let fleet = Fleet::new().await;
    let own = r"^selvage\..*";
    let url = user_with(&fleet, [own; 3]);
    for role in [Role::Gateway, Role::Worker] {
        let connected = RabbitQueue::connect(fleet.settings(role, url.clone())).await;
        let answer = refusal(connected);
        assert!(answer.contains("ACCESS_REFUSED"), "{answer}");
        assert!(answer.contains("amq.default"), "{answer}");
    }
    fleet.broker.delete_fleet().await.unwrap();
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_refused_and_left_as_it_is() {
    let fleet = Fleet::new().await;
    let queue = fleet.interactive();
    fleet.broker.declare_classic(&queue).await.unwrap();
    let error = RabbitQueue::connect(fleet.settings(Role::Gateway, url())).await;
    let answer = refusal(error);
    assert!(answer.contains("PRECONDITION_FAILED"), "{answer}");
    assert!(answer.contains(&queue), "{answer}");
    assert_eq!(fleet.broker.waiting(&queue).await.unwrap(), Some(0));
    fleet.broker.delete_fleet().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_turns_out_different_refuses_its_consumer() {
    let fleet = Fleet::new().await;
    let (worker, _) = fleet.connect(Role::Worker, url()).await;
    let queue = fleet.interactive();
    fleet.broker.delete(&queue).await.unwrap();
    fleet.broker.declare_classic(&queue).await.unwrap();
    let stop = CancellationToken::new();
    let consumer = worker.consume(&fleet.model, Priority::Interactive, 1, stop);
    let answer = refusal(consumer.await.map(|_| ()));
    assert!(answer.contains("PRECONDITION_FAILED"), "{answer}");
    fleet.end(&[&worker]).await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_not_a_refusal() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::new(Mode::Refusing).await;
    let mut settings = fleet.settings(Role::Gateway, proxy.url());
    settings.start_up = Duration::from_millis(300);
    let (gateway, _reports) = RabbitQueue::connect(settings).await.unwrap();
    assert_eq!(gateway.health(), Health::Down);
    assert_eq!(gateway.reply_address(), None);
    let refused = gateway.publish(fleet.job(1)).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))));
    proxy.set(Mode::Open);
    eventually("it comes", || async {
        gateway.health() == Health::Up && gateway.reply_address().is_some()
    })
    .await;
    gateway.publish(fleet.job(1)).await.unwrap();
    fleet.end(&[&gateway]).await;
}

#[tokio::test]
async fn tls_to_a_port_without_it_is_an_error_and_no_panic() {
    let fleet = Fleet::new().await;
    let url: AmqpUrl = url()
        .expose()
        .replacen("amqp://", "amqps://", 1)
        .parse()
        .unwrap();
    let mut settings = fleet.settings(Role::Worker, url);
    settings.start_up = Duration::from_millis(500);
    let (worker, _) = RabbitQueue::connect(settings).await.unwrap();
    assert_eq!(worker.health(), Health::Down);
    worker.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_dead_lettered_and_the_next_arrives() {
    let fleet = Fleet::new().await;
    let mut settings = fleet.settings(Role::Worker, url());
    let counters = QueueCounters::default();
    settings.counters = counters.clone();
    let (worker, _) = RabbitQueue::connect(settings).await.unwrap();
    let mut newer = encode_jobs(&[fleet.job(1)]).unwrap();
    newer[0] = 99;
    let misplaced = encode_jobs(&[submitted(fleet.job(2))]).unwrap();
    let foreign = encode_jobs(&[job(&fleet.other_model, 3)]).unwrap();
    let bad = [&b""[..], b"garbage", &newer, &misplaced, &foreign];
    for body in bad {
        fleet
            .broker
            .publish(&fleet.interactive(), body)
            .await
            .unwrap();
    }
    let good = fleet.job(4);
    let body = encode_jobs(std::slice::from_ref(&good)).unwrap();
    fleet
        .broker
        .publish(&fleet.interactive(), &body)
        .await
        .unwrap();
    let mut consumer = fleet.consumer(&worker, 1).await;
    let delivery = take(&mut consumer).await;
    assert_eq!(delivery.jobs, [good]);
    delivery.settle.ack();
    let dead_letters = worker.dead_letters();
    eventually("all bad ones among the dead letters", || async {
        dead_letters.count().await.is_ok_and(|count| count == 5)
    })
    .await;
    let mut reasons = Vec::new();
    while let Some(arrival) = dead_letters.next().await.unwrap() {
        reasons.extend(
            arrival
                .dead_letters
                .iter()
                .map(|dead_letter| dead_letter.reason.as_str()),
        );
        arrival.ack();
    }
    reasons.sort_unstable();
    let junk = "undecodable";
    assert_eq!(reasons, ["rejected", "rejected", junk, junk, junk]);
    assert_eq!(counters.undecodable.get(), 5);
    fleet.end(&[&worker]).await;
}

#[tokio::test]
async fn a_job_larger_than_a_message_is_refused_at_once() {
    let fleet = Fleet::new().await;
    let (gateway, _reports) = fleet.connect(Role::Gateway, url()).await;
    for length in [15 * 1024 * 1024, 16 * 1024 * 1024] {
        let job = Job {
            image: Bytes::from(vec![7; length]),
            ..fleet.job(1)
        };
        let refused = gateway.publish(job).await;
        assert!(matches!(refused, Err(PublishError::TooLarge)), "{length}");
    }
    gateway.publish(fleet.job(2)).await.unwrap();
    fleet.end(&[&gateway]).await;
}

//! Several nodes of one cluster: whichever of them is there is used. The nodes are ways to one broker; a cluster is `make test-cluster`'s.

use selvage_core::program::config::AmqpUrls;
use selvage_core::queue::rabbit::{RabbitQueue, Role};
use selvage_core::queue::suite::eventually;
use selvage_core::queue::{Health, Queue, QueueError};

use crate::fleet::{Fleet, take, url_with};
use crate::proxy::{Mode, Proxy};

fn cluster(nodes: &[&Proxy]) -> AmqpUrls {
    let urls: Vec<String> = nodes
        .iter()
        .map(|node| node.url().expose().to_owned())
        .collect();
    urls.join(",").parse().unwrap()
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over_at_the_start() {
    let fleet = Fleet::new().await;
    let (away, here) = (
        Proxy::new(Mode::Refusing).await,
        Proxy::new(Mode::Open).await,
    );
    let mut gateways = Vec::new();
    // The first node is picked at random, so that both orders come up.
    for _ in 0..6 {
        let (gateway, _reports) = fleet.connect(Role::Gateway, cluster(&[&away, &here])).await;
        assert_eq!(gateway.health(), Health::Up);
        gateways.push(gateway);
    }
    fleet.end(&gateways.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn the_other_node_is_used_once_one_is_lost_and_the_first_one_again_later() {
    let fleet = Fleet::new().await;
    let (first, second) = (Proxy::new(Mode::Open).await, Proxy::new(Mode::Open).await);
    let urls = cluster(&[&first, &second]);
    let (gateway, _reports) = fleet.connect(Role::Gateway, urls.clone()).await;
    let (worker, _) = fleet.connect(Role::Worker, urls).await;
    let mut consumer = fleet.consumer(&worker, 1).await;
    for (n, (lost, back)) in
        (0_u32..).zip([(&first, &second), (&second, &first), (&first, &second)])
    {
        back.set(Mode::Open);
        lost.set(Mode::Refusing);
        lost.cut();
        eventually("a job is taken", || async {
            gateway.publish(fleet.job(n)).await.is_ok()
        })
        .await;
        let delivery = loop {
            // One that was published before its confirm was lost comes twice.
            let delivery = take(&mut consumer).await;
            if delivery.jobs[0].request_id.as_deref() == Some(n.to_string().as_str()) {
                break delivery;
            }
            delivery.settle.ack();
        };
        delivery.settle.ack();
    }
    fleet.end(&[&gateway, &worker]).await;
}

#[tokio::test]
async fn what_one_node_refuses_for_good_ends_the_start() {
    let fleet = Fleet::new().await;
    let wrong = url_with(|url| url.set_password(Some("s3cret-and-wrong")).unwrap());
    let away = Proxy::new(Mode::Refusing).await;
    let urls: AmqpUrls = format!("{},{}", away.url().expose(), wrong.expose())
        .parse()
        .unwrap();
    let error = RabbitQueue::connect(fleet.settings(Role::Worker, urls)).await;
    let error = error.unwrap_err();
    assert!(matches!(error, QueueError::Refused(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    fleet.end(&[]).await;
}

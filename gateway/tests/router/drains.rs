//! The end of a gateway: what waits is answered, turned into jobs or refused.

use std::time::Duration;

use selvage_core::job::Priority;
use selvage_gateway::service::lifecycle::Phase;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::rig::{Plan, Rig, boots, png};

#[tokio::test]
async fn a_draining_gateway_is_not_ready_and_takes_no_new_work() {
    let rig = Rig::new(Plan::default());
    rig.app.life.enter(Phase::Leaving);
    let ready = rig.get("/readyz").await.expect(503);
    assert_eq!(ready.json["status"], "draining");
    rig.work(boots);
    let served = rig.post("/predict", png(1)).await.expect(200);
    assert_eq!(served.header("connection"), "close");
    rig.app.life.enter(Phase::Draining);
    for path in ["/predict", "/jobs"] {
        let refused = rig.post(path, png(2)).await.expect_problem(503, "draining");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    rig.post("/predict", png(1)).await.expect(200);
    rig.get("/livez").await.expect(200);
}

#[tokio::test]
async fn a_long_poll_ends_with_what_is_known_when_the_drain_begins() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let path = format!("/jobs/{}?wait=60", job.id());
    let poll = rig.get(&path);
    let drain = async { rig.app.life.enter(Phase::Draining) };
    let (polled, ()) = tokio::join!(poll, drain);
    assert_eq!(polled.expect(200).json["status"], "queued");
}

/// Waits at a gateway whose drain time is short and whose worker never comes.
async fn cut_wait(durable: bool) -> crate::rig::Answer {
    let mut plan = Plan {
        durable,
        ..Plan::default()
    };
    plan.limits.drain = Duration::from_millis(1500);
    let rig = Rig::new(plan);
    let wait = rig.post_later("/predict?wait=60", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    rig.app.life.enter(Phase::Ending);
    rig.app.predictions.inflight.expire(None);
    wait.await.unwrap()
}

#[tokio::test]
async fn a_wait_that_is_cut_becomes_a_submission_where_promises_last() {
    let submitted = cut_wait(true).await.expect(202);
    assert_eq!(submitted.json["status"], "queued");
    cut_wait(false).await.expect_problem(503, "draining");
}

#[tokio::test]
async fn a_server_with_stuck_clients_ends_within_its_drain_time() {
    let mut plan = Plan::default();
    plan.limits.drain = Duration::from_millis(800);
    let rig = Rig::new(plan);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = selvage_gateway::serve(rig.app.clone(), listener, shutdown.clone());
    let clients = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf";
        half.write_all(head.as_bytes()).await.unwrap();
        let mut waiting = tokio::net::TcpStream::connect(address).await.unwrap();
        let image = png(1);
        let head = format!(
            "POST /predict?wait=60 HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            image.len()
        );
        waiting
            .write_all(&[head.as_bytes(), &image].concat())
            .await
            .unwrap();
        rig.wait_for_depth(Priority::Interactive, 1).await;
        shutdown.cancel();
        let mut answer = Vec::new();
        waiting.read_to_end(&mut answer).await.unwrap();
        let mut rest = Vec::new();
        // A connection that is cut may be reset; either way it is over.
        silent.read_to_end(&mut rest).await.ok();
        half.read_to_end(&mut rest).await.ok();
        String::from_utf8(answer).unwrap()
    };
    let (served, answer) = tokio::join!(serving, clients);
    served.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(rig.app.life.tasks.is_empty());
}

//! Calls against a server that answers by a script.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::*;
use crate::console::Console;
use crate::failure::Exit;
use crate::job::Job;
use crate::testing::{Scripted, answer};

const FULL: &str = r#"{"title":"The queue is full","status":429,"code":"queue_full","detail":"x"}"#;

fn call() -> Call {
    let key = HeaderValue::from_static("\"k\"");
    Call::post("/jobs", Instant::now() + Duration::from_secs(60))
        .header(HeaderName::from_static("idempotency-key"), key)
        .body("picture".into())
}

async fn send(server: &Scripted) -> Result<Answer, Failure> {
    let console = Console::new(false);
    server.client().send(&call(), &console.about("a.png")).await
}

#[tokio::test]
async fn a_busy_server_is_asked_again_with_the_same_request() {
    let full = answer("429 x", "retry-after: 0\r\n", FULL);
    let server = Scripted::start(&[&full, &full, &answer("202 x", "", "{}")]).await;
    assert_eq!(send(&server).await.unwrap().status, 202);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(request.contains("idempotency-key: \"k\"") && request.ends_with("picture"));
    }
}

/// The gateway that took the first try may have died before the broker's confirm.
#[tokio::test]
async fn a_request_in_progress_is_repeated_under_its_key() {
    let progress = r#"{"title":"x","status":409,"code":"request_in_progress","detail":"x"}"#;
    let progress = answer("409 x", "retry-after: 0\r\n", progress);
    let finished = r#"{"title":"x","status":409,"code":"job_finished","detail":"x"}"#;
    let finished = answer("409 x", "", finished);
    let server = Scripted::start(&[&progress, &answer("202 x", "", "{}"), &finished]).await;
    assert_eq!(send(&server).await.unwrap().status, 202);
    let failure = send(&server).await.unwrap_err();
    assert_eq!(
        (failure.code(), failure.exit()),
        ("job_finished", Exit::Failed)
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].contains("idempotency-key: \"k\""));
}

#[tokio::test]
async fn attempts_have_an_end() {
    let full = answer("429 x", "retry-after: 0\r\n", FULL);
    let server = Scripted::start(&[&full, &full, &full, &full]).await;
    let failure = send(&server).await.unwrap_err();
    assert_eq!((failure.code(), failure.exit()), ("queue_full", Exit::Busy));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_delay_beyond_the_deadline_is_not_waited_for() {
    let server = Scripted::start(&[&answer("429 x", "retry-after: 61\r\n", FULL)]).await;
    assert_eq!(send(&server).await.unwrap_err().exit(), Exit::Busy);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again() {
    let cut = "HTTP/1.1 202 x\r\ncontent-length: 100\r\n\r\n{";
    let server = Scripted::start(&[cut, "", &answer("202 x", "", "{}")]).await;
    assert_eq!(send(&server).await.unwrap().body, b"{}");
}

/// It restarts, perhaps: only a server that was never reached is given up at once.
#[tokio::test]
async fn a_server_that_was_reached_is_waited_for() {
    let right = answer("202 x", "", "{}");
    let server = Scripted::start(&[&right]).await;
    let (client, console) = (server.client_with(&[]), Console::new(false));
    let topic = console.about("a.png");
    client.send(&call(), &topic).await.unwrap();
    let restarted = async {
        sleep(Duration::from_millis(100)).await;
        Scripted::start_at(&server.url, &[&right]).await
    };
    let (again, _server) = tokio::join!(async { client.send(&call(), &topic).await }, restarted);
    assert_eq!(again.unwrap().status, 202);
}

#[tokio::test]
async fn redirects_are_reported_and_not_followed() {
    let to = "location: https://elsewhere.example/jobs\r\n";
    let server = Scripted::start(&[&answer("308 x", to, "")]).await;
    let failure = send(&server).await.unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("https://elsewhere.example/jobs")
    );
    assert_eq!(
        (server.requests().len(), failure.exit()),
        (1, Exit::Unreachable)
    );
}

#[tokio::test]
async fn another_server_is_distinguished_from_selvage() {
    let server = Scripted::start(&[&answer("200 x", "", "<html>")]).await;
    let answer = send(&server).await.unwrap();
    let failure = answer.read::<Job>(&server.client()).unwrap_err();
    assert_eq!(failure.code(), "not_selvage");
}

#[tokio::test]
async fn paths_are_put_under_the_path_of_the_address() {
    let mut server = Scripted::start(&[&answer("202 x", "", "{}")]).await;
    server.url += "/selvage/";
    send(&server).await.unwrap();
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /selvage/jobs HTTP"), "{request}");
}

//! Traces of requests that are not one job done at once: several jobs, somebody else's, one that a worker died of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::try_join_all;
use http::Method;
use selvage_core::key::Digest;
use selvage_tests::receiver::Receiver;
use selvage_tests::spans::{Span, spans};
use selvage_tests::{Client, Deployment, Settings, Shape, eventually, pictures};
use serde_json::{Value, json};

use super::jobs::end_of;
use super::tracing::{caller, check, one, traced};

/// Longest wait for anything; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(60);
/// Pictures of one request.
const PICTURES: usize = 3;
/// Requests for one picture, at once.
const ALIKE: usize = 6;
const QUEUE: &str = "fashion-mnist.interactive";

/// The trace of a client with that number.
fn trace(number: usize) -> String {
    format!("{:032x}", number + 1)
}

/// Begins a trace with a request of JSON; its status is the expected one.
async fn ask(client: &Client, path: &str, body: &Value, status: u16) -> anyhow::Result<()> {
    let request = client.request(Method::POST, path).json(body);
    let request = request.header("traceparent", caller(&trace(0)));
    client.send(request).await?.expect(status);
    Ok(())
}

/// A trace's spans, once there are so many of each beginning.
async fn complete(collector: &Receiver, trace: &str, wanted: &[(&str, usize)]) -> Vec<Span> {
    eventually("the trace is whole", LIMIT, || async {
        let mut spans = spans(&collector.received());
        spans.retain(|span| span.trace == trace);
        let there = |(name, count): &(&str, usize)| named(&spans, name).len() >= *count;
        wanted.iter().all(there).then_some(spans)
    })
    .await
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans
        .iter()
        .filter(|span| span.name.starts_with(name))
        .collect()
}

pub(super) async fn an_inference_of_the_protocol_is_one_tree(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[]).await;
    let deployment = Deployment::start(on.shape, traced(&collector.url(), "0")).await;
    let input =
        json!({"name": "input", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": vec![7; 192]});
    let body = json!({"inputs": [input]});
    ask(
        &deployment.client(),
        "/v2/models/rgb-tiny/infer",
        &body,
        200,
    )
    .await?;
    let spans = complete(
        &collector,
        &trace(0),
        &[("POST", 1), ("send", 1), ("process", 1)],
    )
    .await;
    let route = one_name(&spans, "POST ").replace("POST ", "");
    assert!(
        route.starts_with("/v2/models/{") && route.ends_with("/infer"),
        "{route}"
    );
    check(&spans, &route, "rgb-tiny.interactive", on.shape);
    Ok(())
}

/// The whole name of the one span that begins so.
fn one_name(spans: &[Span], begin: &str) -> String {
    let found = named(spans, begin);
    assert_eq!(found.len(), 1, "{begin}: {spans:#?}");
    found[0].name.clone()
}

pub(super) async fn the_jobs_of_one_request_are_branches_of_its_tree(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[]).await;
    let deployment = Deployment::start(on.shape, traced(&collector.url(), "0")).await;
    let images: Vec<_> = (0..PICTURES)
        .map(|_| BASE64_STANDARD.encode(pictures::unique()))
        .collect();
    let path = "/predict/batch?wait=60";
    ask(&deployment.client(), path, &json!({"images": images}), 200).await?;
    let each = [("POST", 1), ("send", PICTURES), ("process", PICTURES)];
    let spans = complete(&collector, &trace(0), &each).await;
    let root = one(&spans, "POST /predict/batch");
    let sent = named(&spans, "send");
    assert!(sent.iter().all(|span| span.parent == root.id), "{spans:#?}");
    let messages: HashSet<&str> = sent.iter().map(|span| span.id.as_str()).collect();
    let processed = named(&spans, "process");
    let parents: HashSet<&str> = processed.iter().map(|span| span.parent.as_str()).collect();
    assert_eq!(
        (messages.len(), &messages),
        (PICTURES, &parents),
        "{spans:#?}"
    );
    for job in processed {
        let of_job: Vec<_> = spans.iter().filter(|span| span.parent == job.id).collect();
        assert!(
            of_job.iter().any(|span| span.name == "inference"),
            "{spans:#?}"
        );
    }
    Ok(())
}

/// Each request has its own trace, and the work is in one of them.
pub(super) async fn a_computation_that_is_shared_is_in_one_trace(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    assert_eq!(on.shape, Shape::Fleet);
    let collector = Receiver::start(&[]).await;
    let settings = Settings {
        gateways: 1,
        ..traced(&collector.url(), "0").workers(0)
    };
    let deployment = Arc::new(Deployment::start(on.shape, settings).await);
    let (client, picture) = (deployment.client(), pictures::unique());
    let alike = (0..ALIKE).map(|number| {
        let (client, picture) = (client.clone(), picture.clone());
        async move {
            let carried = caller(&trace(number));
            let headers = [("traceparent", carried.as_str())];
            let path = "/predict?wait=60";
            anyhow::Ok(
                client
                    .post_image_with(path, picture, &headers)
                    .await?
                    .expect(200),
            )
        }
    });
    let worker = async {
        // All of them, and who looks.
        eventually("all ask", LIMIT, || async {
            let open = client
                .metric("selvage_gateway_connections", "")
                .await
                .ok()?;
            (open > ALIKE as f64).then_some(())
        })
        .await;
        deployment.add_workers(1);
        Ok(())
    };
    let (answers, ()) = tokio::try_join!(try_join_all(alike), worker)?;
    let is_shared =
        |answer: &&selvage_tests::Answer| answer.header("cache-status").ends_with("collapsed");
    assert!(
        answers.iter().filter(is_shared).count() >= 1,
        "nobody shared"
    );
    let mut computed = 0;
    for number in 0..ALIKE {
        let spans = complete(&collector, &trace(number), &[("POST", 1)]).await;
        one(&spans, "POST /predict");
    }
    let all = eventually("the work is traced", LIMIT, || async {
        let spans = spans(&collector.received());
        (named(&spans, "process").len() == 1 && named(&spans, "send").len() == 1).then_some(spans)
    })
    .await;
    for number in 0..ALIKE {
        let mut spans = all.clone();
        spans.retain(|span| span.trace == trace(number));
        if named(&spans, "send").is_empty() {
            assert_eq!(spans.len(), 1, "{spans:#?}");
        } else {
            check(&spans, "/predict", QUEUE, on.shape);
            computed += 1;
        }
    }
    assert_eq!(computed, 1);
    Ok(())
}

/// The first worker takes its spans with it; what the second does goes on below the same message.
pub(super) async fn a_job_that_comes_again_goes_on_in_its_trace(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[]).await;
    let settings = traced(&collector.url(), "0").workers(0);
    let deployment = Deployment::start(on.shape, settings).await;
    let (client, picture) = (deployment.client(), pictures::unique());
    let deadly = format!("after_inference@{}", Digest::of(&picture).to_hex());
    deployment.add_workers_with(1, &[("SELVAGE_FAILPOINT", &deadly)]);
    let carried = caller(&trace(0));
    let headers = [("traceparent", carried.as_str())];
    let job = client
        .post_image_with("/jobs", picture, &headers)
        .await?
        .expect(202);
    deployment.with_workers(|workers| workers[0].wait_for_end(LIMIT));
    deployment.add_workers(1);
    let ended = end_of(&client, job.id()).await;
    assert_eq!(
        (&ended.json["status"], &ended.json["attempts"]),
        (&json!("succeeded"), &json!(2))
    );
    let spans = complete(
        &collector,
        &trace(0),
        &[("POST", 1), ("send", 1), ("process", 1)],
    )
    .await;
    check(&spans, "/jobs", "fashion-mnist.batch", on.shape);
    let again = one(&spans, "process fashion-mnist.batch");
    assert_eq!(again.attribute("selvage.attempt"), "2");
    Ok(())
}

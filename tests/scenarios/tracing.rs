//! Traces, sent to a real collector's port: one tree from the request to the inference.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use selvage_tests::receiver::{Receiver, Reply};
use selvage_tests::spans::{Span, spans, tree};
use selvage_tests::{Client, Deployment, Settings, Shape, eventually, pictures};

/// Longest time until a finished request's spans are at the collector.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time a program that drains may take; its drain time is shorter.
const END: Duration = Duration::from_secs(30);
/// A client's span.
const CALLER: &str = "00f067aa0ba902b7";

async fn start(shape: Shape, collector: &Receiver, sample: &str) -> Deployment {
    let settings = Settings::default()
        .with("SELVAGE_OTLP_URL", collector.url())
        .with("SELVAGE_TRACE_SAMPLE", sample);
    Deployment::start(shape, settings).await
}

/// Sends a picture nobody has sent before, as part of that trace.
async fn send(client: &Client, path: &str, traceparent: &str, status: u16) -> anyhow::Result<()> {
    let request = client
        .request(Method::POST, path)
        .header("content-type", "image/png")
        .header("traceparent", traceparent)
        .body(pictures::unique());
    client.send(request).await?.expect(status);
    Ok(())
}

/// The spans of a trace, once the ends of request, job and message are among them; a confirm may be the last of them.
async fn whole(collector: &Receiver, trace: &str) -> Vec<Span> {
    eventually("the trace is whole", LIMIT, || async {
        let mut spans = spans(&collector.received());
        spans.retain(|span| span.trace == trace);
        let has = |name: &str| spans.iter().any(|span| span.name.starts_with(name));
        (has("process") && has("send") && has("POST")).then_some(spans)
    })
    .await
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

/// Each span has its parent, its program and its place in time.
fn check(spans: &[Span], route: &str, lane: &str, shape: Shape) {
    let root = one(spans, &format!("POST {route}"));
    let sent = one(spans, &format!("send fashion-mnist.{lane}"));
    let processed = one(spans, &format!("process fashion-mnist.{lane}"));
    assert_eq!(root.parent, CALLER);
    assert_eq!((&sent.parent, &processed.parent), (&root.id, &sent.id));
    assert_eq!(root.attribute("http.route"), route);
    assert!(["200", "202"].contains(&root.attribute("http.response.status_code")));
    assert_eq!(processed.attribute("selvage.outcome"), "succeeded");
    let worker = match shape {
        Shape::Embedded => "selvage-gateway",
        Shape::Fleet => "selvage-worker",
    };
    assert_eq!(
        (root.service.as_str(), sent.service.as_str()),
        ("selvage-gateway", "selvage-gateway")
    );
    assert_eq!(processed.service, worker);
    let mut before = processed.time.0;
    for name in ["wait", "decode", "batch wait", "inference", "finish"] {
        let step = one(spans, name);
        assert_eq!(
            (&step.parent, step.service.as_str()),
            (&processed.id, worker),
            "{name}"
        );
        // The steps follow each other; times are measured in microseconds and sent in nanoseconds.
        assert!(
            step.time.0 + 2_000 >= before && step.time.1 >= step.time.0,
            "{name}: {spans:#?}"
        );
        before = step.time.1;
    }
    assert!(before <= processed.time.1 + 2_000, "{spans:#?}");
    let size: u32 = one(spans, "inference")
        .attribute("selvage.batch.size")
        .parse()
        .unwrap();
    assert!(size >= 1);
    assert_eq!(spans.len(), 8, "{spans:#?}");
}

pub(super) async fn a_request_is_one_tree_from_http_to_inference(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[]).await;
    // What begins here would not be kept; the client decides for what it brings.
    let deployment = start(on.shape, &collector, "0").await;
    let client = deployment.client();
    send(
        &client,
        "/predict?wait=60",
        &format!("00-{}-{CALLER}-00", "1".repeat(32)),
        200,
    )
    .await?;
    client
        .post_image("/predict?wait=60", pictures::unique())
        .await?
        .expect(200);
    for (path, route, lane, digit, status) in [
        ("/predict?wait=60", "/predict", "interactive", "a", 200),
        ("/jobs", "/jobs", "batch", "b", 202),
    ] {
        let trace = digit.repeat(32);
        send(&client, path, &format!("00-{trace}-{CALLER}-01"), status).await?;
        let spans = whole(&collector, &trace).await;
        println!(
            "{}\n{}",
            on.shape.as_str(),
            tree(&spans, CALLER, 0, spans[0].time.0)
        );
        check(&spans, route, lane, on.shape);
    }
    let traces: HashSet<String> = spans(&collector.received())
        .into_iter()
        .map(|span| span.trace)
        .collect();
    assert_eq!(traces, HashSet::from(["a".repeat(32), "b".repeat(32)]));
    Ok(())
}

pub(super) async fn a_trace_begins_here_and_its_last_spans_are_sent_at_the_end(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[]).await;
    let deployment = start(on.shape, &collector, "1").await;
    let client = deployment.client();
    client
        .post_image("/predict?wait=60", pictures::unique())
        .await?
        .expect(200);
    client.get("/readyz").await?.expect(200);
    end(&deployment);
    let spans = spans(&collector.received());
    let root = one(&spans, "POST /predict");
    assert_eq!(root.parent, "");
    let same = |name: &str| {
        spans
            .iter()
            .any(|span| span.name.starts_with(name) && span.trace == root.trace)
    };
    assert!(
        same("send") && same("process") && same("inference"),
        "{spans:#?}"
    );
    assert!(
        !spans.iter().any(|span| span.name.contains("readyz")),
        "{spans:#?}"
    );
    Ok(())
}

/// Ends all programs politely; the gateway goes first, as its worker may still have to answer it.
fn end(deployment: &Deployment) {
    let end = |programs: &mut Vec<selvage_tests::program::Program>| {
        for program in programs {
            program.signal("TERM");
            assert!(program.wait_for_end(END).success());
        }
    };
    deployment.with_gateways(end);
    deployment.with_workers(end);
}

pub(super) async fn a_collector_that_hangs_stops_nothing(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let collector = Receiver::start(&[Reply::Hang; 1000]).await;
    let deployment = start(on.shape, &collector, "1").await;
    let client = deployment.client();
    for _ in 0..50 {
        client
            .post_image("/predict?wait=60", pictures::unique())
            .await?
            .expect(200);
    }
    eventually("the collector was tried", LIMIT, || async {
        (!collector.received().is_empty()).then_some(())
    })
    .await;
    end(&deployment);
    Ok(())
}

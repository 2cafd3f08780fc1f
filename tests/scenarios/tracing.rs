//! Traces, sent to a real collector's port: one tree from the request to the inference.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use selvage_tests::receiver::{Receiver, Reply};
use selvage_tests::scrape::Scrape;
use selvage_tests::spans::{Span, spans, tree};
use selvage_tests::{Client, Deployment, Settings, Shape, eventually, pictures};

/// Longest time until a finished request's spans are at the collector.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time a program that drains may take; its drain time is shorter.
const END: Duration = Duration::from_secs(30);
/// A client's span.
pub(super) const CALLER: &str = "00f067aa0ba902b7";

async fn start(shape: Shape, collector: &Receiver, sample: &str) -> Deployment {
    Deployment::start(shape, traced(&collector.url(), sample)).await
}

/// Programs that send that share of their traces there.
pub(super) fn traced(collector: &str, sample: &str) -> Settings {
    Settings::default()
        .with("SELVAGE_OTLP_URL", collector)
        .with("SELVAGE_TRACE_SAMPLE", sample)
}

/// What a client sends that has begun this trace.
pub(super) fn caller(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
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

pub(super) fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

/// One job: each span has its parent, its program and its place in time.
pub(super) fn check(spans: &[Span], route: &str, priority: &str, shape: Shape) {
    let root = one(spans, &format!("POST {route}"));
    let sent = one(spans, &format!("send {priority}"));
    let processed = one(spans, &format!("process {priority}"));
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
    for (path, route, priority, digit, status) in [
        (
            "/predict?wait=60",
            "/predict",
            "fashion-mnist.interactive",
            "a",
            200,
        ),
        ("/jobs", "/jobs", "fashion-mnist.batch", "b", 202),
    ] {
        let trace = digit.repeat(32);
        send(&client, path, &caller(&trace), status).await?;
        let spans = whole(&collector, &trace).await;
        println!(
            "{}\n{}",
            on.shape.as_str(),
            tree(&spans, CALLER, 0, spans[0].time.0)
        );
        check(&spans, route, priority, on.shape);
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

/// It refuses, then takes what comes: what was refused is counted, and nothing else is lost.
pub(super) async fn a_collector_that_refuses_costs_spans_and_nothing_else(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    // A batch that gets 503 is sent again, one that gets 400 never is: whichever program sends it, its spans are dropped.
    let collector = Receiver::start(&[Reply::Status(503), Reply::Status(400)]).await;
    let deployment = start(on.shape, &collector, "1").await;
    let counts = || answered_while(&deployment);
    eventually(
        "some spans are refused, later ones are sent",
        LIMIT,
        || async {
            let [sent, dropped] = counts().await.ok()?;
            (sent > 0.0 && dropped > 0.0).then_some(())
        },
    )
    .await;
    end(&deployment);
    Ok(())
}

pub(super) async fn a_collector_that_is_not_there_costs_spans_and_nothing_else(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let deployment = Deployment::start(on.shape, traced(&format!("http://{nobody}"), "1")).await;
    eventually("spans are dropped", LIMIT, || async {
        let [sent, dropped] = answered_while(&deployment).await.ok()?;
        assert_eq!(sent, 0.0);
        (dropped > 0.0).then_some(())
    })
    .await;
    end(&deployment);
    Ok(())
}

/// Asks something that has to be answered; then how many spans all programs have sent and dropped.
async fn answered_while(on: &Deployment) -> anyhow::Result<[f64; 2]> {
    let client = on.client();
    let answer = client
        .post_image("/predict?wait=60", pictures::unique())
        .await?;
    answer.expect(200);
    let gateway = Scrape::of(&client).await?;
    let worker = match on.shape {
        Shape::Embedded => Scrape::default(),
        Shape::Fleet => Scrape::of_workers(on).await?,
    };
    let sum = |name: &str| gateway.sum(name, &[]) + worker.sum(name, &[]);
    Ok([
        "selvage_trace_spans_sent_total",
        "selvage_trace_spans_dropped_total",
    ]
    .map(sum))
}

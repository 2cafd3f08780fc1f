//! Jobs as server-sent events, over real connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::{Method, Response};
use selvage_tests::proxy::{Fault, Proxy};
use selvage_tests::{Client, Deployment, eventually, pictures};

/// Streams open at once.
const STREAMS: usize = 2000;
/// Streams that are opened at a time: a listener's backlog is finite.
const AT_A_TIME: usize = 100;
/// Longest time from the end of a job to the end of its last stream.
const LIMIT: Duration = Duration::from_secs(60);

async fn open(client: &Client, id: &str) -> anyhow::Result<Response> {
    let response = client
        .request(Method::GET, &format!("/jobs/{id}/events"))
        .send()
        .await?;
    anyhow::ensure!(response.status() == 200, "{}", response.status());
    Ok(response)
}

/// Reads a stream until it has sent so many events, or to its end; what it sent.
async fn read(response: &mut Response, events: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    while text.matches("data:").count() < events {
        match response.chunk().await? {
            Some(chunk) => text.push_str(std::str::from_utf8(&chunk)?),
            None => break,
        }
    }
    Ok(text)
}

async fn to_the_end(mut response: Response) -> anyhow::Result<String> {
    let all = read(&mut response, usize::MAX);
    tokio::time::timeout(LIMIT, all)
        .await
        .context("a stream did not end")?
}

/// Every client gets its job's state, and that it has ended.
pub(super) async fn two_thousand_streams_are_held_and_ended(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let submit = || client.post_image("/jobs", pictures::unique());
    let jobs = try_join_all((0..20).map(|_| submit())).await?;
    let ids: Vec<String> = jobs
        .into_iter()
        .map(|job| job.expect(202).id().to_owned())
        .collect();
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS / AT_A_TIME {
        let opened = (0..AT_A_TIME).map(|n| open(&client, &ids[n % ids.len()]));
        streams.extend(try_join_all(opened).await?);
    }
    for stream in &mut streams {
        let first = read(stream, 1).await?;
        assert!(first.contains("\"status\":\"queued\""), "{first}");
    }
    let connections = client.metric("selvage_gateway_connections", "").await?;
    assert!(connections >= STREAMS as f64, "{connections} connections");
    on.add_workers(1);
    let ends = try_join_all(streams.into_iter().map(to_the_end)).await?;
    for end in &ends {
        let count = |status: &str| end.matches(&format!("\"status\":\"{status}\"")).count();
        assert_eq!((count("succeeded"), count("queued")), (1, 0), "{end}");
    }
    Ok(())
}

pub(super) async fn a_stream_passes_a_proxy_and_is_resumed_after_a_cut(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let proxy = Proxy::before(on.gateways[0]).await;
    let through = Client::new(proxy.address());
    let job = on
        .client()
        .post_image("/jobs", pictures::unique())
        .await?
        .expect(202);
    let mut stream = open(&through, job.id()).await?;
    let first = read(&mut stream, 1).await?;
    assert!(
        first.contains("id: queued.0") && first.contains("retry: 2000"),
        "{first}"
    );
    proxy.set(Fault::Refuse);
    eventually("the proxy refuses", LIMIT, || async {
        through.get("/livez").await.is_err().then_some(())
    })
    .await;
    assert!(to_the_end(stream).await.is_err(), "a cut is no end");
    proxy.set(Fault::None);
    on.add_workers(1);
    let resumed = through
        .request(Method::GET, &format!("/jobs/{}/events", job.id()))
        .header("last-event-id", "queued.0")
        .send()
        .await?;
    let rest = to_the_end(resumed).await?;
    assert!(
        !rest.contains("id: queued.0") && rest.contains("id: succeeded.1"),
        "{rest}"
    );
    Ok(())
}

//! What a newcomer or an operator sees first: home page, discovery, health, metrics, request ids, plain mistakes.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use selvage_tests::{Client, Deployment, pictures};

/// Longest wait for a line of the log that is there already.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn the_home_page_needs_nothing_from_elsewhere(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let page = client.get("/").await?.expect(200);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    let html = String::from_utf8(page.body)?;
    assert!(html.contains("<title>"));
    let links = html
        .split(['"', '\''])
        .filter(|text| text.starts_with('/') && text.contains('.'));
    let mut assets = 0;
    for link in links {
        client.get(link).await?.expect(200);
        assets += 1;
    }
    assert!(
        assets >= 2,
        "the page has a script and a style sheet of its own"
    );
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "no request leaves the gateway"
    );
    let discovery = client
        .request(Method::GET, "/")
        .header("accept", "application/json");
    let discovery = client.send(discovery).await?.expect(200);
    assert_eq!(discovery.json["name"], "selvage");
    assert_eq!(discovery.json["urls"]["predict"], "/predict");
    Ok(())
}

pub(super) async fn health_and_metrics_are_served(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    client.get("/livez").await?.expect(200);
    let ready = client.get("/readyz").await?.expect(200);
    assert_eq!(ready.json["status"], "ready", "{}", ready.json);
    client
        .post_image("/predict", pictures::unique())
        .await?
        .expect(200);
    let answered = client
        .metric("selvage_gateway_http_requests_total", "route=\"/predict\"")
        .await?;
    assert!(answered >= 1.0, "{answered}");
    let metrics = client.get("/metrics").await?.expect(200);
    assert!(metrics.header("content-type").starts_with("text/plain"));
    for line in String::from_utf8(metrics.body)?
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "no sample: {line}");
    }
    Ok(())
}

pub(super) async fn request_ids_are_kept_or_made(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let ask = |id: &'static str| {
        client.send(
            client
                .request(Method::GET, "/models")
                .header("request-id", id),
        )
    };
    assert_eq!(ask("order-66").await?.header("request-id"), "order-66");
    let made = client.get("/models").await?;
    assert!(
        made.header("request-id").len() >= 16,
        "{}",
        made.header("request-id")
    );
    let long = client
        .request(Method::GET, "/models")
        .header("request-id", "x".repeat(4000));
    let replaced = client.send(long).await?.expect(200);
    assert!(
        replaced.header("request-id").len() <= 128,
        "an absurd id is replaced, not echoed"
    );
    Ok(())
}

pub(super) async fn unknown_paths_and_methods_are_problems(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    for path in [
        "/none",
        "/predict/none",
        "/jobs/a/b",
        "/..%2f..%2fetc%2fpasswd",
    ] {
        client.get(path).await?.expect_problem(404, "not_found");
    }
    for (method, path, allow) in [
        (Method::GET, "/predict", "POST"),
        (Method::DELETE, "/models", "GET"),
    ] {
        let answer = client.send(client.request(method, path)).await?.expect(405);
        assert!(
            answer.header("allow").contains(allow),
            "{}",
            answer.header("allow")
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    Ok(())
}

/// What a container's health check does.
pub(super) async fn a_program_tells_whether_its_running_copy_is_ready(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let check = |address: &str, ops: &str| {
        let program = selvage_tests::program::binary("selvage-gateway");
        let mut check = tokio::process::Command::new(program);
        check.arg("check").env("SELVAGE_LISTEN", address);
        check.env("SELVAGE_OPS_LISTEN", ops);
        async move { check.output().await }
    };
    let gateway = on.gateways[0].to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let closed = closed.to_string();
    let ops = on.with_gateways(|programs| programs[0].ops_address(LIMIT));
    for (address, ops) in [(&gateway, "off"), (&closed, &*ops.to_string())] {
        let ready = check(address, ops).await?;
        assert!(ready.status.success(), "{ready:?}");
    }
    for (address, ops) in [(&closed, "off"), (&gateway, &*closed)] {
        let absent = check(address, ops).await?;
        assert_eq!(absent.status.code(), Some(1), "{absent:?}");
        let said = String::from_utf8(absent.stderr)?;
        assert!(said.contains(&closed), "{said}");
    }
    Ok(())
}

pub(super) async fn the_operators_listener_has_health_and_metrics_and_nothing_else(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let ops = on.with_gateways(|programs| programs[0].ops_address(LIMIT));
    // It has no key, and needs none.
    let operator = Client::new(ops);
    operator.get("/livez").await?.expect(200);
    let ready = operator.get("/readyz").await?.expect(200);
    assert_eq!(ready.json["status"], "ready");
    let metrics = operator.get("/metrics").await?.expect(200);
    assert!(String::from_utf8_lossy(&metrics.body).contains("selvage_gateway_ready 1"));
    for path in ["/", "/stats", "/models", "/openapi.json"] {
        let answer = operator.get(path).await?;
        answer.expect_problem(404, "not_found");
    }
    let keyless = Client::new(on.gateways[0]);
    keyless.get("/metrics").await?.expect(401);
    Ok(())
}

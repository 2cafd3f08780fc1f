//! Pages in browsers: the names they may ask by, and the origins they may come from.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::http::{Method, Request};
use selvage_gateway::http::browsers::BrowserRules;

use crate::rig::{Plan, Rig, png};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EVIL: (&str, &str) = ("host", "evil.example");

fn with_origins(origins: &[&str]) -> Plan {
    let origins: Vec<_> = origins.iter().map(|text| text.parse().unwrap()).collect();
    let mut plan = Plan::default();
    plan.limits.browsers = BrowserRules::new(&[], &origins, false, LOOPBACK);
    plan
}

fn get(path: &str, (name, value): (&str, &str)) -> Request<Body> {
    let request = Request::get(path).header(name, value);
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_name_that_is_not_this_gateways_is_refused() {
    let rig = Rig::new(Plan::default());
    for path in ["/jobs", "/", "/metrics", "/openapi.json"] {
        let answer = rig.send(get(path, EVIL)).await;
        answer.expect_problem(421, "misdirected_request");
    }
    let answer = rig.post_with("/jobs", png(1), &[EVIL]).await;
    answer.expect_problem(421, "misdirected_request");
    rig.send(get("/v2", EVIL)).await.expect(421);
    for good in ["localhost:8000", "127.0.0.1:8000", "[::1]"] {
        rig.send(get("/jobs", ("host", good))).await.expect(200);
    }
}

#[tokio::test]
async fn the_request_line_goes_before_the_host() {
    let rig = Rig::new(Plan::default());
    let localhost = ("host", "localhost");
    let response = rig.open(get("http://evil.example/jobs", localhost)).await;
    assert_eq!(response.status(), 421);
    let response = rig.open(get("http://localhost/jobs", EVIL)).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn health_is_reported_under_any_name() {
    let rig = Rig::new(Plan::default());
    for path in ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"] {
        rig.send(get(path, EVIL)).await.expect(200);
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let rig = Rig::new(Plan::default());
    let host = ("host", "localhost:8000");
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let answer = rig.post_with("/jobs", png(1), &[host, foreign]).await;
        answer.expect_problem(403, "cross_origin");
    }
    let jobs = rig.get("/jobs").await.expect(200);
    assert_eq!(jobs.json["items"].as_array().unwrap().len(), 0);
    let own = ("origin", "http://localhost:8000");
    let answer = rig.post_with("/jobs", png(1), &[host, own]).await;
    let answer = answer.expect(202);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_origin_that_is_given_may_ask_and_read() {
    let rig = Rig::new(with_origins(&["https://app.example"]));
    let preflight = |origin: &str| {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri("/jobs")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        request.body(Body::empty()).unwrap()
    };
    let header = |response: &axum::response::Response, name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let answer = rig.open(preflight("https://app.example")).await;
    assert_eq!(answer.status(), 200);
    let allowed = header(&answer, "access-control-allow-origin");
    assert_eq!(allowed.as_deref(), Some("https://app.example"));
    let headers = header(&answer, "access-control-allow-headers");
    assert_eq!(headers.as_deref(), Some("authorization"));
    let answer = rig.open(preflight("https://evil.example")).await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    for (path, status) in [("/jobs", 202), ("/nowhere", 404)] {
        let request = crate::rig::post(path, png(1), &[("origin", "https://app.example")]);
        let answer = rig.open(request).await;
        assert_eq!(answer.status(), status);
        let allowed = header(&answer, "access-control-allow-origin");
        assert_eq!(allowed.as_deref(), Some("https://app.example"), "{path}");
    }
}

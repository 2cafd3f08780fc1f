//! What is not a prediction: home page, discovery, models, stats, metrics, request ids.

use axum::body::Body;
use axum::http::Request;

use crate::rig::{Plan, Rig, boots, png};

fn get(path: &str, name: &str, value: &str) -> Request<Body> {
    Request::get(path)
        .header(name, value)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn the_home_page_and_its_files_are_served_with_tags() {
    let rig = Rig::new(Plan::default());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let page = rig.get(path).await.expect(200);
        assert_eq!(page.header("content-type"), kind);
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        let text = String::from_utf8(page.body.clone()).unwrap();
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "{path}"
        );
        let known = rig
            .send(get(path, "if-none-match", page.header("etag")))
            .await
            .expect(304);
        assert!(known.body.is_empty());
    }
    let browser = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8";
    let page = rig.send(get("/", "accept", browser)).await.expect(200);
    assert!(page.header("content-type").starts_with("text/html"));
}

#[tokio::test]
async fn programs_get_the_list_of_addresses() {
    let rig = Rig::new(Plan::default());
    let discovery = rig
        .send(get("/", "accept", "application/json"))
        .await
        .expect(200);
    assert_eq!(discovery.json["name"], "selvage");
    assert_eq!(discovery.json["default_model"], "tiny");
    for (name, path) in discovery.json["urls"].as_object().unwrap() {
        let path = path.as_str().unwrap();
        if !path.contains('{') {
            let answer = rig.get(path).await;
            assert!(
                [200, 405, 503].contains(&answer.status),
                "{name}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn models_are_listed_with_their_rules() {
    let rig = Rig::new(Plan::default());
    let list = rig.get("/models").await.expect(200);
    assert_eq!(list.json["default"], "tiny");
    let model = rig.get("/models/tiny").await.expect(200);
    assert_eq!(list.json["models"][0], model.json);
    assert_eq!(model.json["labels"][1], "boot");
    assert_eq!(model.json["input"]["channels"], "gray");
    assert_eq!(model.json["workers"].as_array().unwrap().len(), 0);
    for name in ["absent", "..%2f..", "%ff"] {
        rig.get(&format!("/models/{name}"))
            .await
            .expect_problem(404, "model_not_found");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_what_clients_make_up() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    rig.post("/predict", png(1)).await.expect(200);
    rig.get("/surprise").await.expect(404);
    let invented = Request::builder()
        .method("BREW")
        .uri("/predict")
        .body(Body::empty())
        .unwrap();
    rig.send(invented).await.expect(405);
    let metrics = rig.get("/metrics").await.expect(200);
    let text = String::from_utf8(metrics.body).unwrap();
    for line in [
        "selvage_gateway_http_requests_total{code=\"200\",method=\"POST\",route=\"/predict\"} 1",
        "selvage_gateway_http_requests_total{code=\"404\",method=\"GET\",route=\"none\"} 1",
        "selvage_gateway_http_requests_total{code=\"405\",method=\"other\",route=\"/predict\"} 1",
        "selvage_gateway_refused_total{code=\"not_found\"} 1",
        "selvage_gateway_in_flight 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("surprise") && !text.contains("BREW"));
    let stats = rig.get("/stats").await.expect(200);
    assert_eq!(stats.json["cache"]["misses"], 1);
    assert_eq!(stats.json["lanes"][0]["model"], "tiny");
}

#[tokio::test]
async fn request_ids_are_kept_where_sane_and_made_where_not() {
    let rig = Rig::new(Plan::default());
    let kept = rig.send(get("/livez", "request-id", "order-66")).await;
    assert_eq!(kept.header("request-id"), "order-66");
    let long = "x".repeat(129);
    for id in ["", "a b", long.as_str(), "\u{e9}"] {
        let made = rig.send(get("/livez", "request-id", id)).await;
        let made = made.header("request-id");
        assert!(made != id && made.len() == 36, "{id:?}: {made}");
    }
}

//! What is not a prediction: home page, discovery, models, stats, metrics, request ids.

use std::io::Read as _;

use axum::body::Body;
use axum::http::Request;
use selvage_core::job::Job;
use selvage_core::outcome::{Outcome, Scores};
use selvage_core::preview;

use crate::rig::{Plan, Rig, boots, png};

fn get(path: &str, name: &str, value: &str) -> Request<Body> {
    Request::get(path)
        .header(name, value)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn the_home_page_is_asked_for_again_and_its_files_are_kept_for_ever() {
    let rig = Rig::new(Plan::default());
    let browser = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8";
    let page = rig.send(get("/", "accept", browser)).await.expect(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-cache");
    assert_eq!(page.header("vary"), "accept, accept-encoding");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    let known = rig
        .send(get("/", "if-none-match", page.header("etag")))
        .await;
    assert!(known.expect(304).body.is_empty());

    let html = String::from_utf8(page.body).unwrap();
    let links: Vec<&str> = html
        .split('"')
        .filter(|text| text.starts_with("/ui/"))
        .collect();
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        let file = rig.get(link).await.expect(200);
        assert!(
            file.header("cache-control").ends_with("immutable"),
            "{link}"
        );
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }
    for path in ["/ui/0123456789abcdef/home.js", "/ui/home.js", "/ui/a/b/c"] {
        rig.get(path).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn packed_pages_are_the_same_pages() {
    let rig = Rig::new(Plan::default());
    let plain = rig.get("/").await.expect(200);
    assert_eq!(plain.header("content-encoding"), "");
    let zipped = rig
        .send(get("/", "accept-encoding", "gzip"))
        .await
        .expect(200);
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&mut &zipped.body[..])
        .read_to_end(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);
}

/// A worker's answer to a question for the model's input: as many values as the model has pixels, counted up.
fn counting(job: &Job) -> Outcome {
    assert!(preview::read(&job.image).is_some() && !job.cache.write);
    Outcome::Succeeded(Scores::new(
        (0..28 * 28).map(|n| (n % 256) as f32).collect::<Vec<_>>(),
    ))
}

#[tokio::test]
async fn the_input_of_a_model_is_a_picture() {
    let rig = Rig::new(Plan::default());
    rig.work(counting);
    let answer = rig.post("/models/tiny/input", png(1)).await.expect(200);
    assert_eq!(answer.header("content-type"), "image/png");
    let picture = image::load_from_memory(&answer.body).unwrap();
    let pixels: Vec<u8> = (0..28 * 28).map(|n| (n % 256) as u8).collect();
    assert_eq!(picture.as_luma8().unwrap().as_raw(), &pixels);

    for (path, image, status, code) in [
        ("/models/absent/input", png(1), 404, "model_not_found"),
        ("/models/tiny/input?top_k=1", png(1), 422, "invalid_option"),
        ("/models/tiny/input", Vec::new(), 400, "empty_body"),
        (
            "/models/tiny/input",
            b"text".to_vec(),
            415,
            "unsupported_media_type",
        ),
    ] {
        rig.post(path, image).await.expect_problem(status, code);
    }
}

#[tokio::test]
async fn scores_are_not_taken_for_pixels() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let answer = rig.post("/models/tiny/input", png(1)).await;
    answer.expect_problem(500, "inference_failed");
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
            // The head only: a stream has no end.
            let answer = rig.open(get(path, "accept", "*/*")).await;
            let status = answer.status().as_u16();
            assert!([200, 405, 503].contains(&status), "{name}: {status}");
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
    assert_eq!(stats.json["queues"][0]["model"], "tiny");
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

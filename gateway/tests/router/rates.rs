//! How often a client may ask: by its key or by its address, and what it gets.

use axum::body::Body;
use axum::http::Request;
use selvage_core::key::Digest;
use selvage_gateway::http::peer::Peer;
use serde_json::json;

use crate::rig::{Answer, Plan, Rig, boots, png, post};

const ANN: (&str, &str) = ("authorization", "Bearer ann-key");
const BOB: (&str, &str) = ("authorization", "Bearer bob-key");

/// `ann` may ask so often, `bob` as often as he likes.
fn limited(rate: &str) -> Rig {
    let hash = |name: &str| Digest::of(format!("{name}-key").as_bytes()).to_hex();
    let keys = format!("ann {} rate={rate}\nbob {}\n", hash("ann"), hash("bob"));
    let rig = Rig::new(Plan {
        keys: Some(keys),
        ..Plan::default()
    });
    rig.work(boots);
    rig
}

async fn get(rig: &Rig, path: &str, (name, value): (&str, &str)) -> Answer {
    let request = Request::get(path).header(name, value);
    rig.send(request.body(Body::empty()).unwrap()).await
}

/// That a client gets a `Retry-After`, and that so much is left.
#[track_caller]
fn expect_limited(answer: Answer, left: u32) -> Answer {
    let answer = answer.expect_problem(429, "rate_limited");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    let millis = answer.json["retry_after_ms"].as_u64().unwrap();
    assert!(seconds > 1 && millis > (seconds - 1) * 1000 && millis <= seconds * 1000);
    let reported = answer.header("ratelimit");
    assert!(reported.contains(&format!(";r={left};t=")), "{reported}");
    answer
}

#[tokio::test]
async fn a_key_has_its_rate_and_every_answer_tells_what_is_left() {
    let rig = limited("4/h");
    let first = rig.post_with("/predict", png(1), &[ANN]).await.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"key\";q=4;w=3600");
    assert_eq!(first.header("ratelimit"), "\"key\";r=3;t=900");
    // Refused requests and those for other things count like any other.
    let wrong = rig.post_with("/predict?x=1", png(1), &[ANN]).await;
    let wrong = wrong.expect_problem(422, "invalid_option");
    assert_eq!(wrong.header("ratelimit"), "\"key\";r=2;t=1800");
    get(&rig, "/models", ANN).await.expect(200);
    rig.post_with("/jobs", png(2), &[ANN]).await.expect(202);
    for path in ["/predict", "/jobs", "/predict/batch"] {
        expect_limited(rig.post_with(path, png(3), &[ANN]).await, 0);
    }
    expect_limited(get(&rig, "/models", ANN).await, 0);
    assert_eq!(rig.metric("selvage_gateway_refused_total"), 5.0);
    // Another key has nothing to do with it, and no rate is no header.
    let other = rig.post_with("/predict", png(3), &[BOB]).await.expect(200);
    assert_eq!(other.header("ratelimit"), "");
    rig.get("/livez").await.expect(200);
}

#[tokio::test]
async fn the_protocols_errors_are_in_its_own_form_here_too() {
    let rig = limited("1/h");
    get(&rig, "/v2/models/tiny", ANN).await.expect(200);
    let refused = rig
        .post_with("/v2/models/tiny/infer", Vec::new(), &[ANN])
        .await;
    let refused = refused.expect(429);
    assert!(refused.json["error"].is_string() && !refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn images_count_one_by_one() {
    use base64::Engine as _;
    let rig = limited("10/h");
    let batch = async |images: u8| {
        let encode = |n| base64::engine::general_purpose::STANDARD.encode(png(n));
        let images: Vec<String> = (0..images).map(encode).collect();
        let body = json!({ "images": images }).to_string().into_bytes();
        let kind = ("content-type", "application/json");
        rig.post_with("/predict/batch", body, &[ANN, kind]).await
    };
    let taken = batch(7).await.expect(200);
    assert_eq!(taken.header("ratelimit"), "\"key\";r=3;t=2520");
    let computed = rig.computed.load(std::sync::atomic::Ordering::Relaxed);
    // Nothing of it is done, and it has cost one.
    expect_limited(batch(4).await, 2);
    let never = batch(11).await.expect_problem(422, "invalid_option");
    assert_eq!(never.json["errors"][0]["pointer"], "#/images");
    assert_eq!(never.header("ratelimit"), "\"key\";r=1;t=3240");
    assert_eq!(
        rig.computed.load(std::sync::atomic::Ordering::Relaxed),
        computed
    );

    let infer = async |images: usize| {
        let data = vec![0; images * 28 * 28];
        let shape = [images, 1, 28, 28];
        let input = json!({"name": "input", "shape": shape, "datatype": "UINT8", "data": data});
        let body = json!({ "inputs": [input] }).to_string().into_bytes();
        rig.post_with("/v2/models/tiny/infer", body, &[ANN]).await
    };
    let never = infer(11).await.expect(422);
    assert_eq!(never.header("ratelimit"), "\"key\";r=0;t=3600");
    infer(1).await.expect(429);
}

#[tokio::test]
async fn tensors_count_image_by_image() {
    let rig = limited("10/h");
    let data = vec![0; 3 * 28 * 28];
    let input =
        json!({"name": "input", "shape": [3, 1, 28, 28], "datatype": "UINT8", "data": data});
    let body = json!({ "inputs": [input] }).to_string().into_bytes();
    let answer = rig
        .post_with("/v2/models/tiny/infer", body, &[ANN])
        .await
        .expect(200);
    assert_eq!(answer.header("ratelimit"), "\"key\";r=7;t=1080");
}

#[tokio::test]
async fn without_keys_each_address_has_the_rate() {
    let rig = Rig::new(Plan {
        rate: Some("2/h"),
        ..Plan::default()
    });
    rig.work(boots);
    let ask = async |address: &str, headers: &[(&str, &str)]| {
        let mut request = post("/predict", png(1), headers);
        let peer = Peer::of(address.parse().unwrap());
        request.extensions_mut().insert(peer);
        rig.send(request).await
    };
    let first = ask("192.0.2.1", &[]).await.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"address\";q=2;w=3600");
    ask("::ffff:192.0.2.1", &[]).await.expect(200);
    // Neither a key nor a header that proxies write makes anybody another client.
    let forwarded = ("x-forwarded-for", "192.0.2.9");
    for header in [ANN, forwarded, ("forwarded", "for=192.0.2.9")] {
        expect_limited(ask("192.0.2.1", &[header]).await, 0);
    }
    ask("192.0.2.2", &[]).await.expect(200);
    ask("2001:db8::1", &[]).await.expect(200);
    ask("2001:db8::2", &[]).await.expect(200);
    expect_limited(ask("2001:db8::3", &[]).await, 0);
    // Requests that come without an address are one client together, not free.
    for status in [200, 200, 429] {
        rig.post("/predict", png(1)).await.expect(status);
    }
}

//! The operator's endpoints.

use crate::support::{RED, Rig, picture};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use selvage_core::queue::Queue;
use selvage_worker::ops::{Ops, router};
use tower::ServiceExt;

async fn get(rig: &Rig, path: &str) -> (StatusCode, String) {
    let ops = Ops {
        registry: rig.registry.clone(),
        consuming: rig.ready.clone(),
        queue: rig.queue.clone(),
    };
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router(ops).oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_worker_and_the_broker() {
    let mut rig = Rig::prepared().await;
    assert_eq!(get(&rig, "/livez").await.0, StatusCode::OK);
    assert_eq!(
        get(&rig, "/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.start().await;
    let (status, body) = get(&rig, "/readyz").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""queue":"up""#), "{body}");
    rig.end().await;
    assert_eq!(
        get(&rig, "/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.queue.close().await;
    let (_, body) = get(&rig, "/readyz").await;
    assert!(body.contains(r#""queue":"down""#), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_what_was_done() {
    let mut rig = Rig::running().await;
    let job = rig.waited_for(picture(RED, 1));
    rig.publish([job]).await;
    rig.report().await;
    rig.until_count("selvage_worker_jobs_total", &["succeeded"], 1.0)
        .await;
    let (status, body) = get(&rig, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"selvage_worker_jobs_total{model="rgb-tiny",outcome="succeeded"} 1"#,
        r#"selvage_worker_batch_size_count{model="rgb-tiny"} 1"#,
        r#"selvage_worker_decode_seconds_count{model="rgb-tiny"} 1"#,
        r#"selvage_worker_inference_seconds_bucket{model="rgb-tiny",le="0.00025"}"#,
        r#"selvage_worker_waited_seconds_count{model="rgb-tiny"} 1"#,
        "selvage_worker_given_back_total 0",
    ] {
        assert!(body.contains(line), "{line} is not in:\n{body}");
    }
}

//! What clients see of errors.

use super::*;
use crate::service::metrics::TURNED_AWAY;

async fn body(response: Response) -> serde_json::Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_problem_has_what_rfc_9457_and_the_api_ask_for() {
    let error =
        ApiError::new(Code::QueueFull, "7 jobs wait").retry_after(Duration::from_millis(3100));
    let response = error.render("r-1");
    assert_eq!(response.status(), 429);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["retry-after"], "4");
    let expected = serde_json::json!({
        "type": "/problems/queue_full", "title": "The queue is full", "status": 429,
        "code": "queue_full", "detail": "7 jobs wait", "request_id": "r-1",
        "retry_after_ms": 3100,
    });
    assert_eq!(body(response).await, expected);
}

#[tokio::test]
async fn a_wrong_option_names_its_place() {
    let response = ApiError::option("#/top_k", "must be 1 to 1000").render("r");
    assert_eq!(response.status(), 422);
    let errors = body(response).await["errors"].clone();
    assert_eq!(
        errors,
        serde_json::json!([{"pointer": "#/top_k", "detail": "must be 1 to 1000"}])
    );
}

#[tokio::test]
async fn a_cause_never_reaches_the_client() {
    let error = ApiError::internal("password=s3cret");
    let response = error.render("r");
    assert!(!body(response).await.to_string().contains("s3cret"));
    assert!(error.cause().unwrap().to_string().contains("s3cret"));
}

#[test]
fn refusals_that_the_fleet_counts_have_the_codes_of_the_api() {
    let codes = [
        Code::QueueFull,
        Code::BrokerUnavailable,
        Code::StoreUnavailable,
        Code::StoreFull,
        Code::Draining,
    ];
    assert_eq!(codes.map(Code::as_str), TURNED_AWAY);
}

#[test]
fn retry_after_is_at_least_a_second() {
    assert_eq!(retry_after(Duration::ZERO), "1");
    assert_eq!(retry_after(Duration::from_millis(1001)), "2");
}

//! The document and its viewer. That answers are as described is looked at in every test: `described.rs`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::described::Described;
use crate::rig::{Plan, Rig};

/// The paths of a router, as it prints them for debugging: it has no other list of them.
fn routed(rig: &Rig) -> BTreeSet<String> {
    let printed = format!("{:?}", rig.app.router());
    let (_, nodes) = printed.split_once("paths: {").unwrap();
    let texts = nodes.split('"').skip(1).step_by(2);
    let paths = texts.take_while(|text| text.starts_with('/'));
    paths
        .filter(|path| !path.contains("__private__axum_fallback"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_route_is_described_and_the_other_way_round() {
    let rig = Rig::new(Plan::default());
    let described = Described::by(&rig.app.router());
    let paths: BTreeSet<String> = described.paths().map(|(path, _)| path.clone()).collect();
    assert!(paths.len() > 20 && paths.contains("/predict"), "{paths:?}");
    assert_eq!(routed(&rig), paths);
    for (path, item) in described.paths() {
        let path = path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let request = Request::builder().method(method).uri(&path);
            // Only the head: a stream of numbers has no end.
            let answer = rig.open(request.body(Body::empty()).unwrap()).await;
            let known = item.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status() != 405, known, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_document_says_all_it_should() {
    for keys in [
        None,
        Some("ann 0000000000000000000000000000000000000000000000000000000000000001\n".to_owned()),
    ] {
        let guarded = keys.is_some();
        let rig = Rig::new(Plan {
            keys,
            ..Plan::default()
        });
        let described = Described::by(&rig.app.router());
        assert_eq!(described.0["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, item) in described.paths() {
            for operation in item.as_object().unwrap().values() {
                let text = |field: &str| operation[field].as_str().unwrap_or_default().to_owned();
                assert!(
                    ids.insert(text("operationId")),
                    "{path}: its id is another's"
                );
                assert!(
                    !text("summary").is_empty() && !text("description").is_empty(),
                    "{path}"
                );
                let responses = operation["responses"].as_object().unwrap();
                assert!(
                    responses.keys().any(|status| status.starts_with('2')),
                    "{path}"
                );
                assert!(
                    responses
                        .values()
                        .all(|response| response["headers"]["Request-Id"].is_object()),
                    "{path}"
                );
                let mut headers = responses
                    .values()
                    .filter_map(|response| response["headers"].as_object())
                    .flatten();
                assert!(
                    headers.all(|(_, header)| header["description"].is_string()),
                    "{path}"
                );
                let open = !operation["security"].is_array();
                assert_eq!(responses.contains_key("401"), guarded && !open, "{path}");
                for (at, _) in path.match_indices('{') {
                    let name = path[at + 1..].split('}').next().unwrap();
                    let parameters = operation["parameters"].as_array().unwrap();
                    let known =
                        |parameter: &&Value| parameter["name"] == name && parameter["in"] == "path";
                    assert!(
                        parameters.iter().any(|parameter| known(&parameter)),
                        "{path}: {name}"
                    );
                }
            }
        }
        assert_eq!(
            described.0["paths"]["/predict"]["post"]["security"].is_array(),
            guarded
        );
        refer_to_what_is_there(&described.0, &described.0);
    }
}

/// Every reference has its target.
fn refer_to_what_is_there(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            fields
                .values()
                .for_each(|field| refer_to_what_is_there(document, field));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|item| refer_to_what_is_there(document, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn document_and_viewer_are_served_with_tags_and_ask_nobody_else() {
    let rig = Rig::new(Plan::default());
    let packed = [
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
    ];
    let plain = [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html"),
        ("/docs/start.js", "text/javascript"),
    ];
    for (path, kind) in packed.into_iter().chain(plain) {
        let file = rig.get(path).await.expect(200);
        assert_eq!(file.header("content-type").split(';').next(), Some(kind));
        assert!(
            file.header("content-security-policy")
                .starts_with("default-src 'none'")
        );
        assert_eq!(file.header("cache-control"), "no-cache");
        let known = Request::get(path).header("if-none-match", file.header("etag"));
        let known = rig
            .send(known.body(Body::empty()).unwrap())
            .await
            .expect(304);
        assert!(known.body.is_empty());
        if file.header("content-encoding") == "gzip" {
            assert_eq!(&file.body[..2], [0x1f, 0x8b], "{path}");
        } else if path != "/openapi.json" {
            let text = String::from_utf8(file.body).unwrap();
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{path}"
            );
        }
    }
    let page = String::from_utf8(rig.get("/docs").await.expect(200).body).unwrap();
    let links: Vec<&str> = page
        .split('"')
        .filter(|text| text.starts_with("/docs/"))
        .collect();
    assert_eq!(links.len(), 3);
    for link in links {
        rig.get(link).await.expect(200);
    }
}

//! `GET /jobs`: whose jobs are listed, in which parts, and what is refused.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::Request;
use selvage_core::job::{JobId, Priority};
use selvage_core::key::Digest;

use crate::rig::{Answer, Plan, Rig, boots, eventually, png};

fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.json["items"].as_array().unwrap();
    let id = |item: &serde_json::Value| item["id"].as_str().unwrap().to_owned();
    items.iter().map(id).collect()
}

/// Reads a list to its end by its links.
async fn walk(rig: &Rig, path: &str) -> Vec<String> {
    let (mut all, mut path) = (Vec::new(), path.to_owned());
    loop {
        let answer = rig.get(&path).await.expect(200);
        all.extend(ids(&answer));
        let Some(next) = answer.json["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), "");
            return all;
        };
        let link = answer.header("link");
        assert!(
            link.ends_with(&format!("cursor={next}>; rel=\"next\"")),
            "{link}"
        );
        path = link[1..link.find('>').unwrap()].to_owned();
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_in_parts_of_any_size() {
    let rig = Rig::new(Plan::default());
    let mut expected = Vec::new();
    for seed in 0..23 {
        let job = rig.post("/jobs", png(seed)).await.expect(202);
        expected.insert(0, job.id().to_owned());
    }
    let whole = rig.get("/jobs?limit=100").await.expect(200);
    assert_eq!(ids(&whole), expected);
    assert_eq!(whole.header("cache-control"), "no-store");
    assert!(whole.json["next_cursor"].is_null());
    assert_eq!(ids(&rig.get("/jobs").await.expect(200)), expected[..20]);
    for limit in [1, 4, 23, 24] {
        assert_eq!(walk(&rig, &format!("/jobs?limit={limit}")).await, expected);
    }
    let newest = &whole.json["items"][0];
    assert_eq!(newest["queue"]["position"], 23);
    let shown = rig.get(&format!("/jobs/{}", expected[0])).await.expect(200);
    assert_eq!(newest["image_hash"], shown.json["image_hash"]);
    // What was not there when the reading began does not move what is read later.
    let first = rig.get("/jobs?limit=10").await.expect(200);
    rig.post("/jobs", png(99)).await.expect(202);
    let cursor = first.json["next_cursor"].as_str().unwrap();
    let rest = walk(&rig, &format!("/jobs?limit=10&cursor={cursor}")).await;
    assert_eq!(rest, expected[10..]);
}

#[tokio::test]
async fn a_list_can_be_of_one_state() {
    let rig = Rig::new(Plan::default());
    let mut canceled = HashSet::new();
    for seed in 0..40 {
        let job = rig.post("/jobs", png(seed)).await.expect(202);
        if seed % 8 == 0 {
            let cancel = format!("/jobs/{}/cancel", job.id());
            rig.post(&cancel, vec![]).await.expect(200);
            canceled.insert(job.id().to_owned());
        }
    }
    for limit in [1, 2, 5, 6] {
        let found = walk(&rig, &format!("/jobs?status=canceled&limit={limit}")).await;
        assert_eq!(found.len(), canceled.len(), "{limit}");
        assert_eq!(found.into_iter().collect::<HashSet<_>>(), canceled);
    }
    assert_eq!(walk(&rig, "/jobs?status=queued&limit=7").await.len(), 35);
    assert!(walk(&rig, "/jobs?status=failed").await.is_empty());
    rig.work(boots);
    eventually(async || walk(&rig, "/jobs?status=succeeded").await.len() == 35).await;
}

#[tokio::test]
async fn what_cannot_be_listed_is_refused() {
    let rig = Rig::new(Plan::default());
    let cursor = JobId::new().to_string().to_uppercase();
    let upper = format!("cursor={cursor}");
    for (query, pointer) in [
        ("limit=0", "?limit"),
        ("limit=101", "?limit"),
        ("limit=-1", "?limit"),
        ("limit=%2B5", "?limit"),
        ("limit=", "?limit"),
        ("limit=99999999999999999999999", "?limit"),
        ("status=", "?status"),
        ("status=done", "?status"),
        ("status=Queued", "?status"),
        ("cursor=", "?cursor"),
        ("cursor=1", "?cursor"),
        ("cursor=550e8400-e29b-41d4-a716-446655440000", "?cursor"),
        (upper.as_str(), "?cursor"),
        ("limit=1&limit=2", "?limit"),
        ("wait=1", "?wait"),
        ("owner=ann", "?owner"),
    ] {
        let refused = rig.get(&format!("/jobs?{query}")).await;
        let refused = refused.expect_problem(422, "invalid_option");
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{query}");
    }
    let unknown = format!("/jobs?cursor={}", JobId::new());
    assert!(ids(&rig.get(&unknown).await.expect(200)).is_empty());
    let down = Rig::new(Plan {
        store_down: true,
        ..Plan::default()
    });
    down.get("/jobs")
        .await
        .expect_problem(503, "store_unavailable");
}

#[tokio::test]
async fn each_key_has_a_list_of_its_own() {
    let line = |name: &str| format!("{name} {}\n", Digest::of(name.as_bytes()).to_hex());
    let rig = Rig::new(Plan {
        keys: Some(line("ann") + &line("bob")),
        ..Plan::default()
    });
    let bearer = |name: &str| format!("Bearer {name}");
    let list = async |name: &str, query: &str| {
        let request = Request::get(format!("/jobs{query}"));
        let request = request.header("authorization", bearer(name));
        rig.send(request.body(Body::empty()).unwrap()).await
    };
    let mut anns = Vec::new();
    for seed in 0..4 {
        let name = ["ann", "bob"][usize::from(seed % 2)];
        let key = bearer(name);
        let headers = [("authorization", key.as_str())];
        let job = rig
            .post_with("/jobs", png(seed), &headers)
            .await
            .expect(202);
        if name == "ann" {
            anns.insert(0, job.id().to_owned());
        }
    }
    assert_eq!(ids(&list("ann", "").await.expect(200)), anns);
    // A cursor of another's is a place in time, no key to a list.
    let bobs = ids(&list("bob", "").await.expect(200));
    let from_bobs = list("ann", &format!("?cursor={}", bobs[0]))
        .await
        .expect(200);
    assert_eq!(ids(&from_bobs), anns);
    list("eve", "").await.expect_problem(401, "unauthenticated");
    rig.get("/jobs")
        .await
        .expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn positions_are_estimates_that_only_fall() {
    let rig = Rig::new(Plan::default());
    rig.app.predictions.queues.read().await;
    let mut jobs = Vec::new();
    for seed in 0..12 {
        let job = rig.post("/jobs", png(seed)).await.expect(202);
        assert_eq!(job.json["queue"]["position"], u64::from(seed) + 1);
        jobs.push(job.id().to_owned());
    }
    // Whoever is canceled makes room for those behind.
    rig.post(&format!("/jobs/{}/cancel", jobs[4]), vec![])
        .await
        .expect(200);
    let last = format!("/jobs/{}", jobs[11]);
    let mut position = 12;
    rig.app.predictions.queues.read().await;
    assert_eq!(rig.get(&last).await.json["queue"]["position"], 11);
    let listed = rig.get("/jobs").await.expect(200);
    assert_eq!(listed.json["items"][0]["queue"]["position"], 11);
    rig.wait_for_depth(Priority::Batch, 12).await;
    rig.work(boots);
    loop {
        let answer = rig.get(&last).await.expect(200);
        let Some(next) = answer.json["queue"]["position"].as_u64() else {
            break;
        };
        assert!(next <= position && next >= 1, "{next} after {position}");
        assert!(answer.json["queue"]["eta_ms"].is_u64());
        position = next;
        // Backends in memory never make anybody wait, and so would not let the worker in.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_admin_too_lists_their_own_jobs_alone() {
    let line = |name: &str, scope: &str| {
        let hash = Digest::of(format!("{name}-key").as_bytes()).to_hex();
        format!("{name} {hash}{scope}\n")
    };
    let rig = Rig::new(Plan {
        keys: Some(line("ann", "") + &line("ops", " admin")),
        ..Plan::default()
    });
    let (ann, ops) = (
        ("authorization", "Bearer ann-key"),
        ("authorization", "Bearer ops-key"),
    );
    let theirs = rig.post_with("/jobs", png(1), &[ann]).await.expect(202);
    let own = rig.post_with("/jobs", png(2), &[ops]).await.expect(202);
    for ((name, value), job) in [(ann, &theirs), (ops, &own)] {
        let request = Request::builder().uri("/jobs").header(name, value);
        let answer = rig.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(ids(&answer.expect(200)), [job.id()]);
    }
}

#[tokio::test]
async fn a_list_of_a_rare_state_comes_in_parts_of_bounded_work() {
    let rig = Rig::new(Plan::default());
    let mut oldest = String::new();
    for seed in 0..=500_u16 {
        let [high, low] = seed.to_be_bytes();
        let mut image = png(low);
        // What follows a PNG's end is no part of the picture, but makes it another image.
        image.push(high);
        let job = rig.post("/jobs", image).await.expect(202);
        if seed == 0 {
            job.id().clone_into(&mut oldest);
        }
    }
    let cancel = format!("/jobs/{oldest}/cancel");
    rig.post(&cancel, Vec::new()).await.expect(200);
    let path = "/jobs?status=canceled";
    let first = rig.get(path).await.expect(200);
    assert_eq!(ids(&first), [""; 0]);
    assert!(first.json["next_cursor"].is_string(), "{}", first.json);
    assert_eq!(walk(&rig, path).await, [oldest]);
}

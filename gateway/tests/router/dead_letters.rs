//! Dead letters: taken in, listed, replayed and purged, by admins alone.

use axum::body::Body;
use axum::http::Request;
use selvage_core::dead_letters::DeadLetterStore as _;
use selvage_core::job::{Job, Priority};
use selvage_core::key::Digest;
use selvage_core::outcome::{Failure, FailureCode};
use selvage_core::queue::Queue as _;
use selvage_core::store::{Claim, Completion, End, Seed, WorkerStore as _};

use crate::rig::{Answer, Plan, Rig, boots, eventually, png};

const ANN: (&str, &str) = ("authorization", "Bearer ann-key");
const OPS: (&str, &str) = ("authorization", "Bearer ops-key");
const ALL: &str = "/admin/dead-letters";

fn guarded() -> Plan {
    let line = |name: &str, scope: &str| {
        let hash = Digest::of(format!("{name}-key").as_bytes()).to_hex();
        format!("{name} {hash}{scope}\n")
    };
    Plan {
        keys: Some(line("ann", "") + &line("ops", " admin")),
        ..Plan::default()
    }
}

async fn ask(rig: &Rig, method: &str, path: &str, (name, value): (&str, &str)) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(name, value);
    rig.send(request.body(Body::empty()).unwrap()).await
}

/// Ann's job, whose message a worker dead-letters; its id.
async fn dead_letter(rig: &Rig, seed: u8) -> String {
    let job = rig.post_with("/jobs?top_k=2", png(seed), &[ANN]).await;
    let id = job.expect(202).id().to_owned();
    rig.take(Priority::Batch).await.settle.dead_letter();
    id
}

async fn listed(rig: &Rig, count: usize) -> Answer {
    eventually(async || {
        let list = ask(rig, "GET", ALL, OPS).await;
        list.json["total"] == count
    })
    .await;
    ask(rig, "GET", ALL, OPS).await.expect(200)
}

#[tokio::test]
async fn dead_letters_are_for_admins_alone() {
    let rig = Rig::new(guarded());
    let id = dead_letter(&rig, 1).await;
    listed(&rig, 1).await;
    let replay = format!("{ALL}/{id}/replay");
    let all = format!("{ALL}/replay");
    for (method, path) in [
        ("GET", ALL),
        ("DELETE", ALL),
        ("POST", &replay),
        ("POST", &all),
    ] {
        let nobody = ask(&rig, method, path, ("x", "y")).await;
        nobody.expect_problem(401, "unauthenticated");
        let ann = ask(&rig, method, path, ANN).await;
        ann.expect_problem(403, "forbidden");
    }
    listed(&rig, 1).await;
    // Where no keys are needed nobody is an admin.
    let open = Rig::new(Plan::default());
    open.get(ALL).await.expect_problem(403, "forbidden");
}

#[tokio::test]
async fn the_job_of_a_dead_letter_fails_at_once_and_is_replayed_as_a_new_one() {
    let rig = Rig::new(guarded());
    let id = dead_letter(&rig, 1).await;
    let failed = ask(&rig, "GET", &format!("/jobs/{id}?wait=20"), ANN).await;
    let failed = failed.expect(200);
    assert_eq!(failed.json["status"], "failed");
    assert_eq!(failed.json["error"]["code"], "dead_lettered");
    let list = listed(&rig, 1).await;
    let dead_letter = &list.json["items"][0];
    assert_eq!(
        (&dead_letter["id"], &dead_letter["reason"]),
        (&id.as_str().into(), &"rejected".into())
    );
    assert_eq!(
        (&dead_letter["model"], &dead_letter["priority"]),
        (&"tiny".into(), &"batch".into())
    );
    assert_eq!(
        (&dead_letter["owner"], &dead_letter["replayable"]),
        (&"ann".into(), &true.into())
    );
    assert_eq!(dead_letter["size"], png(1).len());
    assert!(
        dead_letter["died_at"].as_str().unwrap().ends_with('Z'),
        "{dead_letter}"
    );
    assert_eq!(list.header("cache-control"), "no-store");
    assert_eq!(rig.metric("selvage_gateway_dead_letters_total"), 1.0);
    eventually(async || rig.metric("selvage_gateway_dead_letters") == 1.0).await;

    rig.work(boots);
    let replayed = ask(&rig, "POST", &format!("{ALL}/{id}/replay"), OPS)
        .await
        .expect(202);
    let url = replayed.header("location").to_owned();
    assert_eq!(url, format!("/jobs/{}", replayed.id()));
    assert_ne!(replayed.id(), id);
    // It is the owner's, not the admin's.
    let ended = ask(&rig, "GET", &format!("{url}?wait=20"), ANN)
        .await
        .expect(200);
    assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
    assert_eq!(ended.json["retry_of"], id);
    assert_eq!(ended.json["output"]["top"].as_array().unwrap().len(), 2);
    assert!(failed.json.get("retry_of").is_none());
    listed(&rig, 0).await;
    let again = ask(&rig, "POST", &format!("{ALL}/{id}/replay"), OPS).await;
    again.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_poisonous_job_keeps_its_end_and_gives_its_letter_the_reason() {
    let rig = Rig::new(guarded());
    let job = rig.post_with("/jobs", png(1), &[ANN]).await.expect(202);
    let delivery = rig.take(Priority::Batch).await;
    let seed = Seed::of(&delivery.jobs[0]).unwrap();
    for start in 1..=3 {
        let claims = rig.store.claim(std::slice::from_ref(&seed)).await.unwrap();
        assert_eq!(claims, [Claim::Run(start)]);
    }
    let completion = Completion {
        id: seed.id,
        end: End::Failed(Failure::new(FailureCode::Poison, "three workers fell")),
        cost: selvage_core::outcome::Cost::default(),
        cached: false,
    };
    rig.store.complete(&[completion]).await.unwrap();
    delivery.settle.dead_letter();
    let list = listed(&rig, 1).await;
    let dead_letter = &list.json["items"][0];
    assert_eq!(
        (&dead_letter["reason"], &dead_letter["attempts"]),
        (&"poison".into(), &3.into())
    );
    let record = ask(&rig, "GET", &format!("/jobs/{}", job.id()), ANN).await;
    assert_eq!(record.json["error"]["code"], "poison");
}

#[tokio::test]
async fn an_answer_in_the_cache_ends_the_job_of_a_dead_letter() {
    let rig = Rig::new(guarded());
    let job = rig.post_with("/jobs", png(1), &[ANN]).await.expect(202);
    let delivery = rig.take(Priority::Batch).await;
    rig.cache.keep(delivery.jobs[0].key, crate::rig::scores());
    delivery.settle.dead_letter();
    let ended = ask(&rig, "GET", &format!("/jobs/{}?wait=20", job.id()), ANN).await;
    assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
    listed(&rig, 1).await;
}

#[tokio::test]
async fn a_job_somebody_waited_for_is_replayed_as_the_admins() {
    let rig = Rig::new(guarded());
    let waiting = rig.post_with("/predict?wait=0.05", png(1), &[ANN]);
    let (answer, ()) = tokio::join!(waiting, async {
        let delivery = rig.take(Priority::Interactive).await;
        delivery.settle.dead_letter();
    });
    answer.expect(202);
    let list = listed(&rig, 1).await;
    let dead_letter = &list.json["items"][0];
    assert_eq!(
        (&dead_letter["priority"], dead_letter["owner"].is_null()),
        (&"interactive".into(), true)
    );
    let id = dead_letter["id"].as_str().unwrap();
    let replayed = ask(&rig, "POST", &format!("{ALL}/{id}/replay"), OPS)
        .await
        .expect(202);
    let url = replayed.header("location").to_owned();
    ask(&rig, "GET", &url, OPS).await.expect(200);
    ask(&rig, "GET", &url, ANN)
        .await
        .expect_problem(404, "job_not_found");
}

#[tokio::test]
async fn pages_and_replays_are_bounded_and_a_purge_takes_the_rest() {
    let rig = Rig::new(guarded());
    let mut ids = Vec::new();
    for seed in 1..=5 {
        ids.push(dead_letter(&rig, seed).await);
    }
    listed(&rig, 5).await;
    let page = ask(&rig, "GET", &format!("{ALL}?limit=2&offset=1"), OPS)
        .await
        .expect(200);
    let shown: Vec<_> = page.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].clone())
        .collect();
    assert_eq!(shown, ids[1..3]);
    assert_eq!(page.json["total"], 5);
    for bad in ["limit=0", "limit=501", "offset=-1", "page=1"] {
        let refused = ask(&rig, "GET", &format!("{ALL}?{bad}"), OPS).await;
        refused.expect_problem(422, "invalid_option");
    }
    let replayed = ask(&rig, "POST", &format!("{ALL}/replay?limit=2"), OPS)
        .await
        .expect(200);
    let pairs = replayed.json["replayed"].as_array().unwrap();
    let old: Vec<_> = pairs.iter().map(|pair| pair["id"].clone()).collect();
    assert_eq!(old, ids[..2]);
    assert_eq!(
        (&replayed.json["skipped"], replayed.json["error"].is_null()),
        (&0.into(), true)
    );
    let purged = ask(&rig, "DELETE", ALL, OPS).await.expect(200);
    assert_eq!(purged.json["purged"], 3);
    listed(&rig, 0).await;
    let model = rig.model();
    assert_eq!(rig.queue.depth(&model, Priority::Batch).await.unwrap(), 2);
}

#[tokio::test]
async fn a_letter_whose_job_is_not_taken_stays() {
    let rig = Rig::new(Plan {
        queue_capacity: 1,
        ..guarded()
    });
    let first = dead_letter(&rig, 1).await;
    let second = dead_letter(&rig, 2).await;
    listed(&rig, 2).await;
    let replayed = ask(&rig, "POST", &format!("{ALL}/replay"), OPS)
        .await
        .expect(200);
    assert_eq!(replayed.json["replayed"][0]["id"], first);
    assert_eq!(replayed.json["error"]["code"], "queue_full");
    let list = listed(&rig, 1).await;
    assert_eq!(list.json["items"][0]["id"], second);
    for path in [format!("{ALL}/{second}/replay"), format!("{ALL}/replay")] {
        let refused = ask(&rig, "POST", &path, OPS).await;
        refused.expect_problem(429, "queue_full");
    }
    listed(&rig, 1).await;
}

#[tokio::test]
async fn a_letter_whose_model_is_gone_cannot_be_replayed() {
    let rig = Rig::new(guarded());
    let job = rig.post_with("/jobs", png(1), &[ANN]).await.expect(202);
    let delivery = rig.take(Priority::Batch).await;
    let gone = Job {
        model: "gone".parse().unwrap(),
        ..delivery.jobs[0].clone()
    };
    delivery.settle.ack();
    rig.queue.publish(gone.clone()).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let consuming = rig.queue.consume(&gone.model, Priority::Batch, 1, stop);
    let delivery = consuming.await.unwrap().next().await.unwrap();
    delivery.settle.dead_letter();
    listed(&rig, 1).await;
    let refused = ask(&rig, "POST", &format!("{ALL}/{}/replay", job.id()), OPS).await;
    refused.expect_problem(409, "not_replayable");
    let skipped = ask(&rig, "POST", &format!("{ALL}/replay"), OPS)
        .await
        .expect(200);
    assert_eq!(
        (&skipped.json["skipped"], &skipped.json["replayed"]),
        (&1.into(), &serde_json::json!([]))
    );
    listed(&rig, 1).await;
}

#[tokio::test]
async fn replays_of_one_dead_letter_make_one_job() {
    let rig = Rig::new(guarded());
    let id = dead_letter(&rig, 1).await;
    listed(&rig, 1).await;
    let stored = rig
        .dead_letters
        .get(id.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let replay = format!("{ALL}/{id}/replay");
    let replays = (0..8).map(|_| ask(&rig, "POST", &replay, OPS));
    let mut jobs = Vec::new();
    for answer in futures_util::future::join_all(replays).await {
        match answer.status {
            202 => jobs.push(answer.id().to_owned()),
            _ => drop(answer.expect_problem(404, "not_found")),
        }
    }
    // One whose end its gateway did not live to see is stored again, or was never removed.
    rig.dead_letters.add(&stored).await.unwrap();
    let again = ask(&rig, "POST", &replay, OPS).await.expect(202);
    jobs.push(again.id().to_owned());
    rig.dead_letters.add(&stored).await.unwrap();
    let all = ask(&rig, "POST", &format!("{ALL}/replay"), OPS).await;
    let pair = &all.expect(200).json["replayed"][0];
    jobs.push(pair["job"].as_str().unwrap().to_owned());
    jobs.dedup();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    listed(&rig, 0).await;
    let depth = rig.queue.depth(&rig.model(), Priority::Batch).await;
    assert_eq!(depth.unwrap(), 1);
}

#[tokio::test]
async fn a_dead_letter_is_held_while_the_store_is_away() {
    let rig = Rig::new(Plan {
        dead_letter_refusals: 2,
        ..guarded()
    });
    let id = dead_letter(&rig, 1).await;
    let list = listed(&rig, 1).await;
    assert_eq!(list.json["items"][0]["id"], id);
    eventually(async || rig.metric("selvage_gateway_dead_letters") == 1.0).await;
    assert_eq!(rig.metric("selvage_gateway_dead_letters_total"), 1.0);
}

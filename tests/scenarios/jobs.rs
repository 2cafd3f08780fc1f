//! Asynchronous jobs: accepted with a 202, polled, canceled, expired.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use selvage_tests::keys::{ANN, BOB};
use selvage_tests::{Answer, Client, Deployment, Shape, eventually, pictures};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest time any job here may take to end.
pub(super) const END_LIMIT: Duration = Duration::from_secs(30);

/// Polls with long polls until the job has ended.
pub(super) async fn end_of(client: &Client, id: &str) -> Answer {
    eventually("the job ends", END_LIMIT, || async {
        let answer = client
            .get(&format!("/jobs/{id}?wait=5"))
            .await
            .ok()?
            .expect(200);
        let status = answer.json["status"].as_str()?;
        (!["queued", "running"].contains(&status)).then_some(answer.clone())
    })
    .await
}

pub(super) async fn an_accepted_job_finishes_and_can_be_polled_anywhere(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (client, other) = (on.client(), on.other_client());
    let accepted =
        try_join_all((0..20).map(|_| client.post_image("/jobs?top_k=2", pictures::unique())))
            .await?;
    for answer in accepted {
        let answer = answer.expect(202);
        let url = format!("/jobs/{}", answer.id());
        assert_eq!(answer.header("location"), url);
        assert!(answer.header("retry-after").parse::<u64>()? >= 1);
        assert!(
            ["queued", "running"].contains(&answer.json["status"].as_str().unwrap_or_default()),
            "{}",
            answer.json
        );
        assert_eq!(answer.json["urls"]["self"], url);
        assert_eq!(answer.json["urls"]["cancel"], format!("{url}/cancel"));
        match on.shape {
            Shape::Embedded => assert_eq!(answer.json["durable"], false),
            Shape::Fleet => assert!(
                answer
                    .json
                    .get("durable")
                    .is_none_or(|durable| durable == true)
            ),
        }
        let ended = end_of(&other, answer.id()).await;
        assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
        assert_eq!(
            ended.json["output"]["top"].as_array().map(Vec::len),
            Some(2)
        );
        assert!(ended.json["attempts"].as_u64() >= Some(1));
        assert!(ended.json["expires_at"].is_string() && ended.json["finished_at"].is_string());
    }
    Ok(())
}

pub(super) async fn prefer_decides_how_long_to_wait(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let ask = |path: &'static str, prefer: &'static str| {
        let client = client.clone();
        async move {
            client
                .post_image_with(path, pictures::unique(), &[("prefer", prefer)])
                .await
        }
    };
    let later = ask("/predict", "respond-async").await?.expect(202);
    assert_eq!(later.header("preference-applied"), "respond-async");
    assert_eq!(
        end_of(&client, later.id()).await.json["status"],
        "succeeded"
    );
    let now = ask("/predict", "wait=20").await?.expect(200);
    assert_eq!(now.header("preference-applied"), "wait=20");
    // The header wins over the parameter.
    ask("/predict?wait=0", "wait=20").await?.expect(200);
    client
        .post_image("/predict?wait=0", pictures::unique())
        .await?
        .expect(202);
    // What cannot be understood is ignored (RFC 7240 §2).
    ask("/predict", "wait=soon, handling=lenient")
        .await?
        .expect(200);
    Ok(())
}

pub(super) async fn a_wait_that_runs_out_becomes_a_job(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let answer = client
        .post_image("/predict?wait=1", pictures::boot())
        .await?
        .expect(202);
    assert_eq!(answer.json["status"], "queued");
    on.add_workers(1);
    let ended = end_of(&on.other_client(), answer.id()).await;
    assert_eq!(ended.label(), "Ankle boot");
    Ok(())
}

pub(super) async fn a_queued_job_can_be_canceled(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let job = client
        .post_image("/jobs", pictures::unique())
        .await?
        .expect(202);
    let queued = client
        .get(&format!("/jobs/{}", job.id()))
        .await?
        .expect(200);
    assert!(
        queued.json["queue"]["position"].is_u64() && queued.json["queue"]["eta_ms"].is_number(),
        "{}",
        queued.json
    );
    let cancel = format!("/jobs/{}/cancel", job.id());
    let canceled = on.other_client().post(&cancel).await?.expect(200);
    assert_eq!(canceled.json["status"], "canceled");
    client.post(&cancel).await?.expect(200);
    on.add_workers(1);
    let after = client
        .post_image("/predict?wait=30", pictures::unique())
        .await?
        .expect(200);
    assert_eq!(after.json["status"], "succeeded");
    let still = client
        .get(&format!("/jobs/{}", job.id()))
        .await?
        .expect(200);
    assert_eq!(
        still.json["status"], "canceled",
        "a terminal state never changes"
    );
    assert!(still.json["output"].is_null());
    Ok(())
}

pub(super) async fn a_finished_job_cannot_be_canceled(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let job = client
        .post_image("/jobs", pictures::unique())
        .await?
        .expect(202);
    end_of(&client, job.id()).await;
    client
        .post(&format!("/jobs/{}/cancel", job.id()))
        .await?
        .expect_problem(409, "job_finished");
    Ok(())
}

pub(super) async fn unknown_and_forgotten_ids_are_distinguished(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let fresh = uuid::Uuid::now_v7().to_string();
    for id in [
        fresh.as_str(),
        "1",
        "not-an-id",
        "550e8400-e29b-41d4-a716-446655440000",
    ] {
        client
            .get(&format!("/jobs/{id}"))
            .await?
            .expect_problem(404, "job_not_found");
        client
            .post(&format!("/jobs/{id}/cancel"))
            .await?
            .expect_problem(404, "job_not_found");
    }
    // A UUIDv7 of January 2020: issued long before anything that is still kept.
    client
        .get("/jobs/016f5e66-e800-7000-8000-000000000000")
        .await?
        .expect_problem(410, "job_expired");
    // An id of an answer that was given within the wait leaves no record.
    let answered = client
        .post_image("/predict", pictures::unique())
        .await?
        .expect(200);
    client
        .get(&format!("/jobs/{}", answered.id()))
        .await?
        .expect_problem(404, "job_not_found");
    Ok(())
}

pub(super) async fn an_expired_job_says_so(on: Arc<Deployment>) -> anyhow::Result<()> {
    let job = on
        .client()
        .post_image("/jobs", pictures::unique())
        .await?
        .expect(202);
    let ended = end_of(&on.other_client(), job.id()).await;
    assert_eq!(ended.json["status"], "expired", "{}", ended.json);
    Ok(())
}

pub(super) async fn a_bad_image_in_a_job_fails_it_with_a_reason(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let mut cut = pictures::noise(40, 40, 9);
    cut.truncate(cut.len() / 2);
    let job = on.client().post_image("/jobs", cut).await?.expect(202);
    let ended = end_of(&on.client(), job.id()).await;
    assert_eq!(ended.json["status"], "failed");
    assert_eq!(
        ended.json["error"]["code"], "invalid_image",
        "{}",
        ended.json
    );
    assert!(ended.json["output"].is_null());
    Ok(())
}

/// The job is canceled at another gateway than the one at which its client waits.
pub(super) async fn a_waiting_client_learns_of_a_cancellation_elsewhere(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (here, elsewhere) = (on.client(), on.other_client());
    let image = pictures::unique();
    let key = |prefer| [("idempotency-key", "one-job"), ("prefer", prefer)];
    let waiting = key("wait=60");
    let waiting = here.post_image_with("/predict", image.clone(), &waiting);
    let cancel = async {
        // The same request is the same job: this is how another client comes to know its id.
        let same = key("respond-async");
        let job = elsewhere.post_image_with("/predict", image.clone(), &same);
        let job = job.await?.expect(202);
        let canceled = elsewhere
            .post(&format!("/jobs/{}/cancel", job.id()))
            .await?;
        assert_eq!(canceled.expect(200).json["status"], "canceled");
        anyhow::Ok(())
    };
    let (reported, canceled) = tokio::join!(waiting, cancel);
    canceled?;
    reported?.expect_problem(409, "job_canceled");
    Ok(())
}

/// Reads a list in parts, each from the other gateway where there are two.
async fn walk(on: &Deployment, key: &'static str, query: &str) -> anyhow::Result<Vec<String>> {
    let clients = [on.client().with_key(key), on.other_client().with_key(key)];
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    for client in clients.iter().cycle() {
        let part = client
            .get(&format!("/jobs?{query}{cursor}"))
            .await?
            .expect(200);
        let items = part.json["items"].as_array().cloned().unwrap_or_default();
        let id = |item: &serde_json::Value| item["id"].as_str().map(str::to_owned);
        ids.extend(items.iter().filter_map(id));
        match part.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    Ok(ids)
}

/// While one key has lists read without a pause, the jobs of another are taken and end.
pub(super) async fn many_lists_of_one_key_stop_no_other(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (ann, bob) = (on.client().with_key(ANN), on.client().with_key(BOB));
    for _ in 0..20 {
        let job = ann.post_image("/jobs", pictures::unique()).await?;
        job.expect(202);
    }
    let stop = CancellationToken::new();
    let mut lists = JoinSet::new();
    for _ in 0..16 {
        let (ann, stop) = (ann.clone(), stop.clone());
        lists.spawn(async move {
            while !stop.is_cancelled() {
                let answer = ann.get("/jobs?status=failed&limit=100").await?;
                if answer.status != 200 {
                    answer.expect_problem(429, "rate_limited");
                }
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..20 {
        let job = bob.post_image("/jobs", pictures::unique()).await?;
        let ended = end_of(&bob, job.expect(202).id()).await;
        assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
    }
    stop.cancel();
    while let Some(listed) = lists.join_next().await {
        listed??;
    }
    Ok(())
}

pub(super) async fn the_callers_jobs_are_listed(on: Arc<Deployment>) -> anyhow::Result<()> {
    let mut anns = Vec::new();
    for n in 0..14 {
        let (key, client) = if n % 2 == 0 {
            (ANN, on.client())
        } else {
            (BOB, on.other_client())
        };
        let client = client.with_key(key);
        let job = client.post_image("/jobs", pictures::unique()).await?;
        let job = job.expect(202);
        end_of(&client, job.id()).await;
        if key == ANN {
            anns.insert(0, job.id().to_owned());
        }
    }
    for query in ["limit=100", "limit=3", "limit=2&status=succeeded"] {
        let listed = walk(&on, ANN, query).await?;
        // Other scenarios may have used this key before.
        assert_eq!(listed[..7], anns, "{query}");
        let bobs = walk(&on, BOB, query).await?;
        assert!(bobs.len() >= 7 && bobs.iter().all(|id| !anns.contains(id)));
    }
    let ann = on.client().with_key(ANN);
    for wrong in [
        "limit=0",
        "limit=101",
        "status=done",
        "cursor=1",
        "colour=red",
    ] {
        let refused = ann.get(&format!("/jobs?{wrong}")).await?;
        refused.expect_problem(422, "invalid_option");
    }
    let stranger = Client::new(on.gateways[0]);
    stranger
        .get("/jobs")
        .await?
        .expect_problem(401, "unauthenticated");
    Ok(())
}

/// Twenty jobs without a worker stand at 1 to 20; once one works, nobody ever falls back.
pub(super) async fn positions_only_fall(on: Arc<Deployment>) -> anyhow::Result<()> {
    const JOBS: u64 = 20;
    let clients = [on.client(), on.other_client()];
    let mut ids = Vec::new();
    for (n, client) in (1..=JOBS).zip(clients.iter().cycle()) {
        let job = client.post_image("/jobs", pictures::unique()).await?;
        let job = job.expect(202);
        assert_eq!(job.json["queue"]["position"], n, "{}", job.json);
        ids.push(job.id().to_owned());
    }
    let mut positions: Vec<u64> = (1..=JOBS).collect();
    let mut seen = 0;
    on.add_workers(1);
    while positions.iter().any(|position| *position > 0) {
        for ((id, position), client) in ids.iter().zip(&mut positions).zip(clients.iter().cycle()) {
            let job = client.get(&format!("/jobs/{id}")).await?.expect(200);
            let queue = &job.json["queue"];
            let now = queue["position"].as_u64().unwrap_or_default();
            assert!(now <= *position, "{now} after {position}");
            assert!(now == 0 || queue["eta_ms"].is_u64(), "{queue}");
            seen += usize::from(now < *position);
            *position = now;
        }
    }
    assert!(seen >= ids.len(), "{seen}");
    for id in &ids {
        assert_eq!(end_of(&clients[0], id).await.json["status"], "succeeded");
    }
    Ok(())
}

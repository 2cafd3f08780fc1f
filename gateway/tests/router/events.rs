//! A job as a stream of server-sent events.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use selvage_core::job::{JobId, Priority};
use selvage_core::store::{JobStore as _, Seed, WorkerStore as _};
use serde_json::Value;
use tokio::time::Instant;

use crate::rig::{Answer, Plan, Rig, boots, png};

/// The events of a whole stream: id and data.
fn events(text: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    blocks
        .map(|block| {
            assert_eq!(field(block, "event:").as_deref(), Some("status"), "{block}");
            let data = field(block, "data:").unwrap();
            (
                field(block, "id:").unwrap(),
                serde_json::from_str(&data).unwrap(),
            )
        })
        .collect()
}

fn text(answer: Answer) -> String {
    String::from_utf8(answer.body).unwrap()
}

async fn follow(rig: &Rig, id: &str, last: Option<&str>) -> Answer {
    let mut request = Request::get(format!("/jobs/{id}/events"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    rig.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_state_comes_first_then_each_change_once_then_the_end() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    assert_eq!(
        job.json["urls"]["events"],
        format!("/jobs/{}/events", job.id())
    );
    let delivery = rig.take(Priority::Batch).await;
    let seed = Seed::of(&delivery.jobs[0]).unwrap();
    let request = Request::get(format!("/jobs/{}/events", job.id()));
    let response = rig.open(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let (mut received, mut body) = (String::new(), response.into_body().into_data_stream());
    while let Some(frame) = body.next().await {
        received.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
        // The next step waits for what was received.
        match received.matches("data:").count() {
            1 => drop(rig.store.claim(std::slice::from_ref(&seed)).await.unwrap()),
            2 => rig.store.release(&[seed.id]).await.unwrap(),
            3 => drop(rig.store.cancel(seed.id).await.unwrap()),
            _ => {}
        }
    }
    let events = events(&received);
    let ids: Vec<&str> = events.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["queued.0", "running.1", "queued.0", "canceled.0"]);
    assert_eq!(events[0].1["id"], job.id());
    assert!(events[3].1["finished_at"].is_string());
}

#[tokio::test]
async fn a_client_that_comes_back_gets_only_what_it_has_not_seen() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let (answer, ()) = tokio::join!(follow(&rig, job.id(), Some("queued.0")), async {
        rig.work(boots)
    });
    let events_after = events(&text(answer.expect(200)));
    assert!(
        events_after.iter().all(|(id, _)| id != "queued.0"),
        "{events_after:?}"
    );
    let known = follow(&rig, job.id(), Some("succeeded.1")).await;
    assert!(known.expect(204).body.is_empty());
    let missed = follow(&rig, job.id(), Some("running.1")).await.expect(200);
    let missed = events(&text(missed));
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].0, "succeeded.1");
}

/// Time is virtual: it goes on by itself while everybody waits.
#[tokio::test(start_paused = true)]
async fn a_stream_where_nothing_happens_is_kept_alive_by_comments() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let request = Request::get(format!("/jobs/{}/events", job.id()));
    let response = rig.open(request.body(Body::empty()).unwrap()).await;
    let mut frames = response.into_body().into_data_stream();
    let mut next =
        async || String::from_utf8(frames.next().await.unwrap().unwrap().into()).unwrap();
    assert!(next().await.contains("id: queued.0"));
    for _ in 0..3 {
        let quiet_since = Instant::now();
        // A line that begins with a colon is a comment: EventSource passes it over.
        assert_eq!(next().await, ": keep-alive\n\n");
        assert_eq!(quiet_since.elapsed().as_secs(), 15);
    }
    rig.store.cancel(job.id().parse().unwrap()).await.unwrap();
    assert!(next().await.contains("id: canceled.0"));
}

#[tokio::test]
async fn a_cancellation_ends_a_stream_at_once() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let cancel = format!("/jobs/{}/cancel", job.id());
    let (answer, _) = tokio::join!(follow(&rig, job.id(), None), rig.post(&cancel, vec![]));
    assert_eq!(
        events(&text(answer.expect(200))).last().unwrap().0,
        "canceled.0"
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_record_and_with_its_gateway() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let id: JobId = job.id().parse().unwrap();
    let (gone, ()) = tokio::join!(follow(&rig, job.id(), None), async {
        rig.store.withdraw(id, id).await.unwrap();
    });
    assert!(gone.status == 404 || events(&text(gone)).len() == 1);
    let job = rig.post("/jobs", png(2)).await.expect(202);
    let (drained, ()) = tokio::join!(follow(&rig, job.id(), None), async {
        rig.app.life.draining.cancel();
    });
    assert_eq!(events(&text(drained.expect(200))).len(), 1);
}

#[tokio::test]
async fn what_cannot_be_followed_is_said() {
    let rig = Rig::new(Plan::default());
    follow(&rig, &JobId::new().to_string(), None)
        .await
        .expect_problem(404, "job_not_found");
    follow(&rig, "1", None)
        .await
        .expect_problem(404, "job_not_found");
    rig.get(&format!("/jobs/{}/events?wait=1", JobId::new()))
        .await
        .expect_problem(422, "invalid_option");
}

//! Workers come and go: by being started, by being killed, by being asked to stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use selvage_tests::{Deployment, Shape, eventually, pictures};

use super::jobs::end_of;

pub(super) async fn workers_join_by_being_started(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let accepted =
        try_join_all((0..60).map(|_| client.post_image("/jobs", pictures::unique()))).await?;
    on.add_workers(3);
    for answer in &accepted {
        assert_eq!(
            end_of(&on.other_client(), answer.id()).await.json["status"],
            "succeeded"
        );
    }
    on.wait_for_workers(3).await;
    Ok(())
}

pub(super) async fn a_killed_worker_loses_nothing(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let accepted = try_join_all(
        (0..40).map(|n| client.post_image("/jobs", pictures::noise(900, 900, 5000 + n))),
    )
    .await?;
    let accepted: Vec<_> = accepted.into_iter().map(|job| job.expect(202)).collect();
    let waiting = join_all(
        (0..20).map(|n| client.post_image("/predict?wait=60", pictures::noise(900, 900, 7000 + n))),
    );
    let kill = async {
        let some_done = || async {
            let answer = client
                .get(&format!("/jobs/{}", accepted[0].id()))
                .await
                .ok()?;
            (answer.json["status"] == "succeeded").then_some(())
        };
        eventually("work is under way", Duration::from_secs(30), some_done).await;
        on.with_workers(|workers| workers[0].signal("KILL"));
    };
    let (answers, ()) = tokio::join!(waiting, kill);
    for answer in answers {
        let answer = answer?;
        assert!(
            [200, 202].contains(&answer.status),
            "a waiting client gets an answer or a job: {}",
            answer.json
        );
    }
    let mut ids = BTreeSet::new();
    for answer in &accepted {
        let ended = end_of(&client, answer.id()).await;
        assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
        ids.insert(answer.id());
    }
    assert_eq!(ids.len(), 40);
    Ok(())
}

pub(super) async fn a_drain_finishes_what_was_accepted(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let posts = join_all(
        (0..24).map(|n| client.post_image("/predict?wait=30", pictures::noise(700, 700, 9000 + n))),
    );
    let stop = async {
        let under_way = || async {
            let in_flight = client.metric("selvage_gateway_in_flight", "").await.ok()?;
            (in_flight >= 1.0).then_some(())
        };
        eventually("work is under way", Duration::from_secs(30), under_way).await;
        match on.shape {
            Shape::Embedded => on.with_gateways(|programs| programs[0].signal("TERM")),
            Shape::Fleet => on.with_workers(|programs| programs[0].signal("TERM")),
        }
    };
    let (answers, ()) = tokio::join!(posts, stop);
    // A connection that had not been accepted before the drain may be refused; one that was has its answer.
    for answer in answers.into_iter().flatten() {
        assert!(
            [200, 202, 503].contains(&answer.status),
            "{}: {}",
            answer.status,
            answer.json
        );
    }
    let status = match on.shape {
        Shape::Embedded => {
            on.with_gateways(|programs| programs[0].wait_for_end(Duration::from_secs(40)))
        }
        Shape::Fleet => {
            on.with_workers(|programs| programs[0].wait_for_end(Duration::from_secs(40)))
        }
    };
    assert!(status.success(), "a drain ends with code 0: {status}");
    Ok(())
}

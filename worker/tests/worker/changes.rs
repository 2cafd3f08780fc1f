//! Models that change in the folder of a running worker.

use std::fs;
use std::sync::Arc;

use selvage_core::catalog::{Catalog, Model};
use selvage_core::job::Job;
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::Outcome;
use selvage_core::registry::{AskedModel, Fleet as _, Member};
use tokio::time::timeout;

use crate::support::{LIMIT, RED, Rig, picture, project};

fn put(rig: &Rig, source: &str) {
    let file = project()
        .join("tests/fixtures")
        .join(source)
        .join("model.onnx");
    let folder = rig.models.path().join("rgb-tiny");
    fs::copy(file, folder.join("next")).unwrap();
    fs::rename(folder.join("next"), folder.join("model.onnx")).unwrap();
}

fn in_folder(rig: &Rig) -> Arc<Model> {
    Arc::clone(&Catalog::read(rig.models.path()).unwrap().models()[0])
}

/// A gateway whose jobs are for this file.
async fn ask_for(rig: &Rig, model: &Model) {
    let mut gateway = selvage_core::registry::suite::gateway("g");
    gateway.asks = Some(vec![AskedModel::from(model)]);
    rig.fleet.announce(&Member::Gateway(gateway)).await.unwrap();
}

/// Waits until the worker announces these files, the newest first, while a gateway asks for one.
async fn until_held(rig: &Rig, asked: &Model, models: &[&Model]) {
    let wanted: Vec<Digest> = models.iter().map(|model| model.digest).collect();
    let held = async {
        loop {
            ask_for(rig, asked).await;
            let members = rig.fleet.members().await.unwrap();
            let held = members.workers.iter().flat_map(|worker| &worker.models);
            if held.map(|held| held.digest).collect::<Vec<_>>() == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, held).await.expect("the files are held");
}

fn job_for(rig: &Rig, model: &Model, salt: u8) -> Job {
    let job = rig.waited_for(picture(RED, salt));
    let key = PredictionKey {
        model: model.digest,
        preprocessing: model.preprocessing,
        ..job.key
    };
    Job { key, ..job }
}

/// The first score of a fresh job for this file.
async fn red(rig: &mut Rig, model: &Model, salt: u8) -> f32 {
    rig.publish([job_for(rig, model, salt)]).await;
    match rig.report().await.outcome {
        Outcome::Succeeded(scores) => scores.as_slice()[0],
        other => panic!("no success: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_done_with_the_file_it_was_accepted_for() {
    let mut rig = Rig::running().await;
    let old = Arc::clone(&rig.model);
    let before = red(&mut rig, &old, 1).await;
    put(&rig, "changes/third");
    let new = in_folder(&rig);
    until_held(&rig, &old, &[&new, &old]).await;
    assert_eq!(red(&mut rig, &old, 2).await, before);
    let after = red(&mut rig, &new, 3).await;
    assert!(after < before, "softer scores: {after} and {before}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_file_waits_and_an_old_one_goes_when_nobody_asks_for_it() {
    let mut rig = Rig::running().await;
    let first = Arc::clone(&rig.model);
    put(&rig, "changes/half");
    let second = in_folder(&rig);
    until_held(&rig, &first, &[&second, &first]).await;
    put(&rig, "changes/third");
    let third = in_folder(&rig);
    // The second was never asked for: it makes room.
    until_held(&rig, &first, &[&third, &first]).await;
    until_held(&rig, &third, &[&third]).await;
    red(&mut rig, &third, 1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing() {
    let mut rig = Rig::running().await;
    let old = Arc::clone(&rig.model);
    let refused = ["rgb-tiny", "refused"];
    let mut count = 0.0;
    for broken in ["truncated", "not-a-model", "wrong-labels", "wrong-type"] {
        put(&rig, &format!("broken-models/{broken}"));
        count += 1.0;
        rig.until_count("selvage_worker_model_changes_total", &refused, count)
            .await;
    }
    let folder = rig.models.path().join("rgb-tiny");
    fs::write(folder.join("model.toml"), "name = 1").unwrap();
    rig.until_count("selvage_worker_model_changes_total", &refused, count + 1.0)
        .await;
    fs::remove_dir_all(folder).unwrap();
    rig.until_count("selvage_worker_model_changes_total", &refused, count + 2.0)
        .await;
    until_held(&rig, &old, &[&old]).await;
    red(&mut rig, &old, 1).await;
    rig.end().await;
}

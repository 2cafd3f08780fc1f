//! Models that change while programs run: no request fails, and no answer is of another file than it says.

mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use selvage_core::key::Digest;
use selvage_tests::program::project;
use selvage_tests::scrape::Scrape;
use selvage_tests::{Client, Deployment, Settings, Shape, eventually};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::load::{FILES, Load, judge, named, picture, send};
use super::jobs::end_of;

/// Longest wait for anything; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(60);
/// A folder that is looked at every second.
pub(super) fn followed() -> Settings {
    Settings::default().with("SELVAGE_MODELS_POLL", 1)
}

/// The same with one worker; the test starts the other.
pub(super) fn followed_by_one() -> Settings {
    followed().workers(1)
}

/// Three workers; the test starts another.
pub(super) fn three_workers() -> Settings {
    Settings::default().workers(3)
}

/// A folder that is looked at after SIGHUP only.
pub(super) fn followed_on_signal() -> Settings {
    Settings::default().with("SELVAGE_MODELS_POLL", 0)
}

fn bytes(file: &str) -> Vec<u8> {
    let path = project()
        .join("tests/fixtures")
        .join(file)
        .join("model.onnx");
    fs::read(path).expect("a fixture")
}

fn digest(file: &str) -> String {
    Digest::of(&bytes(file)).to_string()
}

/// Puts another file in the model's place, as one should.
fn replace(models: &Path, file: &str) {
    put(models, "model.onnx", &bytes(file));
}

/// Puts a file into the model's folder in one step: written beside its place, then renamed.
fn put(models: &Path, name: &str, content: &[u8]) {
    let folder = models.join("rgb-tiny");
    fs::write(folder.join("next"), content).expect("a folder that can be written to");
    fs::rename(folder.join("next"), folder.join(name)).expect("a rename");
}

/// The description of the model, with another version and file.
fn described(version: &str, file: &str) -> String {
    let path = project().join("tests/fixtures/rgb-tiny/model.toml");
    let text = fs::read_to_string(path).expect("a fixture");
    let text = text.replace("version = \"1\"", &format!("version = \"{version}\""));
    text.replace("model.onnx", file)
}

async fn model(client: &Client) -> anyhow::Result<Value> {
    Ok(client.get("/models/rgb-tiny").await?.expect(200).json)
}

/// Which digests each worker holds.
fn holders(model: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_worker = BTreeMap::<_, BTreeSet<_>>::new();
    for holder in model["workers"].as_array().into_iter().flatten() {
        let text = |field: &str| holder[field].as_str().unwrap_or_default().to_owned();
        by_worker
            .entry(text("id"))
            .or_default()
            .insert(text("digest"));
    }
    by_worker
}

/// Waits until both gateways ask for this file.
async fn until_asked(on: &Deployment, file: &str) {
    let digest = digest(file);
    for client in [on.client(), on.other_client()] {
        let asked =
            || async { (model(&client).await.ok()?["digest"] == digest.as_str()).then_some(()) };
        eventually("the new file is asked for", LIMIT, asked).await;
    }
}

/// Waits until each worker holds these files and no others.
async fn until_held(on: &Deployment, files: &[&[&str]]) {
    let wanted = |files: &&[&str]| {
        files
            .iter()
            .map(|file| digest(file))
            .collect::<BTreeSet<_>>()
    };
    let mut wanted: Vec<_> = files.iter().map(wanted).collect();
    wanted.sort();
    let client = on.client();
    let held = || async {
        let mut held: Vec<_> = holders(&model(&client).await.ok()?).into_values().collect();
        held.sort();
        (held == wanted).then_some(())
    };
    eventually("the workers hold what they should", LIMIT, held).await;
}

pub(super) async fn no_answer_is_wrong_or_lost_under_load(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (client, models) = (on.client(), on.models());
    let [base, half, third] = FILES.map(|(file, _)| file);
    let keyed = || async {
        let headers = [("idempotency-key", "\"kept\"")];
        let path = "/jobs?model=rgb-tiny";
        let answer = client.post_image_with(path, picture(7).0, &headers).await?;
        ensure!([200, 202].contains(&answer.status), "{}", answer.json);
        anyhow::Ok(answer.id().to_owned())
    };
    let before = keyed().await?;
    let load = Load::start(&on);
    replace(&models, half);
    until_asked(&on, half).await;
    // While the first may still be in use.
    replace(&models, third);
    until_asked(&on, third).await;
    assert_eq!(keyed().await?, before, "the same request is the same job");
    let (refused, file) = ("selvage_worker_model_changes_total", bytes(base));
    let workers = if on.shape == Shape::Fleet { 2.0 } else { 1.0 };
    // A writer that stops half-way for longer than the folder has to be still.
    fs::write(models.join("rgb-tiny/model.onnx"), &file[..file.len() / 2])?;
    let of_this = [("model", "rgb-tiny"), ("result", "refused")];
    eventually("every worker refuses half a file", LIMIT, || async {
        let reported = Scrape::of_workers(&on).await.ok()?;
        (reported.sum(refused, &of_this) >= workers).then_some(())
    })
    .await;
    assert_eq!(model(&client).await?["digest"], digest(third).as_str());
    fs::write(models.join("rgb-tiny/model.onnx"), &file)?;
    until_asked(&on, base).await;
    let alone: &[&str] = &[base];
    let both = [alone, alone];
    until_held(
        &on,
        if on.shape == Shape::Fleet {
            &both
        } else {
            &both[..1]
        },
    )
    .await;
    let seen = load.finish().await?;
    for (file, _) in FILES {
        assert!(
            seen.contains_key(&named(file)),
            "no answer of {file}: {seen:?}"
        );
    }
    Ok(())
}

/// The models in another folder.
fn copy_of_models(on: &Deployment) -> anyhow::Result<TempDir> {
    let elsewhere = tempfile::tempdir()?;
    for name in ["clothing", "fashion-mnist", "rgb-tiny"] {
        let (from, to) = (on.models().join(name), elsewhere.path().join(name));
        fs::create_dir(&to)?;
        for file in ["model.toml", "model.onnx"] {
            fs::copy(from.join(file), to.join(file))?;
        }
    }
    Ok(elsewhere)
}

pub(super) async fn a_fleet_in_the_middle_of_a_change_shows_it(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let elsewhere = copy_of_models(&on)?;
    let folder = elsewhere.path().display().to_string();
    on.add_workers_with(1, &[("SELVAGE_MODELS", &folder)]);
    let [base, half, _] = FILES.map(|(file, _)| file);
    until_held(&on, &[&[base], &[base]]).await;
    let load = Load::start(&on);
    replace(&on.models(), half);
    until_held(&on, &[&[base, half], &[base]]).await;
    assert_eq!(
        model(&on.client()).await?["digest"],
        digest(base).as_str(),
        "not every worker has the new file"
    );
    replace(elsewhere.path(), half);
    until_asked(&on, half).await;
    until_held(&on, &[&[half], &[half]]).await;
    load.finish().await?;
    Ok(())
}

pub(super) async fn two_files_side_by_side_answer_all(on: Arc<Deployment>) -> anyhow::Result<()> {
    let [base, half, _] = FILES.map(|(file, _)| file);
    let elsewhere = copy_of_models(&on)?;
    replace(elsewhere.path(), half);
    // What starts now knows the other file only: a worker, and the second gateway.
    on.set("SELVAGE_MODELS", elsewhere.path().display().to_string());
    on.add_workers(1);
    on.with_gateways(|gateways| {
        gateways[1].signal("KILL");
        gateways[1].wait_for_end(LIMIT);
    });
    assert_eq!(on.revive_gateways(), 1);
    on.wait_until_ready(1).await;
    until_held(&on, &[&[base], &[base], &[base], &[half]]).await;
    let asked = [(on.client(), base), (on.other_client(), half)];
    for (client, file) in &asked {
        assert_eq!(model(client).await?["digest"], digest(file).as_str());
    }

    let mut requests = JoinSet::new();
    for n in 0..80 {
        let (client, file) = asked[n % 2].clone();
        requests.spawn(async move {
            let is_job = n < 60;
            let path = if is_job {
                "/jobs?"
            } else {
                "/predict?wait=60&"
            };
            let (image, stands_out) = picture(n);
            let answer = client
                .post_image(&format!("{path}model=rgb-tiny&top_k=3"), image)
                .await?;
            let answer = if is_job {
                end_of(&client, answer.expect(202).id()).await
            } else {
                answer.expect(200)
            };
            ensure!(answer.json["status"] == "succeeded", "{}", answer.json);
            ensure!(
                judge(&answer, stands_out)? == named(file),
                "{}",
                answer.json
            );
            Ok(())
        });
    }
    while let Some(done) = requests.join_next().await {
        done??;
    }
    until_held(&on, &[&[base], &[base], &[base], &[half]]).await;
    Ok(())
}

pub(super) async fn sighup_has_the_folder_read(on: Arc<Deployment>) -> anyhow::Result<()> {
    let [base, half, _] = FILES.map(|(file, _)| file);
    until_asked(&on, base).await;
    replace(&on.models(), half);
    on.with_gateways(|gateways| gateways.iter().for_each(|gateway| gateway.signal("HUP")));
    on.with_workers(|workers| workers.iter().for_each(|worker| worker.signal("HUP")));
    until_asked(&on, half).await;
    assert_eq!(send(&on.client(), 1).await?, named(half));
    Ok(())
}

pub(super) async fn description_and_file_change_together(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let [base, half, _] = FILES.map(|(file, _)| file);
    until_asked(&on, base).await;
    let (models, load) = (on.models(), Load::start(&on));
    put(&models, "half.onnx", &bytes(half));
    put(
        &models,
        "model.toml",
        described("2", "half.onnx").as_bytes(),
    );
    until_asked(&on, half).await;
    assert_eq!(model(&on.client()).await?["version"], "2");
    let after = (digest(half), "2".to_owned());
    assert_eq!(send(&on.client(), 399).await?, after);
    // No answer has the version of one and the file of the other.
    let seen = load.finish().await?;
    let known = BTreeSet::from([named(base), after]);
    assert!(seen.keys().all(|named| known.contains(named)), "{seen:?}");
    Ok(())
}

pub(super) async fn a_description_that_cannot_be_read_changes_nothing(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let [base, half, _] = FILES.map(|(file, _)| file);
    until_asked(&on, base).await;
    let (models, load) = (on.models(), Load::start(&on));
    let (counter, refused) = (
        "selvage_gateway_model_changes_total",
        [("model", "rgb-tiny"), ("result", "refused")],
    );
    // Text that is no description, and one that does not fit its file.
    let other_size = described("2", "model.onnx").replace("width = 8", "width = 9");
    for (times, wrong) in [(1.0, "name = rgb-tiny"), (2.0, &other_size)] {
        put(&models, "model.toml", wrong.as_bytes());
        for client in [on.client(), on.other_client()] {
            // A gateway opens no model file: what only a worker can see never becomes what is asked for.
            let times = if wrong == other_size {
                times - 1.0
            } else {
                times
            };
            eventually(
                "each gateway refuses what it cannot read",
                LIMIT,
                || async {
                    let reported = Scrape::of(&client).await.ok()?;
                    (reported.sum(counter, &refused) >= times).then_some(())
                },
            )
            .await;
        }
        let (counter, workers) = (
            "selvage_worker_model_changes_total",
            if on.shape == Shape::Fleet { 2.0 } else { 1.0 },
        );
        eventually("each worker refuses it", LIMIT, || async {
            let reported = Scrape::of_workers(&on).await.ok()?;
            (reported.sum(counter, &refused) >= times * workers).then_some(())
        })
        .await;
        let now = model(&on.client()).await?;
        assert_eq!(
            (&now["digest"], &now["version"]),
            (&digest(base).into(), &"1".into())
        );
    }
    let seen = load.finish().await?;
    assert!(seen.keys().all(|one| *one == named(base)), "{seen:?}");
    put(&models, "model.onnx", &bytes(half));
    put(
        &models,
        "model.toml",
        described("3", "model.onnx").as_bytes(),
    );
    until_asked(&on, half).await;
    assert_eq!(
        send(&on.client(), 399).await?,
        (digest(half), "3".to_owned())
    );
    Ok(())
}

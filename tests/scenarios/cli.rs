//! The command-line client: what it prints, what it tells, and how it ends.

use std::sync::Arc;

use anyhow::Context as _;
use selvage_tests::cli::Ran;
use selvage_tests::keys::ANN;
use selvage_tests::program::project;
use selvage_tests::{Cli, Deployment, Settings, eventually, pictures};
use serde_json::Value;
use tokio::process::Command;

/// A client in a folder with a boot and a shirt, which no cache knows, and files that are no images.
fn cli(on: &Deployment) -> Cli {
    let renewed = |name| pictures::renewed(&pictures::sample(name));
    Cli::of(on.gateways[0])
        .file("boot.png", renewed("9-ankle-boot"))
        .file("trouser.png", renewed("1-trouser"))
        .file("bad.png", "no image at all")
}

pub(super) async fn answers_come_as_a_table_or_as_json(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    let one = cli.run(&["predict", "boot.png"]).await.expect(0);
    let json = ["predict", "boot.png", "--output", "json"];
    let json = cli.run(&json).await.expect(0).json();
    let score = json[0]["job"]["output"]["score"].as_f64().unwrap_or(0.0);
    let expected = format!(
        "\
IMAGE     STATUS     LABEL        SCORE
boot.png  succeeded  Ankle boot  {score:.4}
"
    );
    assert_eq!((one.stdout, one.stderr), (expected, String::new()));

    let both = ["predict", "boot.png", "trouser.png", "--top", "2"];
    let both = cli.run(&both).await.expect(0);
    assert_eq!(both.stdout.lines().count(), 5, "{}", both.stdout);

    let json = ["predict", "boot.png", "--output", "json", "--no-cache"];
    let json = cli.run(&json).await.expect(0).json();
    assert_eq!(json[0]["image"], "boot.png");
    assert_eq!(json[0]["job"]["output"]["label"], "Ankle boot");
    assert_eq!(json[0]["job"]["cached"], false);
    let model = ["predict", "boot.png", "--model", "rgb-tiny", "-o", "json"];
    let model = cli.run(&model).await.expect(0).json();
    assert_eq!(model[0]["job"]["model"]["name"], "rgb-tiny");
    Ok(())
}

pub(super) async fn a_bad_image_fails_alone(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    let files = ["bad.png", "boot.png", "absent.png", "trouser.png"];
    let mut line = vec!["predict", "--output", "ndjson"];
    line.extend(files);
    let ran = cli.run(&line).await.expect(1);
    let items = ran.stdout.lines().map(serde_json::from_str);
    let items: Vec<Value> = items.collect::<Result<_, _>>()?;
    let names: Vec<_> = items.iter().map(|item| &item["image"]).collect();
    assert_eq!(names, files, "in the order of the command line");
    assert_eq!(items[0]["error"]["code"], "unsupported_media_type");
    assert_eq!(items[1]["job"]["output"]["label"], "Ankle boot");
    assert_eq!(items[2]["error"]["code"], "unreadable");
    assert_eq!(items[3]["job"]["output"]["label"], "Trouser");
    for reported in [
        "bad.png: not a supported image type",
        "send a whole PNG",
        "absent.png: cannot be read",
        "2 failed of 4 images",
    ] {
        assert!(ran.stderr.contains(reported), "{reported}: {}", ran.stderr);
    }
    std::fs::create_dir(cli.folder().join("photos"))?;
    let folder = cli.run(&["predict", "boot.png", "photos"]).await.expect(2);
    assert!(
        folder.stderr.contains("selvage predict photos/*"),
        "{folder:?}"
    );
    assert_eq!(folder.stdout, "");
    Ok(())
}

pub(super) async fn an_image_may_come_on_standard_input(on: Arc<Deployment>) -> anyhow::Result<()> {
    let line = ["predict", "-", "-o", "ndjson"];
    let ran = cli(&on).run_with_input(&line, &pictures::boot()).await;
    let item = ran.expect(0).json();
    assert_eq!(item["image"], "-");
    assert_eq!(item["job"]["output"]["label"], "Ankle boot");
    Ok(())
}

pub(super) async fn a_submitted_job_is_followed_to_its_end(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cli = cli(&on);
    let id = submit(&cli).await?;
    let followed = cli.run(&["jobs", "follow", &id]).await.expect(0);
    assert!(followed.stderr.contains(": succeeded"), "{followed:?}");
    assert!(followed.stdout.contains("Ankle boot"), "{followed:?}");
    let got = cli.run(&["jobs", "get", &id, "-o", "json"]).await.expect(0);
    assert_eq!(got.json()["status"], "succeeded");
    cli.run(&["jobs", "wait", &id]).await.expect(0);
    let late = cli.run(&["jobs", "cancel", &id]).await.expect(1);
    assert!(late.stderr.contains("job_finished"), "{late:?}");

    let unknown = uuid::Uuid::now_v7().to_string();
    let unknown = cli.run(&["jobs", "follow", &unknown]).await.expect(1);
    assert!(unknown.stderr.contains("job_not_found"), "{unknown:?}");
    let at_once = ["predict", "trouser.png", "--follow", "-o", "json"];
    let at_once = cli.run(&at_once).await.expect(0);
    assert_eq!(at_once.json()[0]["job"]["status"], "succeeded");
    assert!(
        at_once.stderr.contains("trouser.png: succeeded"),
        "{at_once:?}"
    );
    Ok(())
}

/// Submits the boot; its job's id.
async fn submit(cli: &Cli) -> anyhow::Result<String> {
    let line = ["predict", "boot.png", "--submit", "-o", "json"];
    let submitted = cli.run(&line).await.expect(0).json();
    let id = submitted[0]["job"]["id"].as_str().context("an id")?;
    Ok(id.to_owned())
}

pub(super) async fn a_queued_job_is_canceled(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    let id = submit(&cli).await?;
    let got = cli.run(&["jobs", "get", &id]).await.expect(0);
    assert!(got.stdout.contains("queued"), "{got:?}");
    let canceled = cli.run(&["jobs", "cancel", &id]).await.expect(0);
    assert!(canceled.stdout.contains("canceled"), "{canceled:?}");
    let list = ["jobs", "list", "--status", "canceled", "-o", "json"];
    let list = cli.run(&list).await.expect(0).json();
    assert_eq!(list[0]["id"], id, "{list}");
    let none = ["jobs", "list", "--status", "succeeded", "-o", "ndjson"];
    assert_eq!(cli.run(&none).await.expect(0).stdout, "");
    let waited = cli.run(&["jobs", "wait", &id]).await.expect(1);
    assert!(waited.stderr.contains("the job is canceled"), "{waited:?}");
    Ok(())
}

/// Nobody works here, so nothing ends by itself.
pub(super) async fn an_early_end_says_what_is_left(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    let late = ["predict", "boot.png", "--timeout", "1"];
    let late = cli.run(&late).await.expect(6);
    assert!(late.stderr.contains("selvage jobs wait "), "{late:?}");

    let mut following = cli.start(&["predict", "--follow", "trouser.png"]);
    following.wait_for("trouser.png: queued").await;
    following.signal("INT").await;
    let ended = following.end().await.expect(130);
    let reported = ended.stderr.split("selvage jobs wait ").nth(1);
    let id = reported
        .and_then(|rest| rest.split('`').next())
        .context("an id")?;
    let job = on.client().get(&format!("/jobs/{id}")).await?.expect(200);
    assert_eq!(job.json["status"], "queued", "it goes on: {}", job.json);
    assert!(ended.stdout.contains("interrupted"), "{ended:?}");
    Ok(())
}

pub(super) async fn following_survives_a_broken_connection(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    use selvage_tests::proxy::{Fault, Proxy};
    let proxy = Proxy::before(on.gateways[0]).await;
    let cli = Cli::of(proxy.address()).file("new.png", pictures::unique());
    let mut following = cli.start(&["predict", "--follow", "new.png", "--tries", "50"]);
    following.wait_for("new.png: queued").await;
    proxy.set(Fault::Refuse);
    following.wait_for("new.png: unreachable, retrying").await;
    proxy.set(Fault::None);
    on.add_workers(1);
    let ended = following.end().await.expect(0);
    assert!(ended.stderr.contains("new.png: succeeded"), "{ended:?}");
    // What was known when the connection broke is not printed again.
    assert_eq!(ended.stderr.matches(": queued").count(), 1, "{ended:?}");
    Ok(())
}

/// One place, and nobody who would free it.
pub(super) fn one_place() -> Settings {
    let settings = Settings::default().workers(0);
    settings.with("SELVAGE_MAX_IN_FLIGHT", 1)
}

pub(super) async fn a_full_gateway_is_asked_again(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (client, cli) = (on.client(), cli(&on));
    let occupant = client.post_image("/predict?wait=60", pictures::unique());
    let refused = async {
        let taken = || async {
            let stats = client.get("/stats").await.ok()?;
            (stats.json["jobs"]["in_flight"] == 1).then_some(())
        };
        eventually("the place is taken", super::jobs::END_LIMIT, taken).await;
        let single = cli.run(&["predict", "trouser.png", "--tries", "1"]).await;
        let single = single.expect(5);
        assert!(
            single.stderr.contains("(429 queue_full); try again"),
            "{single:?}"
        );
        let mut patient = cli.start(&["predict", "boot.png", "--tries", "50"]);
        patient.wait_for("boot.png: queue_full, retrying").await;
        on.add_workers(1);
        patient.end().await.expect(0)
    };
    let (occupant, patient) = tokio::join!(occupant, refused);
    occupant?.expect(200);
    assert!(patient.stdout.contains("Ankle boot"), "{patient:?}");
    Ok(())
}

pub(super) async fn a_server_that_is_not_there_is_said(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on).with("SELVAGE_URL", "http://127.0.0.1:1");
    let line = [
        "predict",
        "boot.png",
        "trouser.png",
        "--concurrency",
        "1",
        "--tries",
        "2",
    ];
    let ran = cli.run(&line).await.expect(3);
    for reported in [
        "boot.png: unreachable, retrying",
        "boot.png: no server answers at http://127.0.0.1:1",
        "--url or SELVAGE_URL",
        "1 failed and 1 not sent of 2 images",
    ] {
        assert!(ran.stderr.contains(reported), "{reported}: {ran:?}");
    }
    assert!(ran.stdout.contains("not_sent"), "{ran:?}");
    for line in [["status", "--tries", "1"], ["models", "--tries", "1"]] {
        let ran = cli.run(&line).await.expect(3);
        assert!(ran.stderr.contains("no server answers"), "{ran:?}");
    }
    Ok(())
}

pub(super) async fn a_key_is_sent_and_never_printed(on: Arc<Deployment>) -> anyhow::Result<()> {
    const WRONG: &str = "selvage_wrong-key-of-nobody";
    let silent = |ran: &Ran| {
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(WRONG) && !said.contains(ANN), "{said}");
    };
    let nobody = cli(&on).run(&["predict", "boot.png", "trouser.png"]).await;
    let nobody = nobody.expect(4);
    assert!(nobody.stderr.contains("SELVAGE_API_KEY"), "{nobody:?}");
    let wrong = cli(&on).with("SELVAGE_API_KEY", WRONG);
    let wrong = wrong.run(&["predict", "boot.png"]).await.expect(4);
    silent(&wrong);
    let known = cli(&on).with("SELVAGE_API_KEY", ANN);
    silent(&known.run(&["predict", "boot.png"]).await.expect(0));
    // A file wins over the variable.
    let file = cli(&on)
        .with("SELVAGE_API_KEY", WRONG)
        .file("key", format!("{ANN}\n"));
    let file = file.run(&["models", "--key-file", "key"]).await.expect(0);
    assert!(file.stdout.contains("fashion-mnist"), "{file:?}");
    Ok(())
}

pub(super) async fn models_and_readiness_are_shown(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    let models = cli.run(&["models"]).await.expect(0);
    let first: Vec<&str> = models.stdout.lines().take(1).collect();
    let columns: Vec<&str> = first[0].split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "MODEL",
            "VERSION",
            "DEFAULT",
            "LABELS",
            "WORKERS",
            "DESCRIPTION"
        ]
    );
    let raw = cli.run(&["models", "-o", "json"]).await.expect(0).json();
    assert_eq!(raw["default"], "fashion-mnist");
    let status = cli.run(&["status", "-o", "json"]).await.expect(0).json();
    assert_eq!(status["status"], "ready", "{status}");
    let status = cli.run(&["status"]).await.expect(0);
    assert!(status.stdout.contains(on.shape.as_str()), "{status:?}");
    Ok(())
}

pub(super) async fn a_models_folder_is_checked_before_it_is_served(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (cli, fixtures) = (cli(&on), project().join("tests/fixtures"));
    let folder = fixtures.join("exports/hf-vit").display().to_string();
    let check = ["model", "check", &folder, "--image", "boot.png"];
    let checked = cli.run(&check).await.expect(0);
    for words in ["preprocessor_config.json", "best labels", "MiB"] {
        assert!(checked.stdout.contains(words), "{checked:?}");
    }
    let folder = fixtures.join("broken-models/transposed");
    let folder = folder.display().to_string();
    let refused = cli.run(&["model", "check", &folder]).await.expect(1);
    assert!(refused.stderr.contains("transposed"), "{refused:?}");
    Ok(())
}

pub(super) async fn completions_are_scripts_of_their_shells(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cli = cli(&on);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = cli.run(&["completions", shell]).await.expect(0).stdout;
        assert!(
            script.contains("predict") && script.contains("concurrency"),
            "{shell}"
        );
    }
    let script = cli.run(&["completions", "bash"]).await.expect(0).stdout;
    let file = cli.folder().join("completions");
    std::fs::write(&file, script)?;
    let parsed = Command::new("bash").arg("-n").arg(&file).status().await?;
    assert!(parsed.success(), "bash cannot read its completions");
    let asked = "source \"$1\" && COMP_WORDS=(selvage st) COMP_CWORD=1 && _selvage selvage st selvage && echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash")
        .args(["-c", asked, "bash"])
        .arg(&file)
        .output()
        .await?;
    assert_eq!(String::from_utf8(completed.stdout)?.trim(), "status");
    Ok(())
}

/// Nobody works here either: what is waited for ends with the one who waits.
pub(super) async fn an_interrupted_wait_leaves_no_work(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (client, cli) = (on.client(), cli(&on));
    let taken = || async {
        let stats = client.get("/stats").await.ok()?;
        (stats.json["jobs"]["in_flight"] == 1).then_some(())
    };
    let waiting = cli.start(&["predict", "boot.png", "trouser.png", "--concurrency", "1"]);
    eventually(
        "the first image is waited for",
        super::jobs::END_LIMIT,
        taken,
    )
    .await;
    waiting.signal("TERM").await;
    let ended = waiting.end().await.expect(130);
    assert!(ended.stderr.contains("boot.png: interrupted"), "{ended:?}");
    assert!(
        ended.stderr.contains("1 failed and 1 not sent of 2 images"),
        "{ended:?}"
    );
    let abandoned = || async {
        let abandoned = client
            .metric("selvage_gateway_jobs_abandoned_total", "")
            .await;
        (abandoned.ok()? >= 1.0).then_some(())
    };
    eventually("its job is abandoned", super::jobs::END_LIMIT, abandoned).await;
    Ok(())
}

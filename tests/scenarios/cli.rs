//! The command-line client: what it prints, what it tells, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use selvage_core::key::Digest;
use selvage_tests::cli::Ran;
use selvage_tests::keys::ANN;
use selvage_tests::program::project;
use selvage_tests::{Cli, Deployment, Settings, eventually, pictures};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

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
        "send a complete PNG",
        "absent.png: cannot be read",
        "2 failed of 4 images",
    ] {
        assert!(ran.stderr.contains(reported), "{reported}: {}", ran.stderr);
    }
    let quiet = ["predict", "bad.png", "boot.png", "--quiet"];
    let quiet = cli.run(&quiet).await.expect(1);
    assert!(
        quiet
            .stderr
            .starts_with("selvage: bad.png: not a supported")
    );
    assert_eq!(quiet.stderr.lines().count(), 1, "errors only: {quiet:?}");
    Ok(())
}

pub(super) async fn folders_and_patterns_are_the_images_in_them(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cli = cli(&on);
    let photos = cli.folder().join("photos");
    std::fs::create_dir_all(photos.join("2026"))?;
    let nothing = cli.run(&["predict", "boot.png", "photos"]).await.expect(2);
    assert!(nothing.stderr.contains("no images found: photos"));
    assert_eq!(nothing.stdout, "", "nothing was sent");
    for (from, to) in [("boot.png", "a.png"), ("trouser.png", "2026/b.png")] {
        std::fs::copy(cli.folder().join(from), photos.join(to))?;
    }
    for (named, found) in [
        ("photos", &["photos/2026/b.png", "photos/a.png"][..]),
        ("photos/*.png", &["photos/a.png"]),
    ] {
        let items = cli
            .run(&["predict", named, "--json"])
            .await
            .expect(0)
            .json();
        let items = items.as_array().context("a list")?;
        let names: Vec<_> = items.iter().map(|item| &item["image"]).collect();
        assert_eq!(names, found);
    }
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
    let list = ["jobs", "list", "--quiet"];
    let list = cli.run(&list).await.expect(0).stdout;
    let mut lines = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().context("a head")?[..4],
        ["JOB", "CREATED", "MODEL", "FILE"]
    );
    let line = lines.find(|line| line[0] == id).context("the job")?;
    let created = on.client().get(&format!("/jobs/{id}")).await?.expect(200);
    let created = created.json["created_at"]
        .as_str()
        .context("a time")?
        .to_owned();
    assert_eq!(created[..10], *line[1]);
    assert_eq!(line[2], format!("{}Z", &created[11..19]));
    assert_eq!(line[3..6], ["fashion-mnist", "boot.png", "succeeded"]);
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
    let quiet = ["predict", "trouser.png", "--follow", "--quiet"];
    let quiet = cli.run(&quiet).await.expect(0);
    assert_eq!(quiet.stderr, "", "no progress");
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
    let mut following = cli.start(&["predict", "--follow", "new.png", "--attempts", "50"]);
    following.wait_for("new.png: queued").await;
    proxy.set(Fault::Refuse);
    following
        .wait_for("new.png: no server answers at http://")
        .await;
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
        let single = cli
            .run(&["predict", "trouser.png", "--attempts", "1"])
            .await;
        let single = single.expect(5);
        assert!(
            single.stderr.contains("(429 queue_full); try again"),
            "{single:?}"
        );
        let mut patient = cli.start(&["predict", "boot.png", "--attempts", "50"]);
        patient.wait_for("(queue_full); retrying in ").await;
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
    let line = ["predict", "boot.png", "trouser.png", "--concurrency", "1"];
    let ran = cli.run(&line).await.expect(3);
    for reported in [
        "boot.png: no server answers at http://127.0.0.1:1: Connection refused",
        "(--url, SELVAGE_URL)",
        "1 failed and 1 not sent of 2 images",
    ] {
        assert!(ran.stderr.contains(reported), "{reported}: {ran:?}");
    }
    assert!(!ran.stderr.contains("retrying"), "said at once: {ran:?}");
    assert!(ran.stdout.contains("trouser.png  not_sent"), "{ran:?}");
    let patient = cli.run(&["predict", "boot.png", "--attempts", "2"]).await;
    let patient = patient.expect(3).stderr;
    let reported = "boot.png: no server answers at http://127.0.0.1:1: Connection refused";
    assert!(patient.contains(reported), "{patient}");
    assert!(
        patient.contains("; retrying in 0.2 s (attempt 2 of 2)"),
        "{patient}"
    );
    for line in [["status", "--attempts", "1"], ["models", "--attempts", "1"]] {
        let ran = cli.run(&line).await.expect(3);
        assert!(ran.stderr.contains("no server answers"), "{ran:?}");
    }
    let bench = cli.run(&["bench", "127.0.0.1:1", "boot.png"]).await;
    assert!(bench.expect(3).stderr.contains("no server answers"));
    Ok(())
}

/// A listener whose queue is full drops further connections, as a firewall does.
pub(super) async fn a_slow_connection_is_said(on: Arc<Deployment>) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut accepted = Vec::new();
    while let Ok(stream) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        accepted.push(stream?);
    }
    let cli = cli(&on).with("SELVAGE_URL", address);
    let mut waiting = cli.start(&["predict", "boot.png"]);
    let reported = format!("still connecting to http://{address}");
    waiting.wait_for(&reported).await;
    Ok(())
}

pub(super) async fn a_proxy_is_named_without_its_password(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cli = cli(&on).with("http_proxy", "http://ann:s3cret@127.0.0.1:1");
    let ran = cli.run(&["predict", "boot.png"]).await.expect(3);
    let named = "through the proxy http://127.0.0.1:1/ (http_proxy)";
    assert!(ran.stderr.contains(named), "{ran:?}");
    assert!(ran.stderr.contains("NO_PROXY"), "{ran:?}");
    assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    let without = cli.with("NO_PROXY", "127.0.0.1");
    without.run(&["predict", "boot.png"]).await.expect(0);
    Ok(())
}

pub(super) async fn a_reader_that_leaves_is_no_failure(on: Arc<Deployment>) -> anyhow::Result<()> {
    let cli = cli(&on);
    for line in [
        &["models"][..],
        &["predict", "boot.png", "--output", "ndjson"],
        &["completions", "bash"],
        &["help"],
    ] {
        let ran = cli.run_unread(line).await.expect(0);
        assert_eq!(ran.stderr, "", "{line:?}");
    }
    Ok(())
}

pub(super) async fn a_benchmark_counts_and_checks_responses(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let wrong = format!(r#"{{"{}": "Bag"}}"#, Digest::of(&pictures::boot()));
    let cli = cli(&on)
        .file("answers.json", wrong)
        .file("sample.png", pictures::boot());
    let url = on.gateways[0].to_string();
    let short = ["--seconds", "0.5", "--warmup", "0", "--json"];
    let bench = async |code: i32, image: &str, more: &[&str]| {
        let line = [&["bench", &url, image], &short[..], more].concat();
        cli.run(&line).await.expect(code).json()
    };
    let runs = bench(0, "boot.png", &["--concurrency", "1,4", "--threads", "2"]).await;
    for (run, (connections, threads)) in [(0, (1, 1)), (1, (4, 2))] {
        let run = &runs[run];
        assert_eq!(
            (&run["connections"], &run["threads"]),
            (&connections.into(), &threads.into())
        );
        assert!(run["requests_per_second"].as_f64() > Some(0.0), "{run}");
        assert!(
            run["latency_ms"]["p50"].as_f64() <= run["latency_ms"]["max"].as_f64(),
            "{run}"
        );
        assert!(run["cpu_us_per_request"]["client"].is_number(), "{run}");
    }
    assert_eq!(runs[1]["cached_share"], 1.0, "the image repeats: {runs}");
    let unique = bench(0, "boot.png", &["--unique", "--rate", "40"]).await;
    assert_eq!(
        (&unique[0]["cached_share"], &unique[0]["rate"]),
        (&0.0.into(), &40.0.into())
    );
    let wrong = bench(
        1,
        "sample.png",
        &["--answers", "answers.json", "--concurrency", "1"],
    )
    .await;
    assert!(
        wrong[0]["errors"]["wrong_label"]["count"].as_u64() > Some(0),
        "{wrong}"
    );
    let example = wrong[0]["errors"]["wrong_label"]["example"].to_string();
    assert!(example.contains("Ankle boot"), "{example}");
    let bad = bench(1, "bad.png", &["--concurrency", "1"]).await;
    assert!(
        bad[0]["errors"]["unsupported_media_type"].is_object(),
        "{bad}"
    );
    let line = [
        "bench",
        &url,
        "boot.png",
        "--seconds",
        "0.2",
        "--concurrency",
        "1",
    ];
    let table = cli.run(&line).await.expect(0);
    assert!(
        table.stdout.starts_with("CONNECTIONS  REQUESTS/S  P50 MS"),
        "{table:?}"
    );
    Ok(())
}

pub(super) async fn a_benchmark_ends_early_in_good_order(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cli = cli(&on);
    let url = on.gateways[0].to_string();
    let line = [
        "bench",
        &url,
        "boot.png",
        "--seconds",
        "0.2",
        "--concurrency",
        "1,2",
    ];
    let mut running = cli.start(&[&line[..], &["--warmup", "60"]].concat());
    running.wait_for("selvage: 1 connection").await;
    running.signal("INT").await;
    let ended = running.end().await.expect(130);
    assert!(
        ended.stderr.contains("interrupted; 2 of 2 runs not done"),
        "{ended:?}"
    );
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
    assert!(ended.stdout.contains("trouser.png  not_sent"), "{ended:?}");
    let abandoned = || async {
        let abandoned = client
            .metric("selvage_gateway_jobs_abandoned_total", "")
            .await;
        (abandoned.ok()? >= 1.0).then_some(())
    };
    eventually("its job is abandoned", super::jobs::END_LIMIT, abandoned).await;
    Ok(())
}

//! The containers as they are shipped, on a real engine: `make test-compose`. Builds the images, brings the stack of
//! `docker-compose.yml` up, runs the scenarios that need nothing but an address, then scales, kills, restarts and rolls it
//! under load, judges the history of every job, and gives each model a pool of workers. Then the cluster of `deploy/cluster/`,
//! which loses leaders. How the engine is spoken to is in `compose/`. `-- stack` or `-- cluster` runs one of the two.

#[path = "compose/cluster.rs"]
mod cluster;
#[path = "compose/engine.rs"]
mod engine;
mod scenarios;
#[path = "compose/stack.rs"]
mod stack;

use std::env;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use selvage_tests::load::{Load, Mix};
use selvage_tests::{Client, Deployment, Shape, eventually};
use stack::Stack;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long unfinished jobs are waited for in the end.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// Longest time to a container's first health check.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// Scenarios that need more than a published port: models of the tests, a second gateway, a look at processes or their metrics,
/// programs that are built or installed apart.
const NOT_HERE: [&str; 13] = [
    "cli::",
    "models::",
    "oip::",
    "memory::",
    "stats::",
    "trace_shapes::",
    "tracing::",
    "workers::",
    "cache::another_model",
    "cache::a_result_is_shared",
    "bad_images::hostile",
    "discovery::a_program_tells",
    "photographs::pictures_with_faults",
];

fn main() -> ExitCode {
    if let Err(reason) = engine::can_build() {
        println!("compose: NOT TESTED: {reason:#}");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = env::args().skip(1).collect();
    let is_wanted = |stage| wanted.is_empty() || wanted.iter().any(|name| name == stage);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let passed = runtime.block_on(async {
        if is_wanted("stack") {
            run(Stack::new()?, |stack| {
                Box::pin(async move { on(&stack).await })
            })
            .await?;
        }
        if is_wanted("cluster") {
            let losses = |stack: Arc<Stack>| -> Judged {
                Box::pin(async move { cluster::on(&stack).await })
            };
            run(Stack::cluster()?, losses).await?;
        }
        anyhow::Ok(())
    });
    match passed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compose: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

type Judged = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// One stage, if the engine has or gets the images that are not built here. Whatever becomes of it, its containers go.
async fn run(stack: Stack, judge: fn(Arc<Stack>) -> Judged) -> anyhow::Result<()> {
    if let Err(reason) = engine::have(stack.images()?) {
        println!("compose: NOT TESTED: {}: {reason:#}", stack.file());
        return Ok(());
    }
    let stack = Arc::new(stack);
    let judged = tokio::select! {
        // Waiting for what does not come panics; the containers are to go all the same.
        judged = guarded(judge(Arc::clone(&stack))) => judged,
        signal = interrupted() => signal.and_then(|()| bail!("interrupted before the end")),
    };
    if judged.is_err() {
        stack.show_logs();
    }
    // A failure of the test is the one to report.
    let down = stack.down();
    judged?;
    down?;
    stack.say(&format!("PASSED: {}", stack.file()));
    Ok(())
}

/// Ctrl-C, or the end of the time that somebody gave this test.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Runs a part of the test; where it panics, as a broken assumption does, that is its error.
async fn guarded(
    part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let mut parts = JoinSet::new();
    parts.spawn(part);
    parts.join_next().await.context("nothing was run")??
}

async fn on(stack: &Stack) -> anyhow::Result<()> {
    build(stack)?;
    stack.compose(&["up", "--detach", "--scale", "worker=3"])?;
    stack.wait_for(3).await?;
    hardened(stack, &["gateway", "worker"]).await?;
    scenarios_pass(stack).await?;
    let load = Load::start(&[stack.gateway()], Mix::default());
    let broken = break_things(stack).await;
    nothing_is_lost(stack, load, broken).await?;
    pools(stack).await
}

fn build(stack: &Stack) -> anyhow::Result<()> {
    stack.compose(&["build", "gateway", "worker"])?;
    for image in ["selvage-gateway", "selvage-worker"] {
        stack.say(&format!("{image}: {}", stack.image(image)?));
    }
    Ok(())
}

/// Ends the load and judges the history of every job; then whether things could be broken at all.
async fn nothing_is_lost(
    stack: &Stack,
    load: Load,
    broken: anyhow::Result<()>,
) -> anyhow::Result<()> {
    let history = load.finish(SETTLE_LIMIT).await;
    broken?;
    let verdict = history.verdict();
    stack.say(&format!("{verdict}"));
    ensure!(verdict.is_clean(), "{}", history.problems().join("\n"));
    ensure!(
        verdict.answered > 0 && verdict.finished > 0,
        "the load did nothing"
    );
    Ok(())
}

/// Each model by workers of its own, of which one pool is scaled.
async fn pools(stack: &Stack) -> anyhow::Result<()> {
    let pools = stack.with("docker-compose.pools.yml");
    let client = Client::new(pools.gateway());
    for heavy in [1, 3] {
        let heavy_scale = format!("worker-clothing={heavy}");
        let scale = ["--scale", "worker=2", "--scale", &heavy_scale];
        pools.compose(&[&["up", "--detach"], &scale[..]].concat())?;
        pools.wait_for(2 + heavy).await?;
        scenarios::pools::each_serves_its_own_model(&client, 2, heavy).await?;
        pools.say(&format!(
            "2 workers hold fashion-mnist, {heavy} others clothing; both answer"
        ));
    }
    hardened(&pools, &["worker", "worker-clothing"]).await
}

/// What the containers are not able to do; and that each finds itself healthy.
async fn hardened(stack: &Stack, services: &[&str]) -> anyhow::Result<()> {
    const FACTS: &str = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.State.Health.Status}}";
    for service in services {
        for container in stack.containers(service)? {
            let facts = || engine::docker(&["inspect", "--format", FACTS, &container]);
            let checked = || async { facts().ok().filter(|facts| !facts.contains("starting")) };
            let found = eventually("the first health check", CHECK_LIMIT, checked).await;
            let expected = "10001:10001 true [ALL] healthy";
            ensure!(found.trim() == expected, "{service}: {found}");
        }
    }
    stack.say("all programs run as 10001, on a read-only root, without capabilities, and healthy");
    Ok(())
}

async fn scenarios_pass(stack: &Stack) -> anyhow::Result<()> {
    let deployment = Arc::new(Deployment::attached(stack.gateway()));
    let applies = |scenario: &scenarios::Scenario| {
        scenario.settings.is_none()
            && scenario.shapes.contains(&Shape::Fleet)
            && !NOT_HERE.iter().any(|name| scenario.name.starts_with(name))
    };
    let (mut passed, mut failed) = (0, Vec::new());
    for scenario in scenarios::all().into_iter().filter(applies) {
        match guarded((scenario.run)(Arc::clone(&deployment))).await {
            Ok(()) => passed += 1,
            Err(error) => failed.push(format!("{}: {error:#}", scenario.name)),
        }
    }
    stack.say(&format!(
        "{passed} scenarios passed against the published port"
    ));
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(passed > 10, "only {passed} scenarios were found");
    Ok(())
}

async fn break_things(stack: &Stack) -> anyhow::Result<()> {
    stack.scale(1).await.context("down to one worker")?;
    stack.scale(4).await.context("up to four workers")?;
    let victim = stack.containers("worker")?.swap_remove(0);
    engine::docker(&["kill", "--signal", "KILL", &victim])?;
    stack
        .wait_for(3)
        .await
        .context("without the killed worker")?;
    stack
        .scale(4)
        .await
        .context("after the death of a worker")?;
    stack.compose(&["restart", "rabbitmq"])?;
    stack
        .wait_for(4)
        .await
        .context("after the broker's restart")?;
    for service in ["worker", "gateway", "rabbitmq", "redis"] {
        let mut roll = vec!["up", "--detach", "--no-deps", "--force-recreate"];
        if service == "worker" {
            roll.extend(["--scale", "worker=4"]);
        }
        roll.push(service);
        stack.compose(&roll)?;
        let rolled = stack.wait_for(4).await;
        rolled.with_context(|| format!("after {service} was rolled"))?;
    }
    Ok(())
}

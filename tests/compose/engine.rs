//! Whether containers can be tested here, and commands of the engine that end.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use selvage_tests::program::project;

/// Longest time for a question to the engine.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for one image from a registry.
const PULL_LIMIT: Duration = Duration::from_secs(180);

/// Whether there is an engine with a compose that can be used, and what our images are made of.
pub(crate) fn can_build() -> anyhow::Result<()> {
    docker(&["info", "--format", "{{.ServerVersion}}"]).context("no Docker engine answers")?;
    docker(&["compose", "version"]).context("the engine has no `docker compose`")?;
    docker(&["buildx", "version"]).context("the engine has no BuildKit, `docker buildx`")?;
    have(bases(&fs::read_to_string(project().join("Dockerfile"))?))
}

/// Whether these images are here, or can be pulled.
pub(crate) fn have(images: Vec<String>) -> anyhow::Result<()> {
    ensure!(!images.is_empty(), "no image is named");
    for image in images {
        if docker(&["image", "inspect", "--format", "{{.Id}}", &image]).is_err() {
            let pull = ["pull", "--quiet", &image];
            run(Command::new("docker").args(pull), &pull, PULL_LIMIT)
                .with_context(|| format!("the image {image} is not here and was not pulled"))?;
        }
    }
    Ok(())
}

/// The images a Dockerfile begins with: whatever is neither a stage of its own nor `scratch`, which is no image.
fn bases(dockerfile: &str) -> Vec<String> {
    let (mut stages, mut bases) = (vec!["scratch"], Vec::new());
    for line in dockerfile.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FROM", image, rest @ ..] = &words[..] else {
            continue;
        };
        if !stages.contains(image) {
            bases.push((*image).to_owned());
        }
        if let ["AS", stage] = rest {
            stages.push(*stage);
        }
    }
    bases.sort();
    bases.dedup();
    bases
}

/// Runs a command of the engine that is quickly done; what it printed.
pub(crate) fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("docker").args(arguments), arguments, ASK_LIMIT)
}

/// Runs a command to its end, or to that of its time; what it printed.
pub(crate) fn run(
    command: &mut Command,
    arguments: &[&str],
    limit: Duration,
) -> anyhow::Result<String> {
    let said = format!("docker {}", arguments.join(" "));
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().context("`docker` cannot be run")?;
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(done) = ended.recv_timeout(limit) else {
        // It may have ended in this moment.
        kill_process(pid, Signal::TERM).ok();
        bail!("{said}: not done within {} s", limit.as_secs());
    };
    let done = done?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let last: Vec<&str> = stderr.lines().rev().take(30).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    bail!("{said}: {}", last.join("\n"))
}

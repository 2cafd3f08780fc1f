//! One stack of a compose file under a name of its own: brought up, changed, looked at, taken down. Judges nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use selvage_tests::program::project;
use selvage_tests::{Client, eventually};

/// Longest time until a changed stack serves: the broker alone takes half a minute on a busy machine.
const SERVES_LIMIT: Duration = Duration::from_secs(240);

/// A stack; taken down by [`Stack::down`].
#[derive(Debug)]
pub(crate) struct Stack {
    name: String,
    files: Vec<&'static str>,
    gateway: SocketAddr,
    settings: Vec<(&'static str, String)>,
    began: Instant,
}

/// Whether there is an engine, with a compose that can be used.
pub(crate) fn engine() -> anyhow::Result<()> {
    docker(&["info", "--format", "{{.ServerVersion}}"]).context("no Docker engine answers")?;
    docker(&["compose", "version"]).context("the engine has no `docker compose`")?;
    Ok(())
}

/// Runs a command of the engine; what it printed.
pub(crate) fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("docker").args(arguments), arguments)
}

fn run(command: &mut Command, arguments: &[&str]) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.context("`docker` cannot be run")?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let last: Vec<&str> = said.lines().rev().take(30).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    bail!("docker {}: {}", arguments.join(" "), last.join("\n"))
}

impl Stack {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let password = || uuid::Uuid::new_v4().simple().to_string();
        let settings = vec![
            ("RABBITMQ_PASSWORD", password()),
            ("REDIS_PASSWORD", password()),
            ("SELVAGE_PUBLISH", port.to_string()),
        ];
        Ok(Self {
            name: format!("selvage-test-{}", std::process::id()),
            files: vec!["docker-compose.yml"],
            gateway: port,
            settings,
            began: Instant::now(),
        })
    }

    /// The stack of `deploy/cluster/`.
    pub(crate) fn cluster() -> anyhow::Result<Self> {
        let mut stack = Self::new()?;
        stack.files = vec!["deploy/cluster/docker-compose.yml"];
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        stack.settings.push(("RABBITMQ_COOKIE", cookie));
        Ok(stack)
    }

    /// The published address.
    pub(crate) const fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Prints a line with the time since the beginning.
    pub(crate) fn say(&self, line: &str) {
        println!("compose: {:>4} s  {line}", self.began.elapsed().as_secs());
    }

    /// Runs `docker compose` on this stack.
    pub(crate) fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name]);
        let files = self.files.iter().flat_map(|file| ["--file", file]);
        command.args(files).args(arguments).current_dir(project());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let done = run(&mut command, arguments)?;
        self.say(&format!("docker compose {}", arguments.join(" ")));
        Ok(done)
    }

    /// Ids of a service's running containers.
    pub(crate) fn containers(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let listed = docker(&["ps", "--quiet", "--filter", &project, "--filter", &service])?;
        let ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        ensure!(!ids.is_empty(), "no container has the {service}");
        Ok(ids)
    }

    /// An image's size and user.
    pub(crate) fn image(&self, name: &str) -> anyhow::Result<String> {
        let tag = format!("{name}:latest");
        let size = docker(&["image", "inspect", "--format", "{{.Size}}", &tag])?;
        let bytes: u64 = size.trim().parse()?;
        Ok(format!("{} MB", bytes / 1_000_000))
    }

    /// Changes the number of workers, and waits until the fleet has as many.
    pub(crate) async fn scale(&self, workers: usize) -> anyhow::Result<()> {
        let scale = format!("worker={workers}");
        self.compose(&["up", "--detach", "--no-recreate", "--scale", &scale])?;
        self.wait_for(workers).await
    }

    /// Waits until the gateway is ready and knows of exactly so many workers.
    pub(crate) async fn wait_for(&self, workers: usize) -> anyhow::Result<()> {
        let client = Client::new(self.gateway);
        let serves = || async {
            let ready = client.get("/readyz").await.ok()?;
            let known = ready.json["checks"]["workers"].as_u64()?;
            (ready.json["status"] == "ready" && known == workers as u64).then_some(())
        };
        eventually("the stack serves with its workers", SERVES_LIMIT, serves).await;
        self.say(&format!("ready, with {workers} workers"));
        Ok(())
    }

    /// What the containers said last, for who looks into a failure.
    pub(crate) fn show_logs(&self) {
        match self.compose(&["logs", "--no-color", "--tail", "40"]) {
            Ok(logs) => eprintln!("{logs}"),
            Err(error) => eprintln!("no logs: {error:#}"),
        }
    }

    /// Takes everything down, with its data.
    pub(crate) fn down(&self) -> anyhow::Result<()> {
        self.compose(&["down", "--volumes", "--remove-orphans"])?;
        Ok(())
    }
}

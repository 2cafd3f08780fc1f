//! One stack of a compose file under a name of its own: brought up, changed, looked at, taken down. Judges nothing. How the
//! engine is asked is in `engine.rs`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use selvage_tests::program::project;
use selvage_tests::{Client, eventually};
use serde_json::Value;

use crate::engine::{ASK_LIMIT, docker, run};

/// Longest time until a changed stack serves: the broker alone takes half a minute on a busy machine.
const SERVES_LIMIT: Duration = Duration::from_secs(240);

/// Longest time for one command; images are built by one of them.
const COMMAND_LIMIT: Duration = Duration::from_secs(1500);

/// A stack; taken down by [`Stack::down`].
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    name: String,
    files: Vec<&'static str>,
    gateway: SocketAddr,
    settings: Vec<(&'static str, String)>,
    began: Instant,
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

    /// The same stack, changed by one more file.
    pub(crate) fn with(&self, file: &'static str) -> Self {
        let mut changed = self.clone();
        changed.files.push(file);
        changed
    }

    /// The compose file, without those that change it.
    pub(crate) fn file(&self) -> &'static str {
        self.files[0]
    }

    /// The published address.
    pub(crate) const fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Prints a line with the time since the beginning.
    pub(crate) fn say(&self, line: &str) {
        println!("compose: {:>4} s  {line}", self.began.elapsed().as_secs());
    }

    /// Runs `docker compose` on this stack, and says so.
    pub(crate) fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let done = self.asked(arguments, COMMAND_LIMIT)?;
        self.say(&format!("docker compose {}", arguments.join(" ")));
        Ok(done)
    }

    fn asked(&self, arguments: &[&str], limit: Duration) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name]);
        let files = self.files.iter().flat_map(|file| ["--file", file]);
        command.args(files).args(arguments).current_dir(project());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        run(&mut command, arguments, limit)
    }

    /// The images of the services that are not built here.
    pub(crate) fn images(&self) -> anyhow::Result<Vec<String>> {
        let config = self.asked(&["config", "--format", "json"], ASK_LIMIT)?;
        let config: Value = serde_json::from_str(&config)?;
        let services = config["services"].as_object().context("no services")?;
        let taken = services.values().filter(|one| one["build"].is_null());
        let images: Option<BTreeSet<&str>> = taken.map(|one| one["image"].as_str()).collect();
        let images = images.context("a service has no image")?;
        Ok(images.into_iter().map(str::to_owned).collect())
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

    /// An image's size.
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

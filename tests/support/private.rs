//! A RabbitMQ and a Redis of one test's own, which may be stopped, killed, paused and spoiled.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use url::Url;

use crate::program::project;
use crate::services::Services;

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// RabbitMQ.
    Broker,
    /// Redis.
    Redis,
}

impl Service {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Redis => "redis",
        }
    }
}

/// A private pair of services; both end with this value.
#[derive(Debug)]
pub struct Private {
    folder: TempDir,
    services: Services,
}

impl Private {
    /// Starts both. Blocks for some seconds.
    ///
    /// # Panics
    /// When they cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().display().to_string();
        let output = script(&["start", &path]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| {
                line.strip_prefix("export ")?
                    .strip_prefix(name)?
                    .strip_prefix('=')
            });
            line.unwrap_or_else(|| panic!("`scripts/services start` printed no {name}: {text}"))
                .trim_matches('\'')
                .to_owned()
        };
        let services = Services {
            amqp_url: value("SELVAGE_TEST_AMQP_URL"),
            redis_url: value("SELVAGE_TEST_REDIS_URL"),
        };
        Self { folder, services }
    }

    /// Their addresses.
    #[must_use]
    pub fn services(&self) -> Services {
        self.services.clone()
    }

    /// Does `start`, `stop`, `kill`, `pause` or `resume` to one of them; returns when it has had its effect.
    ///
    /// # Panics
    /// When it has none.
    pub fn control(&self, service: Service, action: &str) {
        script(&[service.as_str(), &self.path(), action]);
    }

    /// Runs RabbitMQ's own tool.
    ///
    /// # Panics
    /// When it fails.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let path = self.path();
        let all: Vec<&str> = ["rabbitmqctl", &path]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        String::from_utf8_lossy(&script(&all).stdout).into_owned()
    }

    /// Runs a Redis command with Redis's own client.
    ///
    /// # Panics
    /// When the client cannot be run.
    pub fn redis(&self, arguments: &[&str]) -> String {
        let url = Url::parse(&self.services.redis_url).expect("a service's address is a URL");
        let socket = socket_of(&self.services.redis_url);
        let output = Command::new("redis-cli")
            .args([
                "-h",
                &socket.ip().to_string(),
                "-p",
                &socket.port().to_string(),
            ])
            .args(arguments)
            .env("REDISCLI_AUTH", url.password().unwrap_or_default())
            .output();
        String::from_utf8_lossy(&output.expect("redis-cli comes with Redis").stdout)
            .trim()
            .to_owned()
    }

    fn path(&self) -> String {
        self.folder.path().display().to_string()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        script(&["stop", &self.path()]);
    }
}

/// Host and port of a service's address.
///
/// # Panics
/// When the address has none.
#[must_use]
pub fn socket_of(url: &str) -> SocketAddr {
    let url = Url::parse(url).expect("a service's address is a URL");
    let sockets = url
        .socket_addrs(|| None)
        .expect("private services are on loopback");
    sockets[0]
}

/// The same address, with the proxy in place of the service.
///
/// # Panics
/// When the address is no URL.
#[must_use]
pub fn through(url: &str, proxy: SocketAddr) -> String {
    let mut url = Url::parse(url).expect("a service's address is a URL");
    url.set_ip_host(proxy.ip())
        .expect("an AMQP or Redis URL has a host");
    url.set_port(Some(proxy.port()))
        .expect("an AMQP or Redis URL has a port");
    url.to_string()
}

fn script(arguments: &[&str]) -> Output {
    let program = project().join("scripts/services");
    let output = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output =
        output.unwrap_or_else(|error| panic!("{} does not run: {error}", program.display()));
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "scripts/services {arguments:?}: {problem}"
    );
    output
}

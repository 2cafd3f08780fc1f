//! The gateway's settings: every flag, its variable, its default and its bounds, in one place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use selvage_core::job::ModelName;
use selvage_core::program::config::{GuestElsewhere, OpsListen, SharedSettings};

use crate::http::access::Rate;
use crate::http::access::make::MakeKey;
use crate::http::browsers::{AllowedHost, AllowedOrigin, BrowserRules};
use crate::http::limits::Limits;
use crate::program::dead_letters::arguments::DeadLettersCommand;
use crate::service::webhooks::{Secret, ShowSecret, WebhookSettings};

/// Largest body that may be configured: a job must fit into a message, and RabbitMQ takes 16 MiB by default.
const MAX_BODY_BYTES: u64 = 15 * 1024 * 1024;

/// Selvage's gateway: HTTP in, jobs out.
///
/// Without a broker URL it runs a worker in its own process and keeps jobs and results in memory. With RabbitMQ and
/// Redis it is one of any number of gateways before any number of workers.
#[derive(Clone, Debug, Parser)]
#[command(name = "selvage-gateway", version)]
pub struct Settings {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub shared: SharedSettings,
    /// Address to listen on; port 0 takes a free one and logs it.
    #[arg(long, env = "SELVAGE_LISTEN", default_value = "127.0.0.1:8000")]
    #[arg(value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Address of a second listener for /livez, /readyz and /metrics, without API keys, or `off`; port 0 takes a free one and
    /// logs it. It answers however many clients the first one has. `check` asks it; where it is off, the first one.
    #[arg(long, env = "SELVAGE_OPS_LISTEN", default_value = "off")]
    #[arg(value_name = "ADDRESS:PORT")]
    pub ops_listen: OpsListen,
    /// Largest request body, in bytes; at most 15 MiB, because a job has to fit into one message.
    #[arg(long, env = "SELVAGE_MAX_BODY", default_value_t = 10 * 1024 * 1024, value_name = "BYTES",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BODY_BYTES))]
    pub max_body: usize,
    /// Memory for all bodies and waiting images together, in bytes; beyond it large bodies are refused with 429.
    #[arg(long, env = "SELVAGE_MAX_BUFFERED", default_value_t = 512 * 1024 * 1024, value_name = "BYTES")]
    pub max_buffered: usize,
    /// How long POST /predict waits for the answer unless the client says otherwise, in seconds.
    #[arg(long, env = "SELVAGE_DEFAULT_WAIT", default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub default_wait: u64,
    /// Longest wait a client can ask for, in seconds; longer ones are shortened to it.
    #[arg(long, env = "SELVAGE_MAX_WAIT", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub max_wait: u64,
    /// Most jobs that are waited for at once; beyond it POST /predict answers 429.
    #[arg(long, env = "SELVAGE_MAX_IN_FLIGHT", default_value_t = 1024, value_name = "JOBS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_in_flight: usize,
    /// Life of an asynchronous job, in seconds; one that has not ended by then ends as `expired`.
    #[arg(long, env = "SELVAGE_JOB_DEADLINE", default_value_t = 900, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub job_deadline: u64,
    /// Model that answers where a request names none; `fashion-mnist` if it is there, else the first by name.
    #[arg(long, env = "SELVAGE_DEFAULT_MODEL", value_name = "NAME")]
    pub default_model: Option<ModelName>,
    /// Longest time from SIGTERM to the end, in seconds.
    #[arg(long, env = "SELVAGE_DRAIN_TIMEOUT", default_value_t = 20, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub drain_timeout: u64,
    /// Secret webhooks are signed with: `whsec_` and base64; without it requests with a webhook are refused. The jobs of an API
    /// key are signed with a secret derived from it, which `selvage-gateway webhook-secret NAME` shows.
    #[arg(long, env = "SELVAGE_WEBHOOK_SECRET", value_name = "SECRET")]
    #[arg(hide_env_values = true)]
    pub webhook_secret: Option<Secret>,
    /// The secret before, while receivers change theirs: webhooks are signed with it, too.
    #[arg(long, env = "SELVAGE_WEBHOOK_PREVIOUS_SECRET", hide_env_values = true)]
    #[arg(value_name = "SECRET", requires = "webhook_secret")]
    pub webhook_previous_secret: Option<Secret>,
    /// Lets webhooks go to private addresses, by plain HTTP, and to any port.
    #[arg(long, env = "SELVAGE_WEBHOOK_ALLOW_PRIVATE", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub webhook_allow_private: bool,
    /// From a webhook's first attempt to its second, in seconds; each further one waits six times as long, up to four hours.
    #[arg(long, env = "SELVAGE_WEBHOOK_RETRY", default_value_t = 5, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub webhook_retry: u64,
    /// Most connections at once; a further one is let in at the expense of one that is idle or still sends its request, else
    /// it waits.
    #[arg(long, env = "SELVAGE_MAX_CONNECTIONS", default_value_t = 4096, value_name = "CONNECTIONS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_connections: usize,
    /// Most connections at once from one address (an IPv6 network of 64 bits counts as one); further ones are closed.
    /// Unless given, three quarters of all, and a share of the free ones while more than half are taken and several addresses
    /// have some; behind a proxy, give it all of them.
    #[arg(long, env = "SELVAGE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_connections_per_address: Option<usize>,
    /// File of API keys; without it no key is needed. `selvage-gateway key NAME` makes a key and its line. SIGHUP reads the
    /// file again.
    #[arg(long, env = "SELVAGE_API_KEYS", value_name = "FILE")]
    pub api_keys: Option<PathBuf>,
    /// Lets API keys share one cache: an answer computed for one is given to all, who see by it that somebody asked before.
    #[arg(long, env = "SELVAGE_SHARED_CACHE", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true")]
    pub shared_cache: bool,
    /// Most requests of one address where no API keys are needed, such as 600/m (s, m or h); unlimited by default.
    /// With API keys, each key's line of the file says its rate. Each gateway counts for itself.
    #[arg(long, env = "SELVAGE_RATE_PER_ADDRESS", value_name = "RATE")]
    #[arg(conflicts_with = "api_keys")]
    pub rate_per_address: Option<Rate>,
    /// Names that `Host` may have besides localhost and IP addresses, with commas between; `*` for any. Another name is
    /// answered with 421. Unless given, no other one on a loopback address without API keys, and any elsewhere.
    #[arg(long, env = "SELVAGE_ALLOWED_HOSTS", value_delimiter = ',')]
    #[arg(value_name = "NAMES")]
    pub allowed_hosts: Vec<AllowedHost>,
    /// Origins whose pages may ask by CORS, such as `https://app.example`, with commas between; `*` for any. None unless given.
    #[arg(long, env = "SELVAGE_CORS_ORIGINS", value_delimiter = ',')]
    #[arg(value_name = "ORIGINS")]
    pub cors_origins: Vec<AllowedOrigin>,
    /// Memory for results kept in this process, in bytes; in embedded mode there is no other cache.
    #[arg(long, env = "SELVAGE_LOCAL_CACHE", default_value_t = 64 * 1024 * 1024, value_name = "BYTES")]
    pub local_cache: u64,
    /// Most jobs waiting in each of a model's two queues, in embedded mode; beyond it requests are answered with 429.
    #[cfg(feature = "embedded")]
    #[arg(long, env = "SELVAGE_QUEUE_CAPACITY", default_value_t = 10_000, value_name = "JOBS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000), help_heading = "Embedded mode")]
    pub queue_capacity: usize,
    #[cfg(feature = "embedded")]
    #[command(flatten, next_help_heading = "Embedded mode")]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub engine: selvage_worker::config::EngineSettings,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub command: Option<Command>,
}

/// What the program does instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make an API key.
    Key(MakeKey),
    /// Show the secret that signs the webhooks of one API key.
    WebhookSecret(ShowSecret),
    /// List, replay or purge messages that were dead-lettered.
    DeadLetters(DeadLettersCommand),
    /// Ask the gateway that runs here, by the same settings, whether it is ready; for health checks.
    Check,
}

/// Which settings contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A broker without a store.
    #[error(
        "--amqp-url / SELVAGE_AMQP_URL is set: set --redis-url / SELVAGE_REDIS_URL too, or neither for embedded mode"
    )]
    BrokerWithoutStore,
    /// A store without a broker.
    #[error(
        "--redis-url / SELVAGE_REDIS_URL is set: set --amqp-url / SELVAGE_AMQP_URL too, or neither for embedded mode"
    )]
    StoreWithoutBroker,
    /// A cache without a broker.
    #[error(
        "--cache-url / SELVAGE_CACHE_URL needs --amqp-url / SELVAGE_AMQP_URL and --redis-url / SELVAGE_REDIS_URL"
    )]
    CacheWithoutBroker,
    /// Waits that are longer than allowed unless asked for.
    #[error("--default-wait / SELVAGE_DEFAULT_WAIT is longer than --max-wait / SELVAGE_MAX_WAIT")]
    DefaultWaitTooLong,
    /// RabbitMQ's default user, on another host.
    #[error(transparent)]
    Guest(#[from] GuestElsewhere),
}

/// Where jobs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To a worker in this process.
    Embedded,
    /// To workers behind a broker.
    Fleet,
}

impl Settings {
    /// The mode these settings ask for.
    ///
    /// # Errors
    /// The first [`Contradiction`].
    pub fn mode(&self) -> Result<Mode, Contradiction> {
        if self.default_wait > self.max_wait {
            return Err(Contradiction::DefaultWaitTooLong);
        }
        self.shared.refuse_guest()?;
        match (&self.shared.amqp_url, &self.shared.redis_url) {
            (Some(_), Some(_)) => Ok(Mode::Fleet),
            (Some(_), None) => Err(Contradiction::BrokerWithoutStore),
            (None, Some(_)) => Err(Contradiction::StoreWithoutBroker),
            (None, None) if self.shared.cache_url.is_some() => {
                Err(Contradiction::CacheWithoutBroker)
            }
            (None, None) => Ok(Mode::Embedded),
        }
    }

    /// The address that `check` asks.
    #[must_use]
    pub const fn check_at(&self) -> SocketAddr {
        match self.ops_listen {
            OpsListen::At(address) => address,
            OpsListen::Off => self.listen,
        }
    }

    /// What requests are bound by.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            max_body: self.max_body,
            max_buffered: self.max_buffered,
            max_pixels: self.shared.max_pixels,
            default_wait: seconds(self.default_wait),
            max_wait: seconds(self.max_wait),
            max_in_flight: self.max_in_flight,
            job_deadline: seconds(self.job_deadline),
            retention: seconds(self.shared.job_ttl),
            drain: seconds(self.drain_timeout),
            max_connections: self.max_connections,
            max_connections_per_address: self
                .max_connections_per_address
                .unwrap_or_else(|| (self.max_connections * 3).div_ceil(4)),
            connection_shares_shrink: self.max_connections_per_address.is_none(),
            browsers: BrowserRules::new(
                &self.allowed_hosts,
                &self.cors_origins,
                self.api_keys.is_some(),
                self.listen.ip(),
            ),
            shared_cache: self.shared_cache,
            webhooks: WebhookSettings {
                secret: self.webhook_secret.clone(),
                previous_secret: self.webhook_previous_secret.clone(),
                allow_private: self.webhook_allow_private,
                first_retry: seconds(self.webhook_retry),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        let arguments = std::iter::once("selvage-gateway").chain(arguments.iter().copied());
        Settings::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn the_command_is_well_formed() {
        <Settings as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn urls_decide_the_mode_and_must_come_together() {
        let (amqp, redis) = (["--amqp-url", "amqp://u@h"], ["--redis-url", "redis://h"]);
        assert_eq!(settings(&[]).mode(), Ok(Mode::Embedded));
        assert_eq!(settings(&[amqp, redis].concat()).mode(), Ok(Mode::Fleet));
        assert_eq!(
            settings(&amqp).mode(),
            Err(Contradiction::BrokerWithoutStore)
        );
        assert_eq!(
            settings(&redis).mode(),
            Err(Contradiction::StoreWithoutBroker)
        );
        let cache = ["--cache-url", "redis://h"];
        assert_eq!(
            settings(&cache).mode(),
            Err(Contradiction::CacheWithoutBroker)
        );
        let waits = ["--default-wait", "61"];
        assert_eq!(
            settings(&waits).mode(),
            Err(Contradiction::DefaultWaitTooLong)
        );
    }

    #[test]
    fn a_check_asks_the_operators_listener_where_there_is_one() {
        let asked = |arguments: &[&str]| settings(arguments).check_at().to_string();
        let main = ["--listen", "127.0.0.1:8001"];
        assert_eq!(asked(&main), "127.0.0.1:8001");
        let ops = ["--ops-listen", "127.0.0.1:9101"];
        assert_eq!(asked(&[main, ops].concat()), "127.0.0.1:9101");
    }

    #[test]
    fn one_address_leaves_places_to_others_unless_it_may_have_all() {
        let most = |arguments: &[&str]| settings(arguments).limits().max_connections_per_address;
        assert_eq!(most(&[]), 3072);
        assert_eq!(most(&["--max-connections", "1"]), 1);
        assert_eq!(most(&["--max-connections-per-address", "4096"]), 4096);
    }

    #[test]
    fn a_rate_is_a_keys_or_an_addresss() {
        let parse = |arguments: &[&str]| {
            let arguments = [&["selvage-gateway", "--rate-per-address"], arguments].concat();
            Settings::try_parse_from(arguments)
        };
        assert!(parse(&["600/m"]).is_ok() && parse(&["600"]).is_err());
        assert!(parse(&["600/m", "--api-keys", "keys"]).is_err());
    }

    #[test]
    fn a_body_must_fit_into_a_message() {
        let parse =
            |bytes: &str| Settings::try_parse_from(["selvage-gateway", "--max-body", bytes]);
        assert!(parse("15728640").is_ok() && parse("15728641").is_err() && parse("0").is_err());
    }
}

//! The worker's settings: every flag, its variable, its default and its bounds, in one place.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use selvage_core::catalog::Device;
use selvage_core::catalog::follow::Source;
use selvage_core::job::ModelName;
use selvage_core::program::config::{
    AmqpUrls, GuestElsewhere, OpsListen, RedisUrl, SharedSettings,
};

/// Most sessions or threads that can be asked for; beyond it a number is a mistake.
const MAX_THREADS: u64 = 1024;

/// Seconds: far above what an inference takes that anybody waits for, and below RabbitMQ's consumer timeout.
const DEFAULT_INFERENCE_TIMEOUT: u64 = 60;

/// Selvage's worker: jobs in, predictions out.
///
/// It takes jobs from RabbitMQ, and is one of any number of workers. Without a broker no worker is needed: the gateway then
/// runs one in its own process.
#[derive(Clone, Debug, Parser)]
#[command(name = "selvage-worker", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub shared: SharedSettings,
    /// Address of /livez, /readyz and /metrics, or `off`; port 0 takes a free one and logs it.
    #[arg(long, env = "SELVAGE_OPS_LISTEN", default_value = "127.0.0.1:9100")]
    #[arg(value_name = "ADDRESS:PORT")]
    pub ops_listen: OpsListen,
    /// Names of the models to serve, separated by commas; all of the models folder if left out.
    #[arg(long, env = "SELVAGE_SERVE", value_delimiter = ',')]
    #[arg(value_name = "NAMES")]
    pub serve: Vec<ModelName>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub engine: EngineSettings,
    /// Messages that are taken from each queue before the first is answered; by default enough for two rounds of batches.
    #[arg(long, env = "SELVAGE_PREFETCH", value_name = "MESSAGES",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub prefetch: Option<u16>,
    /// Longest time from SIGTERM to the end, in seconds.
    #[arg(long, env = "SELVAGE_DRAIN_TIMEOUT", default_value_t = 20, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub drain_timeout: u64,
    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does instead of working.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask the worker that runs here, by the same settings, whether it is ready; for health checks.
    Check,
    /// Look into a model's folder before it is served.
    #[command(subcommand)]
    Model(ModelCommand),
}

/// What to do with a model's folder.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelCommand {
    /// Say what is understood of a model's folder, and run the model on an image.
    Check {
        /// The model's folder.
        folder: PathBuf,
        /// The image; a grey one if left out.
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// What to compare the model with: a JSON file with the scores that Python gives, such as {"cat.jpg": [0.9, 0.1]},
        /// with paths relative to it; or a folder that has a folder of images for each label.
        #[arg(long, value_name = "PATH")]
        reference: Option<PathBuf>,
    },
    /// Write model.toml with all that is understood of a model's folder.
    Init {
        /// The model's folder.
        folder: PathBuf,
    },
}

/// How models are run; the same in a worker and in a gateway that runs one in its own process.
#[derive(Clone, Debug, Args)]
pub struct EngineSettings {
    /// Sessions per model, each with a thread of its own; as many as there are cores for if left out.
    #[arg(long, env = "SELVAGE_SESSIONS", value_name = "SESSIONS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_THREADS))]
    pub sessions: Option<usize>,
    /// Threads that share the work of one inference. More sessions give more throughput, more threads less latency.
    #[arg(long, env = "SELVAGE_INTRA_THREADS", default_value_t = 1, value_name = "THREADS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_THREADS))]
    pub intra_threads: usize,
    /// Allows more sessions times threads than there are cores.
    #[arg(long, env = "SELVAGE_OVERSUBSCRIBE")]
    pub oversubscribe: bool,
    /// Longest time one inference may take, in seconds. Then it is stopped. A thread that still hangs after twice that time is
    /// replaced, and its image ends as poison.
    #[arg(long, env = "SELVAGE_INFERENCE_TIMEOUT", default_value_t = DEFAULT_INFERENCE_TIMEOUT, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub inference_timeout: u64,
    /// What models run on: `cpu`, `cuda`, `tensorrt` (of several GPUs, `cuda:N` or `tensorrt:N`), `openvino`, or `auto` for the
    /// best that works. `device` in a model's model.toml comes first.
    #[arg(long, env = "SELVAGE_DEVICE", default_value_t = Device::Cpu, value_name = "DEVICE")]
    pub device: Device,
    /// Refuses a model if its device leaves a part of it to the CPU.
    #[arg(long, env = "SELVAGE_DEVICE_STRICT")]
    pub device_strict: bool,
    /// A plugin of ONNX Runtime with the execution provider for the device. OpenVINO's is looked for in `openvino/` beside ONNX
    /// Runtime, where `scripts/onnxruntime --device openvino` puts it.
    #[arg(long, env = "SELVAGE_EP_LIBRARY", value_name = "FILE")]
    pub ep_library: Option<PathBuf>,
    /// The ONNX Runtime library; by default it is looked for beside the program and where `scripts/onnxruntime` puts it.
    #[arg(long, env = "ORT_DYLIB_PATH", value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

/// What a worker is run with, beside its backends.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Where models lie, and how they are followed.
    pub models: Source,
    /// How models are run.
    pub engine: EngineSettings,
    /// Largest image, in pixels.
    pub max_pixels: u64,
    /// Messages that are taken from each queue at once; `None` fits it to sessions and batch.
    pub prefetch: Option<u16>,
    /// From the signal to the end.
    pub drain_timeout: Duration,
}

/// Which settings contradict each other, or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// No broker.
    #[error(
        "--amqp-url / SELVAGE_AMQP_URL: a worker needs a broker to take jobs from; without one run the gateway alone, it \
         has a worker built in"
    )]
    NoBroker,
    /// No store.
    #[error("--redis-url / SELVAGE_REDIS_URL: a worker needs the Redis that its gateways use")]
    NoStore,
    /// More threads than cores.
    #[error(
        "--sessions / SELVAGE_SESSIONS times --intra-threads / SELVAGE_INTRA_THREADS is {wanted}, there are {cores} cores; \
         --oversubscribe / SELVAGE_OVERSUBSCRIBE allows it"
    )]
    TooManyThreads {
        /// Sessions times threads.
        wanted: usize,
        /// Cores this process may use.
        cores: usize,
    },
    /// RabbitMQ's default user, on another host.
    #[error(transparent)]
    Guest(#[from] GuestElsewhere),
}

impl Config {
    /// The two addresses a worker cannot do without.
    ///
    /// # Errors
    /// [`Contradiction::NoBroker`], [`Contradiction::NoStore`].
    pub fn urls(&self) -> Result<(&AmqpUrls, &RedisUrl), Contradiction> {
        let amqp = self
            .shared
            .amqp_url
            .as_ref()
            .ok_or(Contradiction::NoBroker)?;
        self.shared.refuse_guest()?;
        let redis = self
            .shared
            .redis_url
            .as_ref()
            .ok_or(Contradiction::NoStore)?;
        Ok((amqp, redis))
    }

    /// What the worker itself needs to know.
    #[must_use]
    pub fn worker(&self) -> WorkerSettings {
        WorkerSettings {
            models: self.shared.models_source(),
            engine: self.engine.clone(),
            max_pixels: self.shared.max_pixels,
            prefetch: self.prefetch,
            drain_timeout: Duration::from_secs(self.drain_timeout),
        }
    }
}

impl EngineSettings {
    /// Longest time of one inference.
    #[must_use]
    pub const fn inference_limit(&self) -> Duration {
        Duration::from_secs(self.inference_timeout)
    }

    /// How many sessions each model gets on a machine with so many cores.
    ///
    /// # Errors
    /// [`Contradiction::TooManyThreads`] unless that is allowed.
    pub fn sessions(&self, cores: usize) -> Result<usize, Contradiction> {
        let threads = self.intra_threads.max(1);
        let sessions = self.sessions.unwrap_or((cores / threads).max(1));
        let wanted = sessions * threads;
        if wanted <= cores || self.oversubscribe {
            Ok(sessions)
        } else {
            Err(Contradiction::TooManyThreads { wanted, cores })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let arguments = std::iter::once("selvage-worker").chain(arguments.iter().copied());
        Config::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn the_command_is_well_formed() {
        <Config as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn both_addresses_are_needed() {
        let (amqp, redis) = (["--amqp-url", "amqp://u@h"], ["--redis-url", "redis://h"]);
        assert_eq!(config(&redis).urls().err(), Some(Contradiction::NoBroker));
        assert_eq!(config(&amqp).urls().err(), Some(Contradiction::NoStore));
        assert!(config(&[amqp, redis].concat()).urls().is_ok());
    }

    #[test]
    fn models_are_named_in_one_list() {
        let names: Vec<String> = config(&["--serve", "a,b-2"])
            .serve
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["a", "b-2"]);
        assert!(config(&[]).serve.is_empty());
    }

    #[test]
    fn sessions_fill_the_cores_and_no_more() {
        assert_eq!(config(&[]).engine.sessions(8), Ok(8));
        assert_eq!(config(&["--intra-threads", "3"]).engine.sessions(8), Ok(2));
        assert_eq!(
            config(&["--intra-threads", "4"]).engine.sessions(2),
            Err(Contradiction::TooManyThreads {
                wanted: 4,
                cores: 2
            })
        );
        let many = ["--sessions", "9"];
        let error = config(&many).engine.sessions(8).unwrap_err();
        assert!(error.to_string().contains("SELVAGE_SESSIONS"), "{error}");
        let arguments = ["--sessions", "9", "--oversubscribe"];
        assert_eq!(config(&arguments).engine.sessions(8), Ok(9));
    }
}

//! Settings both programs share, parsed into types that cannot be wrong. Secrets never reach a log.

mod address;
mod amqp;
mod ops;
mod otlp;
mod redis;

use std::error::Error as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Command, Parser};

pub use self::amqp::{AmqpUrl, AmqpUrls};
pub use self::ops::OpsListen;
pub use self::otlp::OtlpUrl;
pub use self::redis::{RedisUrl, Sentinels};

use crate::catalog::follow::Source;

/// Exit code for wrong settings (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Exit code when a dependency refused us for good (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// Reads a program's settings from its arguments and its environment.
///
/// # Errors
/// The code to end with, once help was shown or the wrong setting was named on standard error.
pub fn read<S: Parser>() -> Result<S, ExitCode> {
    S::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Nothing is left to be done where standard output cannot be written to.
            error.print().ok();
            return ExitCode::SUCCESS;
        }
        writeln!(io::stderr(), "{}", explain(&error, S::command())).ok();
        ExitCode::from(EXIT_USAGE)
    })
}

/// What is wrong with which setting, under both its names; a secret one's value is not repeated.
fn explain(error: &clap::Error, mut command: Command) -> String {
    // An argument shows its name and value only once its command was built.
    command.build();
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error.to_string();
    };
    let Some(setting) = command.get_arguments().find(|arg| arg.to_string() == *flag) else {
        return error.to_string();
    };
    let variable = setting.get_env().unwrap_or_default().display();
    match error.source() {
        Some(problem) if setting.is_hide_env_values_set() => {
            format!("error: {flag} ({variable}): {problem}")
        }
        Some(_) | None => format!("{error}\nIts environment variable is {variable}."),
    }
}

/// Settings of gateway and worker alike.
#[derive(Clone, Debug, Args)]
pub struct SharedSettings {
    /// RabbitMQ, as `amqp://user:password@host:port/vhost` or `amqps://…`; several nodes of one cluster are separated by
    /// commas and tried in turn.
    #[arg(long, env = "SELVAGE_AMQP_URL", value_name = "URL")]
    #[arg(hide_env_values = true)]
    pub amqp_url: Option<AmqpUrls>,
    /// Sign in at a broker on another host as `guest`, RabbitMQ's well-known default user; for networks nobody else is on.
    #[arg(long, env = "SELVAGE_ALLOW_GUEST")]
    pub allow_guest: bool,
    /// Redis for job records and the list of workers, as `redis://user:password@host:port/db` or `rediss://…`; behind
    /// Sentinel as `redis+sentinel://user:password@host1:26379,host2:26379/service/db` or `rediss+sentinel://…`.
    #[arg(long, env = "SELVAGE_REDIS_URL", value_name = "URL")]
    #[arg(hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,
    /// Redis for cached results, if it is to be another one than --redis-url.
    #[arg(long, env = "SELVAGE_CACHE_URL", value_name = "URL")]
    #[arg(hide_env_values = true)]
    pub cache_url: Option<RedisUrl>,
    /// Folder with one folder per model, as export tools write them or with a model.toml.
    #[arg(long, env = "SELVAGE_MODELS", default_value = "models")]
    #[arg(value_name = "FOLDER")]
    pub models: PathBuf,
    /// How often the models folder is looked at for changed models, in seconds; 0: only after SIGHUP. A model is taken once
    /// its folder has been still for as long.
    #[arg(long, env = "SELVAGE_MODELS_POLL", default_value_t = 2, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub models_poll: u64,
    /// First part of every queue name and Redis key; fleets with different prefixes do not see each other.
    #[arg(long, env = "SELVAGE_PREFIX", default_value = "selvage")]
    #[arg(value_name = "WORD")]
    pub prefix: Prefix,
    /// How long a cached result lives after it was last asked for, in seconds.
    #[arg(long, env = "SELVAGE_CACHE_TTL", default_value_t = 3600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub cache_ttl: u64,
    /// How long the record of a finished job is kept, in seconds.
    #[arg(long, env = "SELVAGE_JOB_TTL", default_value_t = 86_400, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub job_ttl: u64,
    /// Largest image, in pixels; larger ones are refused by their header, before they are decoded.
    #[arg(long, env = "SELVAGE_MAX_PIXELS", default_value_t = 40_000_000, value_name = "PIXELS",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_pixels: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub log: super::logging::LogSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub trace: super::trace::TraceSettings,
}

/// A setting as logs show it.
pub fn or_none<T: ToString>(setting: Option<&T>) -> String {
    setting.map_or_else(|| "none".to_owned(), T::to_string)
}

/// A broker on another host would be used as `guest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--amqp-url / SELVAGE_AMQP_URL would sign in at another host as `guest`, whose password everybody knows: name a user \
     of your own, or set --allow-guest / SELVAGE_ALLOW_GUEST"
)]
pub struct GuestElsewhere;

impl SharedSettings {
    /// Where models lie, and how they are followed while the program runs.
    #[must_use]
    pub fn models_source(&self) -> Source {
        Source {
            folder: self.models.clone(),
            every: (self.models_poll > 0).then(|| Duration::from_secs(self.models_poll)),
        }
    }

    /// Refuses RabbitMQ's default user where others could reach the broker too.
    ///
    /// # Errors
    /// [`GuestElsewhere`].
    pub fn refuse_guest(&self) -> Result<(), GuestElsewhere> {
        let elsewhere = self
            .amqp_url
            .as_ref()
            .is_some_and(AmqpUrls::is_guest_elsewhere);
        if elsewhere && !self.allow_guest {
            return Err(GuestElsewhere);
        }
        Ok(())
    }
}

/// A word that is safe as the first part of queue names and keys: 1 to 32 of `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a prefix is 1 to 32 of a-z 0-9 _ -")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_is_for_this_host_alone_unless_allowed() {
        let refused = |arguments: &[&str]| {
            let program = Program::try_parse_from(std::iter::once(&"program").chain(arguments));
            program.unwrap().shared.refuse_guest().is_err()
        };
        for here in [
            "amqp://localhost",
            "amqp://guest:guest@LOCALHOST:5672/%2f",
            "amqp://guest@127.0.0.1",
            "amqp://127.1.2.3",
            "amqp://[::1]:5672",
            "amqps://[::ffff:127.0.0.1]",
            "amqp://ann:s3cret@mq.example",
            "amqp://guest@localhost:5672,amqp://guest@localhost:5673",
        ] {
            assert!(!refused(&["--amqp-url", here]), "{here}");
        }
        for elsewhere in [
            "amqp://mq.example",
            "amqp://guest:s3cret@mq.example",
            "amqp://%67uest:s3cret@mq.example",
            "amqp://:s3cret@mq.example",
            "amqps://guest:guest@10.0.0.1:5671",
            "amqp://localhost.example",
            "amqp://[2001:db8::1]",
            "amqp://ann:s3cret@mq1.example,amqp://mq2.example",
        ] {
            assert!(refused(&["--amqp-url", elsewhere]), "{elsewhere}");
            assert!(!refused(&["--amqp-url", elsewhere, "--allow-guest"]));
        }
        assert!(!refused(&[]));
        assert!(!GuestElsewhere.to_string().contains("s3cret"));
    }

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        shared: SharedSettings,
    }

    fn explained(arguments: &[&str]) -> String {
        let arguments = std::iter::once("program").chain(arguments.iter().copied());
        let error = Program::try_parse_from(arguments).unwrap_err();
        explain(&error, <Program as clap::CommandFactory>::command())
    }

    #[test]
    fn a_wrong_setting_is_named_by_flag_and_variable() {
        for (arguments, names) in [
            (["--prefix", "A b"], ["--prefix", "SELVAGE_PREFIX"]),
            (["--job-ttl", "0"], ["--job-ttl", "SELVAGE_JOB_TTL"]),
            (
                ["--log-format", "x"],
                ["--log-format", "SELVAGE_LOG_FORMAT"],
            ),
        ] {
            let text = explained(&arguments);
            assert!(names.iter().all(|name| text.contains(name)), "{text}");
        }
    }

    #[test]
    fn a_wrong_secret_is_named_and_not_repeated() {
        let text = explained(&["--amqp-url", "http://ann:s3cret@h"]);
        assert!(
            text.contains("SELVAGE_AMQP_URL") && text.contains("--amqp-url"),
            "{text}"
        );
        assert!(text.contains("amqps") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn prefixes_stay_within_their_alphabet() {
        assert!("selvage-2_b".parse::<Prefix>().is_ok());
        for bad in ["", "a.b", "A", "a b", "a*", &"a".repeat(33)] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
    }
}

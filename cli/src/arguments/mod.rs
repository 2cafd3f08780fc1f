//! The command line: every command and option with its help. Nothing is done here.

mod bench;
mod server;

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

pub(crate) use self::bench::Bench;
pub(crate) use self::server::Server;
use crate::failure::{Exit, Failure};
use crate::job::Status;

const EXIT_CODES: &str = "\
Exit codes (the highest one if there are several failures):
  0    success
  1    an image or a job failed
  2    the command line is wrong
  3    no server is reachable
  4    the server rejects the API key
  5    the server is overloaded or temporarily unavailable
  6    --timeout passed
  130  interrupted";

/// Classifies images with a Selvage server.
#[derive(Debug, Parser)]
#[command(name = "selvage", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print results and errors only, no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Classify images.
    Predict(Predict),
    /// Show submitted jobs, wait for them, cancel them.
    #[command(subcommand)]
    Jobs(Jobs),
    /// List the models.
    Models(Look),
    /// Check a model's folder (`check FOLDER`), or write its model.toml (`init FOLDER`); needs selvage-worker on this machine.
    #[command(disable_help_flag = true)]
    Model {
        /// What selvage-worker is to do; `help` lists it.
        #[arg(
            required = true,
            allow_hyphen_values = true,
            trailing_var_arg = true,
            value_name = "ARGUMENTS"
        )]
        arguments: Vec<OsString>,
    },
    /// Show whether the server is ready.
    Status(Look),
    /// Measure throughput and latency of a server.
    ///
    /// Sends the images over persistent connections and prints one row for each concurrency and rate. The exit code is 1 if any
    /// response was an error.
    Bench(Box<Bench>),
    /// Print the completion script of a shell.
    ///
    /// For bash, for example: `selvage completions bash > ~/.local/share/bash-completion/completions/selvage`
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `selvage predict`.
#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Image files (PNG, JPEG, WebP, GIF, BMP), folders, patterns such as `'photos/**/*.jpg'`, or `-` for standard input.
    #[arg(required = true, value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) images: Vec<OsString>,
    /// The model, instead of the server's default; see `selvage models`.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// How many labels to list for each image.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top: Option<u16>,
    #[command(flatten)]
    pub(crate) response_mode: ResponseMode,
    /// How many images are sent at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) concurrency: u16,
    /// Skip the server's cache.
    #[arg(long)]
    pub(crate) no_cache: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// How results are waited for.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ResponseMode {
    /// Wait for the results; the default.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Submit jobs and print their ids, for `selvage jobs`.
    #[arg(long)]
    pub(crate) submit: bool,
    /// Submit jobs, print each change, and wait until they end.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// How long to wait.
#[derive(Debug, Args)]
pub(crate) struct Patience {
    /// Longest wait for each image or job; a job that has not ended by then continues on the server.
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

impl Patience {
    pub(crate) const fn span(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// `selvage jobs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// Show the current state of a job.
    Get(OneJob),
    /// Wait until a job ends, and show it.
    Wait(WaitedJob),
    /// Print each change of a job until it ends, and show it.
    Follow(WaitedJob),
    /// Cancel a job.
    Cancel(OneJob),
    /// List your jobs, newest first.
    List(ListedJobs),
}

/// `selvage jobs list`.
#[derive(Debug, Args)]
pub(crate) struct ListedJobs {
    /// Only jobs in this state.
    #[arg(long, value_name = "STATE", value_enum)]
    pub(crate) status: Option<Status>,
    /// How many jobs to list at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// One job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The id that `selvage predict --submit` printed.
    pub(crate) id: uuid::Uuid,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// One job, and how long to wait for it.
#[derive(Debug, Args)]
pub(crate) struct WaitedJob {
    #[command(flatten)]
    pub(crate) job: OneJob,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// `selvage models`, `selvage status`.
#[derive(Debug, Args)]
pub(crate) struct Look {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// The format of results.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// The format of results on standard output.
    #[arg(
        long = "output",
        short = 'o',
        value_name = "FORMAT",
        default_value = "table",
        value_enum
    )]
    format: Format,
    /// The same as `--output json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Output {
    pub(crate) const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people.
    Table,
    /// One JSON value: the server's response.
    Json,
    /// One line of JSON per result, printed as soon as it is available.
    Ndjson,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "selvage", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for wrong in [
            &["predict", "a.png", "--submit", "--follow"] as &[_],
            &["predict"],
            &["predict", "a.png", "--top", "0"],
            &["predict", "a.png", "--timeout", "0"],
            &["models", "--json", "--output", "table"],
            &["predict", "a.png", "--url", "http://ann:s3cret@host/"],
            &["predict", "a.png", "--key", "s3cret"],
            &["jobs", "get", "12"],
        ] {
            let line = std::iter::once(&"selvage").chain(wrong);
            let error = Arguments::try_parse_from(line).unwrap_err();
            assert!(error.use_stderr(), "{wrong:?}: {error}");
        }
    }
}

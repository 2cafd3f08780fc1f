//! The load client: its options and the course of a run. One thread, HTTP/1.1 with keep-alive, little work per request.

mod connection;
mod course;
mod follow;
mod pace;
mod report;
mod requests;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{ArgGroup, Args, ValueEnum};
use tokio::task::LocalSet;

use crate::cpu::Watched;
use crate::pictures::Source;

/// What is sent where, for how long, and what answers are right.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("repetition").required(true))]
pub(crate) struct Options {
    /// The server, as `http://HOST:PORT` with a literal address.
    #[arg(long, value_parser = server_address)]
    url: SocketAddr,
    /// Which endpoint pictures are sent to.
    #[arg(long, value_enum, default_value_t = Endpoint::Predict)]
    path: Endpoint,
    /// The model to ask for; without it, the server's default.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Length of the measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Length of the same load before the measurement, answers checked but not counted.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    warmup: f64,
    /// Requests per second, sent when they are due; without it each connection sends as soon as it has an answer.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Every request is a picture the server has not seen before.
    #[arg(long, group = "repetition")]
    unique: bool,
    /// The same so many pictures again and again.
    #[arg(long, group = "repetition", value_name = "PICTURES")]
    repeated: Option<usize>,
    #[command(flatten)]
    source: Source,
    /// File with the right answers, as `selvage-bench raw --answers` writes it.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// The one answer that is right, whatever the picture; for the constant server.
    #[arg(long, value_name = "LABEL", conflicts_with = "answers")]
    label: Option<String>,
    /// A status that is right besides the endpoint's own, such as 429 under overload; may be repeated.
    #[arg(long, value_name = "STATUS")]
    allow_status: Vec<u16>,
    /// A process whose processor time is recorded, as NAME=PID; may be repeated.
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
    /// For `/jobs`: so many accepted jobs are asked for afterwards until they are finished, and their answers checked.
    #[arg(long, value_name = "JOBS", default_value_t = 0)]
    follow: usize,
    /// How long answers are waited for after the measurement, and after that, followed jobs.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    patience: f64,
}

/// An endpoint that takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Endpoint {
    /// Waits for the answer.
    #[value(name = "/predict")]
    Predict,
    /// Answers as soon as the job is safe.
    #[value(name = "/jobs")]
    Jobs,
}

impl Endpoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "/predict",
            Self::Jobs => "/jobs",
        }
    }
}

/// Runs the load and prints the report.
///
/// # Errors
/// When it cannot be carried out at all. A wrong answer is no error but exit code 1.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.seconds > 0.0 && options.warmup >= 0.0,
        "--seconds and --warmup must not be negative"
    );
    ensure!(
        options.rate.is_none_or(|rate| rate > 0.0),
        "--rate must be above 0"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = LocalSet::new().block_on(&runtime, course::run(options))?;
    crate::print(&report)?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn server_address(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .strip_prefix("http://")
        .ok_or("the URL must begin with http://")?;
    address
        .trim_end_matches('/')
        .parse()
        .map_err(|_| "expected http://ADDRESS:PORT".to_owned())
}

/// A duration of so many seconds; the command line has been checked for negative ones.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_a_literal_address_is_taken() {
        assert_eq!(
            server_address("http://127.0.0.1:80/"),
            Ok(([127, 0, 0, 1], 80).into())
        );
        for text in [
            "127.0.0.1:80",
            "https://127.0.0.1:80",
            "http://example.org",
            "http://127.0.0.1",
        ] {
            assert!(server_address(text).is_err(), "{text}");
        }
    }
}

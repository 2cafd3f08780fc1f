//! The options of `selvage bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use url::Url;

use super::Output;
use super::server::{Key, address};
use crate::bench::Watched;

/// Concurrencies that are measured if none are given, without and with a rate.
const SWEEP: &[u32] = &[1, 8, 64];
const AT_RATE: &[u32] = &[64];

/// `selvage bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The server's address, with plain HTTP.
    #[arg(value_name = "URL", value_parser = plain_address, value_hint = ValueHint::Url)]
    pub(crate) url: Url,
    /// Image files, folders or patterns; sent in turn, again and again.
    #[arg(required = true, value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) images: Vec<OsString>,
    /// Connections, each with one request at a time; one run for each number. Default: 1,8,64, or 64 with --rate.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// Requests per second, sent when they are due even if the server is slow; one run for each number.
    ///
    /// The latency of a request that had to wait for a connection counts from the time it was due.
    #[arg(long, value_name = "PER_SECOND,…", value_delimiter = ',', value_parser = positive)]
    pub(crate) rate: Vec<f64>,
    /// Length of each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Length of the same load before each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Make each request a new image, which no cache has a result for. For PNG and JPEG.
    #[arg(long)]
    pub(crate) unique: bool,
    /// Submit jobs instead of waiting for results.
    #[arg(long)]
    pub(crate) submit: bool,
    /// The model, instead of the server's default.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Threads of this client; the CLIENT US column shows what it spends per request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// Check each label against a JSON object that has the label of each image by its digest (`sha256:…`); null leaves it out.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) answers: Option<PathBuf>,
    /// Record the processor time of a process on this machine too; can be repeated.
    #[arg(long, value_name = "NAME=PID")]
    pub(crate) watch: Vec<Watched>,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Bench {
    pub(crate) fn concurrency(&self) -> &[u32] {
        match (&self.concurrency[..], &self.rate[..]) {
            ([], []) => SWEEP,
            ([], _) => AT_RATE,
            (given, _) => given,
        }
    }
}

fn plain_address(text: &str) -> Result<Url, String> {
    let url = address(text)?;
    match url.scheme() {
        "http" => Ok(url),
        _ => Err(
            "bench needs http://; measure the server without the proxy that has the TLS".to_owned(),
        ),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|&number: &f64| number > 0.0 && number <= 1e6);
    number.ok_or_else(|| "expected a number above 0, at most 1000000".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|&seconds: &f64| seconds <= 86_400.0);
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds, at most 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn bench(more: &[&str]) -> Result<Bench, clap::Error> {
        let line = ["selvage", "bench", "localhost:8000", "a.png"];
        match Arguments::try_parse_from(line.iter().chain(more))?.command {
            Command::Bench(asked) => Ok(*asked),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_run_is_made_for_each_number() {
        assert_eq!(bench(&[]).unwrap().concurrency(), SWEEP);
        assert_eq!(
            bench(&["--rate", "10,20.5"]).unwrap().concurrency(),
            AT_RATE
        );
        let given = bench(&["--concurrency", "2,4", "--rate", "10,20.5"]).unwrap();
        assert_eq!(
            (given.concurrency(), &given.rate[..]),
            (&[2, 4][..], &[10.0, 20.5][..])
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in [
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--seconds", "-1"],
            ["--concurrency", "0"],
            ["--watch", "gateway"],
        ] {
            assert!(bench(&wrong).is_err(), "{wrong:?}");
        }
        assert!(plain_address("https://example").is_err());
    }
}

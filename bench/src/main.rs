//! `selvage-bench`: the limits that `bench/run` compares Selvage with, and its pictures. The load client is `selvage bench`.

mod constant;
mod pictures;
mod raw;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Measures the limits of the hardware; `selvage bench` measures the service.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Writes the pictures of a run as files.
    Pictures(pictures::Options),
    /// Predicts with ONNX Runtime alone, on decoded pictures: the limit for new pictures. Also writes the right labels.
    Raw(raw::Options),
    /// Serves one constant answer to every request: the limit of HTTP alone. Runs until it is ended.
    Constant(constant::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().measurement {
        Measurement::Pictures(options) => pictures::run(&options),
        Measurement::Raw(options) => raw::run(&options),
        Measurement::Constant(options) => constant::run(&options),
    };
    done.unwrap_or_else(|error| {
        // There is nowhere left to complain if standard error is closed.
        let _closed = writeln!(std::io::stderr(), "selvage-bench: {error:#}");
        ExitCode::from(2)
    })
}

/// Prints a measurement's report as JSON.
fn print(report: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout();
    serde_json::to_writer_pretty(&mut out, report).context("the report cannot be printed")?;
    writeln!(out).context("the report cannot be printed")
}

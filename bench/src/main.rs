//! `selvage-bench`: reads the command line and runs the measurement, which lives in its own module.

mod answers;
mod constant;
mod cpu;
mod histogram;
mod load;
mod pictures;
mod raw;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Measures Selvage and the limits of the hardware it runs on; each measurement prints one JSON object.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Sends pictures over HTTP/1.1 connections and checks every answer; exit code 1 if one was wrong.
    Load(Box<load::Options>),
    /// Predicts with ONNX Runtime alone, on decoded pictures: the limit for new pictures. Also writes the right answers.
    Raw(raw::Options),
    /// Serves one constant answer to every request: the limit of HTTP alone. Runs until it is ended.
    Constant(constant::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().measurement {
        Measurement::Load(options) => load::run(&options),
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

//! Logs: text or JSON, filtered. Metrics live with the code that counts them.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Log settings, shared by both programs.
#[derive(Clone, Debug, Args)]
pub struct LogSettings {
    /// Which log lines are written: a level, or a filter such as `info,selvage_worker=debug`.
    #[arg(
        long = "log",
        env = "SELVAGE_LOG",
        default_value = "info,lapin=warn",
        value_name = "FILTER"
    )]
    pub filter: String,
    /// How log lines look.
    #[arg(
        long = "log-format",
        env = "SELVAGE_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub format: LogFormat,
}

/// Starts logging to standard error.
///
/// # Errors
/// When the filter cannot be read; the message names the setting.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| anyhow::anyhow!("--log / SELVAGE_LOG: `{}`: {error}", settings.filter))?
        // Writes out every message that the broker returns, images and all.
        .add_directive("lapin::returned_messages=off".parse()?);
    // Colours are for eyes, not for files.
    let lines = fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match settings.format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

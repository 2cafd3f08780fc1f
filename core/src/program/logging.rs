//! Logs: text or JSON, filtered. Metrics live with the code that counts them.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer};

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
    /// Which log lines are written: a level, or a filter such as `info,selvage_worker=debug`. By default the AMQP library writes
    /// none: the programs log each lost connection with its cause.
    #[arg(long = "log", env = "SELVAGE_LOG", default_value = "info,lapin=off")]
    #[arg(value_name = "FILTER")]
    pub filter: String,
    /// How log lines look.
    #[arg(long = "log-format", env = "SELVAGE_LOG_FORMAT", value_enum)]
    #[arg(default_value_t, value_name = "FORMAT")]
    pub format: LogFormat,
}

/// Starts logging to standard error.
///
/// # Errors
/// When the filter cannot be read; the message names the setting.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    lines(settings, io::stderr)?.init();
    Ok(())
}

/// What writes the lines the settings ask for, without those that nobody may ask for.
fn lines<W>(settings: &LogSettings, writer: W) -> anyhow::Result<impl Subscriber + use<W>>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| anyhow::anyhow!("--log / SELVAGE_LOG: `{}`: {error}", settings.filter))?;
    // Colours are for eyes, not for files.
    let lines = fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    let lines = match settings.format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(may_be_written))
        .with(lines))
}

/// Not a directive of the filter, where a more specific one of the operator would win: `lapin` writes every frame at trace
/// level, the one with the broker's password and those with images too, and every message that the broker returns as a warning.
fn may_be_written(line: &Metadata<'_>) -> bool {
    let target = line.target();
    let shows_frames = target.starts_with("lapin") || target.starts_with("amq_protocol");
    !(shows_frames && *line.level() == Level::TRACE) && target != "lapin::returned_messages"
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::{debug, trace, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_shows_what_the_broker_is_sent() {
        let filters = [
            "trace",
            "lapin=trace",
            "warn,lapin::io_loop=trace,lapin::returned_messages=trace,amq_protocol_tcp=trace",
            "trace,[io_loop]=trace",
        ];
        for (filter, format) in filters
            .into_iter()
            .flat_map(|filter| [(filter, LogFormat::Text), (filter, LogFormat::Json)])
        {
            let written = Written::default();
            let settings = LogSettings {
                filter: filter.to_owned(),
                format,
            };
            let writer = written.clone();
            let lines = lines(&settings, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(lines, || {
                let _span = tracing::trace_span!(target: "lapin::io_loop", "io_loop").entered();
                trace!(target: "lapin::io_loop", "s3cret");
                trace!(target: "amq_protocol_tcp", "s3cret");
                warn!(target: "lapin::returned_messages", "an image");
                debug!(target: "lapin::io_loop", "connected");
                warn!(target: "selvage", "other");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("s3cret"), "{filter}: {text}");
            assert!(!text.contains("an image"), "{filter}: {text}");
            let other = filter != "lapin=trace";
            assert_eq!(text.contains("other"), other, "{filter}: {text}");
            assert!(text.contains("connected"), "{filter}: {text}");
        }
    }
}

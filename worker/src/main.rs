//! The program `selvage-worker`.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use selvage_core::config::{EXIT_USAGE, OpsListen};
use selvage_core::{config, probe, shutdown, telemetry, trace};
use selvage_worker::check_model;
use selvage_worker::config::{Command, Config};
use selvage_worker::image::decode::Limits;
use selvage_worker::start::{self, StartError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    let settings = match config::read::<Config>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match &settings.command {
        Some(Command::Check) => {
            return probe::answer(match settings.ops_listen {
                OpsListen::At(address) => probe::ready(address),
                OpsListen::Off => Err(probe::NotReady::Said(
                    "--ops-listen / SELVAGE_OPS_LISTEN is off: nobody can be asked".to_owned(),
                )),
            });
        }
        Some(Command::Model(command)) => {
            let limits = Limits::with_pixels(settings.shared.max_pixels);
            return match check_model::run(command, &settings.engine, limits, std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error),
            };
        }
        None => {}
    }
    let started = telemetry::start(&settings.shared.log)
        .and_then(|()| trace::start(&settings.shared.trace, "selvage-worker"));
    if let Err(error) = started {
        return complain(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return StartError::Internal(error.into()).report(),
    };
    let ended = runtime.block_on(run(settings));
    // A file system or a model that hangs must not keep a drained program alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    trace::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Without a log, standard error is the last place to report an error.
fn complain(error: &dyn Display) -> ExitCode {
    writeln!(std::io::stderr(), "error: {error:#}").ok();
    ExitCode::from(EXIT_USAGE)
}

async fn run(settings: Config) -> Result<(), StartError> {
    let shutdown = CancellationToken::new();
    let signals = TaskTracker::new();
    signals.spawn(shutdown::on_signal(shutdown.clone()));
    let ended = start::run(settings, shutdown.clone()).await;
    shutdown.cancel();
    ended
}

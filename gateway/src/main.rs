//! The program `selvage-gateway`.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use selvage_core::config::EXIT_USAGE;
use selvage_core::{config, probe, shutdown, telemetry, trace};
use selvage_gateway::program::config::{Command, Settings};
use selvage_gateway::program::run;
use selvage_gateway::program::start_error::StartError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    let settings = match config::read::<Settings>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match &settings.command {
        Some(Command::Key(make)) => {
            return match make.run(std::io::stdout(), std::io::stderr()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Some(Command::WebhookSecret(show)) => {
            return match show.run(settings.webhook_secret.as_ref(), std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error),
            };
        }
        Some(Command::Check) => return probe::answer(probe::ready(settings.check_at())),
        Some(Command::DeadLetters(_)) | None => {}
    }
    let started = telemetry::start(&settings.shared.log)
        .and_then(|()| trace::start(&settings.shared.trace, "selvage-gateway"));
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
    let ended = runtime.block_on(async {
        match settings.command.clone() {
            Some(Command::DeadLetters(command)) => command.run(&settings, std::io::stdout()).await,
            Some(Command::Key(_) | Command::WebhookSecret(_) | Command::Check) | None => {
                run(settings).await
            }
        }
    });
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

async fn run(settings: Settings) -> Result<(), StartError> {
    let shutdown = CancellationToken::new();
    let signals = TaskTracker::new();
    signals.spawn(shutdown::on_signal(shutdown.clone()));
    let ended = run::run(settings, shutdown.clone()).await;
    shutdown.cancel();
    ended
}

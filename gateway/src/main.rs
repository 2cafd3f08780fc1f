//! The program `selvage-gateway`.

use std::io;
use std::process::ExitCode;

use selvage_core::program::{self, StartError, config, probe};
use selvage_gateway::program::config::{Command, Settings};
use selvage_gateway::program::run::run;

/// The program's name in traces.
const NAME: &str = "selvage-gateway";

fn main() -> ExitCode {
    let settings = match config::read::<Settings>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let (settings, shared) = (&settings, &settings.shared);
    match &settings.command {
        None => program::run(NAME, shared, |shutdown| run(settings, shutdown)),
        Some(Command::DeadLetters(command)) => program::run(NAME, shared, |shutdown| async move {
            let done = command.run(settings, io::stdout());
            let interrupted = || Err(StartError::Internal(anyhow::anyhow!("interrupted")));
            let done = shutdown.run_until_cancelled(done).await;
            done.unwrap_or_else(interrupted)
        }),
        Some(Command::Key(make)) => match make.run(io::stdout(), io::stderr()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Some(Command::WebhookSecret(show)) => {
            match show.run(settings.webhook_secret.as_ref(), io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => program::complain(&error),
            }
        }
        Some(Command::Check) => probe::answer(probe::ready(settings.check_at())),
    }
}

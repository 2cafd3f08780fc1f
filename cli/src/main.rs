//! The program `selvage`: a client of Selvage's HTTP API for people and scripts. It imports nothing else of this workspace.
//!
//! `arguments/` has the command line; `predict/`, `jobs` and `server` the commands; `client/` one call of the API, `wait` a
//! job to its end. Results go to standard output by `output/`, what happens meanwhile to standard error by `console`.

mod arguments;
mod bounds;
mod client;
mod console;
mod failure;
mod job;
mod jobs;
mod model;
mod output;
mod predict;
#[cfg(test)]
mod scripted;
mod server;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Command};
use crate::bounds::Interrupt;
use crate::console::Console;
use crate::failure::{Exit, Failure};

fn main() -> ExitCode {
    // Shows help, or what is wrong, and ends the process with 0 or 2.
    let arguments = Arguments::parse();
    // The only one that is ever named, so this cannot fail.
    let _named_before = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(cause) => return ended(Err(Failure::Here(format!("no runtime: {cause}")))),
    };
    let exit = runtime.block_on(run(arguments.command));
    // A read of standard input cannot be called off, and must not keep an interrupted program.
    runtime.shutdown_background();
    ended(exit)
}

/// Runs the command; the first SIGINT or SIGTERM makes it end early, in good order.
async fn run(command: Command) -> Result<Exit, Failure> {
    let token = CancellationToken::new();
    let interrupt = Interrupt::new(token.clone());
    let work = async {
        match command {
            Command::Predict(asked) => predict::run(&asked, &interrupt).await,
            Command::Jobs(asked) => jobs::run(&asked, &interrupt).await,
            Command::Models(asked) => server::models(&asked, &interrupt).await,
            Command::Model { arguments } => model::run(&arguments),
            Command::Status(asked) => server::status(&asked, &interrupt).await,
            Command::Completions { shell } => arguments::completions(shell),
        }
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = bounds::signalled() => token.cancel(),
    }
    work.await
}

fn ended(exit: Result<Exit, Failure>) -> ExitCode {
    let exit = exit.unwrap_or_else(|failure| {
        Console::plain().say(&failure);
        failure.exit()
    });
    ExitCode::from(exit as u8)
}

//! The program `selvage`: a client of Selvage's HTTP API for people and scripts. It uses no other crate of this workspace.
//!
//! `arguments/` is the command line; `predict/`, `jobs/`, `server` and `bench/` are the commands; `client/` makes one call of the
//! API, `wait` waits for the end of a job. `output/` prints results to standard output, `console` progress to standard error.

mod arguments;
mod bench;
mod bounds;
mod client;
mod console;
mod context;
mod failure;
mod images;
mod job;
mod jobs;
mod model;
mod output;
mod predict;
mod server;
#[cfg(test)]
mod testing;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Command};
use crate::bounds::Interrupt;
use crate::console::Console;
use crate::context::Context;
use crate::failure::{Exit, Failure};

fn main() -> ExitCode {
    // Prints help or an error, and exits with 0 or 2.
    let arguments = Arguments::parse();
    // No other provider is installed, so this cannot fail.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(cause) => return ended(Err(Failure::Here(format!("no runtime: {cause}")))),
    };
    let exit = runtime.block_on(run(arguments));
    // A read of standard input cannot be canceled, and must not delay the exit of an interrupted program.
    runtime.shutdown_background();
    ended(exit)
}

/// Runs the command; the first SIGINT or SIGTERM ends it early, in good order.
async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let token = CancellationToken::new();
    let context = Context {
        console: Console::new(arguments.quiet),
        interrupt: Interrupt::new(token.clone()),
    };
    let work = async {
        match arguments.command {
            Command::Predict(asked) => predict::run(&asked, &context).await,
            Command::Jobs(asked) => jobs::run(&asked, &context).await,
            Command::Models(asked) => server::models(&asked, &context).await,
            Command::Model { arguments } => model::run(&arguments),
            Command::Status(asked) => server::status(&asked, &context).await,
            Command::Bench(asked) => bench::run(&asked, &context).await,
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
        if !matches!(failure, Failure::ClosedPipe) {
            Console::new(false).say(&failure);
        }
        failure.exit()
    });
    ExitCode::from(exit as u8)
}

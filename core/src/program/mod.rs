//! What both programs do in the same way: settings, logs, traces, exit codes, the start and the end.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | settings of both programs |
//! | [`logging`], [`trace`] | logs; traces with OpenTelemetry |
//! | [`probe`] | the `check` commands |
//! | [`failpoint`] | points at which a fault test ends a process |
//! | [`Port`] | an address to listen on |
//! | [`RetryPolicy`], [`Backoff`] | calls that are made again, and pauses between attempts |
//! | [`repeat()`], [`ticks`] | background tasks |
//! | [`StartError`] | exit codes |

mod backoff;
pub mod config;
pub mod failpoint;
pub mod logging;
mod port;
pub mod probe;
mod repeat;
mod retry;
mod shutdown;
mod start_error;
pub mod trace;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use backoff::Backoff;
pub use port::Port;
pub use repeat::{repeat, ticks};
pub use retry::RetryPolicy;
pub use start_error::StartError;

use config::{EXIT_USAGE, SharedSettings};

/// Runs a program: starts logs and traces, and calls `main` with a token that SIGTERM and SIGINT fire.
pub fn run<F>(
    service: &'static str,
    settings: &SharedSettings,
    main: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), StartError>>,
{
    let started = logging::start(&settings.log);
    if let Err(error) = started.and_then(|()| trace::start(&settings.trace, service)) {
        return complain(&error);
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return StartError::Internal(error.into()).report(),
    };
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        TaskTracker::new().spawn(shutdown::on_signal(shutdown.clone()));
        main(shutdown).await
    });
    // A file system or a model that hangs must not keep a drained program alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    trace::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Reports a wrong setting on standard error: there is no log yet.
pub fn complain(error: &dyn Display) -> ExitCode {
    writeln!(io::stderr(), "error: {error:#}").ok();
    ExitCode::from(EXIT_USAGE)
}

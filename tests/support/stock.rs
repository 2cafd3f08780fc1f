//! Stock clients of others' making, as `scripts/clients` installs them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::project;

/// Python with the stock clients, about to run a script of this project.
///
/// # Errors
/// When they are not installed.
pub fn python(script: &str) -> anyhow::Result<Command> {
    let mut command = program("python")?;
    command.arg(script);
    Ok(command)
}

/// One of the stock clients, about to be run in the project's folder.
///
/// # Errors
/// When it is not installed.
pub fn program(name: &str) -> anyhow::Result<Command> {
    let program = project().join(".venv-clients/bin").join(name);
    ensure!(
        program.is_file(),
        "run scripts/clients first: it installs the stock clients"
    );
    let mut command = Command::new(program);
    command.current_dir(project());
    Ok(command)
}

/// Runs it to its end; what it said.
///
/// # Errors
/// When it did not end well, or not within `limit`; then it is killed.
pub async fn run(mut client: Command, limit: Duration) -> anyhow::Result<String> {
    let output = client.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(limit, output).await.context("the client hangs")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(said)
}

//! What README.md shows must be true.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use selvage_tests::{Deployment, program};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of an example on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn the_python_example_runs(on: Arc<Deployment>) -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(program::project().join("README.md"))?;
    let example = block(&readme, "python").context("README.md has an example in Python")?;
    ensure!(example.lines().count() <= 10, "it is short:\n{example}");
    let python = Command::new("python3")
        .args(["-c", example])
        .current_dir(program::project())
        .env("SELVAGE_URL", format!("http://{}", on.gateways[0]))
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, python).await.context("it hangs")??;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    assert!(said.starts_with("Ankle boot 0.99"), "{said}");
    Ok(())
}

/// The first block of code in that language.
fn block<'a>(markdown: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = markdown.split_once(&format!("```{language}\n"))?;
    rest.split_once("```").map(|(code, _)| code)
}

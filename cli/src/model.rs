//! `selvage model`: looks into a model's folder on this machine. The worker knows how, because it has ONNX Runtime; this client
//! only finds and calls it.

use std::ffi::OsString;
use std::process::Command;

use crate::failure::{Exit, Failure};

/// The program that is called: the one beside this one, else of the search path.
const WORKER: &str = "selvage-worker";

/// Calls the worker with these arguments; its output and its exit are this command's.
pub(crate) fn run(arguments: &[OsString]) -> Result<Exit, Failure> {
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(WORKER));
    let worker = beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| WORKER.into());
    let status = Command::new(&worker).arg("model").args(arguments).status();
    let status = status.map_err(|cause| {
        let program = worker.display();
        Failure::Here(format!(
            "{program} cannot be run ({cause}): install it beside selvage"
        ))
    })?;
    Ok(if status.success() {
        Exit::Success
    } else {
        Exit::Failed
    })
}

//! The program `selvage-worker`.

use std::process::ExitCode;

use selvage_core::program::config::{self, OpsListen};
use selvage_core::program::{self, probe};
use selvage_worker::check_model;
use selvage_worker::config::{Command, Config};
use selvage_worker::image::decode::Limits;
use selvage_worker::start;

fn main() -> ExitCode {
    let config = match config::read::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match (&config.command, config.ops_listen) {
        (None, _) => program::run("selvage-worker", &config.shared, |shutdown| {
            start::run(&config, shutdown)
        }),
        (Some(Command::Check), OpsListen::At(address)) => probe::answer(probe::ready(address)),
        (Some(Command::Check), OpsListen::Off) => {
            let off = "--ops-listen / SELVAGE_OPS_LISTEN is off: nobody can be asked";
            probe::answer(Err(probe::NotReady::Said(off.to_owned())))
        }
        (Some(Command::Model(command)), _) => {
            let limits = Limits::with_pixels(config.shared.max_pixels);
            match check_model::run(command, &config.engine, limits, std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => program::complain(&error),
            }
        }
    }
}

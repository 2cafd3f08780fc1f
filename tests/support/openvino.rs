//! OpenVINO's plugin for ONNX Runtime, on the processor of any maker.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::program::{binary, project};

/// The file that the tests load as a plugin; it loads the real one, which `scripts/onnxruntime --device openvino` has fetched.
///
/// # Panics
/// When that was not done, or there is no C compiler.
#[must_use]
pub fn plugin() -> PathBuf {
    static PLUGIN: LazyLock<PathBuf> = LazyLock::new(compile);
    PLUGIN.clone()
}

fn compile() -> PathBuf {
    let real = project().join(".onnxruntime/openvino/libonnxruntime_providers_openvino_plugin.so");
    assert!(
        real.is_file(),
        "{} is missing: run `make test`, or `scripts/onnxruntime --device openvino` first",
        real.display()
    );
    let made = binary("selvage-gateway").with_file_name("any_cpu.so");
    let unfinished = made.with_file_name(format!("any_cpu.{}", std::process::id()));
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&unfinished)
        .arg(format!("-DPLUGIN=\"{}\"", real.display()))
        .arg(project().join("tests/fixtures/any_cpu.c"))
        .status()
        .expect("cc, which builds the programs too");
    assert!(compiled.success(), "any_cpu.c: {compiled}");
    // Other test programs may be loading it.
    std::fs::rename(&unfinished, &made).expect("both are in one folder");
    made
}

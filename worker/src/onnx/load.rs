//! From a catalog's entry to a recipe for sessions: finds the runtime, reads and checks the file, makes predictors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_core::catalog::{Model, ModelFiles};

use super::session::{OnnxPredictor, RunsOn, Runtime};
use super::{ModelError, Open};

/// The library's name beside a binary and in the project's folder.
const LIBRARY: &str = "libonnxruntime.so";
/// Where `scripts/onnxruntime` puts it, below the project's folder.
const FOLDER: &str = ".onnxruntime";
/// How far above the binary the project's folder is looked for: `target/debug/deps/` lies four deep.
const ANCESTORS: usize = 5;

/// Finds ONNX Runtime: the setting, else beside the binary, else where `scripts/onnxruntime` puts it.
///
/// # Errors
/// [`ModelError::Runtime`] with what to do about it.
pub fn find_library(setting: Option<&Path>) -> Result<PathBuf, ModelError> {
    if let Some(path) = setting {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return if path.is_file() {
            Ok(path)
        } else {
            Err(ModelError::Runtime(format!(
                "--onnxruntime / ORT_DYLIB_PATH: {} does not exist; `scripts/onnxruntime` fetches the library",
                path.display()
            )))
        };
    }
    let binary = std::env::current_exe().unwrap_or_default();
    let beside = binary.parent().map(|folder| folder.join(LIBRARY));
    let project = std::env::current_dir().ok();
    let above = binary.ancestors().skip(1).take(ANCESTORS);
    let fetched = project.as_deref().into_iter().chain(above);
    beside
        .into_iter()
        .chain(fetched.map(|folder| folder.join(FOLDER).join(LIBRARY)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            ModelError::Runtime(format!(
                "no {LIBRARY} beside the program and none in {FOLDER}; run `scripts/onnxruntime`, or set --onnxruntime \
                 / ORT_DYLIB_PATH to the library"
            ))
        })
}

/// A recipe for sessions of one model. Its files are read once, and only if they have the digest that answers are cached
/// under; a session that must be replaced later does not depend on the disk.
///
/// # Errors
/// [`ModelError::Unfit`] where the file cannot be read or was replaced.
pub fn recipe(runtime: Runtime, model: Arc<Model>, on: RunsOn) -> Result<Arc<Open>, ModelError> {
    let unfit = |problem| ModelError::Unfit {
        file: model.file.clone(),
        problem,
    };
    let files = ModelFiles::read(&model.file, &model.external)
        .map_err(|error| unfit(format!("file: cannot be read: {error}")))?;
    if files.digest() != model.digest {
        let problem = "file: was replaced while this program started; start it again";
        return Err(unfit(problem.to_owned()));
    }
    Ok(Arc::new(move || {
        let predictor = OnnxPredictor::open(&runtime, &model, &files, on)?;
        Ok(Box::new(predictor))
    }))
}

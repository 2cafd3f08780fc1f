//! A model as the rest of the program knows it, and why a folder is none.

use std::path::PathBuf;
use std::sync::Arc;

use super::device::Device;
use super::input::{Input, Output, Task};
use crate::job::ModelName;
use crate::key::{Digest, PredictionKey};
use crate::output::Meaning;

/// The file that describes a model, or overrules what other files say of it.
pub const DESCRIPTION: &str = "model.toml";

/// Raised whenever the preparation code changes what a model sees, or what it can read: cached answers of the old code are
/// then misses, and workers of the old code pass on what they would not understand.
pub const PREPARATION_VERSION: u32 = 5;

/// One model: its description, its file and the file's digest.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name, as requests and queues spell it.
    pub name: ModelName,
    /// Version, as clients see it.
    pub version: String,
    /// One sentence for people.
    pub description: String,
    /// The model's folder.
    pub folder: PathBuf,
    /// The ONNX file.
    pub file: PathBuf,
    /// Locations of external data, relative to the ONNX file's folder.
    pub external: Vec<String>,
    /// Digest of the ONNX file and its external data.
    pub digest: Digest,
    /// What it says of an image.
    pub task: Task,
    /// Labels, in the order of the model's scores; none where the result is a vector.
    pub labels: Arc<[String]>,
    /// Most images in one inference.
    pub max_batch: usize,
    /// What it is to run on; the worker's setting decides where it is left out.
    pub device: Option<Device>,
    /// It is refused where the device leaves a part of it to the CPU.
    pub device_strict: bool,
    /// What the model takes.
    pub input: Input,
    /// What the model gives.
    pub output: Output,
    /// Identifies how images are prepared and results finished: [`PREPARATION_VERSION`], the task, and the `[input]` and
    /// `[output]` sections. Part of every cache key.
    pub preprocessing: u64,
}

impl Model {
    /// Whether an answer under this key is an answer of this model.
    #[must_use]
    pub fn answers(&self, key: &PredictionKey) -> bool {
        key.model == self.digest && key.preprocessing == self.preprocessing
    }

    /// What the values of its results mean.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        Meaning {
            task: self.task,
            threshold: self.output.threshold,
            labels: Arc::clone(&self.labels),
        }
    }

    /// Whether nothing would change with the other one in its place; where the file lies is nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            name,
            version,
            description,
            folder: _,
            file: _,
            external: _,
            digest,
            task,
            labels,
            max_batch,
            device,
            device_strict,
            input,
            output,
            preprocessing,
        } = self;
        (name, version, description) == (&other.name, &other.version, &other.description)
            && (digest, preprocessing) == (&other.digest, &other.preprocessing)
            && (task, labels, max_batch) == (&other.task, &other.labels, &other.max_batch)
            && (device, device_strict) == (&other.device, &other.device_strict)
            && (input, output) == (&other.input, &other.output)
    }
}

/// Why the models folder cannot be used. Each message names the file and, where one is to blame, the field.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A description is wrong.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The `model.toml`.
        path: PathBuf,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// No folder is a model.
    #[error("{}: no folder in it holds a model.toml or an ONNX file", path.display())]
    Empty {
        /// The models folder.
        path: PathBuf,
    },
}

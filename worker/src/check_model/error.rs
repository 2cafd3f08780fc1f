//! Why a model's folder cannot be checked.

use std::io;
use std::path::{Path, PathBuf};

use selvage_core::catalog::CatalogError;

use crate::image::ImageError;
use crate::onnx::ModelError;

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The folder is no model's, or a field is wrong.
    #[error(transparent)]
    Folder(#[from] CatalogError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An image cannot be used.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// The reason.
        source: ImageError,
    },
    /// What the model is to be compared with is wrong.
    #[error("--reference: {}: {problem}", path.display())]
    Reference {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Nobody takes the output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

pub(super) fn file_error(path: &Path, source: io::Error) -> CheckError {
    let path = path.to_owned();
    CheckError::File { path, source }
}

pub(super) fn image_error(path: &Path, source: ImageError) -> CheckError {
    let path = path.to_owned();
    CheckError::Image { path, source }
}

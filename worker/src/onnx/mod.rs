//! A model that is ready to compute: the trait the engine knows, and where its implementation is loaded.
//!
//! Only this folder knows ONNX Runtime; the engine's tests run on other predictors.

mod device;
mod device_rules;
mod libraries;
pub mod load;
mod placement;
pub mod session;
mod shape;
#[cfg(test)]
mod tests;
mod trial;

use std::path::PathBuf;
use std::sync::Arc;

use selvage_core::catalog::Device;
use selvage_core::registry::Placement;

/// One session of one model, owned by one thread.
pub trait Predictor: Send {
    /// Most images in one call.
    fn max_batch(&self) -> usize;

    /// What it runs on.
    fn placement(&self) -> Placement {
        Placement::whole(Device::Cpu)
    }

    /// Raw values of `images` images whose tensors follow each other in `input`: equally many for each image, image by image.
    /// [`crate::output::Finisher`] makes results of them.
    ///
    /// # Errors
    /// [`ModelError::Run`] and [`ModelError::OutOfMemory`]: the predictor may be used again; [`ModelError::DeviceLost`]: it may not.
    fn predict(&mut self, input: &[f32], images: usize) -> Result<Vec<f32>, ModelError>;

    /// What makes a [`Predictor::predict`] that runs on another thread return early, with an error. A call that begins later
    /// is not affected. `None` where there is no such thing.
    fn break_off(&self) -> Option<Arc<BreakOff>> {
        None
    }
}

/// Asks a call to return early; does not wait until it does.
pub type BreakOff = dyn Fn() + Send + Sync;

/// Opens one more predictor of the same model.
pub type Open = dyn Fn() -> Result<Box<dyn Predictor>, ModelError> + Send + Sync;

/// Why a model cannot be used, in sentences for operators.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no usable ONNX Runtime.
    #[error("ONNX Runtime cannot be used: {0}")]
    Runtime(String),
    /// The device that settings or a `model.toml` name cannot be had.
    #[error("device {device} cannot be used: {problem}")]
    Device {
        /// The device.
        device: Device,
        /// What is missing, and who carries it.
        problem: String,
    },
    /// The model file and its `model.toml` do not belong together, or the file is no model.
    #[error("{}: {problem}", file.display())]
    Unfit {
        /// The model file.
        file: PathBuf,
        /// What is wrong, with the field of `model.toml` where one is to blame.
        problem: String,
    },
    /// The device had no memory for a batch.
    #[error("the device is out of memory: {0}")]
    OutOfMemory(String),
    /// The device fails from now on; this session is lost.
    #[error("the device failed: {0}")]
    DeviceLost(String),
    /// An inference failed.
    #[error("inference failed: {0}")]
    Run(String),
}

//! The worker: jobs in, predictions out. The same library runs in `selvage-worker` and inside an embedded gateway.
//!
//! `consume` → `engine` → `output`, `image`, `onnx` → `selvage_core`. `scripts/check-structure` checks these arrows.
//!
//! | module | contents |
//! |---|---|
//! | [`consume`] | deliveries: from the queue to the engine, and from its results to the ack |
//! | [`engine`] | per model a pool of threads: batches, isolation, fairness |
//! | [`image`] | encoded bytes to pixels to tensors |
//! | [`onnx`] | sessions of ONNX Runtime; the only import of `ort` |
//! | [`output`] | from a model's numbers to the values of a result |
//! | [`config`], [`start`] | settings, and from settings to a running worker |
//! | [`check_model`] | the command that looks into a model's folder |
//! | [`ops`], [`metrics`] | what others see of this worker |

pub mod check_model;
pub mod config;
pub mod consume;
pub mod engine;
pub mod image;
pub mod metrics;
pub mod onnx;
pub mod ops;
pub mod output;
pub mod start;

pub use consume::{Worker, load_runtime};
pub use selvage_core::backends::Backends;

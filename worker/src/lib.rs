//! The worker: jobs in, predictions out. The same library runs in `selvage-worker` and inside an embedded gateway.
//!
//! | module | owns |
//! |---|---|
//! | `consume`, `decide`, `claim` | deliveries: what becomes of their jobs, by record and cache |
//! | [`engine`] | per model a pool of threads: batches, isolation, fairness |
//! | [`image`] | encoded bytes to pixels to tensors |
//! | [`model`] | sessions; `onnx` is the only import of `ort` |
//! | `finish`, `delivery_guard` | answers into cache, record and reply, and only then the acknowledgement |
//! | `worker`, `life` | loading, consuming, draining |
//! | `held`, `change` | the files of each model, and how one takes over from another |
//! | `running` | the jobs that threads have begun |
//! | [`starts`] | counts the attempts of jobs that have a record |
//! | `elsewhere` | the files other workers hold |
//! | `watchdog` | steps that do not end |
//! | `heartbeat`, [`ops`], [`metrics`] | what others see of this worker |
//! | [`config`], [`start`] | settings, and from settings to a running worker |

mod abandoned;
mod backends;
mod change;
mod claim;
pub mod config;
mod consume;
mod decide;
pub mod delivery_guard;
mod elsewhere;
pub mod engine;
mod finish;
mod heartbeat;
mod hosted_model;
pub mod image;
mod life;
pub mod metrics;
pub mod model;
pub mod ops;
mod retry_policy;
mod running;
pub mod start;
pub mod starts;
mod watchdog;
mod worker;

pub use backends::Backends;
pub use life::RunError;
pub use worker::{PrepareError, Worker, load_runtime};

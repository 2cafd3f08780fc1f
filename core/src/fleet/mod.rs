//! Which workers exist and which models they hold. For people and dashboards, never for correctness.

mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::BoxError;
use crate::clock::UnixMillis;
use crate::job::ModelName;
use crate::key::Digest;
pub use memory::MemoryFleet;

/// How often a worker announces itself.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
/// A worker that was silent for so long is gone.
pub const GONE_AFTER: Duration = Duration::from_secs(6);

/// Workers as they announce themselves.
#[async_trait]
pub trait Fleet: Debug + Send + Sync {
    /// Says that a worker lives; it is forgotten [`GONE_AFTER`] the last announcement. Returns the shared time.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn announce(&self, worker: &WorkerStatus) -> Result<UnixMillis, FleetError>;

    /// Takes a worker off the list at once.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn leave(&self, worker_id: &str) -> Result<(), FleetError>;

    /// All workers that are not gone, by id.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn workers(&self) -> Result<Vec<WorkerStatus>, FleetError>;

    /// The shared time, for [`crate::clock::Clock::anchor`].
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn time(&self) -> Result<UnixMillis, FleetError>;
}

/// One worker, as it sees itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Host name, process id and a random tail: unique among all workers ever.
    pub id: String,
    /// When it started.
    pub started_at: UnixMillis,
    /// The models it holds.
    pub models: Vec<HeldModel>,
}

/// One model in a worker's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldModel {
    /// The model.
    pub name: ModelName,
    /// Version of the model, as its `model.toml` names it.
    pub version: String,
    /// Digest of its file.
    pub digest: Digest,
    /// Inference threads, each with a session of its own.
    pub sessions: u16,
    /// Threads that compute at this moment.
    pub busy: u16,
    /// Jobs finished since the start.
    pub jobs: u64,
    /// Batches run since the start; `jobs / batches` is the mean batch.
    pub batches: u64,
}

/// The registry could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the fleet's registry cannot be reached")]
pub struct FleetError(#[source] pub BoxError);

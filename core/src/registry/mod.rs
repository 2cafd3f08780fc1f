//! Which processes exist, which models the workers hold and what the gateways count. For people and dashboards, never for
//! correctness.

mod announce;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod traffic;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::BoxError;
use crate::catalog::{Device, Model};
use crate::clock::UnixMillis;
use crate::job::{ModelName, Priority};
use crate::key::Digest;
pub use announce::keep_announced;
pub use memory::MemoryFleet;
pub use traffic::{ANSWER_SECONDS, Traffic};

/// How often a process announces itself.
pub const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);
/// A process that was silent for so long, three announcements and a half, is not shown among those that live. A shorter stall
/// is not seen at all.
pub const SILENT_AFTER: Duration = Duration::from_millis(1750);
/// A process that was silent for so long is gone, and what it counted with it. Until then its counts stay in all sums, so that
/// a stall of a few seconds bends no rate and rings no alarm.
pub const GONE_AFTER: Duration = Duration::from_secs(6);

/// Processes as they announce themselves.
#[async_trait]
pub trait Fleet: Debug + Send + Sync {
    /// Says that a process lives; it is forgotten [`GONE_AFTER`] the last announcement. Returns the shared time.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn announce(&self, member: &Member) -> Result<UnixMillis, FleetError>;

    /// Takes a process off the list at once.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn leave(&self, id: &str) -> Result<(), FleetError>;

    /// All processes that are not gone.
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn members(&self) -> Result<Members, FleetError>;

    /// The shared time, for [`crate::clock::Clock::correct`].
    ///
    /// # Errors
    /// [`FleetError`] when the registry is away.
    async fn time(&self) -> Result<UnixMillis, FleetError>;
}

/// One process of the fleet.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is made twice a second and given on by reference"
)]
pub enum Member {
    /// Takes jobs.
    Worker(WorkerStatus),
    /// Takes requests.
    Gateway(GatewayStatus),
}

impl Member {
    /// The process's name.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Worker(worker) => &worker.id,
            Self::Gateway(gateway) => &gateway.id,
        }
    }
}

/// All that is there, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// The gateways.
    pub gateways: Vec<GatewayStatus>,
    /// How long each had been silent when the list was read, by id.
    pub quiet: BTreeMap<String, Duration>,
}

impl Members {
    /// Whether a process had been silent for [`SILENT_AFTER`] when the list was read.
    #[must_use]
    pub fn is_silent(&self, id: &str) -> bool {
        self.quiet
            .get(id)
            .is_some_and(|quiet| *quiet >= SILENT_AFTER)
    }

    /// How long after the reading the next process falls silent unless it is heard of before; `None` where none can.
    #[must_use]
    pub fn next_silence(&self) -> Option<Duration> {
        let left = |quiet: &Duration| SILENT_AFTER.checked_sub(*quiet);
        let spans = self.quiet.values().filter_map(left);
        spans.filter(|left| !left.is_zero()).min()
    }
}

/// A name no other process has ever had: host, process id and a random tail.
#[must_use]
pub fn member_id(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => role,
        name => name,
    };
    format!(
        "{host}-{}-{:08x}",
        std::process::id(),
        rand::random::<u32>()
    )
}

/// One worker, as it sees itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// See [`member_id`].
    pub id: String,
    /// When it started.
    pub started_at: UnixMillis,
    /// The models it holds.
    pub models: Vec<ModelStatus>,
}

/// One gateway, as it sees itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// See [`member_id`].
    pub id: String,
    /// When it started.
    pub started_at: UnixMillis,
    /// Its standing, as `/readyz` says it.
    pub status: String,
    /// Jobs that are waited for here.
    pub in_flight: u64,
    /// Most of them there can be.
    pub in_flight_limit: u64,
    /// Open client connections.
    pub connections: u64,
    /// What it has done since it started.
    pub total: Traffic,
    /// What it has done in the last while.
    pub recent: Traffic,
    /// How long that while is, in milliseconds: a minute, or its life if that is shorter.
    pub recent_ms: u64,
    /// The model files its jobs are for; `None` where it does not say, as earlier versions do not.
    #[serde(default)]
    pub asks: Option<Vec<AskedModel>>,
}

/// A model file a gateway's jobs are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedModel {
    /// The model.
    pub name: ModelName,
    /// Digest of its file.
    pub digest: Digest,
    /// How it is prepared for: [`Model::preprocessing`].
    #[serde(rename = "prep")]
    pub preprocessing: u64,
}

impl From<&Model> for AskedModel {
    fn from(model: &Model) -> Self {
        Self {
            name: model.name.clone(),
            digest: model.digest,
            preprocessing: model.preprocessing,
        }
    }
}

/// One model in a worker's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model.
    pub name: ModelName,
    /// Version of the model, as its `model.toml` names it.
    pub version: String,
    /// Digest of its file.
    pub digest: Digest,
    /// How it is prepared for: [`Model::preprocessing`]; `None` where the worker does not say, as earlier versions do not.
    #[serde(default, rename = "prep")]
    pub preprocessing: Option<u64>,
    /// Inference threads, each with a session of its own.
    pub sessions: u16,
    /// Threads that compute at this moment.
    pub busy: u16,
    /// Jobs finished since the start.
    pub jobs: u64,
    /// Batches run since the start; `jobs / batches` is the mean batch.
    pub batches: u64,
    /// How jobs ended since the start.
    #[serde(default)]
    pub ended: Ends,
    /// When the youngest job was made that was taken from each queue: whatever waits there was made later, but for jobs that
    /// came back.
    #[serde(default)]
    pub taken: Taken,
    /// What it runs on; `None` where the worker does not say, as earlier versions do not.
    #[serde(default)]
    pub placement: Option<Placement>,
}

/// What a model runs on, as ONNX Runtime has placed its nodes.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The device.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "cpu"))]
    pub device: Device,
    /// The share of the model's nodes that run on it, from 0 to 1. The CPU runs the others.
    pub device_share: f64,
    /// The operators of the nodes that run on the CPU although the device is another, with the number of nodes of each.
    pub cpu_operators: BTreeMap<String, usize>,
}

impl Placement {
    /// All of a model on one device.
    #[must_use]
    pub const fn whole(device: Device) -> Self {
        Self {
            device,
            device_share: 1.0,
            cpu_operators: BTreeMap::new(),
        }
    }
}

impl ModelStatus {
    /// Whether it is this model with this very file.
    #[must_use]
    pub fn is(&self, model: &Model) -> bool {
        (&self.name, self.digest) == (&model.name, model.digest)
            && self
                .preprocessing
                .is_none_or(|preprocessing| preprocessing == model.preprocessing)
    }
}

/// Jobs by how they ended.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ends {
    /// With scores.
    pub succeeded: u64,
    /// With a failure.
    pub failed: u64,
    /// By their client's wish.
    pub canceled: u64,
    /// At their deadline.
    pub expired: u64,
}

/// A moment for each queue; `None` while nothing was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taken {
    /// Of the interactive queue.
    pub interactive: Option<UnixMillis>,
    /// Of the batch queue.
    pub batch: Option<UnixMillis>,
}

impl Taken {
    /// The moment of that queue.
    #[must_use]
    pub const fn of(&self, priority: Priority) -> Option<UnixMillis> {
        match priority {
            Priority::Interactive => self.interactive,
            Priority::Batch => self.batch,
        }
    }
}

/// The registry could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the fleet's registry cannot be reached")]
pub struct FleetError(#[source] pub BoxError);

//! What a worker needs of the outside.

use std::sync::Arc;

use selvage_core::cache::Cache;
use selvage_core::clock::Clock;
use selvage_core::fleet::Fleet;
use selvage_core::queue::Queue;
use selvage_core::store::JobStore;

/// What a worker needs of the outside; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Where jobs come from and reports go.
    pub queue: Arc<dyn Queue>,
    /// Answers by key.
    pub cache: Arc<dyn Cache>,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn JobStore>,
    /// Who else is there.
    pub fleet: Arc<dyn Fleet>,
    /// The time deadlines are measured by.
    pub clock: Clock,
}

//! All pools of a worker, and the right to be the only one that computes.
//!
//! A job that took its worker down twice gets its third and last start with nothing else running. Else a harmless job
//! that is always in the same worker's hands as a poisonous one would use its starts up with it.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::pool::{Paused, Pool};

/// The pools of all models a worker holds.
#[derive(Clone, Debug)]
pub struct Engine {
    pools: Arc<RwLock<Vec<Arc<Pool>>>>,
    turn: Arc<Mutex<()>>,
}

/// Nothing else computes while this lives.
#[derive(Debug)]
#[must_use = "dropping it lets the others go on"]
pub struct Exclusive {
    _paused: Vec<Paused>,
    _turn: OwnedMutexGuard<()>,
}

/// No job has the process for itself while this lives.
#[derive(Debug)]
#[must_use = "dropping it gives the turn to the next"]
pub struct NonExclusive {
    _turn: OwnedMutexGuard<()>,
}

impl Engine {
    /// The engine of these pools.
    #[must_use]
    pub fn new(pools: Vec<Arc<Pool>>) -> Self {
        Self {
            pools: Arc::new(RwLock::new(pools)),
            turn: Arc::default(),
        }
    }

    /// Stops all pools from beginning anything and waits until what they had begun is done. One at a time.
    pub async fn exclusive(&self) -> Exclusive {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let pools = self.pools();
        let paused: Vec<Paused> = pools.iter().map(Pool::pause).collect();
        for pool in pools {
            pool.quiet().await;
        }
        Exclusive {
            _paused: paused,
            _turn: turn,
        }
    }

    /// Waits until no job has the process for itself, and keeps it so.
    pub async fn turn(&self) -> NonExclusive {
        NonExclusive {
            _turn: Arc::clone(&self.turn).lock_owned().await,
        }
    }

    /// Adds a pool; by who has the turn.
    pub fn add(&self, pool: Arc<Pool>) {
        self.pools.write().push(pool);
    }

    /// Forgets a pool whose threads have ended.
    pub fn remove(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.write();
        pools.retain(|known| !Arc::ptr_eq(known, pool));
    }

    /// The pools there are now.
    #[must_use]
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.read().clone()
    }
}

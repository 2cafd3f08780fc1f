//! All pools of a worker, and the right to be the only one that computes.
//!
//! A job that took its worker down twice gets its third and last start with nothing else running. Else a harmless job
//! that is always in the same worker's hands as a poisonous one would use its starts up with it.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::pool::{Paused, Pool};

/// The pools of all models a worker holds.
#[derive(Clone, Debug)]
pub struct Engine {
    pools: Arc<[Arc<Pool>]>,
    turn: Arc<Mutex<()>>,
}

/// Nothing else computes while this lives.
#[derive(Debug)]
#[must_use = "dropping it lets the others go on"]
pub struct Exclusive {
    _paused: Vec<Paused>,
    _turn: OwnedMutexGuard<()>,
}

impl Engine {
    /// The engine of these pools.
    #[must_use]
    pub fn new(pools: Vec<Arc<Pool>>) -> Self {
        Self {
            pools: pools.into(),
            turn: Arc::default(),
        }
    }

    /// Stops all pools from beginning anything and waits until what they had begun is done. One at a time.
    pub async fn exclusive(&self) -> Exclusive {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let paused: Vec<Paused> = self.pools.iter().map(Pool::pause).collect();
        for pool in self.pools.iter() {
            pool.quiet().await;
        }
        Exclusive {
            _paused: paused,
            _turn: turn,
        }
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }
}

//! The numbers read last, and who follows them.

use std::sync::Arc;

use parking_lot::Mutex;
use selvage_core::clock::UnixMillis;
use selvage_core::registry::member_id;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::dependencies::Dependencies;
use super::recent::Recent;

/// Most streams of these numbers at one gateway; dashboards need a few.
const MAX_STREAMS: usize = 256;

/// What the sampler found, and places for those who follow it.
#[derive(Debug)]
pub struct Stats {
    pub(crate) id: String,
    pub(crate) started_at: UnixMillis,
    pub(crate) found: Mutex<(Recent, Dependencies)>,
    pub(crate) latest: watch::Sender<Arc<str>>,
    streams: Arc<Semaphore>,
}

/// A place among the streams, and what is sent on it.
#[derive(Debug)]
pub struct Following {
    /// The numbers as JSON; empty while nothing was read.
    pub latest: watch::Receiver<Arc<str>>,
    _permit: OwnedSemaphorePermit,
}

impl Stats {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(started_at: UnixMillis) -> Self {
        Self {
            id: member_id("gateway"),
            started_at,
            found: Mutex::default(),
            latest: watch::Sender::new("".into()),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// A place among the streams; `None` where all are taken.
    #[must_use]
    pub fn follow(&self) -> Option<Following> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        Some(Following {
            latest,
            _permit: permit,
        })
    }
}

//! The numbers read last, and who follows them.

use std::sync::Arc;

use parking_lot::Mutex;
use selvage_core::clock::UnixMillis;
use selvage_core::registry::{Ends, Members, Traffic, member_id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::counted::Counted;
use super::dependencies::Dependencies;
use super::events::EventLog;
use super::figures::{Figures, add_ends};
use super::history::History;
use super::recent::Recent;

/// Most streams of these numbers at one gateway; dashboards need a few.
const MAX_STREAMS: usize = 256;

/// What the sampler found, and places for those who follow it.
#[derive(Debug)]
pub struct Stats {
    pub(crate) id: String,
    pub(crate) started_at: UnixMillis,
    pub(crate) found: Mutex<Found>,
    pub(crate) latest: watch::Sender<Arc<str>>,
    streams: Arc<Semaphore>,
}

/// What the sampler found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) recent: Recent,
    pub(crate) dependencies: Dependencies,
    pub(crate) log: EventLog,
    pub(crate) history: History,
    /// Counts of the other gateways.
    pub(crate) others: Counted<Traffic>,
    /// Counts of the workers.
    pub(crate) workers: Counted<Ends>,
}

impl Found {
    /// Takes the counts of all other processes.
    pub(crate) fn count(&mut self, own_id: &str, members: &Members) {
        let now = Instant::now();
        let others = members.gateways.iter().filter(|one| one.id != own_id);
        let others = others.map(|one| (one.id.clone(), one.total.clone()));
        self.others.note(now, others, Traffic::add);
        let workers = members.workers.iter().map(|one| {
            let mut ended = Ends::default();
            one.models
                .iter()
                .for_each(|held| add_ends(&mut ended, &held.ended));
            (one.id.clone(), ended)
        });
        self.workers.note(now, workers, add_ends);
    }
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

    /// Notes an event.
    pub fn note(&self, at: UnixMillis, kind: &'static str, warning: bool, text: String) {
        self.found.lock().log.note(at, kind, warning, text);
    }

    /// The samples of the last hour, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Figures> {
        self.found.lock().history.samples()
    }
}

//! Changes models while the worker runs. A new file is loaded and warmed beside the old one, then takes over; the old one
//! goes when no gateway asks for it any more and no job for it can be waiting. What cannot be used changes nothing.
//!
//! A worker holds two files of a model at most. A third waits on the disk until one of them has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::catalog::Model;
use selvage_core::catalog::follow::Change;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{ModelName, Priority};
use selvage_core::program::ticks;
use selvage_core::registry::{AskedModel, Members};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::consume::worker::Loader;
use crate::engine::Engine;
use crate::metrics::Metrics;
use selvage_core::backends::Backends;

/// How often is looked whether a file can go.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time for one question to the list of processes or to the broker.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a file stays that nobody asks for: a job that another worker gave back has come again by then.
const LINGER: Duration = Duration::from_secs(5);
/// Files of one model at the same time.
const MOST_FILES: usize = 2;

/// Changes the models of one worker.
pub(crate) struct Changer {
    pub(crate) loader: Arc<Loader>,
    pub(crate) models: Vec<Arc<HostedModel>>,
    pub(crate) engine: Engine,
    pub(crate) backends: Backends,
    pub(crate) metrics: Metrics,
    /// Notified after each change, so that it is announced at once.
    pub(crate) changed: Arc<Notify>,
    /// Models that are to take over.
    pub(crate) wanted: Vec<Arc<Model>>,
    /// Files nobody has asked for at the last look.
    pub(crate) unasked: Vec<Unasked>,
}

/// A file nobody asks for.
pub(crate) struct Unasked {
    file: Arc<LoadedModel>,
    since: UnixMillis,
    /// Per queue, whether all that was published before has been taken.
    passed: [bool; 2],
}

impl Changer {
    /// Follows the folder's changes until `stop` fires; what is being loaded then is loaded to its end.
    pub(crate) async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        stop: CancellationToken,
    ) {
        let mut looks = ticks(LOOK_EVERY);
        loop {
            let busy =
                !self.wanted.is_empty() || self.models.iter().any(|held| held.files().len() > 1);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(change) = changes.recv() => self.note(change),
                _ = looks.tick(), if busy => self.let_go().await,
            }
            self.load_wanted(&stop).await;
        }
    }

    fn note(&mut self, change: Change) {
        let (name, model) = match change {
            Change::Now(model) => (model.name.clone(), Some(model)),
            Change::Refused(Some(name)) => {
                self.metrics.model_changed(&name, "refused");
                (name, None)
            }
            Change::Refused(None) => return,
        };
        // Whatever was wanted until now lies there no more.
        self.wanted.retain(|wanted| wanted.name != name);
        self.wanted.extend(model);
    }

    /// Loads what is wanted and has room.
    async fn load_wanted(&mut self, stop: &CancellationToken) {
        for model in std::mem::take(&mut self.wanted) {
            let Some(held) = self.held(&model.name) else {
                continue;
            };
            let files = held.files();
            if files[0].model.is_same(&model) {
                continue;
            }
            if let Some(known) = files.iter().find(|file| file.model.is_same(&model)) {
                self.take_over(&held, Arc::clone(known), Duration::ZERO);
            } else if files.len() < MOST_FILES && !stop.is_cancelled() {
                self.load(&held, model).await;
            } else {
                self.wanted.push(model);
            }
        }
    }

    async fn load(&self, held: &HostedModel, model: Arc<Model>) {
        let began = Instant::now();
        // A file that takes the process down while it is loaded is not the fault of a job that has it for itself.
        let turn = self.engine.turn().await;
        let (loader, loading) = (Arc::clone(&self.loader), Arc::clone(&model));
        let loaded = match spawn_blocking(move || loader.load(&loading)).await {
            Ok(Ok(loaded)) => Arc::new(loaded),
            Ok(Err(error)) => return self.refuse(&model, &error),
            Err(error) => return self.refuse(&model, &error),
        };
        self.engine.add(Arc::clone(&loaded.pool));
        drop(turn);
        self.take_over(held, loaded, began.elapsed());
    }

    fn take_over(&self, held: &HostedModel, loaded: Arc<LoadedModel>, took: Duration) {
        let (model, old) = (Arc::clone(&loaded.model), held.newest());
        held.put_first(loaded);
        self.metrics.model_changed(&model.name, "taken");
        self.metrics.model_files(&model.name, held.files().len());
        self.changed.notify_one();
        tracing::info!(
            model.name = %model.name,
            model.version = model.version,
            model.digest = %model.digest,
            old_digest = %old.model.digest,
            duration_ms = took.as_millis() as u64,
            "a model was changed; jobs that were accepted for the old file are finished with it"
        );
    }

    fn refuse(&self, model: &Model, error: &dyn std::error::Error) {
        self.metrics.model_changed(&model.name, "refused");
        tracing::error!(
            model.name = %model.name,
            model.digest = %model.digest,
            "the model stays as it is: the new file cannot be used: {error}"
        );
    }

    fn held(&self, name: &ModelName) -> Option<Arc<HostedModel>> {
        let mut models = self.models.iter();
        models.find(|held| held.name == *name).cloned()
    }

    /// Lets files go that nobody needs any more.
    async fn let_go(&mut self) {
        let Some(members) = self.members().await else {
            return;
        };
        let mut before = std::mem::take(&mut self.unasked);
        for held in self.models.clone() {
            for file in self.superseded(&held, &members) {
                let known = before
                    .iter()
                    .position(|known| Arc::ptr_eq(&known.file, &file));
                let mut unasked = match known {
                    Some(known) => before.swap_remove(known),
                    None => Unasked {
                        file,
                        since: self.backends.clock.now(),
                        passed: [false; 2],
                    },
                };
                self.read_queues(&held, &mut unasked).await;
                if !self.has_gone(&held, &unasked).await {
                    self.unasked.push(unasked);
                }
            }
        }
    }

    /// The list of processes, where it can be read and has a gateway; without one nobody can tell what is asked for.
    async fn members(&self) -> Option<Members> {
        let members = timeout(LIMIT, self.backends.fleet.members()).await;
        let members = members.ok()?.ok()?;
        (!members.gateways.is_empty()).then_some(members)
    }

    /// Files that were replaced, or are about to be, and that no gateway asks for.
    fn superseded(&self, held: &HostedModel, members: &Members) -> Vec<Arc<LoadedModel>> {
        let files = held.files();
        let waits = self.wanted.iter().any(|wanted| wanted.name == held.name);
        let kept = usize::from(!(waits && files.len() >= MOST_FILES));
        let unasked = |at: &usize| {
            let asked = AskedModel::from(files[*at].model.as_ref());
            let newer = files[..*at].iter();
            // Jobs go to the newest file of their key.
            let hidden = newer
                .map(|file| AskedModel::from(file.model.as_ref()))
                .any(|newer| newer == asked);
            let mut gateways = members.gateways.iter();
            // A gateway that does not say asks for anything.
            hidden
                || gateways.all(|gateway| {
                    let asks = gateway.asks.as_ref();
                    asks.is_some_and(|asks| !asks.contains(&asked))
                })
        };
        let old = (kept..files.len()).filter(unasked);
        old.map(|at| Arc::clone(&files[at])).collect()
    }

    /// Queues are first in, first out: what was published before is through once a queue was empty, or a younger job came.
    async fn read_queues(&self, held: &HostedModel, unasked: &mut Unasked) {
        for (priority, passed) in Priority::ALL.into_iter().zip(&mut unasked.passed) {
            let younger = held.taken.read().of(priority);
            if *passed || younger.is_some_and(|made| made > unasked.since.after(LINGER)) {
                *passed = true;
                continue;
            }
            let depth = timeout(LIMIT, self.backends.queue.depth(&held.name, priority)).await;
            *passed = matches!(depth, Ok(Ok(0)));
        }
    }

    /// Ends a file nobody needs. Whether it has gone.
    async fn has_gone(&self, held: &HostedModel, unasked: &Unasked) -> bool {
        let lingered = self.backends.clock.now().since(unasked.since) >= LINGER;
        if !lingered || unasked.passed != [true; 2] || !held.take_away(&unasked.file) {
            return false;
        }
        let pool = &unasked.file.pool;
        // Nothing is in hand, so nothing comes back and its threads end at once.
        let unstarted = pool.close();
        debug_assert!(unstarted.is_empty(), "a file with jobs in hand was closed");
        pool.stopped().await;
        self.engine.remove(pool);
        self.metrics.model_files(&held.name, held.files().len());
        self.changed.notify_one();
        tracing::info!(
            model.name = %held.name,
            model.digest = %unasked.file.model.digest,
            "the old file of a model was let go"
        );
        true
    }
}

//! Makes a worker: finds the runtime, loads, checks and warms every model. How it lives then is in [`crate::consume::life`].

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::catalog::follow::{Change, Follow};
use selvage_core::catalog::{Catalog, Device, Model};
use selvage_core::job::Priority;
use selvage_core::program::StartError;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::{EngineSettings, WorkerSettings};
use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::consume::starts::Starts;
use crate::engine::{Completed, Completions, Policy, Pool, PoolSpec};
use crate::image::decode::Limits;
use crate::metrics::Metrics;
use crate::onnx::ModelError;
use crate::onnx::load::{find_library, recipe};
use crate::onnx::session::{RunsOn, Runtime};
use selvage_core::backends::Backends;

/// Batches of ended jobs that fit into an exit; more than can ever be in hand, so that no thread waits for a slow store.
const EXIT_ROOM: usize = 64 * 1024;
/// A worker that is ready to consume.
#[derive(Debug)]
pub struct Worker {
    pub(crate) models: Vec<Arc<HostedModel>>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) follow: Option<(Follow, mpsc::Receiver<Change>)>,
    pub(crate) settings: WorkerSettings,
    pub(crate) backends: Backends,
    pub(crate) metrics: Metrics,
    pub(crate) completions: Completions,
    pub(crate) ended: Option<[(Priority, mpsc::Receiver<Vec<Completed>>); 2]>,
    pub(crate) consuming: watch::Sender<bool>,
}

impl From<ModelError> for StartError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Unfit { .. } => Self::Usage(error.into()),
            _ => Self::Refused(error.into()),
        }
    }
}

/// Does what may block, on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, StartError> {
    let done = spawn_blocking(act).await;
    let done = done.context("loading was interrupted");
    Ok(done.map_err(StartError::Internal)??)
}

/// Finds and loads ONNX Runtime, and finds the device that the settings name. Done by [`Worker::prepare`] as well; doing it first
/// tells what is wrong before anything else is tried.
///
/// # Errors
/// [`ModelError::Runtime`] and [`ModelError::Device`] with what to do about it.
pub fn load_runtime(settings: &EngineSettings) -> Result<(Runtime, Device), ModelError> {
    let runtime = Runtime::load(&find_library(settings.onnxruntime.as_deref())?)?;
    let device = runtime.find_device(settings.device, settings.ep_library.as_deref())?;
    Ok((runtime, device))
}

impl Worker {
    /// Loads and checks every model of the catalog, and opens and warms its sessions. Once `stop` fires it loads no further
    /// model; the worker must be run all the same, so that its sessions end before the process does.
    ///
    /// # Errors
    /// A sentence that names the setting, or the file and the field.
    pub async fn prepare(
        catalog: Catalog,
        settings: WorkerSettings,
        backends: Backends,
        registry: &Registry,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let follow = Follow::new(settings.models.clone(), &catalog);
        let cores = available_parallelism().map_or(1, NonZero::get);
        let sessions = settings.engine.sessions(cores);
        let sessions = sessions.map_err(|error| StartError::Usage(error.into()))?;
        let metrics = Metrics::register(registry).context("the worker's metrics");
        let metrics = metrics.map_err(StartError::Internal)?;
        let (interactive, interactive_ended) = mpsc::channel(EXIT_ROOM);
        let (batch, batch_ended) = mpsc::channel(EXIT_ROOM);
        let engine = settings.engine.clone();
        let (runtime, device) = blocking(move || load_runtime(&engine)).await?;
        let loader = Arc::new(Loader {
            runtime,
            device,
            sessions,
            cores,
            device_lost: CancellationToken::new(),
            settings: settings.engine.clone(),
            limits: Limits::with_pixels(settings.max_pixels),
            starts: Arc::new(Starts::new(Arc::clone(&backends.store))),
            backends: backends.clone(),
            completions: Completions { interactive, batch },
            metrics: metrics.clone(),
        });
        let (loading, stop) = (Arc::clone(&loader), stop.clone());
        let models = blocking(move || loading.load_all(&catalog, &stop)).await?;
        Ok(Self {
            completions: loader.completions.clone(),
            models,
            loader,
            follow: Some(follow),
            settings,
            backends,
            metrics,
            ended: Some([
                (Priority::Interactive, interactive_ended),
                (Priority::Batch, batch_ended),
            ]),
            consuming: watch::Sender::new(false),
        })
    }
}

/// Loads models, on a thread that may block.
#[derive(Debug)]
pub(crate) struct Loader {
    runtime: Runtime,
    /// Of models that name none.
    device: Device,
    /// On the CPU.
    sessions: usize,
    cores: usize,
    pub(crate) device_lost: CancellationToken,
    settings: EngineSettings,
    limits: Limits,
    backends: Backends,
    starts: Arc<Starts>,
    completions: Completions,
    metrics: Metrics,
}

impl Loader {
    fn load_all(
        &self,
        catalog: &Catalog,
        stop: &CancellationToken,
    ) -> Result<Vec<Arc<HostedModel>>, ModelError> {
        let load = |model: &Arc<Model>| {
            self.metrics.begin(&model.name);
            Ok(Arc::new(HostedModel::new(self.load(model)?)))
        };
        let models = catalog.models().iter();
        let wanted = models.take_while(|_| !stop.is_cancelled());
        wanted.map(load).collect()
    }

    /// Opens and warms the sessions of one model's file.
    pub(crate) fn load(&self, model: &Arc<Model>) -> Result<LoadedModel, ModelError> {
        let started = Instant::now();
        let on = self.runs_on(model)?;
        let wanted = self.settings.sessions;
        let pool = Pool::start(PoolSpec {
            open: recipe(self.runtime.clone(), Arc::clone(model), on)?,
            model: Arc::clone(model),
            policy: Policy::of(on.device, wanted, self.sessions, self.cores),
            limits: self.limits,
            clock: self.backends.clock.clone(),
            starts: Arc::clone(&self.starts) as _,
            completions: self.completions.clone(),
            metrics: self.metrics.of_model(&model.name),
            device_lost: self.device_lost.clone(),
        })?;
        let placement = pool.placement();
        self.metrics.model_device(&model.name, placement);
        tracing::info!(
            model.name = %model.name,
            model.version = model.version,
            model.digest = %model.digest,
            sessions = pool.sessions(),
            max_batch = pool.max_batch(),
            device = %placement.device,
            device_share = placement.device_share,
            cpu_operators = ?placement.cpu_operators,
            duration_ms = started.elapsed().as_millis() as u64,
            "model loaded and warm"
        );
        Ok(LoadedModel::new(Arc::clone(model), pool))
    }

    /// What the model's sessions run on: what its `model.toml` says, or else the settings.
    fn runs_on(&self, model: &Model) -> Result<RunsOn, ModelError> {
        let plugin = self.settings.ep_library.as_deref();
        let own = model
            .device
            .map(|device| self.runtime.find_device(device, plugin));
        Ok(RunsOn {
            device: own.transpose()?.unwrap_or(self.device),
            strict: model.device_strict || self.settings.device_strict,
            intra_threads: self.settings.intra_threads.max(1),
        })
    }
}

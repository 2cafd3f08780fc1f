//! ONNX Runtime: loads the library, opens sessions, checks models against their `model.toml`.
//!
//! Every call into `ort` needs the library loaded, else it panics; so a [`Runtime`] is the proof that it is.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use half::f16;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef};
use parking_lot::Mutex as Lock;
use selvage_core::catalog::{BoxFormat, Device, Layout, Model, ModelFiles};
use selvage_core::registry::Placement;

use super::device_rules::{batch_sizes, failure};
use super::placement::{self, NodeCounts};
use super::shape;
use super::trial::{check_alone, check_values, noise};
use super::{BreakOff, ModelError, Predictor};

/// How long a session may be warmed beyond its largest and smallest batch.
const WARM_UP: Duration = Duration::from_millis(250);

/// ONNX Runtime, loaded; cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) environment: Environment,
    /// The library.
    pub(super) library: PathBuf,
}

/// ONNX Runtime allows one environment per process and no second library, ever.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or takes the one this process has loaded already.
    ///
    /// # Errors
    /// [`ModelError::Runtime`]: missing, not a library, another library, too old, or another path than before.
    pub fn load(library: &Path) -> Result<Self, ModelError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, environment)) = loaded.as_ref() {
            if path == library {
                return Ok(Self {
                    environment: environment.clone(),
                    library: library.to_owned(),
                });
            }
            return Err(ModelError::Runtime(format!(
                "{} is loaded already, {} cannot be loaded too",
                path.display(),
                library.display()
            )));
        }
        let environment = ort::init_from(library)
            .map_err(|error| ModelError::Runtime(error.to_string()))?
            .with_name("selvage")
            .with_telemetry(false)
            .build()
            .map_err(|error| ModelError::Runtime(error.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        *loaded = Some((library.to_owned(), environment.clone()));
        Ok(Self {
            environment,
            library: library.to_owned(),
        })
    }

    /// Where the library is.
    pub(super) fn folder(&self) -> &Path {
        self.library.parent().unwrap_or(Path::new("."))
    }
}

/// One session, with what a call needs to know.
pub struct OnnxPredictor {
    session: Session,
    input_name: String,
    /// What the input's values are; they come as float32.
    element: TensorElementType,
    /// The outputs that are read, in this order.
    output_names: Vec<String>,
    /// Dimensions after the first.
    shape: [usize; 3],
    max_batch: usize,
    /// The sizes of batches, ascending; others are filled up with zeros. None where any size will do.
    sizes: Vec<usize>,
    padded: Vec<f32>,
    placement: Placement,
    /// Shared with whoever may break a run off.
    options: Arc<RunOptions>,
}

impl fmt::Debug for OnnxPredictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxPredictor")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl OnnxPredictor {
    /// Opens a session from the bytes of a model's files, checks it and warms it.
    ///
    /// # Errors
    /// [`ModelError::Unfit`] names the file and the field of `model.toml` that does not fit it.
    pub fn open(
        runtime: &Runtime,
        model: &Model,
        files: &ModelFiles,
        on: RunsOn,
    ) -> Result<Self, ModelError> {
        let unfit = |problem| ModelError::Unfit {
            file: model.file.clone(),
            problem,
        };
        let (session, placement) = place(runtime, files, on).map_err(|error| {
            unfit(match on.device {
                Device::Cpu => format!("file: not a usable ONNX model: {error}"),
                device => format!("file: {device} cannot run this model: {error}"),
            })
        })?;
        if on.strict {
            check_whole(&placement).map_err(unfit)?;
        }
        let input = pick(session.inputs(), model.input.name.as_deref(), "input").map_err(unfit)?;
        if session.inputs().len() > 1 {
            return Err(unfit(format!(
                "input: the model has {} inputs ({}); a model of images has one",
                session.inputs().len(),
                names(session.inputs())
            )));
        }
        let output_names = outputs(session.outputs(), model).map_err(unfit)?;
        let fixed_batch = check_input(input, model).map_err(unfit)?;
        let options = run_options().map_err(|error| ModelError::Runtime(error.to_string()))?;
        let mut predictor = Self {
            input_name: input.name().to_owned(),
            element: input
                .dtype()
                .tensor_type()
                .unwrap_or(TensorElementType::Float32),
            output_names,
            shape: dimensions(model),
            max_batch: fixed_batch.map_or(model.max_batch, |n| n.min(model.max_batch)),
            sizes: fixed_batch.map_or_else(|| batch_sizes(on.device, model.max_batch), |n| vec![n]),
            padded: Vec::new(),
            placement,
            options: Arc::new(options),
            session,
        };
        predictor.warm(model).map_err(unfit)?;
        Ok(predictor)
    }

    /// Runs noise in the largest batch and alone, then zeros in every size between: the first run sizes the arena, and each
    /// checks the output. A slow model on the CPU skips the sizes between, which cost it the same later. Other devices prepare for
    /// each size, which no request is to wait for.
    fn warm(&mut self, model: &Model) -> Result<(), String> {
        let images = self.max_batch;
        let image: usize = self.shape.iter().product();
        let noise = noise(model, images);
        let started = Instant::now();
        let together = self.test_run(model, &noise, images)?;
        let values = together.len() / images;
        let boxes = model.output.boxes.as_ref();
        let sorts = boxes.is_some_and(|boxes| boxes.format == BoxFormat::Corners);
        for at in [0, images - 1] {
            let own = &noise[at * image..(at + 1) * image];
            let (alone, again) = (self.test_run(model, own, 1)?, self.test_run(model, own, 1)?);
            let in_batch = &together[at * values..(at + 1) * values];
            check_alone(&alone, &again, (!sorts).then_some(in_batch), &together)?;
        }
        let zeros = vec![0.0; images * image];
        let is_cpu = self.placement.device == Device::Cpu;
        let between = if is_cpu {
            std::iter::once(1).chain((2..images).rev()).collect()
        } else {
            self.sizes.clone()
        };
        for images in between.into_iter().filter(|size| *size <= images) {
            let raw = self.test_run(model, &zeros[..images * image], images)?;
            check_values(model, &raw)?;
            if is_cpu && started.elapsed() > WARM_UP {
                break;
            }
        }
        Ok(())
    }

    fn test_run(
        &mut self,
        model: &Model,
        input: &[f32],
        images: usize,
    ) -> Result<Vec<f32>, String> {
        let (shapes, values) = self
            .run(input, images)
            .map_err(|error| format!("a test run with {images} images failed: {error}"))?;
        shape::check(model, &shapes, self.batch_of(images))?;
        Ok(values)
    }

    /// The size that so many images are filled up to.
    fn batch_of(&self, images: usize) -> usize {
        let mut sizes = self.sizes.iter().copied();
        sizes.find(|size| *size >= images).unwrap_or(images)
    }

    /// The shapes of the outputs, and their values image by image.
    fn run(
        &mut self,
        input: &[f32],
        images: usize,
    ) -> Result<(Vec<Vec<i64>>, Vec<f32>), ort::Error> {
        let [a, b, c] = self.shape;
        let batch = self.batch_of(images);
        let input = if batch == images {
            input
        } else {
            self.padded.clear();
            self.padded.extend_from_slice(input);
            self.padded.resize(batch * a * b * c, 0.0);
            &self.padded
        };
        let tensor = tensor([batch, a, b, c], input, self.element)?;
        // A run before this one may have been broken off.
        self.options.unterminate()?;
        let inputs = ort::inputs![self.input_name.as_str() => tensor];
        let outputs = self.session.run_with_options(inputs, &self.options)?;
        let extracted: Vec<_> = self
            .output_names
            .iter()
            .map(|name| extract(&outputs, name))
            .collect::<Result<_, _>>()?;
        let shapes = extracted.iter().map(|(shape, _)| shape.to_vec()).collect();
        let mut all = Vec::new();
        for image in 0..images {
            for (_, values) in &extracted {
                let own = values.len() / batch;
                all.extend_from_slice(&values[image * own..(image + 1) * own]);
            }
        }
        Ok((shapes, all))
    }
}

/// The values as the model takes them.
fn tensor(
    shape: [usize; 4],
    values: &[f32],
    element: TensorElementType,
) -> Result<SessionInputValue<'_>, ort::Error> {
    Ok(match element {
        TensorElementType::Float16 => {
            let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            Tensor::from_array((shape, values))?.into()
        }
        TensorElementType::Uint8 => {
            // A float becomes the nearest number from 0 to 255.
            let values: Vec<u8> = values.iter().map(|value| value.round() as u8).collect();
            Tensor::from_array((shape, values))?.into()
        }
        _ => TensorRef::from_array_view((shape, values))?.into(),
    })
}

impl Predictor for OnnxPredictor {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn predict(&mut self, input: &[f32], images: usize) -> Result<Vec<f32>, ModelError> {
        self.run(input, images)
            .map(|(_, values)| values)
            .map_err(|error| failure(self.placement.device, error.to_string()))
    }

    fn break_off(&self) -> Option<Arc<BreakOff>> {
        let options = Arc::clone(&self.options);
        Some(Arc::new(move || {
            if let Err(error) = options.terminate() {
                tracing::error!(%error, "ONNX Runtime cannot be asked to break off");
            }
        }))
    }
}

/// An output's shape and values.
fn extract<'o>(
    outputs: &'o SessionOutputs<'_>,
    name: &str,
) -> Result<(&'o [i64], Cow<'o, [f32]>), ort::Error> {
    let output = outputs
        .get(name)
        .ok_or_else(|| ort::Error::new(format!("the output `{name}` is missing")))?;
    if output.dtype().tensor_type() == Some(TensorElementType::Float16) {
        let (shape, values) = output.try_extract_tensor::<f16>()?;
        return Ok((
            &shape[..],
            values.iter().map(|value| value.to_f32()).collect(),
        ));
    }
    let (shape, values) = output.try_extract_tensor::<f32>()?;
    Ok((&shape[..], values.into()))
}

/// What a model's sessions run on.
#[derive(Clone, Copy, Debug)]
pub struct RunsOn {
    /// The device; never `auto`.
    pub device: Device,
    /// A model is refused where the device leaves a part of it to the CPU.
    pub strict: bool,
    /// Threads that share the work of one inference on the CPU.
    pub intra_threads: usize,
}

impl RunsOn {
    /// The CPU, by so many threads.
    #[must_use]
    pub const fn cpu(intra_threads: usize) -> Self {
        Self {
            device: Device::Cpu,
            strict: false,
            intra_threads,
        }
    }
}

/// Opens a session, and finds out where its nodes run.
fn place(
    runtime: &Runtime,
    files: &ModelFiles,
    on: RunsOn,
) -> Result<(Session, Placement), ort::Error> {
    if on.device == Device::Cpu {
        let session = commit(runtime, files, on, None)?;
        return Ok((session, Placement::whole(Device::Cpu)));
    }
    let counted = |on| {
        let counts = Arc::<Lock<NodeCounts>>::default();
        let session = commit(runtime, files, on, Some(&counts))?;
        let counts = std::mem::take(&mut *counts.lock());
        Ok::<_, ort::Error>((session, counts))
    };
    let (session, counts) = counted(on)?;
    let alone = || Ok::<_, ort::Error>(counted(RunsOn::cpu(1))?.1.on_cpu);
    Ok((session, counts.placement(on.device, alone)?))
}

/// Of a session's log, only the errors of its runs.
fn run_options() -> Result<RunOptions, ort::Error> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Error)?;
    Ok(options)
}

fn check_whole(placement: &Placement) -> Result<(), String> {
    if placement.device_share >= 1.0 {
        return Ok(());
    }
    let operators = match placement::list(&placement.cpu_operators) {
        none if none.is_empty() => "all operators".to_owned(),
        listed => listed,
    };
    Err(format!(
        "device_strict: {} leaves a part of the model to the CPU: {operators}",
        placement.device
    ))
}

/// Opens a session that computes on the calling thread, if it computes on the CPU, and never spins.
///
/// External data is given to it too: ONNX Runtime would look for it in the current directory, where another model's may lie.
fn commit(
    runtime: &Runtime,
    files: &ModelFiles,
    on: RunsOn,
    counts: Option<&Arc<Lock<NodeCounts>>>,
) -> Result<Session, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_intra_threads(on.intra_threads)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // The pattern is kept per batch size: with varying sizes it is memory for nothing.
        .with_memory_pattern(false)?;
    if let Some(counts) = counts {
        let logger = placement::counting(Arc::clone(counts));
        builder = builder
            .with_log_level(LogLevel::Verbose)?
            .with_logger(logger)?;
    }
    builder = runtime.with_device(builder, on.device)?;
    for (location, bytes) in &files.external {
        builder = builder.with_external_initializer_file_in_memory(location, Arc::clone(bytes))?;
    }
    builder.commit_from_memory(&files.graph)
}

/// The outputs that a model's task reads.
fn outputs(outlets: &[Outlet], model: &Model) -> Result<Vec<String>, String> {
    let output = &model.output;
    let boxes = output
        .boxes
        .as_ref()
        .and_then(|boxes| boxes.tensor.as_deref());
    let first = pick(outlets, output.name.as_deref(), "output")?;
    let second = boxes
        .map(|name| pick(outlets, Some(name), "output"))
        .transpose()?;
    let all = std::iter::once(first).chain(second);
    all.map(|outlet| {
        check_type(outlet, "output", OUTPUTS)?;
        Ok(outlet.name().to_owned())
    })
    .collect()
}

fn names(outlets: &[Outlet]) -> String {
    let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
    names.join(", ")
}

/// The outlet of that name, or the only one.
fn pick<'o>(
    outlets: &'o [Outlet],
    name: Option<&str>,
    section: &str,
) -> Result<&'o Outlet, String> {
    match (name, outlets) {
        (Some(name), _) => outlets
            .iter()
            .find(|outlet| outlet.name() == name)
            .ok_or_else(|| {
                format!(
                    "{section}.name: the model has no {section} `{name}`, it has {}",
                    names(outlets)
                )
            }),
        (None, [outlet]) => Ok(outlet),
        (None, _) => Err(format!(
            "{section}.name: must say which of the model's {section}s is meant: {}",
            names(outlets)
        )),
    }
}

const INPUTS: &[TensorElementType] = &[
    TensorElementType::Float32,
    TensorElementType::Float16,
    TensorElementType::Uint8,
];
const OUTPUTS: &[TensorElementType] = &[TensorElementType::Float32, TensorElementType::Float16];

fn check_type(outlet: &Outlet, section: &str, allowed: &[TensorElementType]) -> Result<(), String> {
    let kinds: Vec<String> = allowed
        .iter()
        .map(|kind| format!("{kind:?}").to_lowercase())
        .collect();
    let wanted = format!(
        "{section}: `{}` must be a tensor of {}",
        outlet.name(),
        kinds.join(" or ")
    );
    match outlet.dtype().tensor_type() {
        Some(kind) if allowed.contains(&kind) => Ok(()),
        Some(other) => Err(format!("{wanted}; it is of {other}")),
        None => Err(format!("{wanted}; it is no tensor")),
    }
}

/// Checks the input tensor, and returns the batch size if the model takes exactly one.
fn check_input(input: &Outlet, model: &Model) -> Result<Option<usize>, String> {
    check_type(input, "input", INPUTS)?;
    let shape: Vec<i64> = input
        .dtype()
        .tensor_shape()
        .map(|shape| shape.iter().copied().collect())
        .unwrap_or_default();
    let fields = match model.input.layout {
        Layout::Nchw => ["channels", "height", "width"],
        Layout::Nhwc => ["height", "width", "channels"],
    };
    let [batch, rest @ ..] = shape.as_slice() else {
        return Err(rank_problem(&shape, fields));
    };
    if rest.len() != fields.len() {
        return Err(rank_problem(&shape, fields));
    }
    for ((field, wanted), found) in fields.iter().zip(dimensions(model)).zip(rest) {
        // A negative number stands for a dimension that is free.
        if *found >= 0 && usize::try_from(*found) != Ok(wanted) {
            return Err(format!(
                "input.{field}: model.toml says {wanted}, the model takes {found} (its input is {shape:?}, layout {:?})",
                model.input.layout
            ));
        }
    }
    match usize::try_from(*batch) {
        Err(_) => Ok(None),
        Ok(0) => Err("input: the model takes batches of 0 images".to_owned()),
        Ok(fixed) => Ok(Some(fixed)),
    }
}

fn rank_problem(shape: &[i64], fields: [&str; 3]) -> String {
    format!(
        "input: must have 4 dimensions (batch, {}), the model's has {}: {shape:?}",
        fields.join(", "),
        shape.len()
    )
}

/// The input's dimensions after the first, in its layout's order.
fn dimensions(model: &Model) -> [usize; 3] {
    let input = &model.input;
    let (width, height) = (input.width as usize, input.height as usize);
    match input.layout {
        Layout::Nchw => [input.channels.count(), height, width],
        Layout::Nhwc => [height, width, input.channels.count()],
    }
}

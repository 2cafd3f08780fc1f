//! The limit for new pictures: ONNX Runtime alone, on pictures that are decoded already. It also knows the right answers.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use selvage_core::catalog::{Catalog, Model};
use selvage_core::key::Digest;
use selvage_worker::image::Preparer;
use selvage_worker::image::decode::Limits;
use selvage_worker::image::tensor::Normaliser;
use selvage_worker::onnx::load::{find_library, recipe};
use selvage_worker::onnx::session::{RunsOn, Runtime};
use selvage_worker::onnx::{Open, Predictor};
use serde::Serialize;

use crate::pictures::Source;

/// Closer scores than these may change places with the order in which a batch is added up.
const CERTAIN_MARGIN: f32 = 1e-3;
/// Pictures are small; this is far above any of them.
const MAX_PIXELS: u64 = 40_000_000;

/// Which model on which pictures, and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of models.
    #[arg(
        long,
        env = "SELVAGE_MODELS",
        default_value = "models",
        value_name = "FOLDER"
    )]
    models: PathBuf,
    /// The model.
    #[arg(long, default_value = "fashion-mnist", value_name = "NAME")]
    model: String,
    /// The ONNX Runtime library; without it, looked for as the programs do.
    #[arg(long, env = "ORT_DYLIB_PATH", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Threads, each with a session of its own that has one thread.
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    threads: NonZeroUsize,
    /// Pictures in one inference, at most the model's `max_batch`; may be repeated.
    #[arg(long, default_values_t = [16])]
    batch: Vec<usize>,
    /// Length of the measurement for each batch size.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Writes the right labels into this file, for `selvage bench --answers`.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

/// One batch size's measurement.
#[derive(Debug, Serialize)]
struct Measured {
    batch: usize,
    images_per_second: f64,
    /// Time of one thread for one image.
    us_per_image: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    model_digest: String,
    pictures: usize,
    threads: usize,
    runs: Vec<Measured>,
}

/// Measures, writes the answers if asked to, and prints the report.
///
/// # Errors
/// When the model, the runtime or a picture cannot be used.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::read(&options.models)?;
    let model = catalog
        .get(&options.model)
        .with_context(|| format!("there is no model `{}`", options.model))?;
    let runtime = Runtime::load(&find_library(options.onnxruntime.as_deref())?)?;
    let open = recipe(runtime, Arc::clone(model), RunsOn::cpu(1))?;
    let pictures = options.source.read()?;
    let mut tensors = prepare(model, &pictures)?;
    if let Some(path) = &options.answers {
        let digests = pictures
            .iter()
            .map(|picture| Digest::of(picture).to_string());
        let labels = labels(model, open()?.as_mut(), &tensors)?;
        let answers: BTreeMap<_, _> = digests.zip(labels).collect();
        fs::write(path, serde_json::to_vec(&answers)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    tensors.repeat_to(model.max_batch);
    let mut runs = Vec::new();
    for batch in &options.batch {
        ensure!(
            (1..=model.max_batch).contains(batch),
            "--batch must be 1 to {}",
            model.max_batch
        );
        runs.push(measure(&open, &tensors, *batch, options)?);
    }
    let report = Report {
        model: options.model.clone(),
        model_digest: model.digest.to_string(),
        pictures: pictures.len(),
        threads: options.threads.get(),
        runs,
    };
    crate::print(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// All pictures' tensors, one after the other.
#[derive(Debug)]
struct Tensors {
    values: Vec<f32>,
    /// Values of one picture.
    stride: usize,
}

fn prepare(model: &Model, pictures: &[Vec<u8>]) -> Result<Tensors> {
    let input = &model.input;
    let stride = input.width as usize * input.height as usize * input.channels.count();
    let mut preparer = Preparer::new(input.clone(), Limits::with_pixels(MAX_PIXELS));
    let normaliser = Normaliser::new(input);
    let mut values = vec![0.0; stride * pictures.len()];
    for (number, (picture, tensor)) in pictures
        .iter()
        .zip(values.chunks_exact_mut(stride))
        .enumerate()
    {
        let image = preparer
            .prepare(picture)
            .with_context(|| format!("picture {number}"))?;
        normaliser.fill(&image, tensor);
    }
    Ok(Tensors { values, stride })
}

impl Tensors {
    /// Up to so many pictures from one place on.
    fn from(&self, first: usize, count: usize) -> (&[f32], usize) {
        let count = count.min(self.len() - first);
        (
            &self.values[first * self.stride..(first + count) * self.stride],
            count,
        )
    }

    fn len(&self) -> usize {
        self.values.len() / self.stride
    }

    /// Repeats the pictures until a batch of that size can be filled.
    fn repeat_to(&mut self, pictures: usize) {
        self.values = self.values.repeat(pictures.div_ceil(self.len()));
    }
}

fn labels(
    model: &Model,
    predictor: &mut dyn Predictor,
    tensors: &Tensors,
) -> Result<Vec<Option<String>>> {
    let mut labels = Vec::with_capacity(tensors.len());
    while labels.len() < tensors.len() {
        let (input, images) = tensors.from(labels.len(), predictor.max_batch());
        let scores = predictor.predict(input, images)?;
        labels.extend(
            scores
                .chunks_exact(model.labels.len())
                .map(|scores| certain(scores).map(|at| model.labels[at].clone())),
        );
    }
    Ok(labels)
}

/// The best score's place, if it is the best by a clear margin.
fn certain(scores: &[f32]) -> Option<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    match order[..] {
        [best, next, ..] if scores[best] - scores[next] < CERTAIN_MARGIN => None,
        [best, ..] => Some(best),
        [] => None,
    }
}

fn measure(
    open: &Arc<Open>,
    tensors: &Tensors,
    batch: usize,
    options: &Options,
) -> Result<Measured> {
    let threads = options.threads.get();
    let predictors = (0..threads)
        .map(|_| open())
        .collect::<Result<Vec<_>, _>>()?;
    let (ready, is_over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let (images, elapsed) = thread::scope(|scope| {
        let spawn = |(number, mut predictor): (usize, Box<dyn Predictor>)| {
            let first = number * tensors.len() / threads;
            let (ready, is_over) = (&ready, &is_over);
            scope.spawn(move || work(predictor.as_mut(), tensors, first, batch, ready, is_over))
        };
        let workers: Vec<_> = predictors.into_iter().enumerate().map(spawn).collect();
        ready.wait();
        let start = Instant::now();
        thread::sleep(Duration::from_secs_f64(options.seconds));
        is_over.store(true, Ordering::Relaxed);
        let ends: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        let elapsed = start.elapsed();
        let images: Result<Vec<usize>> = ends
            .into_iter()
            .map(|end| end.map_err(|_| anyhow!("a thread panicked"))?)
            .collect();
        images.map(|images| (images.iter().sum::<usize>(), elapsed.as_secs_f64()))
    })?;
    Ok(Measured {
        batch,
        images_per_second: images as f64 / elapsed,
        us_per_image: elapsed * 1e6 * threads as f64 / images.max(1) as f64,
    })
}

/// Predicts batch after batch until it is over; gives the number of images.
fn work(
    predictor: &mut dyn Predictor,
    tensors: &Tensors,
    mut next: usize,
    batch: usize,
    ready: &Barrier,
    is_over: &AtomicBool,
) -> Result<usize> {
    let (warm_up, count) = tensors.from(0, batch);
    let warmed = predictor.predict(warm_up, count);
    ready.wait(); // also after a failure, else the others wait for ever
    warmed?;
    let mut done = 0;
    while !is_over.load(Ordering::Relaxed) {
        if next + batch > tensors.len() {
            next = 0;
        }
        let (input, images) = tensors.from(next, batch);
        predictor.predict(input, images)?;
        done += images;
        next += images;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ties_are_not_certain() {
        assert_eq!(certain(&[0.1, 0.7, 0.2]), Some(1));
        assert_eq!(certain(&[0.1, 0.5, 0.4999]), None);
        assert_eq!(certain(&[0.3]), Some(0));
    }

    #[test]
    fn the_last_pictures_are_a_smaller_batch() {
        let tensors = Tensors {
            values: (0..10).map(|value| value as f32).collect(),
            stride: 2,
        };
        assert_eq!(tensors.len(), 5);
        assert_eq!(tensors.from(3, 4), (&[6.0, 7.0, 8.0, 9.0][..], 2));
    }

    #[test]
    fn few_pictures_are_repeated_to_fill_a_batch() {
        let mut tensors = Tensors {
            values: vec![1.0, 2.0, 3.0],
            stride: 1,
        };
        tensors.repeat_to(4);
        assert_eq!(tensors.from(2, 4), (&[3.0, 1.0, 2.0, 3.0][..], 4));
    }
}

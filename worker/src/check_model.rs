//! `selvage-worker model check` and `model init`: what is understood of a model's folder, and whether it runs.
//!
//! These are commands of the worker because it has ONNX Runtime and prepares images as jobs are prepared; `selvage model` of
//! the client calls them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::catalog::{CatalogError, DESCRIPTION, FieldValue, Model, Package};
use selvage_core::outcome::Scores;
use selvage_core::output::{Output, Ranked};
use selvage_core::tensor::{self, Datatype};

use crate::config::{EngineSettings, ModelCommand};
use crate::image::decode::Limits;
use crate::image::tensor::Normaliser;
use crate::image::{ImageError, Preparer};
use crate::onnx::session::Runtime;
use crate::onnx::{ModelError, Predictor, load};
use crate::output::Finisher;

/// Longest value in the list of fields; labels may be thousands.
const MAX_VALUE: usize = 60;
/// Labels, boxes or values that are shown of an image.
const TOP: u16 = 5;
/// Runs whose fastest is the cost: what disturbs a run only makes it slower.
const RUNS: usize = 5;

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The folder is no model's, or a field is wrong.
    #[error(transparent)]
    Folder(#[from] CatalogError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The image cannot be used.
    #[error("--image: {0}")]
    Image(#[from] ImageError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Nobody takes the output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`CheckError`], a sentence each.
pub fn run(
    command: &ModelCommand,
    engine: &EngineSettings,
    limits: Limits,
    mut out: impl Write,
) -> Result<(), CheckError> {
    match command {
        ModelCommand::Init { folder } => init(folder, &mut out),
        ModelCommand::Check { folder, image } => {
            let package = Package::read(folder)?;
            list(&package, &mut out)?;
            let image = match image {
                Some(path) => fs::read(path).map_err(|source| CheckError::File {
                    path: path.clone(),
                    source,
                })?,
                None => gray(&package.model),
            };
            try_out(package.model, &image, engine, limits, &mut out)
        }
    }
}

/// The fields that files set, each with its file.
fn list(package: &Package, out: &mut impl Write) -> io::Result<()> {
    let model = &package.model;
    writeln!(
        out,
        "{} {}, {}",
        model.name,
        model.version,
        model.file.display()
    )?;
    for value in &package.values {
        let mut shown: String = value.value.chars().take(MAX_VALUE).collect();
        if shown.len() < value.value.len() {
            shown.push('…');
        }
        writeln!(
            out,
            "  {:<18} {shown:<MAX_VALUE$}  {}",
            value.field, value.source
        )?;
    }
    if package.values.iter().all(|value| value.field != "task") {
        let task = model.task.as_str();
        writeln!(out, "  {:<18} {task:<MAX_VALUE$}  default", "task")?;
    }
    if let Some(boxes) = &model.output.boxes {
        let format = serde_json::to_string(&boxes.format).unwrap_or_default();
        writeln!(out, "  {:<18} {format}", "format of boxes")?;
    }
    writeln!(out, "  {:<18} {}", "number of labels", model.labels.len())
}

/// An image of the model's size in the middle of its range.
fn gray(model: &Model) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    tensor::write(
        Datatype::Uint8,
        &vec![128; model.input.values()],
        &mut bytes,
    );
    bytes.to_vec()
}

fn try_out(
    model: Model,
    image: &[u8],
    engine: &EngineSettings,
    limits: Limits,
    out: &mut impl Write,
) -> Result<(), CheckError> {
    let runtime = Runtime::load(&load::find_library(engine.onnxruntime.as_deref())?)?;
    let model = Arc::new(model);
    let open = load::recipe(runtime, Arc::clone(&model), engine.intra_threads)?;
    let before = resident();
    let mut predictor = open()?;
    let memory = resident().saturating_sub(before);
    let mut preparer = Preparer::new(model.input.clone(), limits);
    let (decoded, prepared) = fastest(|| preparer.prepare(image));
    let prepared = prepared?;
    let images = predictor.max_batch();
    let mut batch = vec![0.0; images * model.input.values()];
    let normaliser = Normaliser::new(&model.input);
    for tensor in batch.chunks_exact_mut(model.input.values()) {
        normaliser.fill(&prepared, tensor);
    }
    let (alone, found) = predict(predictor.as_mut(), &batch[..model.input.values()], 1);
    let found = found?;
    let (together, ran) = predict(predictor.as_mut(), &batch, images);
    ran?;
    let finished = Finisher::new(&model).finish(&found, prepared.frame());
    let result = finished.and_then(|values| model.meaning().output(&Scores::new(values), TOP));
    show(result, out)?;
    let millis = |span: Duration| span.as_secs_f64() * 1_000.0;
    writeln!(out, "cost per image")?;
    writeln!(out, "  {:.2} ms to decode and prepare", millis(decoded))?;
    writeln!(out, "  {:.2} ms to run alone", millis(alone))?;
    writeln!(
        out,
        "  {:.2} ms to run in a batch of {images}",
        millis(together) / images as f64
    )?;
    writeln!(out, "memory\n  {} MiB for each session", memory / 1024)?;
    Ok(())
}

/// The result for the image, as far as it fits on a screen.
fn show(result: Option<Output>, out: &mut impl Write) -> io::Result<()> {
    let top = usize::from(TOP);
    match result {
        None => writeln!(out, "result\n  none: its values are no numbers"),
        Some(Output::Classify { top, .. }) => {
            writeln!(out, "best labels")?;
            ranked(&top, out)
        }
        Some(Output::Multilabel {
            threshold,
            labels,
            top,
        }) => {
            writeln!(out, "labels above {threshold}: {}; the best", labels.len())?;
            ranked(&top, out)
        }
        Some(Output::Detect {
            width,
            height,
            boxes,
        }) => {
            writeln!(out, "boxes in {width} × {height} pixels: {}", boxes.len())?;
            for found in boxes.iter().take(top) {
                let [left, top, right, bottom] = found.edges;
                let (score, label, index) = (found.score, &found.label, found.index);
                writeln!(
                    out,
                    "  {score:.4}  {label} ({index})  {left:.1}, {top:.1} to {right:.1}, {bottom:.1}"
                )?;
            }
            Ok(())
        }
        Some(Output::Embed { embedding }) => {
            let first: Vec<String> = embedding
                .iter()
                .take(top)
                .map(|value| format!("{value:.4}"))
                .collect();
            writeln!(
                out,
                "vector of {} values\n  {}, …",
                embedding.len(),
                first.join(", ")
            )
        }
    }
}

fn ranked(labels: &[Ranked], out: &mut impl Write) -> io::Result<()> {
    for found in labels {
        writeln!(
            out,
            "  {:.4}  {} ({})",
            found.score, found.label, found.index
        )?;
    }
    Ok(())
}

fn predict(
    predictor: &mut dyn Predictor,
    input: &[f32],
    images: usize,
) -> (Duration, Result<Vec<f32>, ModelError>) {
    fastest(|| predictor.predict(input, images))
}

/// The shortest time of several runs, and what the last returned.
fn fastest<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let started = Instant::now();
        let result = run();
        (started.elapsed(), result)
    };
    let (mut least, mut result) = timed();
    for _ in 1..RUNS {
        let (took, again) = timed();
        (least, result) = (least.min(took), again);
    }
    (least, result)
}

/// Resident memory of this process in KiB; 0 where it is not known.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn init(folder: &Path, out: &mut impl Write) -> Result<(), CheckError> {
    let package = Package::read(folder)?;
    let path = folder.join(DESCRIPTION);
    let mut file = fs::File::create_new(&path).map_err(|source| CheckError::File {
        path: path.clone(),
        source,
    })?;
    file.write_all(description(&package).as_bytes())?;
    writeln!(out, "wrote {}", path.display())?;
    Ok(())
}

/// The text of `model.toml`: each section's fields, and the file each came from.
fn description(package: &Package) -> String {
    let mut text = format!("name = \"{}\"\n", package.model.name);
    let mut section = "";
    // Fields without a section come first in TOML.
    let mut values: Vec<_> = package
        .values
        .iter()
        .filter(|value| value.field != "name")
        .collect();
    values.sort_by_key(|value| value.field.contains('.'));
    for FieldValue {
        field,
        value,
        source,
    } in values
    {
        let (within, name) = field.split_once('.').unwrap_or(("", field.as_str()));
        if within != section {
            section = within;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&format!("{name} = {value} # {source}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn fixture(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures")
            .join(path)
    }

    fn output(command: &ModelCommand) -> Result<String, CheckError> {
        let engine = Config::parse_from(["selvage-worker"]).engine;
        let mut out = Vec::new();
        run(command, &engine, Limits::with_pixels(1_000_000), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_check_tells_fields_labels_and_cost() {
        let command = ModelCommand::Check {
            folder: fixture("exports/hf-vit"),
            image: Some(fixture("exports/picture.png")),
        };
        let text = output(&command).unwrap();
        for words in [
            "preprocessor_config.json",
            "input.filter",
            "crane (0)",
            "crane (2)",
            "in a batch of 16",
            "MiB",
        ] {
            assert!(text.contains(words), "{words} is not in: {text}");
        }
        let command = ModelCommand::Check {
            folder: fixture("broken-models/transposed"),
            image: None,
        };
        assert!(matches!(output(&command), Err(CheckError::Model(_))));
    }

    #[test]
    fn the_description_that_is_written_means_the_same() {
        for name in ["timm-squash", "hf-efficientnet", "ultralytics"] {
            let folder = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(fixture("exports").join(name))
                .unwrap()
                .map(Result::unwrap)
            {
                fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
            let before = Package::read(folder.path()).unwrap().model;
            let command = ModelCommand::Init {
                folder: folder.path().to_owned(),
            };
            output(&command).unwrap();
            for file in ["config.json", "preprocessor_config.json"] {
                fs::remove_file(folder.path().join(file)).ok();
            }
            let after = Package::read(folder.path()).unwrap().model;
            assert_eq!(
                (&after.input, &after.labels),
                (&before.input, &before.labels),
                "{name}"
            );
            assert!(
                matches!(output(&command), Err(CheckError::File { .. })),
                "it is not overwritten"
            );
        }
    }
}

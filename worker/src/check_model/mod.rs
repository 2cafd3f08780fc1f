//! `selvage-worker model check` and `model init`: what is understood of a model's folder, and whether it runs.
//!
//! These are commands of the worker because it has ONNX Runtime and prepares images as jobs are prepared; `selvage model` of
//! the client calls them.

mod error;
mod reference;
mod result;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::catalog::{DESCRIPTION, FieldValue, Model, Package};
use selvage_core::outcome::Scores;
use selvage_core::tensor::{self, Datatype};

pub use error::CheckError;
use error::{file_error, image_error};

use crate::config::{EngineSettings, ModelCommand};
use crate::image::Preparer;
use crate::image::decode::Limits;
use crate::image::tensor::Normaliser;
use crate::onnx::session::{RunsOn, Runtime};
use crate::onnx::{ModelError, Predictor, load};
use crate::output::Finisher;

/// Longest value in the list of fields; labels may be thousands.
const MAX_VALUE: usize = 60;
/// Runs whose fastest is the cost: what disturbs a run only makes it slower.
const RUNS: usize = 5;

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
        ModelCommand::Check {
            folder,
            image,
            reference,
        } => {
            let package = Package::read(folder)?;
            list(&package, &mut out)?;
            let mut candidate = Candidate::open(package.model, engine, limits)?;
            candidate.try_out(image.as_deref(), &mut out)?;
            let Some(path) = reference else {
                return Ok(());
            };
            let model = Arc::clone(&candidate.model);
            let score = |image: &Path| candidate.score(image);
            reference::compare(path, &model, score, &mut out)
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

/// A model that is looked into, ready to run.
struct Candidate {
    model: Arc<Model>,
    predictor: Box<dyn Predictor>,
    preparer: Preparer,
    normaliser: Normaliser,
    /// Memory that its session takes, in KiB.
    memory: u64,
}

impl Candidate {
    fn open(model: Model, engine: &EngineSettings, limits: Limits) -> Result<Self, CheckError> {
        let runtime = Runtime::load(&load::find_library(engine.onnxruntime.as_deref())?)?;
        let wanted = model.device.unwrap_or(engine.device);
        let on = RunsOn {
            device: runtime.find_device(wanted, engine.ep_library.as_deref())?,
            strict: model.device_strict || engine.device_strict,
            intra_threads: engine.intra_threads,
        };
        let model = Arc::new(model);
        let open = load::recipe(runtime, Arc::clone(&model), on)?;
        let before = resident();
        let predictor = open()?;
        Ok(Self {
            predictor,
            memory: resident().saturating_sub(before),
            preparer: Preparer::new(model.input.clone(), limits),
            normaliser: Normaliser::new(&model.input),
            model,
        })
    }

    /// Prints the result for an image, or for a grey one, and what it costs.
    fn try_out(&mut self, image: Option<&Path>, out: &mut impl Write) -> Result<(), CheckError> {
        let bytes = match image {
            Some(path) => fs::read(path).map_err(|source| file_error(path, source))?,
            None => gray(&self.model),
        };
        let (decoded, prepared) = fastest(|| self.preparer.prepare(&bytes));
        let prepared = prepared
            .map_err(|source| image_error(image.unwrap_or(Path::new("the grey image")), source))?;
        let images = self.predictor.max_batch();
        let mut batch = vec![0.0; images * self.model.input.values()];
        for tensor in batch.chunks_exact_mut(self.model.input.values()) {
            self.normaliser.fill(&prepared, tensor);
        }
        let predictor = self.predictor.as_mut();
        let (alone, found) = predict(predictor, &batch[..self.model.input.values()], 1);
        let found = found?;
        let (together, ran) = predict(predictor, &batch, images);
        ran?;
        let finished = Finisher::new(&self.model).finish(&found, prepared.frame());
        let meaning = self.model.meaning();
        let result = finished.and_then(|values| meaning.output(&Scores::new(values), result::TOP));
        let result = result.ok_or_else(not_of_its_task)?;
        result::show(result, out)?;
        let millis = |span: Duration| span.as_secs_f64() * 1_000.0;
        writeln!(out, "cost per image")?;
        writeln!(out, "  {:.2} ms to decode and prepare", millis(decoded))?;
        writeln!(out, "  {:.2} ms to run alone", millis(alone))?;
        writeln!(
            out,
            "  {:.2} ms to run in a batch of {images}",
            millis(together) / images as f64
        )?;
        writeln!(out, "memory\n  {} MiB for each session", self.memory / 1024)?;
        Ok(())
    }

    /// An image's scores, as a job would have them.
    fn score(&mut self, image: &Path) -> Result<Vec<f32>, CheckError> {
        let bytes = fs::read(image).map_err(|source| file_error(image, source))?;
        let prepared = self.preparer.prepare(&bytes);
        let prepared = prepared.map_err(|source| image_error(image, source))?;
        let mut tensor = vec![0.0; prepared.len()];
        self.normaliser.fill(&prepared, &mut tensor);
        let raw = self.predictor.predict(&tensor, 1)?;
        let finished = Finisher::new(&self.model).finish(&raw, prepared.frame());
        finished.ok_or_else(|| not_of_its_task().into())
    }
}

fn not_of_its_task() -> ModelError {
    ModelError::Run(
        "the model's values for the image are not of its task, or no numbers".to_owned(),
    )
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
    let mut file = fs::File::create_new(&path).map_err(|source| file_error(&path, source))?;
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
    use std::path::PathBuf;

    use clap::Parser as _;
    use serde_json::Value;

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
            image: Some(fixture("exports/_pictures/wide.png")),
            reference: None,
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
            reference: None,
        };
        assert!(matches!(output(&command), Err(CheckError::Model(_))));
    }

    fn compared(reference: &Path) -> Result<String, CheckError> {
        output(&ModelCommand::Check {
            folder: fixture("exports/hf-vit"),
            image: None,
            reference: Some(reference.to_owned()),
        })
    }

    #[test]
    fn scores_of_python_are_compared_with_the_models() {
        let text = fs::read(fixture("exports/hf-vit/expected.json")).unwrap();
        let mut expected: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
        expected.retain(|name, _| name.contains('.'));
        let folder = tempfile::tempdir().unwrap();
        for picture in fs::read_dir(fixture("exports/_pictures")).unwrap() {
            let picture = picture.unwrap();
            fs::copy(picture.path(), folder.path().join(picture.file_name())).unwrap();
        }
        let file = folder.path().join("scores.json");
        let compared = |expected: &serde_json::Map<String, Value>| {
            fs::write(&file, serde_json::to_vec(expected).unwrap()).unwrap();
            compared(&file)
        };
        let text = compared(&expected).unwrap();
        assert!(
            text.contains("7 of 7 images have the same best label"),
            "{text}"
        );
        assert!(text.contains("  0.000"), "{text}");
        expected["tall.jpg"] = serde_json::json!([0.0, 0.0, 0.0, 0.0, 9.0]);
        let text = compared(&expected).unwrap();
        assert!(text.contains("(tall.jpg, owl)"), "{text}");
        expected["tall.jpg"] = serde_json::json!([1.0]);
        let problem = compared(&expected).unwrap_err().to_string();
        assert!(
            problem.contains("`tall.jpg` has 1 scores, the model 5"),
            "{problem}"
        );
        expected["tall.jpg"] = serde_json::json!("owl");
        let problem = compared(&expected).unwrap_err().to_string();
        assert!(
            problem.contains("scores.json: must be an object"),
            "{problem}"
        );
    }

    #[test]
    fn images_in_a_folder_for_each_label_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        for label in ["owl", "1", "hen"] {
            fs::create_dir(folder.path().join(label)).unwrap();
            for picture in ["tall.jpg", "wide.png"] {
                let copy = folder.path().join(label).join(picture);
                fs::copy(fixture("exports/_pictures").join(picture), copy).unwrap();
            }
        }
        let text = compared(folder.path()).unwrap();
        assert!(
            text.contains("of 6 images have their label as the best"),
            "{text}"
        );
        fs::write(folder.path().join("hen/.hidden"), "").unwrap();
        compared(folder.path()).unwrap();
        fs::write(folder.path().join("hen/notes.txt"), "none").unwrap();
        let problem = compared(folder.path()).unwrap_err().to_string();
        assert!(problem.contains("hen/notes.txt: "), "{problem}");
        fs::rename(folder.path().join("owl"), folder.path().join("eagle")).unwrap();
        let problem = compared(folder.path()).unwrap_err().to_string();
        assert!(problem.contains("`eagle`"), "{problem}");
    }

    #[test]
    fn the_description_that_is_written_means_the_same() {
        for name in ["timm-deit", "hf-efficientnet", "ultralytics"] {
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

//! Real sessions on small real models, good and broken; how they are made is in `tests/fixtures/make_models.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_core::catalog::{Catalog, Layout, Model, Package};
use selvage_core::outcome::Scores;
use serde_json::Value;

use super::load::{find_library, recipe};
use super::session::{RunsOn, Runtime};
use super::{ModelError, Predictor};
use crate::image::Preparer;
use crate::image::decode::Limits;
use crate::image::tensor::Normaliser;
use crate::output::Finisher;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn runtime() -> Runtime {
    let setting = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    Runtime::load(&find_library(setting.as_deref()).unwrap()).unwrap()
}

/// A copy of one model in a folder of its own, as the catalog sees it.
fn model(source: &Path) -> (tempfile::TempDir, Arc<Model>) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(source).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let catalog = Catalog::read(folder.path()).unwrap();
    (folder, Arc::clone(&catalog.models()[0]))
}

fn open(source: &Path) -> Result<Box<dyn Predictor>, ModelError> {
    let (_folder, model) = model(source);
    recipe(runtime(), model, RunsOn::cpu(1))?()
}

/// A picture of one colour as the models' tensors have it, normalised as their `model.toml` says.
fn picture(colour: [f32; 3], channels_first: bool) -> Vec<f32> {
    let colour = colour.map(|value| (value - 0.5) / 0.5);
    if channels_first {
        colour.iter().flat_map(|value| [*value; 64]).collect()
    } else {
        colour.repeat(64)
    }
}

const COLOURS: [[f32; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

fn best(scores: &[f32]) -> usize {
    let order = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order.unwrap()
}

#[test]
fn pictures_are_distinguished_in_either_layout_and_any_batch() {
    for (source, channels_first) in [
        ("rgb-tiny", false),
        ("variants/nchw", true),
        ("variants/free-sides", false),
        ("variants/batch-of-two", false),
        ("variants/external", false),
    ] {
        let mut predictor = open(&fixtures().join(source)).unwrap();
        for images in 1..=predictor.max_batch() {
            let batch: Vec<f32> = (0..images)
                .flat_map(|image| picture(COLOURS[image % 3], channels_first))
                .collect();
            let scores = predictor.predict(&batch, images).unwrap();
            assert_eq!(scores.len(), images * 3, "{source}");
            for (image, scores) in scores.chunks_exact(3).enumerate() {
                assert_eq!(best(scores), image % 3, "{source}: {scores:?}");
                // Mean colour ±1, times the weights: 6 for the colour, and -1 × -3 for each of the two others.
                assert!(
                    (scores[image % 3] - 12.0).abs() < 1e-5,
                    "{source}: {scores:?}"
                );
            }
        }
    }
}

/// What a library made of some pictures, as `tests/fixtures/make_exports.py` wrote it down.
struct Golden {
    model: Arc<Model>,
    predictor: Box<dyn Predictor>,
    /// Levels of all pictures, the channels of a pixel together, as the library's own transform left them.
    levels: Vec<u8>,
    /// What the transform makes of black and white in each channel, and the scores of each picture.
    expected: Value,
}

/// How far a model is from a library over all pictures.
#[derive(Debug, Default)]
struct Distance {
    values: usize,
    /// Values that are more than a grey level apart.
    far: usize,
    /// Most that a value is apart, in grey levels.
    levels: f64,
    /// Most that a score is apart.
    scores: f64,
    /// Pictures with another best label.
    labels: usize,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let model = Arc::new(Package::read(folder).unwrap().model);
        let levels = image::open(folder.join("expected.png")).unwrap();
        let expected = fs::read(folder.join("expected.json")).unwrap();
        Self {
            predictor: recipe(runtime(), Arc::clone(&model), RunsOn::cpu(1)).unwrap()().unwrap(),
            model,
            levels: levels.into_bytes(),
            expected: serde_json::from_slice(&expected).unwrap(),
        }
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let numbers = self.expected[name].as_array().unwrap();
        numbers.iter().map(|n| n.as_f64().unwrap()).collect()
    }

    /// Prepares the picture that is at this place of the list, runs it, and adds how far that is from the library.
    fn compare(&mut self, at: usize, picture: &Path, distance: &mut Distance) {
        let input = &self.model.input;
        let mut preparer = Preparer::new(input.clone(), Limits::with_pixels(1_000_000));
        let prepared = preparer.prepare(&fs::read(picture).unwrap()).unwrap();
        let mut tensor = vec![0.0; prepared.len()];
        Normaliser::new(input).fill(&prepared, &mut tensor);
        let (black, white) = (self.numbers("black"), self.numbers("white"));
        let (channels, pixels) = (black.len(), tensor.len() / black.len());
        let theirs = &self.levels[at * tensor.len()..][..tensor.len()];
        for (place, level) in theirs.iter().enumerate() {
            let (pixel, channel) = (place / channels, place % channels);
            let value = match input.layout {
                Layout::Nchw => tensor[channel * pixels + pixel],
                Layout::Nhwc => tensor[place],
            };
            let span = white[channel] - black[channel];
            let apart = (f64::from(value) - black[channel]) / span * 255.0 - f64::from(*level);
            distance.levels = distance.levels.max(apart.abs());
            distance.far += usize::from(apart.abs() > 1.01);
        }
        distance.values += tensor.len();
        let raw = self.predictor.predict(&tensor, 1).unwrap();
        let finisher = Finisher::new(&self.model);
        let found = finisher.finish(&raw, prepared.frame()).unwrap();
        let theirs = self.numbers(&picture.file_name().unwrap().to_string_lossy());
        for (found, theirs) in found.iter().zip(&theirs) {
            distance.scores = distance.scores.max((f64::from(*found) - theirs).abs());
        }
        let theirs: Vec<f32> = theirs.iter().map(|score| *score as f32).collect();
        distance.labels += usize::from(best(&found) != best(&theirs));
    }
}

/// Paths in a folder, in order of their names.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Prints the table of `models/README.md`.
#[test]
fn folders_as_tools_write_them_give_the_tensors_and_scores_of_the_libraries() {
    let exports = fixtures().join("exports");
    let pictures = paths(&exports.join("_pictures"));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for folder in paths(&exports) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('_') {
            continue;
        }
        let (mut golden, mut distance) = (Golden::read(&folder), Distance::default());
        for (at, picture) in pictures.iter().enumerate() {
            golden.compare(at, picture, &mut distance);
        }
        let share = distance.far as f64 * 100.0 / distance.values as f64;
        println!(
            "| `{name}` | {:.1} | {share:.2} % | {:.5} |",
            distance.levels, distance.scores
        );
        // OpenCV cuts off what a cubic overshoots after its second pass only.
        let allowed = if name == "opencv-cubic" { 0.2 } else { 0.1 };
        if share > allowed || distance.scores > 1e-3 || distance.labels > 0 {
            wrong.push(format!("{name}: {distance:?}"));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 20 && pictures.len() >= 7, "{seen} models");
}

/// Whether two results are the same but for what resizing rounds: boxes within half a pixel, scores within a thousandth.
fn same(found: &Value, expected: &Value, name: &str) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && expected.iter().all(|(name, value)| {
                    found
                        .get(name)
                        .is_some_and(|found| same(found, value, name))
                })
        }
        (Value::Array(found), Value::Array(expected)) => {
            let mut pairs = found.iter().zip(expected);
            found.len() == expected.len() && pairs.all(|(a, b)| same(a, b, name))
        }
        (Value::Number(found), Value::Number(expected)) => {
            let apart = found.as_f64().unwrap() - expected.as_f64().unwrap();
            apart.abs() <= if name == "box" { 0.5 } else { 1e-3 }
        }
        _ => found == expected,
    }
}

fn result(model: &Arc<Model>, predictor: &mut dyn Predictor, image: &[u8]) -> Value {
    let mut preparer = Preparer::new(model.input.clone(), Limits::with_pixels(1_000_000));
    let prepared = preparer.prepare(image).unwrap();
    let mut tensor = vec![0.0; prepared.len()];
    Normaliser::new(&model.input).fill(&prepared, &mut tensor);
    let raw = predictor.predict(&tensor, 1).unwrap();
    let values = Finisher::new(model).finish(&raw, prepared.frame()).unwrap();
    let output = model.meaning().output(&Scores::new(values), 5);
    serde_json::to_value(output.unwrap()).unwrap()
}

/// The folders of `tests/fixtures/make_tasks.py`: NumPy decoded boxes and suppressed them.
#[test]
fn every_task_gives_the_results_of_independent_code() {
    let tasks = fixtures().join("tasks");
    let upright = fs::read(tasks.join("upright.png")).unwrap();
    // The same picture as a camera stores it: its boxes lie where a viewer sees them.
    let turned = fs::read(tasks.join("turned.png")).unwrap();
    let folders = fs::read_dir(&tasks)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for folder in folders.filter(|path| path.is_dir()) {
        let model = Arc::new(Package::read(&folder).unwrap().model);
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let mut predictor =
            recipe(runtime(), Arc::clone(&model), RunsOn::cpu(1)).unwrap()().unwrap();
        for image in [&upright, &turned] {
            let found = result(&model, predictor.as_mut(), image);
            assert!(
                same(&found, &expected, ""),
                "{}: {found:#}, not {expected:#}",
                folder.display()
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

/// Shapes that a model's task does not read, and what is said of them.
#[test]
fn outputs_of_another_task_are_named() {
    for (name, toml, words) in [
        (
            "yolov8",
            "task = \"classify\"",
            &["[16, 7, 64]", "YOLOv8", "detect"][..],
        ),
        (
            "nms-inside",
            "task = \"multilabel\"",
            &["[16, 12, 6]", "detect", "corners"],
        ),
        (
            "embed",
            "task = \"classify\"\nlabels = [\"a\", \"b\"]\noutput.name = \"pooler_output\"",
            &["labels: 2 are named", "16 scores", "embed"],
        ),
        (
            "multilabel",
            "[output]\nsigmoid = false",
            &["output.sigmoid: the model gives"],
        ),
        (
            "detr",
            "[output]\nsigmoid = true",
            &["[16, boxes, 3]", "3 labels"],
        ),
        (
            "yolov8",
            "[output]\nformat = \"yolov5\"",
            &["[16, boxes, 8]"],
        ),
        ("yolov8", "labels = [\"a\"]", &["output.format: must be"]),
        (
            "yolov8",
            "[output]\nsigmoid = true",
            &["output.sigmoid: is not for boxes"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(fixtures().join("tasks").join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let description = folder.path().join("model.toml");
        fs::write(&description, toml).unwrap();
        let message = match Package::read(folder.path()) {
            Err(error) => error.to_string(),
            Ok(package) => {
                match recipe(runtime(), Arc::new(package.model), RunsOn::cpu(1)).unwrap()() {
                    Err(error) => error.to_string(),
                    Ok(_) => panic!("{name} was taken with {toml}"),
                }
            }
        };
        for word in words {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
    }
}

#[test]
fn a_model_of_one_batch_size_limits_the_batch_and_is_filled_up() {
    let mut predictor = open(&fixtures().join("variants/batch-of-two")).unwrap();
    assert_eq!(predictor.max_batch(), 2);
    let alone = predictor.predict(&picture(COLOURS[1], false), 1).unwrap();
    assert_eq!((alone.len(), best(&alone)), (3, 1));
}

#[test]
fn broken_models_are_refused_by_file_and_field() {
    let mut seen = 0;
    for entry in fs::read_dir(fixtures().join("broken-models")).unwrap() {
        let source = entry.unwrap().path();
        let error = match open(&source) {
            Ok(_) => panic!("{} was taken", source.display()),
            Err(error) => error,
        };
        assert!(matches!(error, ModelError::Unfit { .. }), "{error}");
        let message = error.to_string();
        let words = fs::read_to_string(source.join("expected.txt")).unwrap();
        for word in words.lines() {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
        seen += 1;
    }
    assert!(seen >= 13, "{seen}");
}

#[test]
fn an_inference_that_does_not_end_is_broken_off_and_the_session_goes_on() {
    let mut predictor = open(&fixtures().join("variants/endless")).unwrap();
    let break_off = predictor.break_off().unwrap();
    let (bright, dark) = (picture([1.0; 3], false), picture([0.0; 3], false));
    let (mut predictor, result) = std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            let result = predictor.predict(&bright, 1);
            (predictor, result)
        });
        // A run that has not begun is not broken off, so it is asked until it has.
        while !running.is_finished() {
            break_off();
            std::thread::yield_now();
        }
        running.join().unwrap()
    });
    assert!(matches!(result, Err(ModelError::Run(_))), "{result:?}");
    assert_eq!(predictor.predict(&dark, 1).unwrap().len(), 3);
}

#[test]
fn names_of_tensors_that_are_not_there_are_refused() {
    for (from, to, field) in [
        ("[input]\n", "[input]\nname = \"pixels\"\n", "input.name"),
        ("[output]\n", "[output]\nname = \"logits\"\n", "output.name"),
    ] {
        let (folder, _) = model(&fixtures().join("rgb-tiny"));
        let description = folder.path().join("model/model.toml");
        let text = fs::read_to_string(&description).unwrap();
        fs::write(&description, text.replace(from, to)).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        let opened = recipe(runtime(), Arc::clone(&catalog.models()[0]), RunsOn::cpu(1)).unwrap()();
        let message = opened.err().unwrap().to_string();
        assert!(
            message.contains(field) && message.contains("scores") || message.contains("image"),
            "{message}"
        );
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_loaded_is_refused() {
    let (_folder, model) = model(&fixtures().join("rgb-tiny"));
    fs::copy(fixtures().join("variants/nchw/model.onnx"), &model.file).unwrap();
    let error = recipe(runtime(), model, RunsOn::cpu(1)).err().unwrap();
    assert!(error.to_string().contains("was replaced"), "{error}");
}

#[test]
fn external_data_that_is_replaced_while_it_is_loaded_is_refused() {
    let (folder, model) = model(&fixtures().join("variants/external"));
    fs::write(folder.path().join("model/model.onnx.data"), [0; 36]).unwrap();
    let error = recipe(runtime(), model, RunsOn::cpu(1)).err().unwrap();
    assert!(error.to_string().contains("was replaced"), "{error}");
}

#[test]
fn a_library_that_is_missing_or_none_is_reported_in_a_sentence() {
    let absent = find_library(Some(Path::new("/nonexistent/lib.so"))).unwrap_err();
    let message = absent.to_string();
    for word in [
        "/nonexistent/lib.so",
        "ORT_DYLIB_PATH",
        "scripts/onnxruntime",
    ] {
        assert!(message.contains(word), "{message}");
    }
    // The one that works is loaded first: afterwards no other may be, and nothing panics.
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    fs::write(&text, "this is no library").unwrap();
    let message = Runtime::load(&text).unwrap_err().to_string();
    assert!(message.contains(&text.display().to_string()), "{message}");
}

#[test]
fn the_shipped_model_loads_and_gives_a_score_per_label() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let catalog = Catalog::read(&folder).unwrap();
    let model = catalog.get("fashion-mnist").unwrap();
    let mut predictor = recipe(runtime(), Arc::clone(model), RunsOn::cpu(1)).unwrap()().unwrap();
    let scores = predictor.predict(&[0.0; 784], 1).unwrap();
    assert_eq!(scores.len(), model.labels.len());
}

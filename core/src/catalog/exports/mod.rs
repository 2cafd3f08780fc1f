//! The files that export tools write beside a model, translated into the fields of `model.toml`.
//!
//! Each translation takes what a tool is known to mean. What it does not know it refuses in a sentence, because a guess would
//! serve other scores than the tool's own code gives.

mod huggingface;
mod timm;
mod triton;
mod ultralytics;
mod values;

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::description::{Fields, Labels};
use super::onnx_file::OnnxFile;

/// A file's name and the fields it sets, or why it cannot be used.
pub(super) type Translated = (String, Result<Fields, String>);

/// Files with one label a line, or a list in JSON.
const LABELS: [&str; 4] = ["labels.txt", "classes.txt", "labels.json", "classes.json"];

/// Every file of a folder that is known, in the order in which one overrules the other.
pub(super) fn read(folder: &Path, file: &str, graph: &OnnxFile) -> Vec<Translated> {
    let mut found = Vec::new();
    if let Some(fields) = ultralytics::fields(&graph.metadata) {
        found.push((file.to_owned(), fields));
    }
    if let Some(text) = read_text(folder, "config.pbtxt") {
        let fields = text.and_then(|text| triton::fields(&text, file));
        found.push(("config.pbtxt".to_owned(), fields));
    }
    let labels = LABELS.into_iter().find(|name| folder.join(name).is_file());
    if let Some(name) = labels {
        let fields = Fields {
            labels: Some(Labels::File(name.to_owned())),
            ..Fields::default()
        };
        found.push((name.to_owned(), Ok(fields)));
    }
    if let Some(config) = read_json(folder, "config.json") {
        let fields = config.and_then(|config| match config.get("pretrained_cfg") {
            Some(cfg) => timm::fields(&config, cfg),
            None => huggingface::config(&config),
        });
        found.push(("config.json".to_owned(), fields));
    }
    if let Some(config) = read_json(folder, "preprocessor_config.json") {
        let fields = config.and_then(huggingface::preprocessor);
        found.push(("preprocessor_config.json".to_owned(), fields));
    }
    found
}

/// The file's text; `None` where there is no such file.
fn read_text(folder: &Path, name: &str) -> Option<Result<String, String>> {
    let path = folder.join(name);
    let read = || fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"));
    path.is_file().then(read)
}

fn read_json(folder: &Path, name: &str) -> Option<Result<Value, String>> {
    let text = read_text(folder, name)?;
    Some(text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())))
}

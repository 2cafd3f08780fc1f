//! The models folder: one folder per model, as a tool exported it or with a `model.toml`.
//!
//! The gateway reads descriptions and digests only; nothing here opens a model with ONNX Runtime.
//!
//! | file | owns |
//! |---|---|
//! | `package` | a model's folder: its files, and what they say together |
//! | `description` | the fields of `model.toml`, merged and checked |
//! | `exports/` | files of other tools, translated into these fields |
//! | `onnx_file`, `files` | what the ONNX file says of itself; external data and the digest |
//! | `detector` | which of an ONNX file's outputs hold boxes, and how |
//! | `model`, `input`, `device` | what the rest of the program knows of a model |
//! | `watch`, `follow` | changes while a program runs |

mod description;
mod detector;
mod device;
mod exports;
mod files;
pub mod follow;
mod input;
mod model;
mod onnx_file;
mod package;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use device::{Device, UnknownDevice};
pub use files::ModelFiles;
pub use input::{
    BoxFormat, Boxes, Channels, CropRounding, Decode, Filter, Input, Layout, Output, Place,
    Polarity, Profile, Resize, Task,
};
pub use model::{CatalogError, DESCRIPTION, Model, PREPARATION_VERSION};
pub use package::{FieldValue, Package};

use crate::job::ModelName;

/// The models of one folder, by name.
#[derive(Clone, Debug)]
pub struct Catalog {
    models: Vec<Arc<Model>>,
}

impl Catalog {
    /// Reads every model below `folder`.
    ///
    /// # Errors
    /// The first folder, file or field that is wrong: a service that silently leaves a model out is worse than none.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        let mut models: Vec<Arc<Model>> = Vec::new();
        let (folders, others) = model_folders(folder)?;
        for other in others {
            let reason = package::why_no_model(&other);
            tracing::warn!("{} is not a model: {reason}", other.display());
        }
        for folder in folders {
            models.push(Arc::new(Package::read(&folder)?.model));
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = models.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let problem = format!(
                "name: `{}` is also the name of {}",
                pair[1].name,
                pair[0].file.display()
            );
            return Err(CatalogError::Invalid {
                path: pair[1].file.clone(),
                problem,
            });
        }
        if models.is_empty() {
            return Err(CatalogError::Empty {
                path: folder.to_owned(),
            });
        }
        Ok(Self { models })
    }

    /// All models, by name.
    #[must_use]
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// The model of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.name.as_str() == name)
    }

    /// The same models, this one in the place of the one with its name.
    #[must_use]
    pub fn with(&self, model: &Arc<Model>) -> Self {
        let replaced = |old: &Arc<Model>| {
            let kept = if old.name == model.name { model } else { old };
            Arc::clone(kept)
        };
        Self {
            models: self.models.iter().map(replaced).collect(),
        }
    }

    /// The same models as things of their own: who counts the holders of one counts nobody else's.
    #[must_use]
    pub fn unshared(&self) -> Self {
        let own = |model: &Arc<Model>| Arc::new(model.as_ref().clone());
        Self {
            models: self.models.iter().map(own).collect(),
        }
    }

    /// The models' names with commas between them, for log lines.
    #[must_use]
    pub fn names(&self) -> String {
        let names = self.models.iter().map(|model| model.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Keeps only the models of these names.
    ///
    /// # Errors
    /// The first name that no model has.
    pub fn only(&self, names: &[ModelName]) -> Result<Self, ModelName> {
        let find = |name: &ModelName| self.get(name.as_str()).cloned().ok_or_else(|| name.clone());
        Ok(Self {
            models: names.iter().map(find).collect::<Result<_, _>>()?,
        })
    }
}

/// The folders below this one that are meant to be models, and the others. A folder that is a model itself, because the path
/// is one level too deep, holds that model only.
fn model_folders(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CatalogError> {
    let unreadable = |source| CatalogError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    if package::is_described(folder) {
        return Ok((vec![folder.to_owned()], Vec::new()));
    }
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if package::is_model(&path) {
            found.push(path);
        } else if path.is_dir() && !entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            others.push(path);
        }
    }
    Ok((found, others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Digest;

    pub(super) const GOOD: &str = r#"
        name = "tiny"
        version = "1"
        file = "model.onnx"
        max_batch = 4
        labels = ["a", "b"]
        [input]
        width = 2
        height = 2
        channels = "gray"
        mean = [0.5]
        std = [0.5]
    "#;

    pub(super) fn folder_with(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("model.toml"), text).unwrap();
        fs::write(model.join("model.onnx"), b"weights").unwrap();
        folder
    }

    #[test]
    fn a_folder_with_a_description_is_a_model() {
        let folder = folder_with(GOOD);
        let catalog = Catalog::read(folder.path()).unwrap();
        let model = catalog.get("tiny").unwrap();
        assert_eq!(model.digest, Digest::of(b"weights"));
        assert_eq!(&*model.labels, ["a", "b"]);
        assert!(catalog.get("other").is_none());
    }

    /// A models folder with one model whose weights lie in `model.onnx.data`.
    pub(super) fn folder_with_external_data() -> tempfile::TempDir {
        let folder = folder_with(GOOD);
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/variants/external");
        for file in ["model.onnx", "model.onnx.data"] {
            fs::copy(fixture.join(file), folder.path().join("tiny").join(file)).unwrap();
        }
        folder
    }

    #[test]
    fn external_data_is_part_of_the_digest() {
        let folder = folder_with_external_data();
        let read = || Catalog::read(folder.path()).map(|catalog| catalog.models()[0].digest);
        let (data, digest) = (folder.path().join("tiny/model.onnx.data"), read().unwrap());
        assert_ne!(
            digest,
            Digest::of(&fs::read(data.with_file_name("model.onnx")).unwrap())
        );
        fs::write(&data, [0; 36]).unwrap();
        assert_ne!(read().unwrap(), digest);
        fs::remove_file(&data).unwrap();
        let message = read().unwrap_err().to_string();
        assert!(message.contains("`model.onnx.data`"), "{message}");
    }

    #[test]
    fn external_data_outside_of_the_models_folder_is_refused() {
        let folder = folder_with_external_data();
        let file = folder.path().join("tiny/model.onnx");
        let text = fs::read(&file).unwrap();
        for elsewhere in [b"../el/onnx.data", b"/etc/other.data", b"below/../../abc"] {
            let at = text
                .windows(15)
                .position(|part| part == b"model.onnx.data")
                .unwrap();
            let mut changed = text.clone();
            changed[at..at + 15].copy_from_slice(elsewhere);
            fs::write(&file, changed).unwrap();
            let message = Catalog::read(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains("outside of the model's folder"),
                "{message}"
            );
        }
    }

    #[test]
    fn whatever_changes_an_answer_changes_the_preparation() {
        let preprocessing =
            |text: &str| Catalog::read(folder_with(text).path()).unwrap().models()[0].preprocessing;
        let good = preprocessing(GOOD);
        for (from, to) in [
            ("mean = [0.5]", "mean = [0.4]"),
            ("gray", "rgb"),
            ("width = 2", "width = 3"),
        ] {
            let text = GOOD.replace(from, to).replace(
                "rgb\"\n        mean = [0.5]",
                "rgb\"\n        mean = [0.5, 0.5, 0.5]",
            );
            let text = if to == "rgb" {
                text.replace("std = [0.5]", "std = [0.5, 0.5, 0.5]")
            } else {
                text
            };
            assert_ne!(preprocessing(&text), good, "{to}");
        }
        assert_eq!(
            preprocessing(&GOOD.replace("version = \"1\"", "version = \"2\"")),
            good
        );
    }

    #[test]
    fn wrong_descriptions_name_their_file_line_and_field() {
        let cases = [
            ("name = \"tiny\"", "name = \"Tiny!\"", 2, "name"),
            ("labels = [\"a\", \"b\"]", "labels = []", 6, "labels"),
            (
                "labels = [\"a\", \"b\"]",
                "labels = [\"a\" \"b\"]",
                6,
                "labels",
            ),
            (
                "labels = [\"a\", \"b\"]",
                "labels = [1, 2]",
                6,
                "list of texts",
            ),
            (
                "labels = [\"a\", \"b\"]",
                "labels = \"../l.txt\"",
                6,
                "labels",
            ),
            ("max_batch = 4", "max_batch = 0", 5, "max_batch"),
            (
                "max_batch = 4",
                "device = \"gpu\"",
                5,
                "`gpu` is not a device",
            ),
            ("width = 2", "width = 0", 8, "input.width"),
            ("width = 2", "width = \"2\"", 8, "width"),
            ("gray", "grey-ish", 10, "channels"),
            ("mean = [0.5]", "mean = [0.5, 0.5]", 11, "input.mean"),
            ("std = [0.5]", "std = [0.0]", 12, "input.std"),
            (
                "file = \"model.onnx\"",
                "file = \"../model.onnx\"",
                4,
                "file",
            ),
            ("file = \"model.onnx\"", "file = \"absent.onnx\"", 4, "file"),
            ("version = \"1\"", "surprise = 1", 3, "surprise"),
            (
                "height = 2",
                "height = 2\nresize_to = 1\nresize = \"stretch\"",
                10,
                "resize_to",
            ),
            ("height = 2", "height = 2\npad = [1]", 10, "input.pad"),
        ];
        for (from, to, line, field) in cases {
            let folder = folder_with(&GOOD.replacen(from, to, 1));
            let message = Catalog::read(folder.path()).unwrap_err().to_string();
            let place = format!("model.toml: line {line}");
            assert!(
                message.contains(&place) && message.contains(field),
                "{to}: {message}"
            );
        }
        let folder = folder_with(&GOOD.replacen("labels = [\"a\", \"b\"]", "", 1));
        let message = Catalog::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("labels: are missing"), "{message}");
        let long = format!("labels = [\"{}\" \"b\"]", "a".repeat(10_000));
        let folder = folder_with(&GOOD.replacen("labels = [\"a\", \"b\"]", &long, 1));
        let message = Catalog::read(folder.path()).unwrap_err().to_string();
        assert!(message.len() < 400, "{message}");
    }

    #[test]
    fn equal_labels_are_allowed() {
        let folder = folder_with(&GOOD.replace("[\"a\", \"b\"]", "[\"crane\", \"crane\"]"));
        assert_eq!(
            &*Catalog::read(folder.path()).unwrap().models()[0].labels,
            ["crane", "crane"]
        );
    }

    #[test]
    fn numbers_that_were_meant_for_another_scale_are_refused_with_what_was_meant() {
        let values = |text: &str| GOOD.replace("mean = [0.5]\n        std = [0.5]", text);
        for (text, words) in [
            ("mean = [123.7]", "set scale = 1"),
            ("mean = [0.5]\nstd = [58.4]", "set scale = 1"),
            ("scale = 1\nmean = [0.5]\nstd = [0.5]", "leave it out"),
            ("scale = 0", "above 0"),
            ("mean = [-300]", "sign"),
            ("description = \"\"", "unknown field"),
            ("", "how pixels become numbers"),
        ] {
            let message = Catalog::read(folder_with(&values(text)).path())
                .unwrap_err()
                .to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
        for text in [
            "mean = [0.485]\nstd = [0.229]",
            "scale = 1\nmean = [123.7]\nstd = [58.4]",
            "scale = 0.00784313725490196\nmean = [1]",
            "scale = 1",
            "scale = 0.015625\nmean = [2]",
        ] {
            Catalog::read(folder_with(&values(text)).path()).unwrap();
        }
    }

    #[test]
    fn files_that_are_no_model_are_recognised() {
        let folder = folder_with(GOOD);
        for (bytes, word) in [
            (&b"\n<!DOCTYPE html><html>"[..], "HTML"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
                "git lfs pull",
            ),
            (b"PK\x03\x04archive/data.pkl", ".pth"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"\x89HDF\r\n", "Keras"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"\x40\0\0\0\0\0\0\0{\"weight\"", "safetensors"),
        ] {
            fs::write(folder.path().join("tiny/model.onnx"), bytes).unwrap();
            let message = Catalog::read(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains("file: `model.onnx` is") && message.contains(word),
                "{message}"
            );
        }
    }

    #[test]
    fn a_path_that_is_one_level_too_deep_is_the_model() {
        let folder = folder_with(GOOD);
        let catalog = Catalog::read(&folder.path().join("tiny")).unwrap();
        assert_eq!(catalog.models().len(), 1);
        assert!(catalog.get("tiny").is_some());
    }

    #[test]
    fn folders_that_are_no_model_have_a_reason() {
        let folder = folder_with(GOOD);
        for (file, reason) in [
            ("notes/readme.txt", "neither"),
            ("torch/best.pt", "`best.pt`, which must be exported"),
            ("several/a.onnx", "several"),
            ("several/b.onnx", "several"),
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            if file != "several/a.onnx" {
                let why = package::why_no_model(path.parent().unwrap());
                assert!(why.contains(reason), "{file}: {why}");
            }
        }
        assert_eq!(Catalog::read(folder.path()).unwrap().models().len(), 1);
    }

    #[test]
    fn a_folder_without_models_and_two_models_of_one_name_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(
            Catalog::read(empty.path()),
            Err(CatalogError::Empty { .. })
        ));
        let folder = folder_with(GOOD);
        let twin = folder.path().join("twin");
        fs::create_dir(&twin).unwrap();
        fs::write(twin.join("model.toml"), GOOD).unwrap();
        fs::write(twin.join("model.onnx"), b"other").unwrap();
        assert!(
            Catalog::read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("also the name")
        );
    }
}

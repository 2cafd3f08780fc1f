//! The models folder: one folder per model, each with a `model.toml` and the file it names.
//!
//! The gateway reads descriptions and digests only; nothing here opens a model with ONNX Runtime.

mod description;
mod files;
pub mod follow;
mod onnx_file;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use description::{Channels, Input, Layout, Output, Polarity, Resize};
pub use files::ModelFiles;
use onnx_file::OnnxFile;

use crate::job::ModelName;
use crate::key::{Digest, PredictionKey};

/// The file that makes a folder a model's.
const DESCRIPTION: &str = "model.toml";

/// Raised whenever the preparation code changes what a model sees, or what it can read: cached answers of the old code are
/// then misses, and workers of the old code pass on what they would not understand.
pub const PREPARATION_VERSION: u32 = 3;

/// One model: its description, its file and the file's digest.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name, as requests and queues spell it.
    pub name: ModelName,
    /// Version, as clients see it.
    pub version: String,
    /// One sentence for people.
    pub description: String,
    /// The ONNX file.
    pub file: PathBuf,
    /// Locations of external data, relative to the ONNX file's folder.
    pub external: Vec<String>,
    /// Digest of the ONNX file and its external data.
    pub digest: Digest,
    /// Labels, in the order of the model's scores.
    pub labels: Arc<[String]>,
    /// Most images in one inference.
    pub max_batch: usize,
    /// What the model takes.
    pub input: Input,
    /// What the model gives.
    pub output: Output,
    /// Identifies how images are prepared and scores finished: [`PREPARATION_VERSION`] and the `[input]` and `[output]`
    /// sections. Part of every cache key.
    pub preprocessing: u64,
}

impl Model {
    /// Whether an answer under this key is an answer of this model.
    #[must_use]
    pub fn answers(&self, key: &PredictionKey) -> bool {
        key.model == self.digest && key.preprocessing == self.preprocessing
    }

    /// Whether nothing would change with the other one in its place; where the file lies is nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            name,
            version,
            description,
            file: _,
            external: _,
            digest,
            labels,
            max_batch,
            input,
            output,
            preprocessing,
        } = self;
        (name, version, description) == (&other.name, &other.version, &other.description)
            && (digest, preprocessing) == (&other.digest, &other.preprocessing)
            && (labels, max_batch) == (&other.labels, &other.max_batch)
            && (input, output) == (&other.input, &other.output)
    }
}

/// The models of one folder, by name.
#[derive(Clone, Debug)]
pub struct Catalog {
    models: Vec<Arc<Model>>,
}

/// Why the models folder cannot be used. Each message names the file and, where one is to blame, the field.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A description is wrong.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The `model.toml`.
        path: PathBuf,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// No folder holds a `model.toml`.
    #[error("{}: no folder in it holds a model.toml", path.display())]
    Empty {
        /// The models folder.
        path: PathBuf,
    },
}

impl Catalog {
    /// Reads every model below `folder`.
    ///
    /// # Errors
    /// The first folder, file or field that is wrong: a service that silently leaves a model out is worse than none.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        let mut models: Vec<Arc<Model>> = Vec::new();
        for folder in model_folders(folder)? {
            models.push(Arc::new(read_model(&folder.join(DESCRIPTION))?));
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

/// The folders below this one that hold a description.
fn model_folders(folder: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let model = entry.map_err(unreadable)?.path();
        if model.join(DESCRIPTION).is_file() {
            found.push(model);
        }
    }
    Ok(found)
}

fn read_model(description: &Path) -> Result<Model, CatalogError> {
    let text = fs::read_to_string(description).map_err(|source| CatalogError::Unreadable {
        path: description.to_owned(),
        source,
    })?;
    let invalid = |problem| CatalogError::Invalid {
        path: description.to_owned(),
        problem,
    };
    let parsed = description::parse(&text).map_err(invalid)?;
    let file = description.with_file_name(&parsed.file);
    let unreadable =
        |source| invalid(format!("file: `{}` cannot be read: {source}", parsed.file));
    let graph = OnnxFile::read(&file).map_err(unreadable)?;
    let digest = files::digest(&file, &graph).map_err(unreadable)?;
    Ok(Model {
        preprocessing: parsed.preparation(PREPARATION_VERSION),
        name: parsed.name,
        version: parsed.version,
        description: parsed.description,
        file,
        external: graph.external.into_iter().collect(),
        digest,
        labels: parsed.labels.into(),
        max_batch: usize::from(parsed.max_batch),
        input: parsed.input,
        output: parsed.output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/variants/external");
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
        assert_ne!(digest, Digest::of(&fs::read(data.with_file_name("model.onnx")).unwrap()));
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
            let at = text.windows(15).position(|part| part == b"model.onnx.data").unwrap();
            let mut changed = text.clone();
            changed[at..at + 15].copy_from_slice(elsewhere);
            fs::write(&file, changed).unwrap();
            let message = Catalog::read(folder.path()).unwrap_err().to_string();
            assert!(message.contains("outside of the model's folder"), "{message}");
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
    fn wrong_descriptions_name_their_file_and_field() {
        let cases = [
            ("name = \"tiny\"", "name = \"Tiny!\"", "name"),
            ("labels = [\"a\", \"b\"]", "labels = []", "labels"),
            (
                "labels = [\"a\", \"b\"]",
                "labels = [\"a\", \"a\"]",
                "labels",
            ),
            ("labels = [\"a\", \"b\"]", "", "labels"),
            ("max_batch = 4", "max_batch = 0", "max_batch"),
            ("width = 2", "width = 0", "width"),
            ("gray", "grey-ish", "channels"),
            ("mean = [0.5]", "mean = [0.5, 0.5]", "mean"),
            ("std = [0.5]", "std = [0.0]", "std"),
            ("file = \"model.onnx\"", "file = \"../model.onnx\"", "file"),
            ("file = \"model.onnx\"", "file = \"absent.onnx\"", "file"),
            (
                "version = \"1\"",
                "version = \"1\"\nsurprise = 1",
                "surprise",
            ),
        ];
        for (from, to, field) in cases {
            let folder = folder_with(&GOOD.replacen(from, to, 1));
            let message = Catalog::read(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains("model.toml") && message.contains(field),
                "{to}: {message}"
            );
        }
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

//! A model's folder, whichever tool wrote it: which files say what, and what they say together.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::description::{self, Fields, InputFields, Labels, Merged, OutputFields, Problem};
use super::files::is_within;
use super::input::{Channels, Layout, Task};
use super::model::{CatalogError, DESCRIPTION, Model, PREPARATION_VERSION};
use super::onnx_file::{OnnxFile, TensorInfo};
use super::{detector, exports, files};

/// Images in one inference where no file says it.
const DEFAULT_MAX_BATCH: u16 = 16;

/// A model, and where each value of its description came from.
#[derive(Debug)]
pub struct Package {
    /// The model.
    pub model: Model,
    /// The fields that files set, by name.
    pub values: Vec<FieldValue>,
}

/// A field of a description.
#[derive(Debug)]
pub struct FieldValue {
    /// Such as `input.width`.
    pub field: String,
    /// Its value as JSON, which is TOML as well.
    pub value: String,
    /// The file in the model's folder that set it.
    pub source: String,
}

impl Package {
    /// Reads a model's folder.
    ///
    /// # Errors
    /// The file, field and line that is wrong.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        let reading = Reading::new(folder)?;
        let mut merged = Merged::default();
        let read = |merged: &mut Merged| {
            let file = reading.file()?;
            let graph = reading.graph(&file)?;
            merged.add(&file, &graph.fields());
            for (source, fields) in exports::read(folder, &file, &graph) {
                let fields = fields.map_err(|text| Problem::of_file(&source, text))?;
                merged.add(&source, &fields);
            }
            merged.add(DESCRIPTION, &reading.own);
            reading.model(merged.fields(), &file, graph)
        };
        let model = read(&mut merged).map_err(|problem| reading.blame(&merged, &problem))?;
        let value = |(field, (value, source)): (String, (serde_json::Value, String))| FieldValue {
            field,
            value: value.to_string(),
            source,
        };
        let values = merged.0.into_iter().map(value).collect();
        Ok(Self { model, values })
    }
}

/// Whether the folder is meant to be a model's.
pub(super) fn is_model(folder: &Path) -> bool {
    folder.join(DESCRIPTION).is_file() || find_file(folder).is_ok_and(|found| found.is_some())
}

/// Whether the folder is a model's beyond doubt, and not a folder of models.
pub(super) fn is_described(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has(DESCRIPTION)
        || has("model.onnx")
        || (["config.json", "config.pbtxt"].into_iter().any(has) && is_model(folder))
}

/// Why a folder is none of a model, for the log.
pub(super) fn why_no_model(folder: &Path) -> String {
    const OTHERS: [&str; 8] = [
        "pt",
        "pth",
        "safetensors",
        "h5",
        "keras",
        "pb",
        "tflite",
        "bin",
    ];
    let names = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let kind = |path: &Path| {
        path.extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let (mut onnx, mut other) = (0, None);
    for path in names {
        onnx += u32::from(kind(&path) == "onnx");
        if OTHERS.contains(&kind(&path).as_str()) {
            other = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
        }
    }
    match other {
        _ if onnx > 1 => "it holds several ONNX files, and no model.toml that names one".to_owned(),
        Some(other) => format!("it holds `{other}`, which must be exported to ONNX first"),
        None => "it holds neither a model.toml nor an ONNX file".to_owned(),
    }
}

/// The ONNX file of a folder, relative to it: `model.onnx`, or the only one; else where Hugging Face or Triton keep it.
fn find_file(folder: &Path) -> io::Result<Option<String>> {
    let (mut found, mut versions) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".onnx") && folder.join(&name).is_file() {
            found.push(name);
        } else if let Ok(version) = name.parse::<u64>() {
            versions.push(version);
        }
    }
    let usual = found.iter().position(|name| name == "model.onnx");
    if let Some(at) = usual.or((found.len() == 1).then_some(0)) {
        return Ok(Some(found.swap_remove(at)));
    }
    versions.sort_unstable();
    let version = versions
        .iter()
        .rev()
        .map(|version| format!("{version}/model.onnx"));
    let below = std::iter::once("onnx/model.onnx".to_owned()).chain(version);
    Ok(below
        .into_iter()
        .find(|file| found.is_empty() && folder.join(file).is_file()))
}

/// A folder that is being read.
struct Reading<'f> {
    folder: &'f Path,
    /// The text of `model.toml`.
    text: Option<String>,
    own: Fields,
}

impl<'f> Reading<'f> {
    fn new(folder: &'f Path) -> Result<Self, CatalogError> {
        let path = folder.join(DESCRIPTION);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound && folder.is_dir() => None,
            Err(source) => return Err(CatalogError::Unreadable { path, source }),
        };
        let own = description::parse(text.as_deref().unwrap_or_default())
            .map_err(|problem| CatalogError::Invalid { path, problem })?;
        Ok(Self { folder, text, own })
    }

    /// Reads what the ONNX file says of itself; one that is something else is named.
    fn graph(&self, name: &str) -> Result<OnnxFile, Problem> {
        let file = self.folder.join(name);
        let unreadable = |error| Problem::new("file", format!("`{name}` cannot be read: {error}"));
        if let Some(kind) = files::foreign(&file).map_err(unreadable)? {
            return Err(Problem::new("file", format!("`{name}` is {kind}")));
        }
        OnnxFile::read(&file).map_err(unreadable)
    }

    /// Makes a model of what all files say.
    fn model(&self, fields: Fields, file: &str, graph: OnnxFile) -> Result<Model, Problem> {
        let mut input = fields.input.finish()?;
        let task = fields.task.unwrap_or_default();
        let labels = self.labels(fields.labels, task)?;
        let output = detector::complete(fields.output, task, labels.len(), &graph.outputs)?;
        let mut output = output.finish(task)?;
        input.name = input.name.or_else(|| only(&graph.inputs));
        output.name = output.name.or_else(|| only(&graph.outputs));
        let max_batch = fields.max_batch.unwrap_or(DEFAULT_MAX_BATCH);
        if !(1..=1024).contains(&max_batch) {
            return Err(Problem::new(
                "max_batch",
                format!("must be 1 to 1024, is {max_batch}"),
            ));
        }
        let version = fields.version.unwrap_or_else(|| "1".to_owned());
        if !(1..=64).contains(&version.len()) {
            return Err(Problem::new("version", "must be 1 to 64 characters"));
        }
        let path = self.folder.join(file);
        let digest = files::digest(&path, &graph)
            .map_err(|error| Problem::new("file", format!("`{file}` cannot be read: {error}")))?;
        Ok(Model {
            name: fields.name.map_or_else(|| self.default_name(), Ok)?,
            version,
            description: fields.description.unwrap_or_default(),
            task,
            labels,
            max_batch: usize::from(max_batch),
            device: fields.device,
            device_strict: fields.device_strict.unwrap_or_default(),
            preprocessing: description::preparation(task, &input, &output, PREPARATION_VERSION),
            folder: self.folder.to_owned(),
            file: path,
            external: graph.external.into_iter().collect(),
            digest,
            input,
            output,
        })
    }

    /// The ONNX file, relative to the folder.
    fn file(&self) -> Result<String, Problem> {
        let Some(file) = &self.own.file else {
            let found = find_file(self.folder).ok().flatten();
            return found.ok_or_else(|| {
                Problem::new(
                    "file",
                    "must name the ONNX file: the folder has none, or several",
                )
            });
        };
        if is_within(file) {
            return Ok(file.clone());
        }
        Err(Problem::new(
            "file",
            format!("must be a file within the model's folder, is `{file}`"),
        ))
    }

    fn default_name(&self) -> Result<crate::job::ModelName, Problem> {
        let folder = std::path::absolute(self.folder).unwrap_or_default();
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = folder.to_ascii_lowercase().replace(|c| !fits(c), "-");
        let name = name.trim_start_matches(['.', '_', '-']);
        name.parse().map_err(|error| {
            Problem::new("name", format!("is missing, and `{name}` is none: {error}"))
        })
    }

    fn labels(&self, labels: Option<Labels>, task: Task) -> Result<Arc<[String]>, Problem> {
        let labels = match labels {
            _ if task == Task::Embed => return Ok(Arc::default()),
            Some(Labels::Listed(labels)) => labels,
            Some(Labels::File(file)) if !is_within(&file) => {
                return Err(Problem::new(
                    "labels",
                    format!("must be a file within the model's folder, is `{file}`"),
                ));
            }
            Some(Labels::File(file)) => read_labels(&self.folder.join(&file)).map_err(|error| {
                Problem::new("labels", format!("`{file}` cannot be read: {error}"))
            })?,
            None => {
                return Err(Problem::new(
                    "labels",
                    "are missing: list them in model.toml, or put them into labels.txt",
                ));
            }
        };
        if labels.is_empty() {
            return Err(Problem::new("labels", "must name at least one label"));
        }
        Ok(labels.into())
    }

    /// The error for a problem, with the file, and the line of `model.toml`, that set the field.
    fn blame(&self, merged: &Merged, problem: &Problem) -> CatalogError {
        let Problem {
            field,
            text,
            source,
        } = problem;
        if let Some(source) = source {
            return CatalogError::Invalid {
                path: self.folder.join(source),
                problem: text.clone(),
            };
        }
        let known = merged.source(field).unwrap_or(DESCRIPTION);
        let own = self.text.as_deref().filter(|_| known == DESCRIPTION);
        let path = match known {
            DESCRIPTION if own.is_none() => self.folder.to_owned(),
            source => self.folder.join(source),
        };
        let line = own.and_then(|text| description::line_of(text, field));
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        CatalogError::Invalid {
            path,
            problem: format!("{line}{field}: {text}"),
        }
    }
}

/// The name of a tensor that is the only one.
fn only(tensors: &[TensorInfo]) -> Option<String> {
    match tensors {
        [tensor] => Some(tensor.name.clone()),
        _ => None,
    }
}

/// A label a line, or JSON: a list, or names by number.
fn read_labels(path: &PathBuf) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    if path.extension().is_none_or(|kind| kind != "json") {
        return Ok(text
            .trim_end()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect());
    }
    Ok(serde_json::from_str(&text)?)
}

impl OnnxFile {
    /// What the file says of its input, if it is a picture's.
    fn fields(&self) -> Fields {
        let pictures = self
            .inputs
            .iter()
            .filter_map(TensorInfo::fields)
            .collect::<Vec<_>>();
        let input = match <[InputFields; 1]>::try_from(pictures) {
            Ok([input]) => input,
            Err(_) => InputFields::default(),
        };
        Fields {
            input,
            output: OutputFields::default(),
            ..Fields::default()
        }
    }
}

impl TensorInfo {
    /// What the shape of a picture's tensor says.
    pub(super) fn fields(&self) -> Option<InputFields> {
        const UINT8: u64 = 2;
        let [_, a, b, c] = *self.dimensions.as_slice() else {
            return None;
        };
        let (layout, channels, height, width) = match (a, c) {
            (Some(1 | 3), _) => (Layout::Nchw, a, b, c),
            (_, Some(1 | 3)) => (Layout::Nhwc, c, a, b),
            _ => return None,
        };
        let gray = channels == Some(1);
        // A model of bytes takes pixels as they are.
        let bytes = self.element == UINT8;
        Some(InputFields {
            width,
            height,
            channels: Some(if gray { Channels::Gray } else { Channels::Rgb }),
            layout: Some(layout),
            scale: bytes.then_some(1.0),
            ..InputFields::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, Filter, Resize};

    fn exports() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/exports")
    }

    /// A copy of an export, with these changes to a file.
    fn changed(name: &str, file: &str, changes: &[(&str, &str)]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(exports().join(name))
            .unwrap()
            .map(Result::unwrap)
        {
            if entry.path().is_file() {
                fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        let mut text = fs::read_to_string(folder.path().join(file)).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from} is not in {text}");
            text = text.replacen(from, to, 1);
        }
        fs::write(folder.path().join(file), text).unwrap();
        let message =
            Package::read(folder.path()).map_or_else(|error| error.to_string(), |_| String::new());
        (folder, message)
    }

    #[test]
    fn every_export_is_a_model_with_its_labels() {
        let catalog = Catalog::read(&exports()).unwrap();
        assert_eq!(catalog.models().len(), 39);
        for model in catalog.models() {
            assert_eq!(model.labels.len(), 5, "{}", model.name);
        }
        let triton = catalog.get("triton").unwrap();
        assert_eq!((triton.version.as_str(), triton.max_batch), ("2", 4));
        assert_eq!(catalog.get("ultralytics").unwrap().labels[1], "hen's");
    }

    #[test]
    fn each_value_names_the_file_it_came_from() {
        let package = Package::read(&exports().join("hf-vit")).unwrap();
        for (field, source) in [
            ("labels", "config.json"),
            ("input.width", "preprocessor_config.json"),
            ("input.layout", "onnx/model.onnx"),
        ] {
            let value = package
                .values
                .iter()
                .find(|value| value.field == field)
                .unwrap();
            assert_eq!(value.source, source, "{field}");
        }
    }

    #[test]
    fn model_toml_overrules_single_fields() {
        let (folder, _) = changed("timm-defaults", "config.json", &[]);
        let toml = "version = \"7\"\n[input]\nfilter = \"bilinear\"\n";
        fs::write(folder.path().join(DESCRIPTION), toml).unwrap();
        let model = Package::read(folder.path()).unwrap().model;
        assert_eq!(model.version, "7");
        assert_eq!(
            (model.input.filter, model.input.resize_to),
            (Filter::Bilinear, Some(32))
        );
        // Another way of resizing does not keep the old one's numbers.
        fs::write(
            folder.path().join(DESCRIPTION),
            "[input]\nresize = \"fit\"\n",
        )
        .unwrap();
        let model = Package::read(folder.path()).unwrap().model;
        assert_eq!(
            (model.input.resize, model.input.resize_to),
            (Resize::Fit, None)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_by_file_and_field() {
        let preprocessor = "preprocessor_config.json";
        for (name, file, from, to, words) in [
            (
                "hf-clip",
                preprocessor,
                "CLIPImage",
                "PerceiverImage",
                "`PerceiverImageProcessor` is not known",
            ),
            (
                "hf-clip",
                preprocessor,
                "\"resample\": 3",
                "\"resample\": 4",
                "`box`",
            ),
            (
                "hf-clip",
                preprocessor,
                "\"do_resize\": true",
                "\"do_resize\": false",
                "do_resize",
            ),
            (
                "hf-clip",
                "config.json",
                "ForImageClassification",
                "ForSemanticSegmentation",
                "architectures",
            ),
            ("hf-clip", "config.json", "\"4\"", "\"5\"", "id2label"),
            ("hf-clip", "config.json", "{", "{{", "config.json: "),
            (
                "timm-resnet10t",
                "config.json",
                "\"center\"",
                "\"border\"",
                "crop_mode: border",
            ),
            (
                "timm-resnet10t",
                "config.json",
                "\"bicubic\"",
                "\"hamming\"",
                "`hamming`",
            ),
            (
                "timm-resnet10t",
                "config.json",
                "0.95",
                "1.5",
                "input.resize_to",
            ),
            (
                "keras-tf",
                "model.toml",
                "mean = [1, 1, 1]",
                "mean = [1]",
                "model.toml: line 3: input.mean",
            ),
        ] {
            let (_folder, message) = changed(name, file, &[(from, to)]);
            assert!(
                message.contains(file) && message.contains(words),
                "{words}: {message}"
            );
        }
    }

    #[test]
    fn without_how_pixels_become_numbers_nothing_is_guessed() {
        let (folder, _) = changed("keras-tf", "model.toml", &[]);
        fs::remove_file(folder.path().join(DESCRIPTION)).unwrap();
        let message = Package::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("scale, mean and std"), "{message}");
    }
}

//! What a model file says about itself, read without ONNX Runtime: its tensors, its metadata and the files its weights lie in.
//!
//! An ONNX file is one protobuf message (`onnx.proto` of the ONNX project). Only a few of its fields matter here, and weights
//! are skipped, so a file of gigabytes is read in kilobytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

/// Longest text that is read: metadata may hold thousands of labels.
const MAX_TEXT: u64 = 1 << 24;
/// How deep graphs may lie in each other.
const MAX_DEPTH: u32 = 16;

/// The fields of a model file that matter before it is opened.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OnnxFile {
    pub(super) inputs: Vec<TensorInfo>,
    pub(super) outputs: Vec<TensorInfo>,
    /// `metadata_props`, as export tools write them.
    pub(super) metadata: Vec<(String, String)>,
    /// Locations of external data, relative to the file's folder.
    pub(super) external: BTreeSet<String>,
    /// Weights by name: old files list them among the inputs.
    weights: BTreeSet<String>,
}

/// An input or output tensor.
#[derive(Debug, Default, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// `TensorProto.DataType`.
    pub(super) element: u64,
    /// `None` stands for a dynamic dimension.
    pub(super) dimensions: Vec<Option<u32>>,
}

impl OnnxFile {
    /// Reads the file; one that is no protobuf message has nothing to say, and ONNX Runtime will refuse it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let mut reader = Reader {
            source: BufReader::new(file),
            at: 0,
            found: Self::default(),
        };
        match reader.model(end) {
            Ok(()) => {
                let mut found = reader.found;
                found
                    .inputs
                    .retain(|input| !found.weights.contains(&input.name));
                Ok(found)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }
}

struct Reader {
    source: BufReader<File>,
    at: u64,
    found: OnnxFile,
}

/// A field's value: a number, or a part of the file that ends there.
#[derive(Clone, Copy)]
enum Value {
    Number(u64),
    Part(u64),
}

impl Reader {
    fn model(&mut self, end: u64) -> io::Result<()> {
        self.each(end, |reader, field, value| match (field, value) {
            (7, Value::Part(end)) => reader.graph(end, 0),
            (14, Value::Part(end)) => {
                let pair = reader.pair(end)?;
                reader.found.metadata.push(pair);
                Ok(())
            }
            (25, Value::Part(end)) => {
                reader.each(end, |reader, field, value| match (field, value) {
                    (7, Value::Part(end)) => reader.node(end, 0),
                    _ => Ok(()),
                })
            }
            _ => Ok(()),
        })
    }

    fn graph(&mut self, end: u64, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.each(end, |reader, field, value| match (field, value) {
            (1, Value::Part(end)) => reader.node(end, depth),
            (5, Value::Part(end)) => reader.tensor(end),
            (11, Value::Part(end)) if depth == 0 => {
                let input = reader.tensor_info(end)?;
                reader.found.inputs.push(input);
                Ok(())
            }
            (12, Value::Part(end)) if depth == 0 => {
                let output = reader.tensor_info(end)?;
                reader.found.outputs.push(output);
                Ok(())
            }
            // A sparse tensor: its values and its indices.
            (15, Value::Part(end)) => reader.sparse(end),
            _ => Ok(()),
        })
    }

    /// The attributes of a node: tensors and graphs, one or several.
    fn node(&mut self, end: u64, depth: u32) -> io::Result<()> {
        self.each(end, |reader, field, value| match (field, value) {
            (5, Value::Part(end)) => {
                reader.each(end, |reader, field, value| match (field, value) {
                    (5 | 10, Value::Part(end)) => reader.tensor(end),
                    (6 | 11, Value::Part(end)) => reader.graph(end, depth + 1),
                    (22 | 23, Value::Part(end)) => reader.sparse(end),
                    _ => Ok(()),
                })
            }
            _ => Ok(()),
        })
    }

    fn sparse(&mut self, end: u64) -> io::Result<()> {
        self.each(end, |reader, field, value| match (field, value) {
            (1 | 2, Value::Part(end)) => reader.tensor(end),
            _ => Ok(()),
        })
    }

    fn tensor(&mut self, end: u64) -> io::Result<()> {
        self.each(end, |reader, field, value| {
            match (field, value) {
                (8, Value::Part(end)) => {
                    let name = reader.text(end)?;
                    reader.found.weights.insert(name);
                }
                (13, Value::Part(end)) => {
                    let (key, value) = reader.pair(end)?;
                    if key == "location" {
                        reader.found.external.insert(value);
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn tensor_info(&mut self, end: u64) -> io::Result<TensorInfo> {
        let mut info = TensorInfo::default();
        self.each(end, |reader, field, value| match (field, value) {
            (1, Value::Part(end)) => {
                info.name = reader.text(end)?;
                Ok(())
            }
            // A type, which holds a tensor's type.
            (2, Value::Part(end)) => {
                reader.each(end, |reader, field, value| match (field, value) {
                    (1, Value::Part(end)) => reader.tensor_type(end, &mut info),
                    _ => Ok(()),
                })
            }
            _ => Ok(()),
        })?;
        Ok(info)
    }

    fn tensor_type(&mut self, end: u64, info: &mut TensorInfo) -> io::Result<()> {
        self.each(end, |reader, field, value| match (field, value) {
            (1, Value::Number(element)) => {
                info.element = element;
                Ok(())
            }
            (2, Value::Part(end)) => reader.each(end, |reader, field, value| {
                if let (1, Value::Part(end)) = (field, value) {
                    let mut dimension = None;
                    reader.each(end, |_, field, value| {
                        if let (1, Value::Number(number)) = (field, value) {
                            dimension = u32::try_from(number).ok();
                        }
                        Ok(())
                    })?;
                    info.dimensions.push(dimension);
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    }

    /// A `StringStringEntryProto`.
    fn pair(&mut self, end: u64) -> io::Result<(String, String)> {
        let mut pair = (String::new(), String::new());
        self.each(end, |reader, field, value| {
            match (field, value) {
                (1, Value::Part(end)) => pair.0 = reader.text(end)?,
                (2, Value::Part(end)) => pair.1 = reader.text(end)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(pair)
    }

    /// Calls `each` with every field of the message that ends there; what `each` leaves of a field is skipped.
    fn each(
        &mut self,
        end: u64,
        mut each: impl FnMut(&mut Self, u64, Value) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.at < end {
            let key = self.varint()?;
            let value = match key & 7 {
                0 => Value::Number(self.varint()?),
                1 => Value::Part(self.at + 8),
                5 => Value::Part(self.at + 4),
                2 => {
                    let length = self.varint()?;
                    Value::Part(self.at.saturating_add(length))
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            if matches!(value, Value::Part(stop) if stop > end) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            each(self, key >> 3, value)?;
            if let Value::Part(stop) = value {
                let rest = i64::try_from(stop - self.at).map_err(io::Error::other)?;
                self.source.seek_relative(rest)?;
                self.at = stop;
            }
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7F) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn text(&mut self, end: u64) -> io::Result<String> {
        let length = end - self.at;
        if length > MAX_TEXT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        self.source.by_ref().take(length).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures")
            .join(path)
    }

    #[test]
    fn the_input_of_a_model_is_read_from_its_file() {
        let file = OnnxFile::read(&fixture("variants/nchw/model.onnx")).unwrap();
        let input = TensorInfo {
            name: "image".to_owned(),
            element: 1,
            dimensions: vec![None, Some(3), Some(8), Some(8)],
        };
        assert_eq!(file.inputs, [input]);
        let output = TensorInfo {
            name: "scores".to_owned(),
            element: 1,
            dimensions: vec![None, Some(3)],
        };
        assert_eq!(file.outputs, [output]);
        assert!(file.external.is_empty());
    }

    #[test]
    fn what_is_no_model_has_nothing_to_say() {
        for case in ["truncated", "not-a-model", "empty"] {
            let path = fixture("broken-models").join(case).join("model.onnx");
            assert_eq!(
                OnnxFile::read(&path).unwrap(),
                OnnxFile::default(),
                "{case}"
            );
        }
    }

    #[test]
    fn graphs_that_lie_in_each_other_without_end_are_no_model() {
        // A node with an attribute that is a graph with a node, and so on, each length in five bytes.
        let wrap = |field: u8, inner: &[u8]| {
            let length = inner.len();
            let bytes = [0, 7, 14, 21].map(|shift| ((length >> shift) as u8 & 0x7F) | 0x80);
            [
                &[field << 3 | 2][..],
                &bytes,
                &[(length >> 28) as u8],
                inner,
            ]
            .concat()
        };
        let mut graph = Vec::new();
        for _ in 0..2000 {
            graph = wrap(1, &wrap(5, &wrap(6, &graph)));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, wrap(7, &graph)).unwrap();
        assert_eq!(OnnxFile::read(&path).unwrap(), OnnxFile::default());
    }
}

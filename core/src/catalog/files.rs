//! The files of a model: the graph, and the external data that it names. What is computed depends on all of them, so all of
//! them make up the digest.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::onnx_file::OnnxFile;
use crate::key::Digest;

/// The bytes of a model's files.
#[derive(Debug)]
pub struct ModelFiles {
    /// The ONNX file.
    pub graph: Vec<u8>,
    /// External data, by the location that the graph gives.
    pub external: Vec<(String, Arc<[u8]>)>,
}

impl ModelFiles {
    /// Reads a model file and its external data, which lies in the file's folder or below.
    ///
    /// # Errors
    /// What reading returns; the message names the file.
    pub fn read(file: &Path, locations: &[String]) -> io::Result<Self> {
        let external = locations.iter().map(|location| {
            let bytes =
                fs::read(file.with_file_name(location)).map_err(|error| named(location, &error))?;
            Ok((location.clone(), bytes.into()))
        });
        Ok(Self {
            graph: fs::read(file)?,
            external: external.collect::<io::Result<_>>()?,
        })
    }

    /// The digest of all files.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let external = self.external.iter();
        let external = external.map(|(location, bytes)| (location.as_str(), Digest::of(bytes)));
        combine(Digest::of(&self.graph), external)
    }
}

/// Whether a path stays in the folder it is relative to.
pub(super) fn is_within(path: &str) -> bool {
    let stays = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    !path.is_empty() && Path::new(path).components().all(stays)
}

/// What a file is that is no ONNX model but often lies in the place of one.
pub(super) fn foreign(file: &Path) -> io::Result<Option<&'static str>> {
    let mut head = Vec::new();
    File::open(file)?.take(512).read_to_end(&mut head)?;
    let text = String::from_utf8_lossy(&head)
        .trim_start()
        .to_ascii_lowercase();
    Ok(match head.as_slice() {
        _ if text.starts_with("<!doctype") || text.starts_with("<html") => {
            Some("an HTML page: the download was answered by a web page; download the file itself")
        }
        _ if text.starts_with("version https://git-lfs") => {
            Some("a pointer of Git LFS, not the file: run `git lfs pull`")
        }
        [b'P', b'K', 3, 4, ..] => Some(
            "a zip archive, such as PyTorch's .pt and .pth or a .keras file: export the model to ONNX",
        ),
        [0x80, 2..=5, ..] => {
            Some("a Python pickle, such as an old .pth file: export the model to ONNX")
        }
        [0x89, b'H', b'D', b'F', ..] => {
            Some("an HDF5 file, such as Keras writes: export the model to ONNX")
        }
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
            Some("a model of TensorFlow Lite: convert it to ONNX")
        }
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => {
            Some("weights in safetensors: export the model to ONNX")
        }
        _ => None,
    })
}

/// The digest of a model file and its external data, without keeping either in memory.
pub(super) fn digest(file: &Path, graph: &OnnxFile) -> io::Result<Digest> {
    let external = graph.external.iter().map(|location| {
        check_location(location)?;
        let data =
            File::open(file.with_file_name(location)).map_err(|error| named(location, &error))?;
        Ok((location.as_str(), Digest::of_reader(data)?))
    });
    let external = external.collect::<io::Result<Vec<_>>>()?;
    Ok(combine(
        Digest::of_reader(File::open(file)?)?,
        external.into_iter(),
    ))
}

/// A file alone has the digest of its bytes; external data changes it.
fn combine<'l>(graph: Digest, external: impl Iterator<Item = (&'l str, Digest)>) -> Digest {
    let mut external = external.peekable();
    if external.peek().is_none() {
        return graph;
    }
    let mut hasher = Sha256::new_with_prefix(graph.as_bytes());
    for (location, data) in external {
        hasher.update(location.len().to_le_bytes());
        hasher.update(location);
        hasher.update(data.as_bytes());
    }
    Digest::from_bytes(hasher.finalize().into())
}

fn check_location(location: &str) -> io::Result<()> {
    if is_within(location) {
        return Ok(());
    }
    let problem = format!("its external data `{location}` lies outside of the model's folder");
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

fn named(location: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("its external data `{location}`: {error}"),
    )
}

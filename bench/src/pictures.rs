//! The pictures of a run, as encoded files: those of a folder, or of a data set in raw pixels.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use flate2::read::GzDecoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// The 10,000 test images, where Debian's package `dataset-fashion-mnist` puts them.
const DEBIAN_DATASET: &str = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
/// Ten of them, part of the project.
const SAMPLES: &str = "models/fashion-mnist/samples";

/// Where the pictures come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// A folder of PNG and JPEG files, or a gzipped idx file. Default: the test images of Debian's package
    /// dataset-fashion-mnist if it is installed, else the project's ten samples.
    #[arg(long, value_name = "PATH")]
    pictures: Option<PathBuf>,
}

impl Source {
    /// Reads and, where they are raw pixels, encodes the pictures; their order is the same every time.
    ///
    /// # Errors
    /// When there are none, or one is not understood.
    pub(crate) fn read(&self) -> Result<Vec<Vec<u8>>> {
        let path = match &self.pictures {
            Some(path) => path.as_path(),
            None if Path::new(DEBIAN_DATASET).exists() => Path::new(DEBIAN_DATASET),
            None => Path::new(SAMPLES),
        };
        let pictures = if path.is_dir() {
            read_folder(path)
        } else {
            read_idx(path)
        }?;
        ensure!(!pictures.is_empty(), "{} holds no pictures", path.display());
        Ok(pictures)
    }
}

/// Where the pictures are written.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// The folder for the files; it is created.
    folder: PathBuf,
}

/// Writes the pictures as files, for clients that send them.
///
/// # Errors
/// If they cannot be read or written.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = &options.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (number, picture) in options.source.read()?.iter().enumerate() {
        // The extension tells clients that it is an image; its format is in its first bytes.
        let path = folder.join(format!("{number:06}.png"));
        fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_folder(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        ["png", "jpg", "jpeg"].contains(&extension.to_ascii_lowercase().as_str())
    });
    paths.sort();
    let read = |path: &PathBuf| {
        fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Reads the grey images of a gzipped idx file (<http://yann.lecun.com/exdb/mnist/>) and encodes each as a PNG.
fn read_idx(path: &Path) -> Result<Vec<Vec<u8>>> {
    let packed = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut raw = Vec::new();
    GzDecoder::new(&packed[..])
        .read_to_end(&mut raw)
        .with_context(|| format!("{} is not gzipped", path.display()))?;
    let Some((&[0, 0, 8, 3, sizes @ ..], pixels)) = raw.split_first_chunk::<16>() else {
        bail!("{} is not an idx file of images", path.display());
    };
    let [_count, height, width] = [0, 4, 8]
        .map(|at| u32::from_be_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]]));
    let image_bytes = width as usize * height as usize;
    ensure!(
        image_bytes > 0,
        "{} holds images without pixels",
        path.display()
    );
    pixels
        .chunks_exact(image_bytes)
        .map(|image| encode_png(image, width, height))
        .collect()
}

fn encode_png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
        .write_image(pixels, width, height, ExtendedColorType::L8)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_written_as_they_are_and_in_order() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(SAMPLES);
        let source = Source {
            pictures: Some(samples.clone()),
        };
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            source: source.clone(),
            folder: folder.path().join("pictures"),
        };
        run(&options).unwrap();
        let written = read_folder(&options.folder).unwrap();
        assert_eq!((written.len(), &written), (10, &source.read().unwrap()));
        assert_eq!(
            written[9],
            fs::read(samples.join("9-ankle-boot.png")).unwrap()
        );
    }

    #[test]
    fn raw_pixels_become_a_png_each() {
        let mut raw = Vec::new();
        for number in [0x0803_u32, 2, 3, 4] {
            raw.extend_from_slice(&number.to_be_bytes());
        }
        raw.extend(0..24);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &raw).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), packed.finish().unwrap()).unwrap();
        let pictures = read_idx(file.path()).unwrap();
        let second = image::load_from_memory(&pictures[1]).unwrap().into_luma8();
        assert_eq!((pictures.len(), second.dimensions()), (2, (4, 3)));
        assert_eq!(second.into_raw(), (12..24).collect::<Vec<u8>>());
    }
}

//! The pictures a run sends: where they come from, their encoded bytes, and how copies of one are made to differ.
//! No HTTP and no model here.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use flate2::read::GzDecoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use selvage_core::key::Digest;

/// The 10,000 test images, where Debian's package `dataset-fashion-mnist` puts them.
const DEBIAN_DATASET: &str = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
/// Ten of them, part of the project.
const SAMPLES: &str = "models/fashion-mnist/samples";

/// Which pictures are sent.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// A folder of PNG and JPEG files, or a gzipped idx file. Default: the test images of Debian's package
    /// dataset-fashion-mnist if it is installed, else the project's ten samples.
    #[arg(long, value_name = "PATH")]
    pictures: Option<PathBuf>,
}

/// One picture as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// The encoded file.
    pub(crate) bytes: Vec<u8>,
    /// Its format.
    pub(crate) format: Format,
}

/// A format whose files can be made to differ without changing a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A `tEXt` chunk before the closing `IEND` makes a difference (PNG specification, 11.3.3.2).
    Png,
    /// A comment segment after the opening marker makes a difference (ITU T.81, B.2.4.5).
    Jpeg,
}

/// Bytes of the closing `IEND` chunk.
const IEND_BYTES: usize = 12;
/// Bytes of the opening marker of a JPEG.
const SOI_BYTES: usize = 2;

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] if bytes.len() > IEND_BYTES => {
                Some(Self::Png)
            }
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            _ => None,
        }
    }

    /// The media type.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

impl Picture {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let format = Format::of(&bytes)
            .with_context(|| format!("{} is neither PNG nor JPEG", path.display()))?;
        Ok(Self { bytes, format })
    }

    /// The file in two parts, between which a [`Mark`] may stand.
    pub(crate) fn halves(&self) -> (&[u8], &[u8]) {
        match self.format {
            Format::Png => self.bytes.split_at(self.bytes.len() - IEND_BYTES),
            Format::Jpeg => self.bytes.split_at(SOI_BYTES),
        }
    }
}

impl Source {
    /// Reads and, where they are raw pixels, encodes the pictures; their order is the same every time.
    ///
    /// # Errors
    /// When there are none, or one is not understood.
    pub(crate) fn read(&self) -> Result<Vec<Picture>> {
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

/// Identifies a list of pictures.
pub(crate) fn digest(pictures: &[Picture]) -> Digest {
    let each: Vec<u8> = pictures
        .iter()
        .flat_map(|picture| *Digest::of(&picture.bytes).as_bytes())
        .collect();
    Digest::of(&each)
}

fn read_folder(folder: &Path) -> Result<Vec<Picture>> {
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
    paths.iter().map(|path| Picture::read(path)).collect()
}

/// Reads the grey images of a gzipped idx file (<http://yann.lecun.com/exdb/mnist/>) and encodes each as a PNG.
fn read_idx(path: &Path) -> Result<Vec<Picture>> {
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

fn encode_png(pixels: &[u8], width: u32, height: u32) -> Result<Picture> {
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
        .write_image(pixels, width, height, ExtendedColorType::L8)?;
    Ok(Picture {
        bytes: bytes.into_inner(),
        format: Format::Png,
    })
}

/// Makes copies of pictures differ from each other, and from those of every other run.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    text: [u8; MARK_TEXT_BYTES],
    next: u64,
}

const KEYWORD: &[u8] = b"Comment\0"; // a keyword of the PNG specification, 11.3.3.1
const HEX_DIGITS: usize = 16;
const MARK_TEXT_BYTES: usize = KEYWORD.len() + 2 * HEX_DIGITS;

impl Mark {
    /// Bytes that [`Mark::write`] adds to a picture of that format.
    pub(crate) const fn len(format: Format) -> usize {
        match format {
            Format::Png => 4 + 4 + MARK_TEXT_BYTES + 4,
            Format::Jpeg => 2 + 2 + MARK_TEXT_BYTES,
        }
    }

    /// Marks for one run; `nonce` is to differ from that of every other run.
    pub(crate) fn new(nonce: u64) -> Self {
        let mut text = [0; MARK_TEXT_BYTES];
        text[..KEYWORD.len()].copy_from_slice(KEYWORD);
        write_hex(nonce, &mut text[KEYWORD.len()..KEYWORD.len() + HEX_DIGITS]);
        Self { text, next: 0 }
    }

    /// Appends a chunk or segment that was not written before.
    pub(crate) fn write(&mut self, format: Format, to: &mut Vec<u8>) {
        write_hex(self.next, &mut self.text[KEYWORD.len() + HEX_DIGITS..]);
        self.next += 1;
        match format {
            Format::Png => {
                to.extend_from_slice(&(MARK_TEXT_BYTES as u32).to_be_bytes());
                let start = to.len();
                to.extend_from_slice(b"tEXt");
                to.extend_from_slice(&self.text);
                to.extend_from_slice(&crc32fast::hash(&to[start..]).to_be_bytes());
            }
            Format::Jpeg => {
                to.extend_from_slice(&[0xFF, 0xFE]);
                to.extend_from_slice(&(2 + MARK_TEXT_BYTES as u16).to_be_bytes());
                to.extend_from_slice(&self.text);
            }
        }
    }
}

fn write_hex(mut value: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GrayImage;

    fn marked(picture: &Picture, mark: &mut Mark) -> Vec<u8> {
        let (before, after) = picture.halves();
        let mut bytes = before.to_vec();
        mark.write(picture.format, &mut bytes);
        bytes.extend_from_slice(after);
        bytes
    }

    fn pictures_of_each_format() -> [Picture; 2] {
        let pixels: Vec<u8> = (0..=255).cycle().take(28 * 28).collect();
        let mut jpeg = Cursor::new(Vec::new());
        let image = GrayImage::from_raw(28, 28, pixels.clone()).unwrap();
        image.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
        [
            encode_png(&pixels, 28, 28).unwrap(),
            Picture {
                bytes: jpeg.into_inner(),
                format: Format::Jpeg,
            },
        ]
    }

    #[test]
    fn marked_copies_differ_in_bytes_and_agree_in_pixels() {
        let mut mark = Mark::new(7);
        for picture in pictures_of_each_format() {
            let decode = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_luma8();
            let [one, two] = [marked(&picture, &mut mark), marked(&picture, &mut mark)];
            assert_ne!(one, two);
            assert_eq!(one.len(), picture.bytes.len() + Mark::len(picture.format));
            assert!(
                [one, two]
                    .iter()
                    .all(|copy| decode(copy) == decode(&picture.bytes))
            );
        }
    }

    #[test]
    fn runs_with_different_nonces_send_different_copies() {
        let [png, _] = pictures_of_each_format();
        assert_ne!(
            marked(&png, &mut Mark::new(1)),
            marked(&png, &mut Mark::new(2))
        );
    }

    #[test]
    fn a_png_reader_that_checks_everything_accepts_the_chunk() {
        let [png, _] = pictures_of_each_format();
        let mut bytes = marked(&png, &mut Mark::new(3));
        assert!(image::load_from_memory(&bytes).is_ok());
        let chunk_type = bytes
            .windows(4)
            .position(|window| window == b"tEXt")
            .unwrap();
        let crc = u32::from_be_bytes(
            bytes[chunk_type + 4 + MARK_TEXT_BYTES..][..4]
                .try_into()
                .unwrap(),
        );
        assert_eq!(
            crc,
            crc32fast::hash(&bytes.split_off(chunk_type)[..4 + MARK_TEXT_BYTES])
        );
    }

    #[test]
    fn the_projects_samples_are_ten_small_pngs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join(SAMPLES);
        let pictures = Source {
            pictures: Some(folder),
        }
        .read()
        .unwrap();
        assert_eq!(pictures.len(), 10);
        assert!(
            pictures
                .iter()
                .all(|picture| picture.format == Format::Png && picture.bytes.len() < 1_000)
        );
        assert_ne!(digest(&pictures), digest(&pictures[1..]));
    }
}

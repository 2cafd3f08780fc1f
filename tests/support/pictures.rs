//! Pictures for the scenarios: the dataset's samples, fresh ones nobody has sent before, and broken ones made by rule.

use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

use crate::program::project;

/// File names of the ten dataset samples in `models/fashion-mnist/samples`, in the order of the labels.
pub const SAMPLES: [&str; 10] = [
    "0-t-shirt-top",
    "1-trouser",
    "2-pullover",
    "3-dress",
    "4-coat",
    "5-sandal",
    "6-shirt",
    "7-sneaker",
    "8-bag",
    "9-ankle-boot",
];

/// A dataset sample's PNG bytes.
///
/// # Panics
/// When the file is missing.
#[must_use]
pub fn sample(name: &str) -> Vec<u8> {
    let path = project()
        .join("models/fashion-mnist/samples")
        .join(format!("{name}.png"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{} is part of the project: {error}", path.display()))
}

/// The ankle boot.
#[must_use]
pub fn boot() -> Vec<u8> {
    sample("9-ankle-boot")
}

/// The ankle boot's 28×28 grey pixels.
///
/// # Panics
/// When the sample is broken.
#[must_use]
pub fn boot_pixels() -> GrayImage {
    image::load_from_memory(&boot())
        .expect("the sample decodes")
        .into_luma8()
}

/// File names of the photographs in `models/clothing/samples`, in the order of the labels, which they are.
pub const PHOTOGRAPHS: [&str; 10] = [
    "dress",
    "hat",
    "longsleeve",
    "outwear",
    "pants",
    "shirt",
    "shoes",
    "shorts",
    "skirt",
    "t-shirt",
];

/// A photograph's JPEG bytes.
///
/// # Panics
/// When the file is missing.
#[must_use]
pub fn photograph(name: &str) -> Vec<u8> {
    let path = project()
        .join("models/clothing/samples")
        .join(format!("{name}.jpg"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{} is part of the project: {error}", path.display()))
}

/// Encodes a picture.
///
/// # Panics
/// When the format cannot hold it.
#[must_use]
pub fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, format)
        .expect("the format holds the picture");
    bytes.into_inner()
}

/// A valid 28×28 grey PNG that differs from every other one of this and all other runs.
#[must_use]
pub fn unique() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let seed = NEXT
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_add(uuid::Uuid::new_v4().as_u64_pair().1);
    noise(28, 28, seed)
}

/// A dataset sample with a text chunk nobody has sent before: the same picture, another hash.
///
/// # Panics
/// When the sample is no PNG.
#[must_use]
pub fn tagged(name: &str, n: u64) -> Vec<u8> {
    commented(name, &format!("{n} {}", uuid::Uuid::new_v4()))
}

/// The boot with a fixed comment: the same bytes each time, and no other picture's.
#[must_use]
pub fn poison() -> Vec<u8> {
    commented("9-ankle-boot", "poison")
}

/// A black PNG whose decoding costs much and whose transfer costs little: a million pixels in some kilobytes.
#[must_use]
pub fn laborious() -> Vec<u8> {
    plain_gray(1_000)
}

/// A black PNG of so many pixels a side.
#[must_use]
pub fn plain_gray(side: u32) -> Vec<u8> {
    encode(
        &DynamicImage::ImageLuma8(GrayImage::new(side, side)),
        ImageFormat::Png,
    )
}

/// The same picture with a comment nobody has sent before: another hash.
#[must_use]
pub fn renewed(png: &[u8]) -> Vec<u8> {
    with_comment(png, &uuid::Uuid::new_v4().to_string())
}

fn commented(name: &str, comment: &str) -> Vec<u8> {
    with_comment(&sample(name), comment)
}

fn with_comment(png: &[u8], comment: &str) -> Vec<u8> {
    let mut png = png.to_vec();
    let end = png.len() - 12;
    assert_eq!(&png[end + 4..end + 8], b"IEND", "it is a PNG");
    let text = format!("Comment\0{comment}");
    png.splice(end..end, png_chunk(b"tEXt", text.as_bytes()));
    png
}

/// A PNG that is broken in a way that depends on `n`, past its header.
#[must_use]
pub fn broken_by(n: u64) -> Vec<u8> {
    let mut png = noise(28, 28, n);
    let cut = 60 + usize::try_from(n % 400).unwrap_or_default();
    png.truncate(cut);
    png
}

/// A grey PNG of noise.
#[must_use]
pub fn noise(width: u32, height: u32, seed: u64) -> Vec<u8> {
    // Never zero, and another for each seed.
    let mut state = seed << 1 | 1;
    let picture = GrayImage::from_fn(width, height, |_, _| {
        // xorshift64 (Marsaglia 2003): any bits will do, as long as the seed decides them
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Luma([state.to_le_bytes()[4]])
    });
    encode(&DynamicImage::ImageLuma8(picture), ImageFormat::Png)
}

/// An RGB PNG of one colour with one odd pixel, so that pictures of one colour can still differ.
#[must_use]
pub fn plain_rgb(color: [u8; 3], odd: u8) -> Vec<u8> {
    let mut picture = RgbImage::from_pixel(8, 8, Rgb(color));
    picture.put_pixel(0, 0, Rgb(color.map(|c| c.saturating_add(odd))));
    encode(&DynamicImage::ImageRgb8(picture), ImageFormat::Png)
}

/// The boot as somebody's photograph might show it: dark on white, large, off the middle.
#[must_use]
pub fn boot_photograph() -> DynamicImage {
    let boot = boot_pixels();
    let scaled = image::imageops::resize(&boot, 420, 420, image::imageops::FilterType::Triangle);
    let mut picture = RgbImage::from_pixel(900, 700, Rgb([255, 255, 255]));
    for (x, y, pixel) in scaled.enumerate_pixels() {
        let value = 255 - pixel.0[0];
        picture.put_pixel(x + 310, y + 90, Rgb([value; 3]));
    }
    DynamicImage::ImageRgb8(picture)
}

/// One PNG chunk with its right checksum.
#[must_use]
pub fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = u32::try_from(data.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    chunk.extend_from_slice(kind);
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(&crc32fast::hash(&chunk[4..]).to_be_bytes());
    chunk
}

/// The eight bytes every PNG begins with.
pub const PNG_SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// A grey PNG's header chunk.
#[must_use]
pub fn png_header(width: u32, height: u32, bit_depth: u8) -> Vec<u8> {
    let mut data = width.to_be_bytes().to_vec();
    data.extend_from_slice(&height.to_be_bytes());
    data.extend_from_slice(&[bit_depth, 0, 0, 0, 0]);
    png_chunk(b"IHDR", &data)
}

/// A PNG put together of the header and whatever comes after it.
#[must_use]
pub fn png_of(width: u32, height: u32, rest: &[Vec<u8>]) -> Vec<u8> {
    [
        PNG_SIGNATURE.to_vec(),
        png_header(width, height, 8),
        rest.concat(),
    ]
    .concat()
}

/// A PNG that says it is `width` × `height` and has almost no data.
#[must_use]
pub fn lying_png(width: u32, height: u32) -> Vec<u8> {
    png_of(
        width,
        height,
        &[
            png_chunk(b"IDAT", &deflate(&[0; 64])),
            png_chunk(b"IEND", &[]),
        ],
    )
}

/// Data as a zlib stream.
///
/// # Panics
/// Never: memory takes every write.
#[must_use]
pub fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("memory takes every write");
    encoder.finish().expect("memory takes every write")
}

/// So many zeros as a zlib stream (RFC 1950, RFC 1951), written without having them: a zero, and that it is repeated.
#[must_use]
pub fn deflated_zeros(count: u32) -> Vec<u8> {
    const LONGEST: u32 = 258;
    // Codes of the fixed tables, first bit lowest: a literal zero, and "258 times what was one byte ago".
    const ZERO: (u64, u32) = (0b0000_1100, 8);
    const REPEAT: (u64, u32) = (0b1010_0011, 13);
    let mut stream = vec![0x78, 0x01];
    let (mut bits, mut held) = (0_u64, 0);
    let mut put = |(value, length): (u64, u32)| {
        bits |= value << held;
        held += length;
        while held >= 8 {
            stream.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            held -= 8;
        }
    };
    // The last block, with fixed codes.
    put((0b011, 3));
    let repeats = count.saturating_sub(1) / LONGEST;
    (0..count - repeats * LONGEST).for_each(|_| put(ZERO));
    (0..repeats).for_each(|_| put(REPEAT));
    // The end of the block, up to a whole byte.
    put((0, 7 + 7));
    // Adler-32: the sum of bytes, begun at one, and the sum of those sums.
    let sum = (count % 65_521) << 16 | 1;
    stream.extend(sum.to_be_bytes());
    stream
}

/// A small PNG whose data inflate to 1 GiB, far more than its rows hold.
#[must_use]
pub fn inflating_png() -> Vec<u8> {
    png_of(
        28,
        28,
        &[
            png_chunk(b"IDAT", &deflated_zeros(1 << 30)),
            png_chunk(b"IEND", &[]),
        ],
    )
}

/// A PNG of 30,000 × 30,000 black pixels of one bit: all of them are there.
#[must_use]
pub fn vast_png() -> Vec<u8> {
    let rows = 30_000 * (1 + 30_000 / 8);
    [
        PNG_SIGNATURE.to_vec(),
        png_header(30_000, 30_000, 1),
        png_chunk(b"IDAT", &deflated_zeros(rows)),
        png_chunk(b"IEND", &[]),
    ]
    .concat()
}

/// A JPEG with 30 MiB of application data before its picture.
#[must_use]
pub fn padded_jpeg() -> Vec<u8> {
    let whole = jpeg(32, 32, 8);
    let (start, picture) = whole.split_at(2);
    let segment = [vec![0xFF, 0xEF, 0xFF, 0xFF], vec![0; 0xFFFD]].concat();
    [start, &segment.repeat(480), picture].concat()
}

/// A JPEG of noise with the EXIF orientation given.
#[must_use]
pub fn jpeg(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let picture = image::load_from_memory(&noise(width, height, seed)).expect("noise decodes");
    encode(&picture, ImageFormat::Jpeg)
}

/// A JPEG whose frame header says it is 65,535 × 65,535.
///
/// # Panics
/// When the encoder writes no frame header.
#[must_use]
pub fn lying_jpeg() -> Vec<u8> {
    let mut bytes = jpeg(32, 32, 7);
    let at = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .expect("a baseline JPEG has an SOF0 marker");
    bytes[at + 5..at + 9].fill(0xFF);
    bytes
}

/// The field of the reference files with the scores of this processor's kind: without VNNI, ONNX Runtime computes int8 models
/// with saturating instructions.
///
/// # Panics
/// Where there is no `/proc/cpuinfo`.
#[must_use]
pub fn probabilities() -> &'static str {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").expect("Linux");
    if cpu.contains("vnni") || cpu.contains("asimddp") {
        "probabilities"
    } else {
        "probabilities_without_vnni"
    }
}

//! Images put together byte by byte, because no encoder would write them: animations, rare kinds, streams that lie.

use std::sync::Arc;

use image::{DynamicImage, ImageFormat};
use selvage_tests::pictures::{PNG_SIGNATURE, deflate, jpeg, lying_png, noise, png_chunk, png_of};
use selvage_tests::{Deployment, pictures};

use super::bad_images::{EITHER, FINE, INVALID, Row, TOO_LARGE, judge};

pub(super) async fn no_crafted_image_does_harm(on: Arc<Deployment>) -> anyhow::Result<()> {
    let rows = pngs().into_iter().chain(jpegs()).chain(gifs());
    judge(on, rows.chain(webps()).chain(bmps()).collect()).await
}

/// A PNG with any header fields; the rest as it comes.
fn png(
    width: u32,
    height: u32,
    depth_and_kind: [u8; 2],
    interlaced: u8,
    rest: &[Vec<u8>],
) -> Vec<u8> {
    let [depth, kind] = depth_and_kind;
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = png_chunk(
        b"IHDR",
        &[size, vec![depth, kind, 0, 0, interlaced]].concat(),
    );
    [PNG_SIGNATURE.to_vec(), header, rest.concat()].concat()
}

fn pngs() -> Vec<Row> {
    let end = || png_chunk(b"IEND", &[]);
    let data = |bytes: &[u8]| png_chunk(b"IDAT", &deflate(bytes));
    let rows = |width: usize, height: usize| vec![0; (width + 1) * height];
    // The passes of Adam7 over 8 × 8 pixels, as width and height.
    let passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)];
    let interlaced: Vec<u8> = passes.iter().flat_map(|(w, h)| rows(*w, *h)).collect();
    let palette = [
        png_chunk(b"PLTE", &[9, 9, 9, 200, 0, 0]),
        png_chunk(b"tRNS", &[0, 128]),
    ];
    let text = png_chunk(
        b"zTXt",
        &[b"a\0\0".to_vec(), deflate(&[b'x'; 100_000])].concat(),
    );
    let frames = {
        let control = |n: u32| {
            let size = [n, 28, 28, 0, 0].map(u32::to_be_bytes).concat();
            png_chunk(b"fcTL", &[size, vec![0, 1, 0, 10, 0, 0]].concat())
        };
        let mut chunks = vec![png_chunk(
            b"acTL",
            &[10_000_u32.to_be_bytes(), [0; 4]].concat(),
        )];
        chunks.extend([control(0), data(&rows(28, 28))]);
        let frame = deflate(&rows(28, 28));
        for n in 1..10_000_u32 {
            chunks.push(control(2 * n - 1));
            chunks.push(png_chunk(
                b"fdAT",
                &[(2 * n).to_be_bytes().to_vec(), frame.clone()].concat(),
            ));
        }
        chunks.push(end());
        chunks
    };
    let largest = DynamicImage::new_luma8(8_000, 5_000);
    vec![
        (
            "PNG of 40 million pixels",
            pictures::encode(&largest, ImageFormat::Png),
            FINE,
        ),
        (
            "PNG one row above 40 million pixels",
            lying_png(8_000, 5_001),
            TOO_LARGE,
        ),
        (
            "PNG of 900 million pixels, all there",
            pictures::vast_png(),
            TOO_LARGE,
        ),
        (
            "PNG, interlaced",
            png(8, 8, [8, 0], 1, &[data(&interlaced), end()]),
            FINE,
        ),
        (
            "PNG with a palette and transparency",
            png(
                8,
                8,
                [8, 3],
                0,
                &[palette.concat(), data(&rows(8, 8)), end()],
            ),
            FINE,
        ),
        (
            "PNG of one bit per pixel",
            png(8, 8, [1, 0], 0, &[data(&rows(1, 8)), end()]),
            FINE,
        ),
        (
            "PNG of 10,000 frames",
            png(28, 28, [8, 0], 0, &frames),
            FINE,
        ),
        (
            "PNG with 1,000 text bombs",
            png_of(28, 28, &[text.repeat(1_000), data(&rows(28, 28)), end()]),
            EITHER,
        ),
    ]
}

/// A JPEG of black blocks with tables of one code each: every block is one bit of luminance, one of the rest.
fn crafted_jpeg(frame: u8, precision: u8, components: u8, scans: &[[u8; 3]]) -> Vec<u8> {
    let segment = |mark: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 2)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        [&[0xFF, mark], &length[..], body].concat()
    };
    let table = |class: u8| {
        let mut counts = [0; 16];
        counts[0] = 1;
        segment(0xC4, &[&[class][..], &counts, &[0]].concat())
    };
    let mut size = vec![precision, 0, 64, 0, 64, components];
    size.extend((1..=components).flat_map(|id| [id, 0x11, 0]));
    let mut bytes = vec![0xFF, 0xD8];
    bytes.extend(segment(0xDB, &[[0].to_vec(), vec![1; 64]].concat()));
    bytes.extend(segment(frame, &size));
    bytes.extend([table(0x00), table(0x10)].concat());
    for scan in scans {
        let mut head = vec![components];
        head.extend((1..=components).flat_map(|id| [id, 0]));
        head.extend(scan);
        bytes.extend(segment(0xDA, &head));
        // 64 blocks of each component, two bits at most.
        bytes.extend(vec![0; 16 * usize::from(components)]);
    }
    [bytes, vec![0xFF, 0xD9]].concat()
}

fn jpegs() -> Vec<Row> {
    const WHOLE: [u8; 3] = [0, 63, 0];
    let scans = [[[0, 0, 0]].to_vec(), vec![[1, 63, 0]; 1_000]].concat();
    let good = jpeg(64, 64, 5);
    let with_exif = |directory: &[u8]| {
        let exif = [b"Exif\0\0II*\0\x08\0\0\0", directory].concat();
        let length = u16::try_from(exif.len() + 2)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        [&good[..2], &[0xFF, 0xE1], &length, &exif, &good[2..]].concat()
    };
    vec![
        (
            "JPEG of black blocks",
            crafted_jpeg(0xC0, 8, 1, &[WHOLE]),
            FINE,
        ),
        (
            "JPEG of four colours",
            crafted_jpeg(0xC0, 8, 4, &[WHOLE]),
            EITHER,
        ),
        (
            "JPEG of 12 bits",
            crafted_jpeg(0xC1, 12, 1, &[WHOLE]),
            EITHER,
        ),
        (
            "JPEG without loss",
            crafted_jpeg(0xC3, 8, 1, &[WHOLE]),
            EITHER,
        ),
        (
            "JPEG with arithmetic coding",
            crafted_jpeg(0xC9, 8, 1, &[WHOLE]),
            EITHER,
        ),
        (
            "JPEG of 1,000 scans",
            crafted_jpeg(0xC2, 8, 1, &scans),
            EITHER,
        ),
        // No entries, and the next directory is this one.
        ("JPEG with an EXIF loop", with_exif(b"\0\0\x08\0\0\0"), FINE),
        (
            "JPEG that is a ZIP too",
            [good.clone(), b"PK\x05\x06".to_vec(), vec![0; 18]].concat(),
            FINE,
        ),
    ]
}

fn gifs() -> Vec<Row> {
    let screen = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF".to_vec();
    let frame = b"\x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    let beyond = b"\x2C\0\0\0\0\x01\0\x01\0\0\x02\x04\xFF\xFF\xFF\xFF\0";
    vec![
        (
            "GIF of 100,000 frames",
            [screen.clone(), frame.repeat(100_000), b";".to_vec()].concat(),
            FINE,
        ),
        (
            "GIF with codes nobody defined",
            [screen, beyond.to_vec(), b";".to_vec()].concat(),
            INVALID,
        ),
    ]
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    let length = u32::try_from(chunks.len() + 4)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", chunks].concat()
}

fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let padding = vec![0; body.len() % 2];
    [&kind[..], &length, body, &padding].concat()
}

fn webps() -> Vec<Row> {
    let picture = image::load_from_memory(&noise(16, 16, 3))
        .unwrap_or_default()
        .to_rgba8();
    let still = pictures::encode(&DynamicImage::ImageRgba8(picture), ImageFormat::WebP);
    let frame_header = [[0_u8; 6].as_slice(), &[15, 0, 0, 15, 0, 0, 100, 0, 0, 0]].concat();
    let frame = chunk(b"ANMF", &[&frame_header, &still[12..]].concat());
    let animated = [
        chunk(b"VP8X", &[0x02, 0, 0, 0, 15, 0, 0, 15, 0, 0]),
        chunk(b"ANIM", &[0; 6]),
        frame.repeat(50),
    ];
    let no_width = b"\x10\0\0\x9D\x01\x2A\0\0\x10\0\0\0\0\0\0\0";
    // Sixteen pixels each way, then a transform followed by nothing but ones.
    let bad_transform = [b"\x2F\x0F\xC0\x03\0".as_slice(), &[0xFF; 40]].concat();
    vec![
        ("WebP of 50 frames", riff(&animated.concat()), FINE),
        (
            "WebP without width",
            riff(&chunk(b"VP8 ", no_width)),
            INVALID,
        ),
        (
            "WebP with a bad transform",
            riff(&chunk(b"VP8L", &bad_transform)),
            INVALID,
        ),
    ]
}

fn bmps() -> Vec<Row> {
    let picture = image::load_from_memory(&noise(16, 16, 3))
        .unwrap_or_default()
        .to_rgb8();
    let upright = pictures::encode(&DynamicImage::ImageRgb8(picture), ImageFormat::Bmp);
    let mut upside_down = upright.clone();
    upside_down[22..26].copy_from_slice(&(-16_i32).to_le_bytes());
    let indexed = |compression: u32, used: u32, data: &[u8]| {
        let mut header = [40_u32, 16, 16].map(u32::to_le_bytes).concat();
        header.extend([1, 0, 8, 0]);
        header.extend(
            [compression, 0, 0, 0, used, 0]
                .map(u32::to_le_bytes)
                .concat(),
        );
        let offset = 14 + 40 + 8;
        let file = [0, 0, offset].map(u32::to_le_bytes).concat();
        [b"BM", &file[..], &header, &[0; 8], data].concat()
    };
    vec![
        ("BMP from the top down", upside_down, FINE),
        (
            "BMP that says it has four thousand million colours",
            indexed(0, u32::MAX, &[0; 256]),
            EITHER,
        ),
        (
            "BMP whose runs leave the row",
            indexed(1, 2, &[255, 1].repeat(40)),
            EITHER,
        ),
    ]
}

//! Whole preparations: every format, honest and hostile, to the pixels a model sees.

mod reference;

use std::io::Cursor;
use std::path::Path;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, Frame, GrayImage, ImageBuffer, ImageEncoder, ImageFormat,
    Luma, LumaA, Rgb, RgbImage, Rgba,
};
use selvage_core::catalog::{Channels, Layout};
use selvage_core::tensor;

use super::*;

const LIMITS: Limits = Limits::with_pixels(40_000_000);

fn model(size: u32, channels: Channels) -> Input {
    Input {
        name: None,
        width: size,
        height: size,
        channels,
        layout: Layout::Nchw,
        resize: Resize::Stretch,
        polarity: Polarity::Keep,
        trim: false,
        mean: vec![0.0; channels.count()],
        std: vec![1.0; channels.count()],
    }
}

/// Every pixel.
const fn all_of(channels: Channels) -> Wanted {
    Wanted {
        channels,
        side: None,
    }
}

/// What `models/fashion-mnist` asks for.
fn dataset_model() -> Input {
    Input {
        resize: Resize::Fit,
        polarity: Polarity::Auto,
        trim: true,
        ..model(28, Channels::Gray)
    }
}

fn pixels(prepared: Prepared) -> Vec<u8> {
    match prepared {
        Prepared::Pixels(pixels) => pixels,
        Prepared::Values(values) => panic!("an image became a tensor: {values:?}"),
    }
}

fn prepare(input: Input, bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    Preparer::new(input, LIMITS).prepare(bytes).map(pixels)
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture without any symmetry: an L of two shades before a background.
fn lopsided(width: u32, height: u32, background: u8) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let (x, y) = (x * 28 / width, y * 28 / height);
        if (6..10).contains(&x) && (4..24).contains(&y) {
            Luma([60])
        } else if (10..19).contains(&x) && (18..24).contains(&y) {
            Luma([130])
        } else {
            Luma([background])
        }
    })
}

/// An EXIF block that holds an orientation and nothing else.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0]);
    block
}

/// The picture as a camera stores it that writes this orientation.
fn stored(upright: &GrayImage, orientation: u8) -> DynamicImage {
    let mut image = DynamicImage::from(upright.clone());
    // Turning by 90 degrees is undone by turning by 270; all others undo themselves.
    let undo = match orientation {
        6 => 8,
        8 => 6,
        other => other,
    };
    image.apply_orientation(image::metadata::Orientation::from_exif(undo).unwrap());
    image
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    differences.max().unwrap_or(0)
}

#[test]
fn images_of_the_dataset_pass_unchanged_and_their_negatives_are_turned_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/fashion-mnist/samples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let DynamicImage::ImageLuma8(original) = image::load_from_memory(&bytes).unwrap() else {
            panic!("a sample is not grey");
        };
        let pixels = prepare(dataset_model(), &bytes).unwrap();
        assert_eq!(&pixels, original.as_raw());
        let mut negative = DynamicImage::from(original.clone());
        negative.invert();
        let negative = encode(&negative, ImageFormat::Png);
        assert_eq!(
            &prepare(dataset_model(), &negative).unwrap(),
            original.as_raw()
        );
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn an_image_of_the_models_size_is_never_trimmed() {
    let tiny_content = GrayImage::from_fn(28, 28, |x, y| Luma([u8::from((x, y) == (3, 4)) * 200]));
    let bytes = encode(&tiny_content.clone().into(), ImageFormat::Bmp);
    assert_eq!(
        &prepare(dataset_model(), &bytes).unwrap(),
        tiny_content.as_raw()
    );
}

#[test]
fn every_orientation_gives_the_same_pixels() {
    for (size, tolerance) in [((28, 28), 0), ((301, 203), 3), ((90, 240), 3)] {
        let upright = lopsided(size.0, size.1, 235);
        let expected = prepare(
            dataset_model(),
            &encode(&upright.clone().into(), ImageFormat::Png),
        )
        .unwrap();
        for orientation in 1..=8 {
            let image = stored(&upright, orientation);
            let mut png = Vec::new();
            let mut encoder = PngEncoder::new(&mut png);
            encoder.set_exif_metadata(exif(orientation)).unwrap();
            image.write_with_encoder(encoder).unwrap();
            let pixels = prepare(dataset_model(), &png).unwrap();
            let difference = largest_difference(&pixels, &expected);
            assert!(
                difference <= tolerance,
                "{size:?} {orientation}: {difference}"
            );
        }
    }
}

#[test]
fn a_jpegs_orientation_is_applied_once() {
    let upright = lopsided(120, 200, 240);
    let jpeg = |orientation: u8| {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        stored(&upright, orientation)
            .write_with_encoder(encoder)
            .unwrap();
        prepare(dataset_model(), &bytes).unwrap()
    };
    let expected = jpeg(1);
    for orientation in 2..=8 {
        let difference = largest_difference(&jpeg(orientation), &expected);
        assert!(difference <= 12, "{orientation}: {difference}");
    }
}

#[test]
fn a_damaged_orientation_is_ignored() {
    let image = DynamicImage::from(lopsided(40, 40, 250));
    let plain = prepare(dataset_model(), &encode(&image, ImageFormat::Png)).unwrap();
    for block in [&b"garbage"[..], &exif(6)[..20], &exif(77)[..], &[][..]] {
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(block.to_vec()).unwrap();
        image.write_with_encoder(encoder).unwrap();
        assert_eq!(prepare(dataset_model(), &png).unwrap(), plain);
    }
}

#[test]
fn grey_comes_out_the_same_whatever_carries_it() {
    let gray = lopsided(8, 8, 200);
    let at = |x, y| gray.get_pixel(x, y).0[0];
    let carriers: [DynamicImage; 7] = [
        gray.clone().into(),
        ImageBuffer::from_fn(8, 8, |x, y| LumaA([at(x, y), 255])).into(),
        ImageBuffer::from_fn(8, 8, |x, y| Rgb([at(x, y); 3])).into(),
        ImageBuffer::from_fn(8, 8, |x, y| Rgba([at(x, y), at(x, y), at(x, y), 255])).into(),
        ImageBuffer::from_fn(8, 8, |x, y| Luma([u16::from(at(x, y)) * 257])).into(),
        ImageBuffer::from_fn(8, 8, |x, y| Rgb([u16::from(at(x, y)) * 257; 3])).into(),
        ImageBuffer::from_fn(8, 8, |x, y| LumaA([u16::from(at(x, y)) * 257, u16::MAX])).into(),
    ];
    for carrier in carriers {
        let pixels = prepare(
            model(8, Channels::Gray),
            &encode(&carrier, ImageFormat::Png),
        );
        assert_eq!(&pixels.unwrap(), gray.as_raw(), "{:?}", carrier.color());
    }
}

#[test]
fn palettes_become_their_colours_and_transparent_entries_white() {
    let mut png = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut png, 4, 1);
    encoder.set_color(::png::ColorType::Indexed);
    encoder.set_depth(::png::BitDepth::Two);
    encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3]);
    encoder.set_trns(vec![255, 255, 255, 0]);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0b0001_1011]).unwrap();
    writer.finish().unwrap();
    let input = Input {
        width: 4,
        height: 1,
        ..model(1, Channels::Rgb)
    };
    assert_eq!(
        prepare(input, &png).unwrap(),
        [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]
    );
}

#[test]
fn jpegs_luminance_is_the_grey_of_its_colours() {
    let colours = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([(x * 4) as u8, (y * 4) as u8, ((x + y) * 2) as u8])
    });
    let jpeg = encode(&colours.into(), ImageFormat::Jpeg);
    let direct = prepare(model(64, Channels::Gray), &jpeg).unwrap();
    let colours = decode::decode(&jpeg, all_of(Channels::Rgb), &LIMITS).unwrap();
    let by_colour = colours.raster.into_channels(Channels::Gray).pixels;
    let difference = largest_difference(&direct, &by_colour);
    assert!(difference <= 3, "{difference}");
}

#[test]
fn of_an_animation_the_first_frame_counts() {
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    for shade in [0, 90, 255] {
        let frame = ImageBuffer::from_pixel(8, 8, Rgba([shade, shade, shade, 255]));
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    assert_eq!(prepare(model(8, Channels::Gray), &gif).unwrap(), [0; 64]);
}

#[test]
fn extreme_shapes_are_prepared() {
    for (width, height) in [(1, 1), (1, 16_384), (16_384, 1), (2, 3), (29, 28)] {
        for resize in [Resize::Fit, Resize::Stretch, Resize::Cover] {
            for value in [0, 255] {
                let image = GrayImage::from_pixel(width, height, Luma([value]));
                let input = Input {
                    resize,
                    ..dataset_model()
                };
                let pixels = prepare(input, &encode(&image.into(), ImageFormat::Png)).unwrap();
                assert_eq!(pixels, [0; 784], "{width}x{height} {resize:?} {value}");
            }
        }
    }
}

/// A small picture in each format that is decoded.
fn one_of_each() -> Vec<(ImageFormat, Vec<u8>)> {
    let image = DynamicImage::from(RgbImage::from_fn(24, 20, |x, y| {
        Rgb([(x * 9) as u8, (y * 11) as u8, (x * y % 251) as u8])
    }));
    [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ]
    .into_iter()
    .map(|format| (format, encode(&image, format)))
    .collect()
}

#[test]
fn files_that_break_off_are_refused_wherever_it_happens() {
    for (format, bytes) in one_of_each() {
        prepare(model(28, Channels::Gray), &bytes).unwrap();
        // The last bytes may be an end mark that carries no picture; a PNG's is asked for all the same.
        let spare = match format {
            ImageFormat::Png => 0,
            ImageFormat::WebP => 1,
            ImageFormat::Gif => 5,
            _ => 2,
        };
        for length in 0..bytes.len() - spare {
            // A model of four pixels a side has a JPEG decoded at reduced scale.
            let sides = [
                (28, Channels::Gray),
                (28, Channels::Rgb),
                (4, Channels::Rgb),
            ];
            for (side, channels) in sides {
                let result = prepare(model(side, channels), &bytes[..length]);
                assert!(
                    matches!(result, Err(ImageError::Broken(_))),
                    "{format:?} for {side} pixels cut at {length} of {}: {:?}",
                    bytes.len(),
                    result.map(|pixels| pixels.len())
                );
            }
        }
    }
}

#[test]
fn no_single_wrong_byte_makes_a_decoder_panic() {
    for (format, bytes) in one_of_each() {
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                for (side, channels) in [(28, Channels::Gray), (4, Channels::Rgb)] {
                    let result = prepare(model(side, channels), &bytes);
                    assert!(
                        !matches!(result, Err(ImageError::Panicked)),
                        "{format:?} for {side} pixels, byte {at} ^ {flip:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn bytes_of_other_kinds_are_no_image() {
    for bytes in [
        &b""[..],
        b"\x89PNG",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"II*\0\x08\0\0\0",
        b"#?RADIANCE\n\n+X 4294967295 +Y 1\n",
    ] {
        let error = prepare(model(28, Channels::Gray), bytes).unwrap_err();
        assert_eq!(
            Failure::from(error),
            Failure::new(
                FailureCode::InvalidImage,
                "the bytes are no JPEG, PNG, WebP, GIF or BMP"
            )
        );
    }
}

/// CRC-32 as PNG has it (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A real PNG whose header claims another size.
fn lying_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encode(&lopsided(16, 16, 0).into(), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn sizes_are_judged_by_the_header_before_anything_is_allocated() {
    let code = |bytes: &[u8]| {
        let error = prepare(model(28, Channels::Rgb), bytes).unwrap_err();
        Failure::from(error).code
    };
    assert_eq!(
        code(&lying_png(100_000, 100_000)),
        FailureCode::ImageTooLarge
    );
    assert_eq!(code(&lying_png(16_385, 1)), FailureCode::ImageTooLarge);
    assert_eq!(code(&lying_png(8_000, 5_001)), FailureCode::ImageTooLarge);
    assert_eq!(code(&lying_png(0, 10)), FailureCode::InvalidImage);
    assert_eq!(code(&lying_png(17, 16)), FailureCode::InvalidImage);
    assert_eq!(code(&lying_png(16, 17)), FailureCode::InvalidImage);

    let mut jpeg = encode(&lopsided(16, 16, 0).into(), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    assert_eq!(code(&jpeg), FailureCode::ImageTooLarge);

    let colours = DynamicImage::from(lopsided(16, 16, 0)).into_rgb8();
    let mut gif = encode(&colours.into(), ImageFormat::Gif);
    gif[6..10].fill(0xFF);
    assert_eq!(code(&gif), FailureCode::ImageTooLarge);

    let mut bmp = encode(&lopsided(16, 16, 0).into(), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    assert_eq!(code(&bmp), FailureCode::ImageTooLarge);
    bmp[18..22].copy_from_slice(&16_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&i32::MIN.to_le_bytes());
    assert_eq!(code(&bmp), FailureCode::InvalidImage);
}

#[test]
fn a_vast_picture_is_refused_although_all_of_it_is_there() {
    const SIDE: u32 = 30_000;
    let mut png = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut png, SIDE, SIDE);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_depth(::png::BitDepth::One);
    encoder.set_compression(::png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    let rows = vec![0; SIDE as usize * (SIDE as usize / 8)];
    writer.write_image_data(&rows).unwrap();
    writer.finish().unwrap();
    assert!(png.len() < 4 << 20, "{}", png.len());
    let mut reader = ::png::Decoder::new(Cursor::new(&png)).read_info().unwrap();
    let mut read = 0;
    while let Some(_row) = reader.next_row().unwrap() {
        read += 1;
    }
    assert_eq!(read, SIDE, "it is what it says");
    for channels in [Channels::Gray, Channels::Rgb] {
        let error = prepare(model(28, channels), &png).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge(_)), "{error}");
    }
}

#[test]
fn as_many_pixels_as_allowed_pass_and_one_row_more_does_not() {
    let limits = Limits::with_pixels(100);
    let png = |height| encode(&GrayImage::new(10, height).into(), ImageFormat::Png);
    let mut preparer = Preparer::new(model(8, Channels::Gray), limits);
    assert!(preparer.prepare(&png(10)).is_ok());
    let error = preparer.prepare(&png(11)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image is 10 by 11 pixels; 100 in all are allowed"
    );
}

#[test]
fn rows_past_the_image_are_not_kept() {
    // 64 MiB of zeros that deflate to a few KiB, behind the header of a picture of 4 by 4.
    let mut png = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut png, 8192, 8192);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_compression(::png::Compression::High);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; 8192 * 8192]).unwrap();
    writer.finish().unwrap();
    png[16..20].copy_from_slice(&4_u32.to_be_bytes());
    png[20..24].copy_from_slice(&4_u32.to_be_bytes());
    let sum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    assert!(png.len() < 100_000, "{}", png.len());
    // Sixteen pixels are there, so it may pass; what it may not do is cost 64 MiB or more, or panic.
    let result = prepare(model(4, Channels::Gray), &png);
    assert!(!matches!(result, Err(ImageError::Panicked)), "{result:?}");
}

#[test]
fn a_progressive_jpegs_memory_is_judged_before_it_is_used() {
    let mut jpeg = encode(&RgbImage::new(16, 16).into(), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 1] = 0xC2;
    jpeg[frame + 5..frame + 7].copy_from_slice(&6_000_u16.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&6_600_u16.to_be_bytes());
    let error = prepare(model(28, Channels::Rgb), &jpeg).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge(_)), "{error}");
}

#[test]
fn reasons_are_sentences_without_inner_text() {
    let png = encode(&lopsided(16, 16, 0).into(), ImageFormat::Png);
    let error = prepare(model(28, Channels::Gray), &png[..60]).unwrap_err();
    assert_eq!(error.to_string(), "the PNG ends too early");
    let jpeg = encode(&lopsided(64, 64, 0).into(), ImageFormat::Jpeg);
    let error = prepare(model(28, Channels::Gray), &jpeg[..jpeg.len() / 2]).unwrap_err();
    assert_eq!(error.to_string(), "the JPEG ends too early");
}

#[test]
fn a_panic_while_preparing_is_one_refused_image() {
    let impossible = Input {
        width: 0,
        ..dataset_model()
    };
    let mut preparer = Preparer::new(impossible, LIMITS);
    let png = encode(&lopsided(40, 40, 0).into(), ImageFormat::Png);
    for _ in 0..2 {
        assert_eq!(preparer.prepare(&png), Err(ImageError::Panicked));
    }
    let failure = Failure::from(ImageError::Panicked);
    assert_eq!(failure.code, FailureCode::InvalidImage);
}

#[test]
fn encoders_wrote_what_the_tests_believe() {
    let png = encode(&GrayImage::new(3, 2).into(), ImageFormat::Png);
    let decoded = decode::decode(&png, all_of(Channels::Gray), &LIMITS).unwrap();
    assert_eq!((decoded.raster.width, decoded.raster.height), (3, 2));
    let mut raw = Vec::new();
    PngEncoder::new(&mut raw)
        .write_image(&[7; 6], 3, 2, ExtendedColorType::L8)
        .unwrap();
    let decoded = decode::decode(&raw, all_of(Channels::Gray), &LIMITS).unwrap();
    assert_eq!(decoded.raster.pixels, [7; 6]);
}

fn sent(datatype: tensor::Datatype, values: &[u8]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    tensor::write(datatype, values, &mut bytes);
    bytes.to_vec()
}

#[test]
fn a_tensor_of_pixels_is_the_picture_it_was_taken_from() {
    for background in [0, 250] {
        let picture = lopsided(28, 28, background);
        let png = encode(&picture.clone().into(), ImageFormat::Png);
        let given = sent(tensor::Datatype::Uint8, picture.as_raw());
        assert_eq!(
            prepare(dataset_model(), &given).unwrap(),
            prepare(dataset_model(), &png).unwrap()
        );
    }
}

#[test]
fn a_tensor_of_floats_is_taken_as_it_is_or_not_at_all() {
    let mut preparer = Preparer::new(model(2, Channels::Gray), LIMITS);
    let mut floats = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        preparer.prepare(&sent(tensor::Datatype::Fp32, &bytes))
    };
    let values = [-7.5, 0.0, 1e9, f32::MIN_POSITIVE];
    assert_eq!(floats(&values), Ok(Prepared::Values(values.to_vec())));
    for wrong in [
        &[0.0; 3][..],
        &[0.0; 5],
        &[],
        &[0.0, 0.0, f32::NAN, 0.0],
        &[f32::INFINITY; 4],
    ] {
        assert!(
            matches!(floats(wrong), Err(ImageError::Broken(_))),
            "{wrong:?}"
        );
    }
}

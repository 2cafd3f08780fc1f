//! Whole preparations: every format, honest and hostile, to the pixels a model sees.

mod pictures;
mod reference;
mod refused;

use std::io::Cursor;
use std::path::Path;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, Frame, GrayImage, ImageBuffer, ImageEncoder, ImageFormat,
    Luma, LumaA, Rgb, RgbImage, Rgba,
};
use selvage_core::tensor;

use super::*;

const LIMITS: Limits = Limits::with_pixels(40_000_000);

fn model(size: u32, channels: Channels) -> Input {
    Input::new(size, size, channels)
}

/// Every pixel.
const fn all_of(channels: Channels) -> DecodeTarget {
    DecodeTarget {
        channels,
        side: None,
        srgb: true,
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
        Prepared::Pixels(pixels, _) => pixels,
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

//! What is refused, and that nothing hostile gets further than a reason: files that break off, lying headers, too many pixels, panics.

use super::*;
use selvage_core::outcome::{Failure, FailureCode};

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
        // The last bytes may be an end mark that carries no picture.
        let spare = match format {
            ImageFormat::Png => 12,
            ImageFormat::WebP => 1,
            ImageFormat::Gif => 5,
            _ => 2,
        };
        for length in 0..bytes.len() - spare {
            // A model of four pixels a side decodes a JPEG at reduced scale.
            let sides = [
                (28, Channels::Gray),
                (28, Channels::Rgb),
                (4, Channels::Rgb),
            ];
            for (side, channels) in sides {
                let input = Input {
                    decode: Decode::Fast,
                    ..model(side, channels)
                };
                let result = prepare(input, &bytes[..length]);
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
    // Three coefficients of two bytes for each of 39.6 million pixels, and some pixels besides.
    let coefficients = 6_000 * 6_600 * 3 * 2;
    let limits = Limits {
        bytes: coefficients,
        ..LIMITS
    };
    let error = Preparer::new(model(28, Channels::Rgb), limits).prepare(&jpeg);
    assert!(matches!(error, Err(ImageError::TooLarge(_))), "{error:?}");
    let whole = coefficients + 6_000 * 6_600 * 3;
    assert!(
        LIMITS.bytes >= whole,
        "what the limit of pixels allows fits"
    );
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

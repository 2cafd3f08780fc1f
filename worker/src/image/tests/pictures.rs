//! Pictures of every kind, held against what Pillow decodes of them: tests/fixtures/make_pictures.py writes what is expected.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::codecs::webp::WebPEncoder;
use selvage_core::key::Digest;

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/images")
}

/// Pillow ignores profiles.
const AS_PILLOW: DecodeTarget = DecodeTarget {
    srgb: false,
    ..all_of(Channels::Rgb)
};

fn decoded(bytes: &[u8], target: DecodeTarget) -> Result<decode::Decoded, ImageError> {
    decode::decode(bytes, target, &LIMITS)
}

/// How many of a folder's files have exactly the pixels that are expected.
fn equal_pictures(folder: &Path) -> usize {
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, String> = serde_json::from_slice(&expected).unwrap();
    let wrong: Vec<String> = expected
        .iter()
        .filter_map(|(name, pixels)| {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            match decoded(&bytes, AS_PILLOW) {
                Ok(image) => {
                    let upright = image.raster.oriented(image.orientation).pixels;
                    let found = Digest::of(&upright).to_string();
                    (found != format!("sha256:{pixels}")).then(|| format!("{name}: other pixels"))
                }
                Err(error) => Some(format!("{name}: {error}")),
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    expected.len()
}

#[test]
fn the_fixtures_have_the_pixels_that_pillow_decodes() {
    assert_eq!(equal_pictures(&fixtures()), 28);
}

#[test]
#[ignore = "needs a folder that make_pictures.py made, in SELVAGE_PICTURES"]
fn pictures_made_by_script_have_the_pixels_that_pillow_decodes() {
    let folder = std::env::var_os("SELVAGE_PICTURES").expect("SELVAGE_PICTURES names the folder");
    let count = equal_pictures(Path::new(&folder));
    assert!(count > 1_440, "{count} pictures");
}

#[test]
fn colours_of_a_profile_become_those_of_srgb() {
    let bytes = std::fs::read(fixtures().join("i-adobergb-outwear.jpg")).unwrap();
    let mean = |pixels: &[u8], channel: usize| {
        let values = pixels.iter().skip(channel).step_by(3);
        values.map(|value| f64::from(*value)).sum::<f64>() / (pixels.len() / 3) as f64
    };
    let converted = decoded(&bytes, all_of(Channels::Rgb))
        .unwrap()
        .raster
        .pixels;
    let stored = decoded(&bytes, AS_PILLOW).unwrap().raster.pixels;
    // Little CMS, through Pillow's ImageCms.
    for (channel, (before, after)) in [(143.35, 151.98), (118.23, 118.22), (100.45, 99.00)]
        .into_iter()
        .enumerate()
    {
        assert!((mean(&stored, channel) - before).abs() < 0.01);
        assert!(
            (mean(&converted, channel) - after).abs() < 0.1,
            "channel {channel}"
        );
    }
}

#[test]
fn a_profile_counts_in_every_format_and_opacity_stays() {
    let profile = moxcms::ColorProfile::new_adobe_rgb().encode().unwrap();
    // Little CMS makes (0, 201, 92) of it.
    let picture = ImageBuffer::from_pixel(8, 8, Rgba([10_u8, 200, 100, 255]));
    let (mut png, mut webp) = (Vec::new(), Vec::new());
    let mut encoder = PngEncoder::new(&mut png);
    encoder.set_icc_profile(profile.clone()).unwrap();
    picture.write_with_encoder(encoder).unwrap();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_icc_profile(profile).unwrap();
    picture.write_with_encoder(encoder).unwrap();
    for bytes in [png, webp] {
        let pixels = decoded(&bytes, all_of(Channels::Rgb))
            .unwrap()
            .raster
            .pixels;
        assert!(
            largest_difference(&pixels[..3], &[0, 201, 92]) <= 1,
            "{:?}",
            &pixels[..3]
        );
        let stored = decoded(&bytes, AS_PILLOW).unwrap().raster.pixels;
        assert_eq!(stored[..3], [10, 200, 100]);
    }
}

/// The last few bytes before the mark may belong to blocks below the picture's edge: their loss does not show.
#[test]
fn only_the_end_mark_of_a_jpeg_may_be_missing() {
    let whole = std::fs::read(fixtures().join("j22-zeros-between.jpg")).unwrap();
    let complete = decoded(&whole, AS_PILLOW).unwrap();
    assert!(!complete.lacks_end);
    for cut in 1..=2 {
        let image = decoded(&whole[..whole.len() - cut], AS_PILLOW).unwrap();
        assert!(image.lacks_end);
        assert_eq!(image.raster, complete.raster);
    }
    for cut in [100, 1_000, 10_000] {
        let error = decoded(&whole[..whole.len() - cut], AS_PILLOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the JPEG ends too early",
            "without {cut} bytes"
        );
    }
}

#[test]
fn a_jpeg_whose_scans_are_missing_ends_too_early() {
    for name in ["j13-nonint-2x2.jpg", "k-422-jpegtran-prog-shoes.jpg"] {
        let whole = std::fs::read(fixtures().join(name)).unwrap();
        let scans: Vec<usize> = (0..whole.len() - 1)
            .filter(|at| whole[*at..*at + 2] == [0xFF, 0xDA])
            .collect();
        assert!(scans.len() > 2, "{name}");
        for scan in &scans[1..] {
            let error = decoded(&whole[..*scan], AS_PILLOW).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the JPEG ends too early",
                "{name} at {scan}"
            );
        }
        for cut in 1..=2 {
            let image = decoded(&whole[..whole.len() - cut], AS_PILLOW).unwrap();
            assert!(image.lacks_end, "{name}");
        }
    }
}

#[test]
fn a_preparer_tells_of_a_missing_end_once() {
    let read = |name: &str| std::fs::read(fixtures().join(name)).unwrap();
    let mut preparer = Preparer::new(model(28, Channels::Gray), LIMITS);
    for (name, lacks_end) in [
        ("j20-no-eoi.jpg", true),
        ("j22-zeros-between.jpg", false),
        ("p10-no-iend.png", true),
    ] {
        preparer.prepare(&read(name)).unwrap();
        assert_eq!(preparer.lacked_end(), lacks_end, "{name}");
    }
    preparer.prepare(b"no image").unwrap_err();
    assert!(!preparer.lacked_end());
}

//! Large photographs, decoded at reduced scale, beside the same decoded whole.

use super::*;

#[test]
fn a_large_jpeg_is_decoded_no_larger_than_needed_and_looks_the_same() {
    let upright = DynamicImage::from(lopsided(1203, 805, 200));
    let jpeg = encode(&DynamicImage::from(upright.to_rgb8()), ImageFormat::Jpeg);
    let reduced = Wanted {
        channels: Channels::Rgb,
        side: Some(100),
    };
    let raster = decode::decode(&jpeg, reduced, &LIMITS).unwrap().raster;
    assert_eq!((raster.width, raster.height), (151, 101));
    let png = encode(&image::load_from_memory(&jpeg).unwrap(), ImageFormat::Png);
    let input = Input {
        resize: Resize::Cover,
        ..model(100, Channels::Rgb)
    };
    let (ours, whole) = (
        prepare(input.clone(), &jpeg).unwrap(),
        prepare(input, &png).unwrap(),
    );
    let sum: u64 = ours
        .iter()
        .zip(&whole)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    let mean = sum as f64 / ours.len() as f64;
    assert!(mean < 1.0, "{mean} levels on average");
}

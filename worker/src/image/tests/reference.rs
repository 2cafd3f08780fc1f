//! Photographs come out as the training code prepares them: compared with tensors that Python wrote
//! (`tests/fixtures/make_reference.py`).

use serde_json::Value;

use selvage_core::catalog::Catalog;

use super::*;
use crate::image::tensor::Normaliser;

/// Most the values may differ on average: the reference is rounded to four digits, and the decoded pixels are equal.
const MEAN_TOLERANCE: f32 = 0.000_1;
/// Most a single value may differ: one grey level, which is 0.0078 wide, where resizing rounds.
const TOLERANCE: f32 = 0.007_9;
/// The same where a photograph is decoded at reduced scale, which is another filter than the one Python scales with.
const REDUCED: (f32, f32) = (0.012, 0.06);
/// Most the mean of a whole channel may differ.
const CHANNEL_TOLERANCE: f32 = 0.005;

fn numbers(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_f64().unwrap() as f32).collect()
}

/// `large` is what the values of large photographs may differ by, on average and at most.
fn photographs_are_prepared_as_in_training(decode: Decode, large: (f32, f32)) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let catalog = Catalog::read(&project.join("models")).unwrap();
    let input = &Input {
        decode,
        ..catalog.get("clothing").unwrap().input.clone()
    };
    let file = project.join("tests/fixtures/clothing-reference.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut preparer = Preparer::new(input.clone(), LIMITS);
    let normaliser = Normaliser::new(input);
    let (width, height) = (input.width as usize, input.height as usize);
    let tensors = reference["tensors"].as_object().unwrap();
    assert_eq!(tensors.len(), 12);
    for (path, expected) in tensors {
        let prepared = preparer
            .prepare(&std::fs::read(project.join(path)).unwrap())
            .unwrap();
        let mut tensor = vec![0.0; prepared.len()];
        normaliser.fill(&prepared, &mut tensor);

        let step = usize::try_from(expected["step"].as_u64().unwrap()).unwrap();
        let grid = |length: usize| (step / 2..length).step_by(step);
        let planes = tensor.chunks_exact(width * height);
        let some = planes.clone().flat_map(|plane| {
            grid(height).flat_map(move |y| grid(width).map(move |x| plane[y * width + x]))
        });
        let some: Vec<f32> = some.collect();
        let theirs = numbers(&expected["values"]);
        assert_eq!(some.len(), theirs.len());
        let differences: Vec<f32> = some
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs())
            .collect();
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        let largest = differences.iter().copied().fold(0.0, f32::max);
        let (mean_tolerance, tolerance) = if path.contains("1200x1600") {
            large
        } else {
            (MEAN_TOLERANCE, TOLERANCE)
        };
        println!("{path} {decode:?}: {mean} on average, {largest} at most");
        assert!(mean < mean_tolerance, "{path}: {mean} on average");
        assert!(largest < tolerance, "{path}: {largest} at most");
        for (plane, expected) in planes.zip(numbers(&expected["means"])) {
            let mean = plane.iter().sum::<f32>() / plane.len() as f32;
            assert!(
                (mean - expected).abs() < CHANNEL_TOLERANCE,
                "{path}: {mean}, {expected} there"
            );
        }
    }
}

#[test]
fn photographs_are_prepared_as_in_training_from_every_pixel() {
    photographs_are_prepared_as_in_training(Decode::Exact, (MEAN_TOLERANCE, TOLERANCE));
}

#[test]
fn photographs_are_prepared_as_in_training_at_reduced_scale() {
    photographs_are_prepared_as_in_training(Decode::Fast, REDUCED);
}

#[test]
fn a_large_jpeg_is_decoded_no_larger_than_needed_and_looks_the_same() {
    let upright = DynamicImage::from(lopsided(1203, 805, 200));
    let jpeg = encode(&DynamicImage::from(upright.to_rgb8()), ImageFormat::Jpeg);
    let reduced = DecodeTarget {
        side: Some(100),
        ..all_of(Channels::Rgb)
    };
    let raster = decode::decode(&jpeg, reduced, &LIMITS).unwrap().raster;
    assert_eq!((raster.width, raster.height), (151, 101));
    let png = encode(&image::load_from_memory(&jpeg).unwrap(), ImageFormat::Png);
    let input = Input {
        decode: Decode::Fast,
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

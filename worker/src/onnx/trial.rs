//! What a model is tried with when it is loaded, and what its values must be like: the same each time, and independent of the
//! other images of the batch.

use selvage_core::catalog::{Layout, Model, Task};

/// How far two runs of one image may lie apart, as a part of all scores' span: batches of another size round otherwise.
const SAME_SCORES: f32 = 0.01;

/// Noise of a level of its own for each image and channel, normalised as an image is, and always the same. It stays clear of
/// black and white.
pub(super) fn noise(model: &Model, images: usize) -> Vec<f32> {
    let input = &model.input;
    let (channels, values) = (input.channels.count(), input.values());
    // A linear congruential generator (Knuth, MMIX).
    let mut state = 1_u64;
    let mut below = move |range: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((state >> 33) % range).unwrap_or_default()
    };
    let mut noise = Vec::with_capacity(images * values);
    for _ in 0..images {
        let levels: Vec<u8> = (0..channels).map(|_| 16 + below(150)).collect();
        for at in 0..values {
            let channel = match input.layout {
                Layout::Nchw => at * channels / values,
                Layout::Nhwc => at % channels,
            };
            noise.push(input.normalise(channel, levels[channel] + below(70)));
        }
    }
    noise
}

/// Refuses values that are not the image's own. `in_batch` is `None` where the batch may reorder them.
pub(super) fn check_alone(
    alone: &[f32],
    again: &[f32],
    in_batch: Option<&[f32]>,
    all: &[f32],
) -> Result<(), String> {
    let apart = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    let (least, most) = all
        .iter()
        .fold((f32::MAX, f32::MIN), |(least, most), score| {
            (least.min(*score), most.max(*score))
        });
    let allowed = SAME_SCORES.mul_add(most - least, f32::EPSILON * most.abs());
    let (by_chance, by_batch) = (
        apart(alone, again),
        in_batch.map_or(0.0, |own| apart(alone, own)),
    );
    if by_chance > allowed {
        return Err(format!(
            "output: the same image gives scores that differ by {by_chance}: the model was exported in training mode; export it \
             after `eval()`"
        ));
    }
    if by_batch > allowed {
        return Err(format!(
            "output: the scores of an image change by {by_batch} with the other images of its batch: the model was exported in \
             training mode, or its output is transposed; if it is meant to, set max_batch = 1"
        ));
    }
    Ok(())
}

/// Refuses values of an image of zeros that cannot be right.
pub(super) fn check_values(model: &Model, raw: &[f32]) -> Result<(), String> {
    let output = &model.output;
    let activated = output.softmax || output.sigmoid;
    if !activated && raw.iter().any(|value| !value.is_finite()) {
        return Err("output: an image of zeros gives values that are no numbers".to_owned());
    }
    let is_probability = |value: &f32| (0.0..=1.0).contains(value);
    let wrong = raw.iter().find(|value| !is_probability(value));
    match wrong.filter(|_| model.task == Task::Multilabel && !activated) {
        Some(value) => Err(format!(
            "output.sigmoid: the model gives {value}, which is no probability: set sigmoid = true"
        )),
        None => Ok(()),
    }
}

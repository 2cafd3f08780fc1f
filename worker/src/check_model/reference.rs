//! How far a model is from what is known of some images: their scores in Python, or their labels.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use selvage_core::catalog::{Model, Task};

use super::error::{CheckError, file_error};

/// Images with a wrong label that are listed.
const MAX_LISTED: usize = 10;

/// Compares the model with a JSON file of scores, or a folder of images by label.
pub(super) fn compare(
    path: &Path,
    model: &Model,
    score: impl FnMut(&Path) -> Result<Vec<f32>, CheckError>,
    out: &mut impl Write,
) -> Result<(), CheckError> {
    if !matches!(model.task, Task::Classify | Task::Multilabel) {
        let text = format!(
            "only scores of labels are compared, the task is {}",
            model.task.as_str()
        );
        return Err(problem(path, text));
    }
    writeln!(out, "reference {}", path.display())?;
    if path.is_dir() {
        compare_labels(path, model, score, out)
    } else {
        compare_scores(path, model, score, out)
    }
}

fn compare_scores(
    path: &Path,
    model: &Model,
    mut score: impl FnMut(&Path) -> Result<Vec<f32>, CheckError>,
    out: &mut impl Write,
) -> Result<(), CheckError> {
    let text = fs::read(path).map_err(|error| file_error(path, error))?;
    let images: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&text).map_err(|error| {
        let wanted = "must be an object that has a list of scores for the path of each image";
        problem(path, format!("{wanted}: {error}"))
    })?;
    let (mut largest, mut place, mut same) = (0.0_f32, None, 0);
    for (name, theirs) in &images {
        let ours = score(&path.with_file_name(name))?;
        if theirs.len() != ours.len() {
            let (theirs, ours) = (theirs.len(), ours.len());
            let counts = format!("`{name}` has {theirs} scores, the model {ours}");
            return Err(problem(path, counts));
        }
        same += usize::from(by_score(&ours).first() == by_score(theirs).first());
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let difference = (ours - theirs).abs();
            // What is no number is the largest.
            if difference.total_cmp(&largest).is_gt() {
                (largest, place) = (difference, Some((name, &model.labels[at])));
            }
        }
    }
    let place = place.map_or_else(String::new, |(name, label)| format!(" ({name}, {label})"));
    writeln!(out, "  {largest:.6} largest difference of a score{place}")?;
    writeln!(
        out,
        "  {same} of {} images have the same best label",
        images.len()
    )?;
    Ok(())
}

fn compare_labels(
    path: &Path,
    model: &Model,
    mut score: impl FnMut(&Path) -> Result<Vec<f32>, CheckError>,
    out: &mut impl Write,
) -> Result<(), CheckError> {
    let (mut images, mut wrong) = (0, Vec::new());
    for folder in entries(path)? {
        let label = label_of(&folder, model).map_err(|text| problem(&folder, text))?;
        for image in entries(&folder)? {
            let scores = score(&image)?;
            images += 1;
            if let Some(best) = by_score(&scores)
                .first()
                .filter(|best| model.labels[**best] != *label)
            {
                wrong.push(format!(
                    "{}: {} ({:.4})",
                    image.display(),
                    model.labels[*best],
                    scores[*best]
                ));
            }
        }
    }
    let right = images - wrong.len();
    let share = right as f64 * 100.0 / images.max(1) as f64;
    writeln!(
        out,
        "  {right} of {images} images have their label as the best ({share:.2} %)"
    )?;
    for image in wrong.iter().take(MAX_LISTED) {
        writeln!(out, "  {image}")?;
    }
    if wrong.len() > MAX_LISTED {
        writeln!(out, "  … and {} more", wrong.len() - MAX_LISTED)?;
    }
    Ok(())
}

/// The label that a folder is named after, by its text or its number: a text with a slash is no name.
fn label_of<'m>(folder: &Path, model: &'m Model) -> Result<&'m String, String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let by_text = model.labels.iter().find(|label| **label == name);
    let by_number = || model.labels.get(name.parse::<usize>().ok()?);
    by_text.or_else(by_number).ok_or_else(|| {
        format!("must be named after a label of the model, or its number, is `{name}`")
    })
}

/// What a folder holds, in order, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CheckError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| file_error(folder, error))?;
    let shown = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let mut paths: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| shown(entry))
        .map(fs::DirEntry::path)
        .collect();
    paths.sort();
    Ok(paths)
}

/// Places of the scores, the best first.
fn by_score(scores: &[f32]) -> Vec<usize> {
    let mut best: Vec<usize> = (0..scores.len()).collect();
    best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    best
}

fn problem(path: &Path, problem: String) -> CheckError {
    CheckError::Reference {
        path: path.to_owned(),
        problem,
    }
}

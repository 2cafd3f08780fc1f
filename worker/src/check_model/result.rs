//! Prints the result for one image, as far as it fits on a screen.

use std::io::{self, Write};

use selvage_core::output::{Output, Ranked};

/// Labels, boxes or values that are shown of an image.
pub(super) const TOP: u16 = 5;

/// The result for the image, as far as it fits on a screen.
pub(super) fn show(result: Output, out: &mut impl Write) -> io::Result<()> {
    let top = usize::from(TOP);
    match result {
        Output::Classify { top, .. } => {
            writeln!(out, "best labels")?;
            ranked(&top, out)
        }
        Output::Multilabel {
            threshold,
            labels,
            top,
        } => {
            writeln!(out, "labels above {threshold}: {}; the best", labels.len())?;
            ranked(&top, out)
        }
        Output::Detect {
            width,
            height,
            boxes,
        } => {
            writeln!(out, "boxes in {width} × {height} pixels: {}", boxes.len())?;
            for found in boxes.iter().take(top) {
                let [left, top, right, bottom] = found.edges;
                let (score, label, index) = (found.score, &found.label, found.index);
                writeln!(
                    out,
                    "  {score:.4}  {label} ({index})  {left:.1}, {top:.1} to {right:.1}, {bottom:.1}"
                )?;
            }
            Ok(())
        }
        Output::Embed { embedding } => {
            let first: Vec<String> = embedding
                .iter()
                .take(top)
                .map(|value| format!("{value:.4}"))
                .collect();
            writeln!(
                out,
                "vector of {} values\n  {}, …",
                embedding.len(),
                first.join(", ")
            )
        }
    }
}

fn ranked(labels: &[Ranked], out: &mut impl Write) -> io::Result<()> {
    for found in labels {
        writeln!(
            out,
            "  {:.4}  {} ({})",
            found.score, found.label, found.index
        )?;
    }
    Ok(())
}

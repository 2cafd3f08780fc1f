//! Non-maximum suppression: of boxes that overlap and have the same label, the one with the highest score stays.

use super::boxes::Candidate;

/// Most candidates that are compared, as in Ultralytics' code; the best of them.
const MAX_CANDIDATES: usize = 30_000;

/// The boxes that stay, best first. Each candidate is compared with the boxes that stay, of which there are `most`, so work
/// is bounded whatever a model gives.
pub(super) fn suppress(candidates: Vec<Candidate>, iou: f32, most: usize) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in best(candidates, MAX_CANDIDATES) {
        if kept.len() == most {
            break;
        }
        let hides = |other: &Candidate| {
            other.label == candidate.label && overlap(&other.edges, &candidate.edges) > iou
        };
        if !kept.iter().any(hides) {
            kept.push(candidate);
        }
    }
    kept
}

/// The best candidates, best first; equal ones keep their order.
pub(super) fn best(mut candidates: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(most);
    candidates
}

/// The intersection of two boxes as a part of their union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let area = |edges: &[f32; 4]| (edges[2] - edges[0]) * (edges[3] - edges[1]);
    let common = side(0) * side(1);
    common / (area(a) + area(b) - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(left: f32, score: f32, label: usize) -> Candidate {
        Candidate {
            edges: [left, 0.0, left + 10.0, 10.0],
            score,
            label,
        }
    }

    fn lefts(kept: &[Candidate]) -> Vec<f32> {
        kept.iter().map(|kept| kept.edges[0]).collect()
    }

    #[test]
    fn overlap_is_intersection_over_union() {
        let square = [0.0, 0.0, 10.0, 10.0];
        assert_eq!(overlap(&square, &square), 1.0);
        assert_eq!(overlap(&square, &[10.0, 0.0, 20.0, 10.0]), 0.0);
        // 50 of 150.
        assert!((overlap(&square, &[5.0, 0.0, 15.0, 10.0]) - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays_for_each_label() {
        let candidates = vec![
            candidate(1.0, 0.6, 0),
            candidate(0.0, 0.9, 0),
            // Another label.
            candidate(2.0, 0.5, 1),
            // Far enough from the best one; its neighbour that overlaps it more is gone.
            candidate(4.0, 0.4, 0),
        ];
        let kept = suppress(candidates, 0.5, 300);
        assert_eq!(lefts(&kept), [0.0, 2.0, 4.0]);
    }

    #[test]
    fn results_and_candidates_are_bounded() {
        let apart = |at: usize| candidate(20.0 * at as f32, 1.0 - at as f32 * 1e-6, 0);
        let kept = suppress((0..1000).map(apart).collect(), 0.5, 7);
        assert_eq!(
            lefts(&kept),
            (0..7).map(|at| 20.0 * at as f32).collect::<Vec<_>>()
        );
        // All on one place, and the worst one elsewhere: beyond the bound it is not looked at.
        let mut crowd = vec![candidate(0.0, 0.9, 0); MAX_CANDIDATES];
        crowd.push(candidate(500.0, 0.3, 0));
        assert_eq!(lefts(&suppress(crowd.clone(), 0.5, 300)), [0.0]);
        crowd.remove(0);
        assert_eq!(lefts(&suppress(crowd, 0.5, 300)), [0.0, 500.0]);
    }

    #[test]
    fn boxes_without_an_area_hide_nothing() {
        let empty = Candidate {
            edges: [5.0; 4],
            score: 0.9,
            label: 0,
        };
        assert_eq!(suppress(vec![empty; 3], 0.5, 300).len(), 3);
    }
}

//! What a JPEG's markers say of it, before anything is decoded (ITU-T T.81, B.1.1 and B.2).

/// The outline of a JPEG file.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Whether an end mark follows. What comes after it is ignored.
    pub(super) has_end: bool,
    /// Whether the frame is progressive.
    progressive: bool,
    /// Whether libjpeg keeps all coefficients until the last scan: in progressive files, and where the first scan lacks a
    /// component (`has_multiple_scans` of jdinput.c).
    pub(super) keeps_coefficients: bool,
    /// How many scans there are.
    pub(super) scans: usize,
    /// The id of each component, and a bit for each of its coefficients that no scan has brought to full precision yet.
    missing: Vec<(u8, u64)>,
}

impl Segments {
    /// Reads the markers up to the end mark, or as far as there are bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut segments = Self::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some(at) = rest.iter().position(|byte| *byte == 0xFF) {
            rest = &rest[at + 1..];
            match rest {
                [0xD9, ..] => {
                    segments.has_end = true;
                    break;
                }
                // A stuffed byte, a restart mark, a fill byte, or a reserved marker, which libjpeg skips by itself when it looks for
                // a restart mark (`jpeg_resync_to_restart`): no segment begins here.
                [0x00..=0xBF | 0xD0..=0xD8 | 0xFF, ..] => {}
                [marker, high, low, body @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let length = length.saturating_sub(2).min(body.len());
                    let (segment, after) = body.split_at(length);
                    segments.add(*marker, segment);
                    rest = after;
                }
                _ => break,
            }
        }
        segments
    }

    /// Whether the scans hold every component in full. Data may still be missing at the end of the last scan.
    pub(super) fn is_complete(&self) -> bool {
        self.scans > 0 && self.missing.iter().all(|(_, missing)| *missing == 0)
    }

    fn add(&mut self, marker: u8, segment: &[u8]) {
        match marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF => {
                self.progressive = marker & 3 == 2;
                self.keeps_coefficients = self.progressive;
                let components = segment.get(6..).unwrap_or_default().chunks_exact(3);
                self.missing = components
                    .map(|component| (component[0], u64::MAX))
                    .collect();
            }
            0xDA => {
                self.scans += 1;
                self.add_scan(segment).unwrap_or_default();
            }
            _ => {}
        }
    }

    fn add_scan(&mut self, segment: &[u8]) -> Option<()> {
        let (count, rest) = segment.split_first()?;
        let (ids, rest) = rest.split_at_checked(usize::from(*count) * 2)?;
        if self.scans == 1 && usize::from(*count) < self.missing.len() {
            self.keeps_coefficients = true;
        }
        let [first, last, precision, ..] = rest else {
            return None;
        };
        let brought = match (self.progressive, precision & 0x0F) {
            (false, _) => u64::MAX,
            (true, 0) => (*first..=63.min(*last)).fold(0, |bits, at| bits | 1 << at),
            (true, _) => 0,
        };
        for (id, missing) in &mut self.missing {
            if ids.iter().step_by(2).any(|scanned| scanned == id) {
                *missing &= !brought;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three components, of which a scan brings those with these ids.
    fn file(marker: u8, scans: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, marker, 0, 17, 8, 0, 8, 0, 8, 3];
        bytes.extend([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
        for ids in scans {
            let count = u8::try_from(ids.len()).unwrap();
            bytes.extend([0xFF, 0xDA, 0, 6 + 2 * count, count]);
            bytes.extend(ids.iter().flat_map(|id| [*id, 0]));
            bytes.extend([0, 63, 0, 0x55]);
        }
        bytes
    }

    #[test]
    fn scans_behind_a_reserved_marker_are_counted() {
        let mut bytes = file(0xC2, &[&[1]]);
        for reserved in [0x02, 0xBF] {
            // Read as a segment, it would cover the scan.
            bytes.extend([0xFF, reserved, 0x00, 0x40]);
            bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55]);
        }
        assert_eq!(Segments::of(&bytes).scans, 3);
    }

    #[test]
    fn coefficients_are_kept_where_the_first_scan_lacks_a_component() {
        for (marker, scans, kept) in [
            (0xC0, &[[1, 2, 3].as_slice()][..], false),
            (0xC0, &[&[1]], true),
            (0xC0, &[&[1], &[2], &[3]], true),
            (0xC2, &[&[1, 2, 3]], true),
        ] {
            let segments = Segments::of(&file(marker, scans));
            assert_eq!(segments.keeps_coefficients, kept, "{marker:x} {scans:?}");
        }
    }
}

//! How a job ended, and what it cost.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::JobId;
use crate::job_state::JobState;

/// The values of one image's result; cheap to clone. [`crate::output::Meaning`] says what they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(Arc<[f32]>);

/// First byte of a stored score list; a new layout gets a new number, and an unknown one is a miss.
const SCORES_VERSION: u8 = 1;

impl Scores {
    /// Values as a model gave them, finished.
    #[must_use]
    pub fn new(scores: impl Into<Arc<[f32]>>) -> Self {
        Self(scores.into())
    }

    /// The values.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Version byte, little-endian floats, and a checksum of both, as caches and messages keep them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 4 * self.0.len() + 4);
        bytes.push(SCORES_VERSION);
        for score in self.0.iter() {
            bytes.extend_from_slice(&score.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads what [`Scores::to_bytes`] wrote; anything else, cut or altered, is `None`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<4>()?;
        let (&version, floats) = content.split_first()?;
        let intact = version == SCORES_VERSION
            && floats.len().is_multiple_of(4)
            && u32::from_le_bytes(*sum) == checksum(content);
        intact.then(|| {
            let scores = floats
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Self(scores.collect())
        })
    }
}

/// FNV-1a, 32 bits: finds accidents, not attacks; the cache belongs to the operator.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Why a job failed, as its `error.code` says; each is final, a retry would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The bytes are no image, or a broken one.
    InvalidImage,
    /// More pixels, or a longer side, than is allowed.
    ImageTooLarge,
    /// The model did not give usable scores.
    InferenceFailed,
    /// The job took its worker down each time it was started.
    Poison,
    /// No worker holds the model file the job was accepted for.
    ModelGone,
    /// The broker set its message aside before it was run to an end.
    DeadLettered,
}

impl FailureCode {
    /// The code as JSON, metrics and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImage => "invalid_image",
            Self::ImageTooLarge => "image_too_large",
            Self::InferenceFailed => "inference_failed",
            Self::Poison => "poison",
            Self::ModelGone => "model_gone",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// Why a job failed: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: FailureCode,
    /// One sentence about this image; never inner text of a server error.
    pub detail: String,
}

impl Failure {
    /// A failure with its sentence.
    #[must_use]
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The values of the result.
    Succeeded(Scores),
    /// A final failure.
    Failed(Failure),
    /// The client no longer wanted it.
    Canceled,
    /// Its deadline passed first.
    Expired,
}

impl Outcome {
    /// The terminal state this outcome puts a job into, as metrics and logs spell it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        JobState::from(self).as_str()
    }
}

/// What a job cost inside its worker. Spans, never moments: they need no common clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// From the delivery's arrival at the worker to the start of decoding, in microseconds.
    pub waited_us: u32,
    /// Decoding and preparing the image, in microseconds.
    pub decode_us: u32,
    /// The batch's inference, in microseconds; shared by its images, not divided among them.
    pub inference_us: u32,
    /// Images in the batch; 0 where no inference ran.
    pub batch_size: u16,
}

/// What a worker says of one job it has finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The job.
    pub id: JobId,
    /// How it ended.
    pub outcome: Outcome,
    /// What it cost.
    pub cost: Cost,
    /// Starts, this one included.
    pub attempts: u32,
    /// The answer came out of the cache.
    pub cached: bool,
}

impl From<&Outcome> for JobState {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded(_) => Self::Succeeded,
            Outcome::Failed(_) => Self::Failed,
            Outcome::Canceled => Self::Canceled,
            Outcome::Expired => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_survive_their_stored_form_bit_for_bit() {
        for scores in [vec![], vec![0.1_f32, -0.0, f32::MIN_POSITIVE, 1.0]] {
            let scores = Scores::new(scores);
            let read = Scores::from_bytes(&scores.to_bytes()).unwrap();
            let bits = |s: &Scores| s.as_slice().iter().map(|f| f.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&read), bits(&scores));
        }
    }

    #[test]
    fn stored_garbage_is_a_miss() {
        let good = Scores::new(vec![0.25_f32, 0.75]).to_bytes();
        for cut in 0..good.len() {
            assert!(Scores::from_bytes(&good[..cut]).is_none(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Scores::from_bytes(&bad).is_none(), "altered at {at}");
        }
    }
}

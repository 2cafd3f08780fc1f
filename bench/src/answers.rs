//! The file of right answers: which label a model gives each picture. Written by `raw`, checked against by `load`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use selvage_core::key::Digest;
use serde::{Deserialize, Serialize};

/// One model's answers to one list of pictures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// The model's name.
    pub(crate) model: String,
    /// Its file.
    pub(crate) model_digest: Digest,
    /// The pictures, see [`crate::pictures::digest`].
    pub(crate) pictures_digest: Digest,
    /// A label for each picture. None where the best two are so close that rounding decides: such a picture proves nothing.
    pub(crate) labels: Vec<Option<String>>,
}

impl Answers {
    /// Reads a file and makes sure that it is about these pictures.
    ///
    /// # Errors
    /// When it cannot be read, or is about other pictures.
    pub(crate) fn read(path: &Path, pictures_digest: Digest) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let answers: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no file of answers", path.display()))?;
        ensure!(
            answers.pictures_digest == pictures_digest,
            "{} has the answers to other pictures; let `selvage-bench raw --answers` write it again",
            path.display()
        );
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_other_pictures_are_refused() {
        let answers = Answers {
            model: "m".to_owned(),
            model_digest: Digest::of(b"m"),
            pictures_digest: Digest::of(b"these"),
            labels: vec![Some("Coat".to_owned()), None],
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), serde_json::to_vec(&answers).unwrap()).unwrap();
        assert_eq!(
            Answers::read(file.path(), Digest::of(b"these"))
                .unwrap()
                .labels,
            answers.labels
        );
        assert!(
            Answers::read(file.path(), Digest::of(b"others"))
                .unwrap_err()
                .to_string()
                .contains("other pictures")
        );
    }
}

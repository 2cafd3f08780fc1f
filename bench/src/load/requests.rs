//! The requests of a run: their bytes, and which label each one's answer must have.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::Options;
use crate::answers::Answers;
use crate::pictures::{Mark, Picture, digest};

/// All requests, written in advance up to what differs between them.
#[derive(Debug)]
pub(super) struct Requests {
    prepared: Vec<Prepared>,
    mark: Option<Mark>,
    next: usize,
}

/// One picture's request.
#[derive(Debug)]
struct Prepared {
    /// Head and the part of the picture before the mark.
    before: Vec<u8>,
    after: Vec<u8>,
    format: crate::pictures::Format,
    /// The right label as JSON text, quotes included; none where any will do.
    label: Option<Box<str>>,
}

impl Requests {
    /// Reads pictures and answers and writes the requests.
    ///
    /// # Errors
    /// When pictures or answers are missing or do not fit together.
    pub(super) fn prepare(options: &Options) -> Result<Self> {
        let mut pictures = options.source.read()?;
        let mut labels = labels(options, &pictures)?;
        if options.answers.is_some() {
            let certain: Vec<bool> = labels.iter().map(Option::is_some).collect();
            keep(&mut pictures, &certain);
            keep(&mut labels, &certain);
        }
        if let Some(count) = options.repeated {
            ensure!(
                (1..=pictures.len()).contains(&count),
                "--repeated must be 1 to {}",
                pictures.len()
            );
            pictures.truncate(count);
        }
        ensure!(!pictures.is_empty(), "no picture has a certain answer");
        let target = match &options.model {
            Some(model) => format!("{}?model={model}", options.path.as_str()),
            None => options.path.as_str().to_owned(),
        };
        let prepare = |(picture, label): (&Picture, Option<Box<str>>)| {
            let mark_bytes = if options.unique {
                Mark::len(picture.format)
            } else {
                0
            };
            let (start, after) = picture.halves();
            let mut before = head(
                options.url,
                &target,
                picture,
                picture.bytes.len() + mark_bytes,
            );
            before.extend_from_slice(start);
            Prepared {
                before,
                after: after.to_vec(),
                format: picture.format,
                label,
            }
        };
        let prepared = pictures.iter().zip(labels).map(prepare).collect();
        let mark = options
            .unique
            .then(|| Mark::new(RandomState::new().hash_one(std::process::id())));
        Ok(Self {
            prepared,
            mark,
            next: 0,
        })
    }

    /// Writes the next request over `request`; the number is for [`Requests::label`].
    pub(super) fn write_next(&mut self, request: &mut Vec<u8>) -> usize {
        let number = self.next;
        self.next = (number + 1) % self.prepared.len();
        let prepared = &self.prepared[number];
        request.clear();
        request.extend_from_slice(&prepared.before);
        if let Some(mark) = &mut self.mark {
            mark.write(prepared.format, request);
        }
        request.extend_from_slice(&prepared.after);
        number
    }

    /// The right label of that request as JSON text; none where any will do.
    pub(super) fn label(&self, number: usize) -> Option<&str> {
        self.prepared[number].label.as_deref()
    }

    /// Different pictures, not counting marks.
    pub(super) fn pictures(&self) -> usize {
        self.prepared.len()
    }
}

/// The right label of each picture as JSON text.
fn labels(options: &Options, pictures: &[Picture]) -> Result<Vec<Option<Box<str>>>> {
    let json = |label: &String| {
        serde_json::to_string(label)
            .map(String::into_boxed_str)
            .context("a label is text")
    };
    if let Some(path) = &options.answers {
        let answers = Answers::read(path, digest(pictures))?;
        ensure!(
            answers.labels.len() == pictures.len(),
            "{} has another number of answers",
            path.display()
        );
        if let Some(model) = &options.model {
            ensure!(
                answers.model == *model,
                "{} has the answers of {}",
                path.display(),
                answers.model
            );
        }
        return answers
            .labels
            .iter()
            .map(|label| label.as_ref().map(json).transpose())
            .collect();
    }
    let label = options.label.as_ref().map(json).transpose()?;
    Ok(vec![label; pictures.len()])
}

fn keep<T>(list: &mut Vec<T>, which: &[bool]) {
    let mut which = which.iter();
    list.retain(|_| which.next().is_some_and(|keep| *keep));
}

fn head(server: SocketAddr, target: &str, picture: &Picture, body_bytes: usize) -> Vec<u8> {
    let media_type = picture.format.media_type();
    format!("POST {target} HTTP/1.1\r\nHost: {server}\r\nContent-Type: {media_type}\r\nContent-Length: {body_bytes}\r\n\r\n").into()
}

//! The requests of a run: their bytes, and the label that each response must have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::mark::{Format, Mark};
use crate::arguments::Bench;
use crate::failure::Failure;
use crate::images::{self, Image};

/// The label of each image by the digest of its file; none if its label is not certain.
type Answers = BTreeMap<String, Option<String>>;

/// One image's request, written in advance except for the mark.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The head, and the image up to the mark.
    before: Vec<u8>,
    after: Vec<u8>,
    /// How a mark is written, if each request is a new image.
    marked: Option<Format>,
    /// The expected label as JSON text, quotes included.
    label: Option<String>,
}

/// Reads the images and the answers, and writes the requests.
///
/// # Errors
/// If an image or the answers cannot be read or used.
pub(super) async fn prepare(asked: &Bench) -> Result<Arc<[Prepared]>, Failure> {
    let answers = asked.answers.as_deref().map(read_answers).transpose()?;
    let key = asked.key.authorization()?;
    let mut prepared = Vec::new();
    for image in images::all(&asked.images)? {
        let name = image.name();
        let wrong = |what: &str| Failure::Usage(format!("{name}: {what}"));
        let bytes = read(&image).await?;
        let label = match &answers {
            Some(answers) => match answers.get(&format!("sha256:{:x}", Sha256::digest(&bytes))) {
                Some(Some(label)) => Some(serde_json::json!(label).to_string()),
                // Without a certain label, the response proves nothing.
                Some(None) => continue,
                None => return Err(wrong("--answers has no label for it")),
            },
            None => None,
        };
        let marked = match asked.unique.then(|| Format::of(&bytes)) {
            Some(None) => return Err(wrong("--unique needs PNG or JPEG files")),
            Some(format) => format,
            None => None,
        };
        prepared.push(Prepared::new(asked, key.as_ref(), &bytes, marked, label));
    }
    if prepared.is_empty() {
        let none = "--answers has a label for none of the images";
        return Err(Failure::Usage(none.to_owned()));
    }
    Ok(prepared.into())
}

async fn read(image: &Image) -> Result<Bytes, Failure> {
    let named = |failure| Failure::Usage(format!("{}: {failure}", image.name()));
    image.read().await.map_err(named)
}

fn read_answers(path: &Path) -> Result<Answers, Failure> {
    let wrong = |cause: &dyn std::fmt::Display| {
        Failure::Usage(format!("--answers {}: {cause}", path.display()))
    };
    let text = fs::read(path).map_err(|cause| wrong(&cause))?;
    serde_json::from_slice(&text).map_err(|cause| wrong(&cause))
}

impl Prepared {
    fn new(
        asked: &Bench,
        key: Option<&HeaderValue>,
        image: &[u8],
        marked: Option<Format>,
        label: Option<String>,
    ) -> Self {
        let length = image.len() + marked.map_or(0, Format::mark_bytes);
        let (start, after) = marked.map_or((image, &[][..]), |format| format.split(image));
        let mut before = head(asked, key, length);
        before.extend_from_slice(start);
        Self {
            before,
            after: after.to_vec(),
            marked,
            label,
        }
    }
}

fn head(asked: &Bench, key: Option<&HeaderValue>, length: usize) -> Vec<u8> {
    let endpoint = if asked.submit { "jobs" } else { "predict" };
    let mut url = asked.url.clone();
    url.set_path(&format!("{}/{endpoint}", url.path().trim_end_matches('/')));
    if let Some(model) = &asked.model {
        url.query_pairs_mut().append_pair("model", model);
    }
    let target = &url[url::Position::BeforePath..];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut head =
        format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n")
            .into_bytes();
    if let Some(key) = key {
        head.extend_from_slice(b"Authorization: ");
        head.extend_from_slice(key.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"Content-Type: application/octet-stream\r\n\r\n");
    head
}

/// The requests of one thread, in turn.
#[derive(Debug)]
pub(super) struct Requests {
    prepared: Arc<[Prepared]>,
    mark: Mark,
    next: usize,
}

impl Requests {
    /// Begins at this share of the images, so that threads do not send the same ones.
    pub(super) fn from_share(prepared: Arc<[Prepared]>, share: f64) -> Self {
        Self {
            next: (prepared.len() as f64 * share) as usize,
            prepared,
            mark: Mark::new(),
        }
    }

    /// Writes the next request over `request`, and returns its number.
    pub(super) fn write_next(&mut self, request: &mut Vec<u8>) -> usize {
        let number = self.next;
        self.next = (number + 1) % self.prepared.len();
        let prepared = &self.prepared[number];
        request.clear();
        request.extend_from_slice(&prepared.before);
        if let Some(format) = prepared.marked {
            self.mark.write(format, request);
        }
        request.extend_from_slice(&prepared.after);
        number
    }

    /// The label that the response to that request must have, as JSON text.
    pub(super) fn label(&self, number: usize) -> Option<&str> {
        self.prepared[number].label.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    const PNG: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/fashion-mnist/samples/9-ankle-boot.png"
    );

    async fn requests(more: &[&str]) -> Result<Requests, Failure> {
        let line = ["selvage", "bench", "example:8000/selvage", PNG];
        let parsed = Arguments::parse_from(line.iter().chain(more));
        let Command::Bench(asked) = parsed.command else {
            panic!("another command");
        };
        Ok(Requests::from_share(prepare(&asked).await?, 0.0))
    }

    fn next(requests: &mut Requests) -> (String, Vec<u8>) {
        let mut request = Vec::new();
        requests.write_next(&mut request);
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        let body = request.split_off(end.unwrap() + 4);
        (String::from_utf8(request).unwrap(), body)
    }

    #[tokio::test]
    async fn a_request_has_the_path_the_host_and_the_whole_image() {
        let (head, body) = next(&mut requests(&["--model", "m"]).await.unwrap());
        assert!(
            head.starts_with("POST /selvage/predict?model=m HTTP/1.1\r\nHost: example:8000\r\n")
        );
        assert_eq!(body, fs::read(PNG).unwrap());
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let (head, _) = next(&mut requests(&["--submit"]).await.unwrap());
        assert!(head.starts_with("POST /selvage/jobs HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn unique_requests_have_the_length_of_their_marked_image() {
        let mut requests = requests(&["--unique"]).await.unwrap();
        let [(head, one), (_, two)] = [next(&mut requests), next(&mut requests)];
        assert_ne!(one, two);
        assert!(head.contains(&format!("Content-Length: {}\r\n", one.len())));
    }

    #[tokio::test]
    async fn the_label_of_an_image_is_found_by_its_digest() {
        let digest = format!("sha256:{:x}", Sha256::digest(fs::read(PNG).unwrap()));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let line = ["--answers", path];
        fs::write(path, format!(r#"{{"{digest}": "Ankle boot"}}"#)).unwrap();
        let labeled = requests(&line).await.unwrap();
        assert_eq!(labeled.label(0), Some("\"Ankle boot\""));
        for (answers, said) in [
            (format!(r#"{{"{digest}": null}}"#), "none of the images"),
            ("{}".to_owned(), "has no label for it"),
            ("[]".to_owned(), "--answers"),
        ] {
            fs::write(path, answers).unwrap();
            let error = requests(&line).await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}

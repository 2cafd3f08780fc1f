//! A load whose every answer is judged by the file it names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use selvage_tests::{Answer, Client, Deployment, pictures};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::digest;
use crate::scenarios::jobs::end_of;

/// Requests under way at any moment.
const SENDERS: usize = 4;
/// The file of the fixture, and by how much the other two soften its scores.
pub(super) const FILES: [(&str, f64); 3] = [
    ("rgb-tiny", 1.0),
    ("changes/half", 1.0 / 2.0),
    ("changes/third", 1.0 / 3.0),
];

/// One of 400 pictures whose red stands out by so much, and by how much.
pub(super) fn picture(n: usize) -> (Vec<u8>, f64) {
    let red = u8::try_from(n % 16).unwrap_or_default();
    let odd = u8::try_from(n / 16 % 25).unwrap_or_default();
    let stands_out = f64::from(40 + red) * 2.0 / 255.0;
    (pictures::plain_rgb([150 + red, 110, 110], odd), stands_out)
}

/// Which file an answer names, and which version.
pub(super) type Named = (String, String);

/// What an answer of this file names, of the version that all of them have but where the test says otherwise.
pub(super) fn named(file: &str) -> Named {
    (digest(file), "1".to_owned())
}

/// Whether an answer's scores are those of the file it names.
pub(super) fn judge(answer: &Answer, stands_out: f64) -> anyhow::Result<Named> {
    let text = |field: &str| answer.json["model"][field].as_str().context("a model");
    let (named, version) = (text("digest")?, text("version")?);
    let known = FILES.iter().find(|(file, _)| digest(file) == named);
    let (_, soft) = known.with_context(|| format!("{named} is no file of this test"))?;
    let top = answer.json["output"]["top"].as_array().context("scores")?;
    let score = |label: &str| {
        let of_label = top.iter().find(|entry| entry["label"] == label);
        of_label.and_then(|entry| entry["score"].as_f64())
    };
    let (red, green) = score("red").zip(score("green")).context("both scores")?;
    let (found, expected) = ((red / green).ln(), soft * 9.0 * stands_out);
    ensure!(
        (found - expected).abs() < 0.01,
        "{named}: {found} in the place of {expected}: {}",
        answer.json
    );
    Ok((named.to_owned(), version.to_owned()))
}

/// A load that runs until it is stopped; each answer is judged.
pub(super) struct Load {
    senders: JoinSet<anyhow::Result<BTreeMap<Named, usize>>>,
    stop: CancellationToken,
}

impl Load {
    pub(super) fn start(on: &Deployment) -> Self {
        let (stop, next) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let client = if sender % 2 == 0 {
                on.client()
            } else {
                on.other_client()
            };
            let (stop, next) = (stop.clone(), Arc::clone(&next));
            senders.spawn(async move {
                let mut seen = BTreeMap::new();
                while !stop.is_cancelled() {
                    let named = send(&client, next.fetch_add(1, Ordering::Relaxed)).await?;
                    *seen.entry(named).or_default() += 1;
                }
                Ok(seen)
            });
        }
        Self { senders, stop }
    }

    /// Stops; how many answers there were of each file and version.
    pub(super) async fn finish(mut self) -> anyhow::Result<BTreeMap<Named, usize>> {
        self.stop.cancel();
        let mut all = BTreeMap::new();
        while let Some(seen) = self.senders.join_next().await {
            for (named, count) in seen?? {
                *all.entry(named).or_default() += count;
            }
        }
        Ok(all)
    }
}

/// One request, every third of them a job.
pub(super) async fn send(client: &Client, n: usize) -> anyhow::Result<Named> {
    let (image, stands_out) = picture(n);
    let path = if n.is_multiple_of(3) {
        "/jobs"
    } else {
        "/predict"
    };
    let answer = client
        .post_image(&format!("{path}?model=rgb-tiny&top_k=3"), image)
        .await?;
    let answer = match answer.status {
        202 => end_of(client, answer.id()).await,
        _ => answer.expect(200),
    };
    ensure!(answer.json["status"] == "succeeded", "{}", answer.json);
    judge(&answer, stands_out)
}

//! What Prometheus would read of a deployment: every program's metrics, taken apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::{Client, Deployment, Shape};

/// Longest wait for a worker to say where it listens.
const START_LIMIT: Duration = Duration::from_secs(60);

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with the `_bucket`, `_sum` or `_count` of a histogram.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// The metrics of one or several programs.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The kind of each family, as its `TYPE` line says.
    pub kinds: BTreeMap<String, String>,
    /// All lines.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Reads Prometheus' text format.
    ///
    /// # Errors
    /// For a line that is none of it, or a family without its kind or its help.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let (mut scrape, mut helped) = (Self::default(), BTreeSet::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("#", rest)) => {
                    let (what, rest) = rest.split_once(' ').context("an empty comment")?;
                    let (name, said) = rest.split_once(' ').context("a comment of one word")?;
                    match what {
                        "TYPE" => {
                            scrape.kinds.insert(name.to_owned(), said.to_owned());
                        }
                        _ => drop(helped.insert(name.to_owned())),
                    }
                }
                _ => scrape
                    .samples
                    .push(sample(line).with_context(|| line.to_owned())?),
            }
        }
        let bare = scrape.kinds.keys().find(|name| !helped.contains(*name));
        ensure!(bare.is_none(), "{bare:?} has no help");
        Ok(scrape)
    }

    /// What a gateway tells.
    ///
    /// # Errors
    /// When it cannot be asked, or tells no metrics.
    pub async fn of(client: &Client) -> anyhow::Result<Self> {
        let answer = client.get("/metrics").await?.expect(200);
        Self::read(std::str::from_utf8(&answer.body)?)
    }

    /// What all workers tell together; the embedded one speaks through its gateway.
    ///
    /// # Errors
    /// As [`Scrape::of`].
    pub async fn of_workers(on: &Deployment) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for address in worker_addresses(on) {
            let one = Self::of(&Client::new(address)).await?;
            all.kinds.extend(one.kinds);
            all.samples.extend(one.samples);
        }
        Ok(all)
    }

    /// The samples of that name that have all these labels.
    pub fn series<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &&Sample, (name, value): &(&str, &str)| {
            sample.labels.get(*name).is_some_and(|found| found == value)
        };
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|label| has(sample, label))
        })
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').context("no end of labels")?),
        None => (series, ""),
    };
    let label = |text: &str| {
        let (name, value) = text.split_once("=\"").context("no label")?;
        let value = value.strip_suffix('"').context("no end of a label")?;
        anyhow::Ok((name.to_owned(), value.to_owned()))
    };
    // No label of ours has a comma or a quotation mark in it.
    let labels = labels.split(',').filter(|text| !text.is_empty()).map(label);
    Ok(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Result<_, _>>()?,
        value: value.parse()?,
    })
}

/// Where workers' metrics are.
fn worker_addresses(on: &Deployment) -> Vec<SocketAddr> {
    match on.shape {
        Shape::Embedded => on.gateways.clone(),
        Shape::Fleet => on.with_workers(|workers| {
            let address = |worker: &crate::program::Program| worker.address(START_LIMIT);
            workers.iter().map(address).collect()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_apart() {
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\",y=\"b c\"} 2\na_total{x=\"2\",y=\"\"} 3.5\n";
        let scrape = Scrape::read(text).unwrap();
        assert_eq!(scrape.kinds["a_total"], "counter");
        assert_eq!(scrape.sum("a_total", &[]), 5.5);
        assert_eq!(scrape.sum("a_total", &[("y", "b c")]), 2.0);
        assert_eq!(scrape.sum("a_total", &[("y", "b c"), ("x", "2")]), 0.0);
    }

    #[test]
    fn what_is_no_metric_is_refused() {
        for text in ["a", "a{x=\"1\" 1", "a x", "# TYPE a counter\na 1"] {
            assert!(Scrape::read(text).is_err(), "{text}");
        }
    }
}

//! Ends the records of jobs whose deadline has passed, so that every asynchronous job ends. Any gateway may do it, several at once
//! do no harm: the first to complete a record wins.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::cache::{Cache, Cached};
use selvage_core::key::PredictionKey;
use selvage_core::outcome::Cost;
use selvage_core::program::repeat;
use selvage_core::store::{Completion, End, JobStore, Record};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::service::metrics::Metrics;
use crate::service::models::Models;

/// Mean time between two turns.
const EVERY: Duration = Duration::from_secs(1);
/// Most records of one turn.
const MAX_TURN: usize = 200;
/// Longest time one turn may take.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// Ends overdue records.
#[derive(Clone, Debug)]
pub struct Sweeper {
    /// Where the records are.
    pub store: Arc<dyn JobStore>,
    /// Where an answer may be after all.
    pub cache: Arc<dyn Cache>,
    /// For the labels.
    pub models: Models,
    /// Counts what was ended.
    pub metrics: Metrics,
}

impl Sweeper {
    /// Takes turn after turn, until `stop` fires.
    pub async fn run(self, stop: CancellationToken) {
        let turn = || async { timeout(TURN_LIMIT, self.turn()).await?.map(drop) };
        repeat(EVERY, "read overdue jobs", &stop, turn).await;
    }

    /// Ends what is overdue now; how many records it ended.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn turn(&self) -> Result<usize, BoxError> {
        let overdue = self.store.overdue(MAX_TURN).await?;
        if overdue.is_empty() {
            return Ok(0);
        }
        let keys: Vec<PredictionKey> = overdue.iter().map(|record| record.seed.key).collect();
        let found = self.cache.get(&keys).await.unwrap_or_default();
        let mut found = found.into_iter();
        let ends = overdue.iter().map(|record| {
            completion(&self.models, record, found.next().flatten(), || {
                End::Expired
            })
        });
        let completions: Vec<Completion> = ends.collect();
        let ended = self.store.complete(&completions).await?;
        for (completion, _) in completions.iter().zip(&ended).filter(|(_, ended)| **ended) {
            let state = completion.end.state().as_str();
            self.metrics.swept.with_label_values(&[state]).inc();
            tracing::info!(job.id = %completion.id, state, "an overdue job was ended: {state}");
        }
        Ok(ended.into_iter().filter(|ended| *ended).count())
    }
}

/// The end of a job that no worker will end any more: the answer, where it is there all the same, since nobody is better
/// served by less.
pub(crate) fn completion(
    models: &Models,
    record: &Record,
    cached: Option<Cached>,
    otherwise: impl FnOnce() -> End,
) -> Completion {
    let model = models.of_key(&record.seed.key);
    let answer = cached.zip(model).and_then(|(cached, model)| {
        let top_k = record.seed.submission.top_k;
        model.meaning().output(&cached.scores, top_k)
    });
    let cached = answer.is_some();
    Completion {
        id: record.seed.id,
        end: answer.map_or_else(otherwise, End::Succeeded),
        cost: Cost::default(),
        cached,
    }
}

//! Ends the records of jobs whose deadline has passed, so that every asynchronous job ends. Any gateway may do it, several at once
//! do no harm: the first to complete a record wins.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::cache::Cached;
use selvage_core::key::PredictionKey;
use selvage_core::outcome::Cost;
use selvage_core::program::repeat;
use selvage_core::store::{Completion, End, Record};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::service::gateway::Gateway;

/// Mean time between two turns.
const EVERY: Duration = Duration::from_secs(1);
/// Most records of one turn.
const MAX_TURN: usize = 200;
/// Longest time one turn may take.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// Takes turn after turn, until `stop` fires.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let turn = || async { timeout(TURN_LIMIT, turn(&gateway)).await? };
    repeat(EVERY, "read overdue jobs", &stop, turn).await;
}

/// Ends what is overdue now.
///
/// # Errors
/// When the store is away.
pub async fn turn(gateway: &Gateway) -> Result<(), BoxError> {
    let overdue = gateway.store.overdue(MAX_TURN).await?;
    if overdue.is_empty() {
        return Ok(());
    }
    let keys: Vec<PredictionKey> = overdue.iter().map(|record| record.seed.key).collect();
    let found = gateway.predictions.cache.get(&keys).await;
    let mut found = found.unwrap_or_default().into_iter();
    let ends = overdue
        .iter()
        .map(|record| completion(gateway, record, found.next().flatten(), || End::Expired));
    let completions: Vec<Completion> = ends.collect();
    let ended = gateway.store.complete(&completions).await?;
    for (completion, _) in completions.iter().zip(ended).filter(|(_, ended)| *ended) {
        let state = completion.end.state().as_str();
        gateway.metrics.swept.with_label_values(&[state]).inc();
        tracing::info!(job.id = %completion.id, state, "an overdue job was ended: {state}");
    }
    Ok(())
}

/// The end of a job that no worker will end any more: the answer, where it is there all the same, since nobody is better
/// served by less.
pub(crate) fn completion(
    gateway: &Gateway,
    record: &Record,
    cached: Option<Cached>,
    otherwise: impl FnOnce() -> End,
) -> Completion {
    let model = gateway.models.of_key(&record.seed.key);
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

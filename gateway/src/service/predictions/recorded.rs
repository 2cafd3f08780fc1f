//! Waiting for a job that has a record from its beginning, so that a repeat of its request finds it. It travels the way of
//! asynchronous jobs, whether its client waits or not. Knows no HTTP.

use selvage_core::job_state::JobState;
use selvage_core::outcome::{Failure, FailureCode};
use selvage_core::store::Record;

use super::{Answer, Finished, PredictError, PredictRequest, Predictions};
use crate::service::lifecycle::Phase;

impl Predictions {
    /// Records the job, or joins the one the same request made before, and waits for its end as long as the client does.
    pub(super) async fn answer_with_record(
        &self,
        request: &PredictRequest,
        known: Option<Finished>,
    ) -> Result<Answer, PredictError> {
        if self.life.phase() >= Phase::Draining {
            return Err(PredictError::Draining);
        }
        let known = known.and_then(|finished| finished.output(request));
        let Answer::Recorded(mut record) = self.submission(request, known).await? else {
            return Err(PredictError::Store(
                "an asynchronous job without a record".into(),
            ));
        };
        if request.wait.is_zero() {
            return Ok(Answer::Recorded(record));
        }
        if !record.state.is_terminal() {
            let ended = self
                .watch
                .ended(record.seed.id, request.began + request.wait)
                .await;
            *record = ended.unwrap_or(*record);
        }
        as_waited_for(*record)
    }
}

/// A client that waits gets an error for a failure or a cancellation.
fn as_waited_for(record: Record) -> Result<Answer, PredictError> {
    match record.state {
        JobState::Failed => Err(PredictError::Failed(record.failure.unwrap_or_else(|| {
            Failure::new(FailureCode::InferenceFailed, "no reason is known")
        }))),
        JobState::Canceled => Err(PredictError::Canceled),
        JobState::Queued | JobState::Running | JobState::Succeeded | JobState::Expired => {
            Ok(Answer::Recorded(Box::new(record)))
        }
    }
}

//! Where queued jobs stand, for people: places from the store, times from the pace of their line.

use std::time::Duration;

use selvage_core::job::Lane;
use selvage_core::store::{Record, State};
use tokio::time::timeout;

use crate::Gateway;
use crate::view::QueueView;

/// Longest time the store may take; then the lane's depth has to do.
const LIMIT: Duration = Duration::from_millis(500);

impl Gateway {
    /// Where a queued job stands; nowhere where it is not queued.
    pub async fn place_in_queue(&self, record: &Record) -> QueueView {
        let mut places = self.places_in_queue(&[record]).await;
        places.pop().unwrap_or_default()
    }

    /// Where each job stands that is queued.
    pub async fn places_in_queue(&self, records: &[&Record]) -> Vec<QueueView> {
        let is_queued = |record: &&&Record| record.state == State::Queued;
        let queued = records.iter().filter(is_queued);
        let asked: Vec<_> = queued
            .map(|record| (record.seed.model.clone(), record.seed.id))
            .collect();
        if asked.is_empty() {
            return vec![QueueView::default(); records.len()];
        }
        let mut places = match timeout(LIMIT, self.store.places(&asked)).await {
            Ok(Ok(places)) => places.into_iter(),
            Ok(Err(_)) | Err(_) => Vec::new().into_iter(),
        };
        let view = |record: &&Record| {
            if record.state == State::Queued {
                self.standing(record, places.next())
            } else {
                QueueView::default()
            }
        };
        records.iter().map(view).collect()
    }

    /// A job that has left its line since it was read is about to end; without a word from the store it stands behind all
    /// that its lane holds.
    fn standing(&self, record: &Record, place: Option<Option<u64>>) -> QueueView {
        let lanes = &self.predictions.lanes;
        let model = &record.seed.model;
        let position = match place {
            Some(place) => place.unwrap_or(1),
            None => lanes.depth(model, Lane::Batch).max(1),
        };
        let eta = lanes.eta(model, position);
        QueueView {
            position,
            eta_ms: u64::try_from(eta.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

//! Changes models while the gateway runs: follows the folder, and takes a new file once the workers have it.

use std::sync::Arc;

use selvage_core::catalog::follow::{Change, Follow};
use selvage_core::registry::{Members, ModelStatus};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::service::gateway::Gateway;

/// Notes what changes in the folder until `stop` fires.
pub async fn run(
    gateway: Arc<Gateway>,
    (follow, mut changes): (Follow, mpsc::Receiver<Change>),
    stop: CancellationToken,
) {
    let noting = async {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Now(model) => gateway.models.comes(&model),
                Change::Refused(Some(name)) => {
                    gateway.metrics.model_changed(&name, "refused");
                    let text =
                        format!("A new file of the model {name} was refused; the old one stays.");
                    let now = gateway.predictions.clock.now();
                    gateway.stats.note(now, "model_refused", true, text);
                }
                Change::Refused(None) => {}
            }
        }
    };
    tokio::join!(follow.run(stop), noting);
}

/// Takes what the workers hold, and shows who holds what.
pub(crate) fn look_at(gateway: &Gateway, members: &Members) {
    for model in gateway.models.take_over(members) {
        gateway.metrics.model_changed(&model.name, "taken");
        let text = format!(
            "The model {} was changed to version {}, {}: all its workers hold the new file, new jobs are for it.",
            model.name, model.version, model.digest
        );
        let now = gateway.predictions.clock.now();
        gateway.stats.note(now, "model_changed", false, text);
    }
    for model in gateway.models.catalog().models() {
        let held = members.workers.iter().flat_map(|worker| &worker.models);
        let held: Vec<&ModelStatus> = held.filter(|held| held.name == model.name).collect();
        let current = held.iter().filter(|held| held.is(model)).count();
        for (file, count) in [("current", current), ("other", held.len() - current)] {
            let labels = [model.name.as_str(), file];
            let gauge = gateway.metrics.model_workers.with_label_values(&labels);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

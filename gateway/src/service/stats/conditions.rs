//! Faults that last: what somebody on call would want to know now.

use std::time::Duration;

use selvage_core::job::{ModelName, Priority};
use selvage_core::registry::Members;

use super::dependencies::Dependencies;
use super::events::Condition;
use crate::service::gateway::Gateway;

/// A message that is waited for should be taken at once; one that is this old means that the workers do not keep up.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// All faults but lost workers.
pub(crate) fn of(app: &Gateway, found: Dependencies) -> Vec<Condition> {
    let members = app.predictions.queues.members();
    let mut all = dependencies(found);
    all.extend(members.iter().flat_map(|members| fleet(app, members)));
    all.extend(slow_queues(app));
    let dead_letters = app.metrics.dead_letters_kept.get();
    if dead_letters > 0 {
        let text = format!("Dead letters wait for somebody to look at them: {dead_letters}.");
        all.push(Condition::new("dead_letters", "fleet", text));
    }
    all
}

fn dependencies(found: Dependencies) -> Vec<Condition> {
    let texts = [
        (
            "broker",
            found.broker,
            "down",
            "The broker is down: no new job is accepted.",
        ),
        (
            "broker",
            found.broker,
            "blocked",
            "The broker takes no messages: it is short of memory or disk.",
        ),
        (
            "store",
            found.store,
            "down",
            "The store is down: synchronous requests are answered, asynchronous ones are rejected, and the list of processes is \
             out of date.",
        ),
        (
            "cache",
            found.cache,
            "down",
            "The cache is down: every image is computed.",
        ),
    ];
    let lasting = texts.into_iter().filter(|(_, state, bad, _)| state == bad);
    lasting
        .map(|(name, _, _, text)| Condition::new("dependency", name, text))
        .collect()
}

fn fleet(app: &Gateway, members: &Members) -> Vec<Condition> {
    let mut all = Vec::new();
    let live = |id: &str| !members.is_silent(id);
    let workers: Vec<_> = members.workers.iter().filter(|one| live(&one.id)).collect();
    let catalog = app.models.catalog();
    let held = |name: &ModelName| {
        let mut models = workers.iter().flat_map(|worker| &worker.models);
        models.any(|held| held.name == *name)
    };
    let names = catalog.models().iter().map(|model| &model.name);
    let missing: Vec<&str> = names
        .filter(|name| !held(name))
        .map(ModelName::as_str)
        .collect();
    if workers.is_empty() {
        let text = "No worker is there: jobs wait.";
        all.push(Condition::new("no_worker", "fleet", text));
    } else if !missing.is_empty() {
        let text = format!("No worker holds {}: jobs wait.", missing.join(", "));
        all.push(Condition::new("no_worker", "fleet", text));
    }
    let gateways = members.gateways.iter().filter(|one| live(&one.id));
    for gateway in gateways.filter(|one| one.status == "unready") {
        let text = format!("Gateway {} is not ready.", gateway.id);
        all.push(Condition::new("gateway_unready", &gateway.id, text));
    }
    all
}

fn slow_queues(app: &Gateway) -> Vec<Condition> {
    let queues = &app.predictions.queues;
    let catalog = app.models.catalog();
    let slow = catalog.models().iter().filter_map(|model| {
        let age = queues.oldest(&model.name, Priority::Interactive)?;
        (age > SLOW_AFTER).then(|| {
            let depth = queues.depth(&model.name, Priority::Interactive);
            let text = format!(
                "The interactive queue of {} fills: {depth} messages, the oldest waits {} s.",
                model.name,
                age.as_secs()
            );
            Condition::new("queue_filling", model.name.as_str(), text)
        })
    });
    slow.collect()
}

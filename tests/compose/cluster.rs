//! The cluster of `deploy/cluster/`: the node that leads a queue is killed, then Redis' primary, under load.

use std::time::Duration;

use anyhow::Context as _;
use selvage_tests::eventually;
use selvage_tests::history::History;
use selvage_tests::load::{Load, Mix};

use crate::engine::docker;
use crate::stack::Stack;

/// The queue that is to lose its leader: that of jobs.
const QUEUE: &str = "selvage.v1.fashion-mnist.batch";
const WORKERS: usize = 4;
const NODES: [&str; 3] = ["rabbitmq-1", "rabbitmq-2", "rabbitmq-3"];
/// With how their addresses end.
const REDIS: [(&str, &str); 2] = [("redis-1", ".11"), ("redis-2", ".12")];
/// Requests of each kind that have to be answered before the next loss.
const SERVED: usize = 40;
/// Longest time until a loss is made up for; a node that comes back takes half a minute on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) async fn on(stack: &Stack) -> anyhow::Result<()> {
    crate::build(stack)?;
    stack.compose(&["up", "--detach"])?;
    stack.wait_for(WORKERS).await?;
    let load = Load::start(&[stack.gateway()], Mix::default());
    let broken = lose_leaders(stack, &load.history()).await;
    crate::nothing_is_lost(stack, load, broken).await
}

async fn lose_leaders(stack: &Stack, history: &History) -> anyhow::Result<()> {
    serves(stack, history, "before any loss").await;
    let leader = leader_of(stack).context("no node says who leads the queue")?;
    kill(stack, &leader)?;
    let other = async || leader_of(stack).filter(|next| *next != leader);
    let next = eventually("another node leads the queue", LIMIT, other).await;
    let what = format!("{leader}, which led {QUEUE}, is killed; {next} leads it");
    serves(stack, history, &what).await;
    let primary = primary_of(stack).context("no sentinel says who is the primary")?;
    kill(stack, primary)?;
    let other = async || primary_of(stack).filter(|next| *next != primary);
    let next = eventually("another Redis is the primary", LIMIT, other).await;
    let what = format!("{primary}, the primary of Redis, is killed; {next} is it");
    serves(stack, history, &what).await;
    stack.compose(&["up", "--detach", "--no-recreate"])?;
    let back = async || (nodes(stack) == NODES.len() && has_replica(stack, next)).then_some(());
    eventually("what was killed is back", LIMIT, back).await;
    stack.wait_for(WORKERS).await?;
    serves(stack, history, "both have come back").await;
    Ok(())
}

/// Waits until so many more requests of both kinds, those that wait and those for jobs, are answered.
async fn serves(stack: &Stack, history: &History, what: &str) {
    let before = history.verdict();
    let served = async || {
        let now = history.verdict();
        let more = (now.answered - before.answered).min(now.accepted - before.accepted);
        (more >= SERVED).then_some(now)
    };
    let now = eventually(what, LIMIT, served).await;
    // Whether any is lost is known at the end only.
    let (accepted, answered, refused) = (now.accepted, now.answered, now.refused);
    stack.say(&format!(
        "{what}: so far accepted {accepted}, answered at once {answered}, refused {refused}"
    ));
}

/// Ends a container as a crash would. No restart policy brings it back: to the engine this is what somebody wanted.
fn kill(stack: &Stack, service: &str) -> anyhow::Result<()> {
    for container in stack.containers(service)? {
        docker(&["kill", "--signal", "KILL", &container])?;
    }
    Ok(())
}

/// The first answer that any of these services gives to a command run in its container.
fn asked(stack: &Stack, services: &[&str], command: &[&str]) -> Option<String> {
    services.iter().find_map(|service| {
        let container = stack.containers(service).ok()?.swap_remove(0);
        docker(&[&["exec", &container], command].concat()).ok()
    })
}

/// The node that leads the queue, as a node that is there says.
fn leader_of(stack: &Stack) -> Option<String> {
    let list = [
        "rabbitmqctl",
        "--quiet",
        "list_queues",
        "--no-table-headers",
        "name",
        "leader",
    ];
    let queues = asked(stack, &NODES, &list)?;
    let leader = queues.lines().find_map(|queue| queue.strip_prefix(QUEUE))?;
    Some(leader.trim().strip_prefix("rabbit@")?.to_owned())
}

/// How many nodes the cluster consists of.
fn nodes(stack: &Stack) -> usize {
    let status = [
        "rabbitmqctl",
        "--quiet",
        "cluster_status",
        "--formatter",
        "json",
    ];
    let status = asked(stack, &NODES, &status).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    status["running_nodes"].as_array().map_or(0, Vec::len)
}

/// The Redis that the sentinels hold to be the primary.
fn primary_of(stack: &Stack) -> Option<&'static str> {
    let question = "redis-cli -p 26379 sentinel get-master-addr-by-name main".split(' ');
    let question: Vec<&str> = question.collect();
    let answer = asked(
        stack,
        &["sentinel-1", "sentinel-2", "sentinel-3"],
        &question,
    )?;
    let address = answer.lines().next()?;
    let name = REDIS.iter().find(|(_, last)| address.ends_with(last));
    name.map(|(name, _)| *name)
}

/// Whether the primary has a replica that takes part.
fn has_replica(stack: &Stack, primary: &str) -> bool {
    let info = asked(stack, &[primary], &["redis-cli", "info", "replication"]);
    info.is_some_and(|info| info.contains("role:master") && info.contains("state=online"))
}

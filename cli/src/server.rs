//! `selvage models` and `selvage status`: what the server can do, and whether it does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::arguments::Look;
use crate::bounds::{Bounds, Interrupt, LOOK_LIMIT};
use crate::client::{Answer, Call, Client};
use crate::console::Console;
use crate::failure::{Exit, Failure};
use crate::output::{self, Row};

#[derive(Deserialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    version: String,
    default: bool,
    description: String,
    labels: Vec<String>,
    /// Unknown while the server cannot ask.
    workers: Option<Vec<Holder>>,
}

/// A worker with one of the model's files.
#[derive(Deserialize)]
struct Holder {
    id: String,
}

/// Lists the models.
pub(crate) async fn models(asked: &Look, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let client = Client::new(&asked.server)?;
    let answer = look(&client, "/models", interrupt).await?;
    let (raw, list) = answer.read::<Models>(&client)?;
    output::one(asked.output.format, &raw, || {
        list.models.iter().map(Model::row).collect()
    })?;
    Ok(Exit::Success)
}

impl Model {
    fn row(&self) -> Row {
        let count = |holders: &Vec<Holder>| {
            let ids: BTreeSet<&str> = holders.iter().map(|holder| holder.id.as_str()).collect();
            ids.len().to_string()
        };
        let workers = self.workers.as_ref().map(count);
        Row::new()
            .with("MODEL", &self.name)
            .with("VERSION", &self.version)
            .with("DEFAULT", if self.default { "yes" } else { "" })
            .number("LABELS", &self.labels.len())
            .number("WORKERS", &workers.unwrap_or_else(|| "?".to_owned()))
            .with("DESCRIPTION", &self.description)
    }
}

#[derive(Deserialize)]
struct Ready {
    status: String,
    mode: String,
    checks: Checks,
}

#[derive(Deserialize)]
struct Checks {
    broker: String,
    store: String,
    models: usize,
    workers: Option<usize>,
}

/// Tells whether the server is ready; one that is not is an answer, too, and the code says so.
pub(crate) async fn status(asked: &Look, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let client = Client::new(&asked.server)?;
    let answer = look(&client, "/readyz", interrupt).await?;
    let (raw, ready) = answer.read::<Ready>(&client)?;
    output::one(asked.output.format, &raw, || vec![ready.row(client.url())])?;
    Ok(if answer.status == 200 {
        Exit::Success
    } else {
        Exit::Busy
    })
}

impl Ready {
    fn row(&self, url: &str) -> Row {
        let workers = self.checks.workers.map(|count| count.to_string());
        Row::new()
            .with("SERVER", url)
            .with("STATUS", &self.status)
            .with("MODE", &self.mode)
            .with("BROKER", &self.checks.broker)
            .with("STORE", &self.checks.store)
            .number("MODELS", &self.checks.models)
            .number("WORKERS", &workers.unwrap_or_else(|| "?".to_owned()))
    }
}

async fn look(client: &Client, path: &str, interrupt: &Interrupt) -> Result<Answer, Failure> {
    let console = Console::plain();
    let deadline = Instant::now() + LOOK_LIMIT;
    let call = Call::get(path, deadline).any_status(path == "/readyz");
    let topic = console.about(client.url());
    let bounds = Bounds {
        interrupt,
        deadline,
    };
    bounds.run(Duration::ZERO, client.send(&call, &topic)).await
}

//! `selvage models` and `selvage status`: the server's models, and whether it is ready.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::arguments::Look;
use crate::bounds::LOOK_LIMIT;
use crate::client::{Answer, Call, Client};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::Verbatim;
use crate::output::{self, Row};
use serde::Deserialize;

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
pub(crate) async fn models(asked: &Look, context: &Context) -> Result<Exit, Failure> {
    let client = Client::new(&asked.server, &context.console)?;
    let answer = look(&client, "/models", context).await?;
    let Verbatim { raw, seen } = answer.read::<Verbatim<Models>>(&client)?;
    output::one(asked.output.format(), &raw, || {
        seen.models.iter().map(Model::row).collect()
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

/// Shows whether the server is ready; the exit code says so, too.
pub(crate) async fn status(asked: &Look, context: &Context) -> Result<Exit, Failure> {
    let client = Client::new(&asked.server, &context.console)?;
    let answer = look(&client, "/readyz", context).await?;
    let Verbatim { raw, seen } = answer.read::<Verbatim<Ready>>(&client)?;
    output::one(asked.output.format(), &raw, || vec![seen.row(client.url())])?;
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

async fn look(client: &Client, path: &str, context: &Context) -> Result<Answer, Failure> {
    let bounds = context.bounds(LOOK_LIMIT);
    let call = Call::get(path, bounds.deadline).any_status(path == "/readyz");
    let topic = context.console.about(client.url());
    bounds.run(Duration::ZERO, client.send(&call, &topic)).await
}

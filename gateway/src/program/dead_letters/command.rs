//! `selvage-gateway dead-letters`: lists, replays and purges the dead letters of a fleet, by its broker and its store.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::program::StartError;
use tokio_util::task::TaskTracker;

use super::arguments::{Action, DeadLettersCommand};
use crate::program::config::{Mode, Settings};
use crate::program::fleet;
use crate::program::run::open_models;
use crate::service::dead_letters::{DeadLetterService, DeadLetterView, Page};
use crate::service::gateway::Backends;
use crate::service::metrics::Metrics;
use crate::service::models::Models;
use crate::service::submit::Submitter;

impl DeadLettersCommand {
    /// Does it, and writes what came of it to `out`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn run(&self, settings: &Settings, out: impl Write) -> Result<(), StartError> {
        let mode = settings.mode();
        let mode = mode.map_err(|error| StartError::Usage(error.into()))?;
        let (Mode::Fleet, Some(amqp), Some(redis)) =
            (mode, &settings.shared.amqp_url, &settings.shared.redis_url)
        else {
            return Err(StartError::Usage(anyhow::anyhow!(
                "set --amqp-url / SELVAGE_AMQP_URL and --redis-url / SELVAGE_REDIS_URL to those of the fleet; the \
                 dead letters of an embedded gateway are in its process: ask it for /admin/dead-letters"
            )));
        };
        let models = open_models(settings)?;
        let registry = Registry::new();
        let catalog = models.catalog();
        let backends = fleet::open(settings, (amqp, redis), &catalog, &registry).await?;
        let done = match service(settings, models, &backends, &registry) {
            Ok(service) => self.act(&service, &backends, out).await,
            Err(error) => Err(error.into()),
        };
        backends.queue.close().await;
        done.map_err(StartError::Internal)
    }

    async fn act(
        &self,
        service: &DeadLetterService,
        backends: &Backends,
        mut out: impl Write,
    ) -> anyhow::Result<()> {
        match &self.action {
            Action::List { limit, offset } => {
                let page = service.list(*offset, *limit).await?;
                let arrived = backends.dead_letter_queue.count().await?;
                write_page(&page, arrived, &mut out)?;
            }
            Action::Replay { ids, all: false } => {
                for id in ids {
                    let record = service.replay(*id, None).await?;
                    writeln!(out, "{id} replayed as {}", record.seed.id)?;
                }
            }
            Action::Replay { all: true, .. } => {
                let replayed = service.replay_all(u64::MAX, None).await?;
                for (id, job) in &replayed.jobs {
                    writeln!(out, "{id} replayed as {job}")?;
                }
                let (done, skipped) = (replayed.jobs.len(), replayed.skipped);
                writeln!(out, "{done} replayed, {skipped} cannot be replayed")?;
                if let Some(error) = replayed.stopped {
                    out.flush()?;
                    return Err(error).context("the other dead letters stay");
                }
            }
            Action::Purge => {
                let purged = service.purge().await?;
                writeln!(out, "{purged} dead letters thrown away")?;
            }
        }
        Ok(out.flush()?)
    }
}

/// The dead letters of a fleet, without a gateway around them.
fn service(
    settings: &Settings,
    models: Models,
    backends: &Backends,
    registry: &Registry,
) -> prometheus::Result<DeadLetterService> {
    let limits = settings.limits();
    let clock = backends.clock.clone();
    let submitted = Submitter::new(
        (
            Arc::clone(&backends.store),
            Arc::clone(&backends.queue),
            clock.clone(),
        ),
        limits.retention,
        TaskTracker::new(),
        Metrics::register(registry)?,
    );
    let dead_letters = Arc::clone(&backends.dead_letters);
    Ok(DeadLetterService::new(
        dead_letters,
        submitted,
        models,
        clock,
        limits.job_deadline,
    ))
}

fn write_page(page: &Page, arrived: u64, out: &mut impl Write) -> io::Result<()> {
    let heads = [
        "ID", "REASON", "ATTEMPTS", "MODEL", "PRIORITY", "BYTES", "DIED",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(page.items.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    writeln!(out, "{} of {} dead letters", page.items.len(), page.total)?;
    if arrived > 0 {
        writeln!(out, "{arrived} more wait for a gateway to take them in")?;
    }
    Ok(())
}

fn row(dead_letter: &DeadLetterView) -> [String; 7] {
    let model = dead_letter
        .model
        .as_ref()
        .map_or("-", |model| model.as_str());
    let priority = dead_letter
        .priority
        .map_or("-", |priority| priority.as_str());
    [
        dead_letter.id.to_string(),
        dead_letter.reason.as_str().to_owned(),
        dead_letter.attempts.to_string(),
        model.to_owned(),
        priority.to_owned(),
        dead_letter.size.to_string(),
        dead_letter.died_at.to_string(),
    ]
}

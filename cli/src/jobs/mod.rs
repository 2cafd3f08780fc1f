//! `selvage jobs`: looking at submitted jobs, waiting for them, canceling them.

mod list;

use std::time::Duration;

use tokio::time::Instant;

use crate::arguments::{Jobs, OneJob, WaitedJob};
use crate::bounds::{Bounds, Interrupt, LOOK_LIMIT};
use crate::client::{Call, Client};
use crate::console::{Console, Topic};
use crate::failure::{Exit, Failure};
use crate::job::Job;
use crate::output::{self, Row};
use crate::wait::Wait;

/// Runs one of the commands.
pub(crate) async fn run(asked: &Jobs, interrupt: &Interrupt) -> Result<Exit, Failure> {
    match asked {
        Jobs::Get(asked) => {
            let job = one(asked, LOOK_LIMIT, interrupt, async |wait, id| {
                wait.now(id).await
            });
            show(asked, &job.await?)?;
            Ok(Exit::Success)
        }
        Jobs::Wait(WaitedJob { job, patience }) => {
            let span = patience.span();
            let ended = one(job, span, interrupt, async |wait, id| wait.poll(id).await);
            end(job, ended.await)
        }
        Jobs::Follow(WaitedJob { job, patience }) => {
            let span = patience.span();
            let ended = one(job, span, interrupt, async |wait, id| wait.follow(id).await);
            end(job, ended.await)
        }
        Jobs::Cancel(asked) => cancel(asked, interrupt).await,
        Jobs::List(asked) => list::run(asked, interrupt).await,
    }
}

/// Does something with one job, unless the user wants an end.
async fn one(
    asked: &OneJob,
    span: Duration,
    interrupt: &Interrupt,
    work: impl AsyncFn(&Wait<'_>, &str) -> Result<Job, Failure>,
) -> Result<Job, Failure> {
    let (client, console) = (Client::new(&asked.server)?, Console::plain());
    let id = asked.id.to_string();
    let deadline = Instant::now() + span;
    let topic = console.about(&id);
    let wait = Wait {
        client: &client,
        topic,
        deadline,
    };
    let bounds = Bounds {
        interrupt,
        deadline,
    };
    bounds.run(Duration::ZERO, work(&wait, &id)).await
}

async fn cancel(asked: &OneJob, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let job = one(asked, LOOK_LIMIT, interrupt, async |wait, id| {
        let call = Call::post(format!("/jobs/{id}/cancel"), wait.deadline);
        let answer = wait.client.send(&call, &wait.topic).await?;
        answer.job(wait.client)
    });
    let job = job.await?;
    if !job.has_ended() {
        topic(&Console::plain(), &job).say("it is being computed, and has been asked to stop");
    }
    show(asked, &job)?;
    Ok(Exit::Success)
}

/// Shows a job that was waited for, and says why it has no answer.
fn end(asked: &OneJob, ended: Result<Job, Failure>) -> Result<Exit, Failure> {
    let job = ended.map_err(|failure| failure.leaving(&asked.id.to_string()))?;
    show(asked, &job)?;
    if job.is_lost() {
        topic(&Console::plain(), &job).say(job.reason());
        return Ok(Exit::Failed);
    }
    Ok(Exit::Success)
}

fn topic<'a>(console: &'a Console, job: &'a Job) -> Topic<'a> {
    console.about(&job.seen.id)
}

fn show(asked: &OneJob, job: &Job) -> Result<(), Failure> {
    output::one(asked.output.format, &job.raw, || vec![Row::of_job(job)])
}

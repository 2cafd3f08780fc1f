//! `selvage jobs`: shows submitted jobs, waits for them, cancels them.

mod list;

use std::time::Duration;

use crate::arguments::{Jobs, OneJob, WaitedJob};
use crate::bounds::LOOK_LIMIT;
use crate::client::{Call, Client};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::Job;
use crate::output::{self, Row};
use crate::wait::Wait;

/// Runs one of the commands.
pub(crate) async fn run(asked: &Jobs, context: &Context) -> Result<Exit, Failure> {
    match asked {
        Jobs::Get(asked) => {
            let job = one(asked, LOOK_LIMIT, context, async |wait, id| {
                wait.now(id).await
            });
            show(asked, &job.await?)?;
            Ok(Exit::Success)
        }
        Jobs::Wait(WaitedJob { job, patience }) => {
            let span = patience.span();
            let ended = one(job, span, context, async |wait, id| wait.poll(id).await);
            end(job, ended.await, context)
        }
        Jobs::Follow(WaitedJob { job, patience }) => {
            let span = patience.span();
            let ended = one(job, span, context, async |wait, id| wait.follow(id).await);
            end(job, ended.await, context)
        }
        Jobs::Cancel(asked) => cancel(asked, context).await,
        Jobs::List(asked) => list::run(asked, context).await,
    }
}

/// Does something with one job, within its bounds.
async fn one(
    asked: &OneJob,
    span: Duration,
    context: &Context,
    work: impl AsyncFn(&Wait<'_>, &str) -> Result<Job, Failure>,
) -> Result<Job, Failure> {
    let client = Client::new(&asked.server, &context.console)?;
    let id = asked.id.to_string();
    let bounds = context.bounds(span);
    let wait = Wait {
        client: &client,
        topic: context.console.about(&id),
        deadline: bounds.deadline,
    };
    bounds.run(Duration::ZERO, work(&wait, &id)).await
}

async fn cancel(asked: &OneJob, context: &Context) -> Result<Exit, Failure> {
    let job = one(asked, LOOK_LIMIT, context, async |wait, id| {
        let call = Call::post(format!("/jobs/{id}/cancel"), wait.deadline);
        let answer = wait.client.send(&call, &wait.topic).await?;
        answer.read(wait.client)
    });
    let job = job.await?;
    if !job.has_ended() {
        let topic = context.console.about(&job.seen.id);
        topic.note("is running, and was asked to stop");
    }
    show(asked, &job)?;
    Ok(Exit::Success)
}

/// Shows a job that was waited for, and prints why it has no result.
fn end(asked: &OneJob, ended: Result<Job, Failure>, context: &Context) -> Result<Exit, Failure> {
    let job = ended.map_err(|failure| failure.leaving(&asked.id.to_string()))?;
    show(asked, &job)?;
    if job.is_lost() {
        context.console.about(&job.seen.id).say(job.reason());
        return Ok(Exit::Failed);
    }
    Ok(Exit::Success)
}

fn show(asked: &OneJob, job: &Job) -> Result<(), Failure> {
    output::one(asked.output.format(), &job.raw, || vec![Row::of_job(job)])
}

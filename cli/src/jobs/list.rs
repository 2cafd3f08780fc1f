//! `selvage jobs list`: lists the caller's jobs, page by page.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::arguments::ListedJobs;
use crate::bounds::LOOK_LIMIT;
use crate::client::{Call, Client};
use crate::console::Topic;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::Job;
use crate::output::{List, Row};

/// The most jobs the server lists in one answer.
const LARGEST_PART: usize = 100;

/// A page of the list.
#[derive(Deserialize)]
struct Part {
    items: Vec<Job>,
    /// The cursor of the next page; none after the last.
    next_cursor: Option<String>,
}

/// Lists the jobs.
pub(super) async fn run(asked: &ListedJobs, context: &Context) -> Result<Exit, Failure> {
    let client = Client::new(&asked.server, &context.console)?;
    let bounds = context.bounds(LOOK_LIMIT);
    let topic = context.console.about(client.url());
    let jobs = read(&client, asked, bounds.deadline, topic);
    let jobs = bounds.run(Duration::ZERO, jobs).await?;
    let mut output = List::new(asked.output.format());
    for job in &jobs {
        output.add(&job.raw, vec![Row::of_job(job)])?;
    }
    output.end()?;
    Ok(Exit::Success)
}

/// Reads pages until there are enough jobs, or no more; a page may be empty without being the last.
async fn read(
    client: &Client,
    asked: &ListedJobs,
    deadline: Instant,
    topic: Topic<'_>,
) -> Result<Vec<Job>, Failure> {
    let (mut jobs, mut cursor) = (Vec::new(), None);
    let limit = usize::from(asked.limit);
    loop {
        let part = (limit - jobs.len()).min(LARGEST_PART);
        let call = Call::get("/jobs", deadline)
            .query("status", asked.status.map(|status| status.as_str()))
            .query("limit", Some(part))
            .query("cursor", cursor);
        let answer = client.send(&call, &topic).await?;
        let part: Part = answer.read(client)?;
        let left = limit - jobs.len();
        jobs.extend(part.items.into_iter().take(left));
        cursor = part.next_cursor;
        if cursor.is_none() || jobs.len() >= limit {
            return Ok(jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command, Jobs};
    use crate::console::Console;
    use crate::testing::{Scripted, answer};

    fn part(ids: &[&str], next: &str) -> String {
        let job = |id: &&str| {
            format!(r#"{{"id":"{id}","status":"queued","output":null,"error":null,"queue":null}}"#)
        };
        let items: Vec<String> = ids.iter().map(job).collect();
        let body = format!(r#"{{"items":[{}],"next_cursor":{next}}}"#, items.join(","));
        answer("200 x", "", &body)
    }

    async fn listed(server: &Scripted, more: &[&str]) -> Vec<String> {
        let line = ["selvage", "jobs", "list", "--url", &server.url];
        let parsed = Arguments::parse_from(line.iter().chain(more));
        let Command::Jobs(Jobs::List(asked)) = parsed.command else {
            panic!("another command");
        };
        let deadline = Instant::now() + LOOK_LIMIT;
        let (client, console) = (server.client(), Console::new(false));
        let jobs = read(&client, &asked, deadline, console.about("jobs"));
        let jobs = jobs.await.unwrap();
        jobs.into_iter().map(|job| job.seen.id).collect()
    }

    #[tokio::test]
    async fn parts_are_read_until_the_last() {
        let answers = [
            part(&["3"], "\"3\""),
            part(&[], "\"2\""),
            part(&["1"], "null"),
        ];
        let server = Scripted::start(&answers.each_ref().map(String::as_str)).await;
        assert_eq!(listed(&server, &["--status", "queued"]).await, ["3", "1"]);
        let requests = server.requests();
        assert!(requests[0].starts_with("GET /jobs?status=queued&limit=20 "));
        assert!(requests[1].starts_with("GET /jobs?status=queued&limit=19&cursor=3 "));
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_asked_for() {
        let server = Scripted::start(&[&part(&["3", "2"], "\"2\"")]).await;
        assert_eq!(listed(&server, &["--limit", "2"]).await, ["3", "2"]);
    }
}

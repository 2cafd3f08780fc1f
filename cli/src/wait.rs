//! A job to its end: by long polls, or by its events.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Call, Client, Events};
use crate::console::Topic;
use crate::failure::Failure;
use crate::job::Job;

/// Longest time one call is held: proxies close what is silent for a minute.
pub(crate) const LONGEST_POLL: Duration = Duration::from_secs(30);
/// Least time between the beginnings of two polls, whatever the server does.
const BETWEEN_POLLS: Duration = Duration::from_secs(1);
/// When to come back to a broken stream, unless the server says another time.
const COME_BACK: Duration = Duration::from_secs(2);
/// Streams that may break in a row without an event, before long polls take over.
const MOST_BREAKS: u32 = 3;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One wait for one job.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    pub(crate) client: &'a Client,
    pub(crate) topic: Topic<'a>,
    /// When the user's patience ends.
    pub(crate) deadline: Instant,
}

/// How a stream came to its end.
enum Streamed {
    /// With the job's.
    Completed(Box<Job>),
    /// Without it, after so many events.
    Broken(u32),
    /// There is none to be had.
    None,
}

impl Wait<'_> {
    /// The job's state now.
    pub(crate) async fn now(&self, id: &str) -> Result<Job, Failure> {
        self.job(&Call::get(format!("/jobs/{id}"), self.deadline))
            .await
    }

    /// Asks again and again, each time until the job has ended or a while has passed.
    pub(crate) async fn poll(&self, id: &str) -> Result<Job, Failure> {
        loop {
            let begun = Instant::now();
            let left = self.deadline.saturating_duration_since(begun);
            if left.is_zero() {
                return Err(Failure::TimedOut);
            }
            let call = Call::get(format!("/jobs/{id}"), self.deadline);
            let job = self.job(&call.wait(left.min(LONGEST_POLL))).await?;
            if job.has_ended() {
                return Ok(job);
            }
            sleep_until((begun + BETWEEN_POLLS).min(self.deadline)).await;
        }
    }

    /// Tells each change, from the job's events; where they cannot be had, long polls take over.
    pub(crate) async fn follow(&self, id: &str) -> Result<Job, Failure> {
        let mut seen = Seen::default();
        let mut breaks = 0;
        while breaks < MOST_BREAKS {
            match self.stream(id, &mut seen).await? {
                Streamed::Completed(job) => return Ok(*job),
                Streamed::None => break,
                Streamed::Broken(0) => breaks += 1,
                Streamed::Broken(_) => breaks = 1,
            }
            sleep(seen.come_back.unwrap_or(COME_BACK)).await;
        }
        self.poll(id).await
    }

    async fn stream(&self, id: &str, seen: &mut Seen) -> Result<Streamed, Failure> {
        let mut call = Call::get(format!("/jobs/{id}/events"), self.deadline);
        if let Some(last) = &seen.last {
            call = call.header(LAST_EVENT_ID, last.clone());
        }
        let response = match self.client.open(&call, &self.topic).await {
            Ok(response) => response,
            // What is between here and there may know of no events.
            Err(Failure::NotSelvage { .. }) => return Ok(Streamed::None),
            Err(failure) => return Err(failure),
        };
        // The end has been seen before: the job itself says which.
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Streamed::None);
        }
        let Some(mut events) = Events::of(response) else {
            return Ok(Streamed::None);
        };
        let mut count = 0;
        while let Some(event) = events.next().await {
            let id = event.id.and_then(|id| HeaderValue::try_from(id).ok());
            seen.last = id.or(seen.last.take());
            seen.come_back = event.retry.or(seen.come_back);
            let Some(job) = event.job else { continue };
            count += 1;
            self.topic.note(job.standing());
            if job.has_ended() {
                return Ok(Streamed::Completed(Box::new(job)));
            }
        }
        Ok(Streamed::Broken(count))
    }

    async fn job(&self, call: &Call) -> Result<Job, Failure> {
        let answer = self.client.send(call, &self.topic).await?;
        answer.read(self.client)
    }
}

/// What is known from one stream to the next.
#[derive(Debug, Default)]
struct Seen {
    last: Option<HeaderValue>,
    come_back: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;
    use crate::testing::{Scripted, answer};

    const QUEUED: &str = r#"{"id":"7","status":"queued","output":null,"error":null,"queue":null}"#;
    const ENDED: &str = r#"{"id":"7","status":"canceled","output":null,"error":null,"queue":null}"#;

    async fn follow(server: &Scripted) -> Result<Job, Failure> {
        let (client, console) = (server.client(), Console::new(false));
        let wait = Wait {
            client: &client,
            topic: console.about("7"),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        wait.follow("7").await
    }

    fn events(text: &str) -> String {
        answer("200 x", "content-type: text/event-stream\r\n", text)
    }

    fn paths(server: &Scripted) -> Vec<String> {
        let path = |request: &String| request.split(' ').nth(1).unwrap().to_owned();
        server.requests().iter().map(path).collect()
    }

    #[tokio::test]
    async fn a_broken_stream_is_resumed_after_the_last_event() {
        let first = events(&format!(
            "retry: 1\nid: queued.0\ndata: {QUEUED}\n\n: comment\n\n"
        ));
        let rest = events(&format!("id: canceled.0\ndata: {ENDED}\n\n"));
        let server = Scripted::start(&[&first, &rest]).await;
        assert!(follow(&server).await.unwrap().is_lost());
        let requests = server.requests();
        assert!(!requests[0].contains("last-event-id"));
        assert!(
            requests[1].contains("last-event-id: queued.0"),
            "{}",
            requests[1]
        );
    }

    #[tokio::test]
    async fn polls_take_over_where_no_events_come() {
        let html = answer("200 x", "content-type: text/html\r\n", "<html>");
        let unknown = answer("404 x", "", "<html>");
        let seen = answer("204 x", "", "");
        for nothing in [html, unknown, seen] {
            let server = Scripted::start(&[&nothing, &answer("200 x", "", ENDED)]).await;
            assert!(follow(&server).await.unwrap().is_lost());
            assert_eq!(paths(&server), ["/jobs/7/events", "/jobs/7?wait=30"]);
        }
    }

    #[tokio::test]
    async fn streams_that_break_again_and_again_are_given_up() {
        let silent = events("retry: 1\n\n");
        let poll = answer("200 x", "", ENDED);
        let server = Scripted::start(&[&silent, &silent, &silent, &poll]).await;
        assert!(follow(&server).await.unwrap().has_ended());
        assert_eq!(paths(&server).len(), 4);
    }

    #[tokio::test]
    async fn an_unknown_job_is_said_at_once() {
        let body = r#"{"title":"There is no such job","status":404,"code":"job_not_found"}"#;
        let server = Scripted::start(&[&answer("404 x", "", body)]).await;
        assert_eq!(follow(&server).await.unwrap_err().code(), "job_not_found");
    }
}

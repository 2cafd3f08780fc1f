//! Calls of the HTTP API: sent, tried again while that makes sense, and their problems read. What to ask is elsewhere.

mod call;
mod events;
mod retry;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Response, redirect};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

pub(crate) use self::call::Call;
pub(crate) use self::events::Events;
use self::retry::{Refusal, Tries};
use crate::arguments::Server;
use crate::console::Topic;
use crate::failure::{Failure, Problem};
use crate::job::Job;

/// Longest time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for an answer, beyond what the server was asked to wait: an image over a slow line takes its time.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for the body of an answer whose head has come.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Answers are some kilobytes; a server that sends more than this is no Selvage.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    tries: u32,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A client of the server that the command line names.
    pub(crate) fn new(server: &Server) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        headers.extend(server.authorization()?.map(|key| (AUTHORIZATION, key)));
        let http = reqwest::Client::builder()
            .user_agent(concat!("selvage/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_LIMIT)
            // A key is shown to the server that was named, to no other.
            .redirect(redirect::Policy::none())
            .build();
        Ok(Self {
            http: http.map_err(|cause| Failure::Here(format!("HTTP cannot be spoken: {cause}")))?,
            url: server.url.clone(),
            tries: server.tries,
        })
    }

    /// The server's address, as it was given.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Sends a call, again and again within its bounds, and reads the answer to it.
    pub(crate) async fn send(&self, call: &Call, topic: &Topic<'_>) -> Result<Answer, Failure> {
        self.within_tries(call, topic, async |mut response| {
            let status = response.status().as_u16();
            let body = body(&mut response).await;
            body.map(|body| Answer { status, body })
                .map_err(|cause| Refusal::unreachable(self.url(), cause))
        })
        .await
    }

    /// The same for an answer that goes on: only its head is waited for.
    pub(crate) async fn open(&self, call: &Call, topic: &Topic<'_>) -> Result<Response, Failure> {
        self.within_tries(call, topic, async |response| Ok(response))
            .await
    }

    async fn within_tries<T>(
        &self,
        call: &Call,
        topic: &Topic<'_>,
        read: impl AsyncFn(Response) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        let mut tries = Tries::of(self.tries);
        loop {
            let answered = match self.attempt(call).await {
                Ok(response) => read(response).await,
                Err(refusal) => Err(refusal),
            };
            let refusal = match answered {
                Ok(read) => return Ok(read),
                Err(refusal) => refusal,
            };
            let Some(delay) = tries.next(&refusal) else {
                return Err(refusal.failure);
            };
            if Instant::now() + delay > call.deadline {
                return Err(refusal.failure);
            }
            let seconds = delay.as_secs_f64();
            topic.mention(format_args!(
                "{}, retrying in {seconds:.1} s ({tries})",
                refusal.failure.code()
            ));
            sleep(delay).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Response, Refusal> {
        let mut url = self.url.clone();
        url.set_path(&format!(
            "{}{}",
            self.url.path().trim_end_matches('/'),
            call.path
        ));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let request = self.http.request(call.method.clone(), url);
        let request = request
            .headers(call.headers.clone())
            .body(call.body.clone());
        let sent = timeout(call.wait + ANSWER_LIMIT, request.send()).await;
        let sent = sent.map_err(|_| Refusal::unreachable(self.url(), "it is silent".to_owned()))?;
        let response = sent.map_err(|error| Refusal::unreachable(self.url(), innermost(&error)))?;
        if response.status().is_success() || call.any_status {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Reads what an answer that is not good says.
    async fn refusal(&self, mut response: Response) -> Refusal {
        let status = response.status().as_u16();
        let retry_after = retry::retry_after(response.headers());
        let location = response.headers().get(LOCATION);
        let location = location
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = body(&mut response).await.unwrap_or_default();
        let failure = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Failure::Problem(problem),
            Err(_) => Failure::NotSelvage {
                url: self.url().to_owned(),
                status,
                hint: location
                    .map(|to| format!(" (it points to {to})"))
                    .unwrap_or_default(),
            },
        };
        Refusal {
            failure,
            status: Some(status),
            retry_after,
        }
    }
}

impl Answer {
    /// The answer's JSON and what is read of it, or that it is none of Selvage's.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        client: &Client,
    ) -> Result<(Box<RawValue>, T), Failure> {
        let raw = serde_json::from_slice::<Box<RawValue>>(&self.body);
        let read = raw.and_then(|raw| Ok((serde_json::from_str(raw.get())?, raw)));
        let (seen, raw) = read.map_err(|_| self.not_selvage(client))?;
        Ok((raw, seen))
    }

    /// The answer's job.
    pub(crate) fn job(&self, client: &Client) -> Result<Job, Failure> {
        let (raw, seen) = self.read(client)?;
        Ok(Job { raw, seen })
    }

    /// A job among others in the answer.
    pub(crate) fn job_of(&self, client: &Client, raw: Box<RawValue>) -> Result<Job, Failure> {
        let seen = serde_json::from_str(raw.get()).map_err(|_| self.not_selvage(client))?;
        Ok(Job { raw, seen })
    }

    fn not_selvage(&self, client: &Client) -> Failure {
        Failure::NotSelvage {
            url: client.url().to_owned(),
            status: self.status,
            hint: String::new(),
        }
    }
}

/// The whole body, within its limits.
async fn body(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err("its answer has no end".to_owned());
            }
        }
        Ok(())
    };
    match timeout(BODY_LIMIT, read).await {
        Ok(read) => read.map(|()| body),
        Err(_) => Err("its answer does not come to an end".to_owned()),
    }
}

/// The cause that says most: libraries wrap it in what they were doing.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;

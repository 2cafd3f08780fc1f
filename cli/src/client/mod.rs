//! Calls of the HTTP API: sends them, retries them while that makes sense, and reads their problems.

mod call;
mod events;
mod proxy;
mod retry;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Response, redirect};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tower::util::MapFutureLayer;
use url::Url;

pub(crate) use self::call::Call;
pub(crate) use self::events::Events;
use self::retry::Refusal;
use crate::arguments::Server;
use crate::console::{Console, Topic};
use crate::failure::{Failure, Problem};

/// Longest time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After this time without a connection, the user is notified.
const CONNECT_NOTICE: Duration = Duration::from_millis(500);
/// Longest time for an answer, beyond what the server was asked to wait: sending an image can be slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for the body of an answer whose head has come.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Answers are some kilobytes; a server that sends more than this is not Selvage.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    /// The address in messages; names the proxy, if there is one.
    shown: String,
    is_proxied: bool,
    /// Attempts, if the user has set them.
    attempts: Option<u32>,
    /// Whether the server has ever been reached.
    is_reached: AtomicBool,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A client of the server that the command line names.
    pub(crate) fn new(server: &Server, console: &Console) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        headers.extend(server.key.authorization()?.map(|key| (AUTHORIZATION, key)));
        let proxy = proxy::of(&server.url);
        let mut shown = server.url.as_str().trim_end_matches('/').to_owned();
        if let Some(proxy) = &proxy {
            shown += &format!(" through the proxy {proxy}");
        }
        let (slow, console) = (format!("still connecting to {shown} …"), console.clone());
        let http = reqwest::Client::builder()
            .user_agent(concat!("selvage/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_LIMIT)
            .connector_layer(MapFutureLayer::new(move |connecting| {
                noticed(connecting, console.clone(), slow.clone())
            }))
            // The key is for the named server only.
            .redirect(redirect::Policy::none())
            .build();
        Ok(Self {
            http: http.map_err(|cause| Failure::Here(format!("no HTTP client: {cause}")))?,
            url: server.url.clone(),
            shown,
            is_proxied: proxy.is_some(),
            attempts: server.attempts,
            is_reached: AtomicBool::new(false),
        })
    }

    /// The server's address, as it was given.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Sends a call, retries it within its bounds, and reads the answer.
    pub(crate) async fn send(&self, call: &Call, topic: &Topic<'_>) -> Result<Answer, Failure> {
        self.within_attempts(call, topic, async |mut response| {
            let status = response.status().as_u16();
            let body = body(&mut response).await;
            body.map(|body| Answer { status, body })
                .map_err(|cause| self.unreachable(cause))
        })
        .await
    }

    /// The same for a stream of events: returns once its head has arrived.
    pub(crate) async fn open(&self, call: &Call, topic: &Topic<'_>) -> Result<Response, Failure> {
        self.within_attempts(call, topic, async |response| Ok(response))
            .await
    }

    async fn within_attempts<T>(
        &self,
        call: &Call,
        topic: &Topic<'_>,
        read: impl AsyncFn(Response) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        let attempts = self.attempts.unwrap_or(retry::DEFAULT_ATTEMPTS);
        let mut delays = retry::delays(attempts).zip(2..);
        loop {
            let answered = match self.attempt(call).await {
                Ok(response) => read(response).await,
                Err(refusal) => Err(refusal),
            };
            let refusal = match answered {
                Ok(read) => return Ok(read),
                Err(refusal) => refusal,
            };
            let next = delays.next().filter(|_| self.is_retried(&refusal));
            let next = next.map(|(delay, number)| (refusal.delay(delay), number));
            let Some((delay, number)) =
                next.filter(|&(delay, _)| Instant::now() + delay <= call.deadline)
            else {
                return Err(refusal.failure);
            };
            let (reason, seconds) = (refusal.failure.reason(), delay.as_secs_f64());
            topic.mention(format_args!(
                "{reason}; retrying in {seconds:.1} s (attempt {number} of {attempts})"
            ));
            sleep(delay).await;
        }
    }

    /// A server that was never reached is more likely down than busy: unless the user has set a number of attempts, it fails at once.
    fn is_retried(&self, refusal: &Refusal) -> bool {
        let is_reached = self.is_reached.load(Ordering::Relaxed);
        refusal.is_passing() && (is_reached || !refusal.is_connect || self.attempts.is_some())
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
        let sent = sent.map_err(|_| self.unreachable("no response in time".to_owned()))?;
        let response = sent.map_err(|error| Refusal {
            is_connect: error.is_connect(),
            ..self.unreachable(innermost(&error))
        })?;
        self.is_reached.store(true, Ordering::Relaxed);
        if response.status().is_success() || call.any_status {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    fn unreachable(&self, cause: String) -> Refusal {
        Failure::unreachable(&self.shown, self.is_proxied, cause).into()
    }

    /// Reads an answer with an error status.
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
                url: self.shown.clone(),
                status,
                hint: location
                    .map(|to| format!(" (it redirects to {to})"))
                    .unwrap_or_default(),
            },
        };
        Refusal {
            status: Some(status),
            retry_after,
            ..failure.into()
        }
    }
}

impl Answer {
    /// Parses the answer.
    ///
    /// # Errors
    /// If it is not what Selvage answers.
    pub(crate) fn read<T: DeserializeOwned>(&self, client: &Client) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::NotSelvage {
            url: client.shown.clone(),
            status: self.status,
            hint: String::new(),
        })
    }
}

/// The whole body, within its limits.
async fn body(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err("the answer is too long".to_owned());
            }
        }
        Ok(())
    };
    match timeout(BODY_LIMIT, read).await {
        Ok(read) => read.map(|()| body),
        Err(_) => Err("the answer did not end in time".to_owned()),
    }
}

/// Tells the user about a connection that takes its time.
async fn noticed<F: Future>(connecting: F, console: Console, slow: String) -> F::Output {
    let mut connecting = std::pin::pin!(connecting);
    match timeout(CONNECT_NOTICE, &mut connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            console.mention(slow);
            connecting.await
        }
    }
}

/// The innermost cause, which says most.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;

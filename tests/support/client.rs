//! A small HTTP client: what a user's would do, with everything of the answer kept.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// Longest wait for any answer: above the longest wait a client may ask for.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// A client of one gateway.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<&'static str>,
}

/// All of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it came.
    pub body: Vec<u8>,
    /// Body as JSON; null where it is none.
    pub json: Value,
}

impl Answer {
    /// A header's text; empty where it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The best label.
    #[must_use]
    pub fn label(&self) -> &str {
        self.json["output"]["label"].as_str().unwrap_or_default()
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    /// The error's code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// Checks the status and passes the answer on.
    ///
    /// # Panics
    /// When the status is another one; the message has the body.
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(
            self.status,
            status,
            "body: {}",
            body.chars().take(800).collect::<String>()
        );
        self
    }

    /// Checks that this is a problem of that status and code, with all a problem has.
    ///
    /// # Panics
    /// When anything of it is missing or different.
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.code(), code, "{}", answer.json);
        assert_eq!(answer.json["type"], format!("/problems/{code}"));
        assert_eq!(answer.json["status"], status);
        for field in ["title", "detail", "request_id"] {
            assert!(
                answer.json[field]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{field}: {}",
                answer.json
            );
        }
        assert_eq!(answer.json["request_id"], answer.header("request-id"));
        if [429, 503].contains(&status) {
            let seconds: u64 = answer
                .header("retry-after")
                .parse()
                .expect("Retry-After in seconds");
            let millis = answer.json["retry_after_ms"]
                .as_u64()
                .expect("retry_after_ms");
            assert!(
                (1..=3600).contains(&seconds) && millis <= seconds * 1000,
                "{seconds} s, {millis} ms"
            );
        }
        answer
    }
}

impl Client {
    /// A client of the gateway at that address.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        // Built beside the gateway reqwest has TLS, and then wants to know whose, also where none is spoken. The first one
        // that is named stays, so an error only says that it has been.
        let _named_before = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(ANSWER_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client without TLS can always be made");
        Self {
            http,
            base: format!("http://{address}"),
            key: None,
        }
    }

    /// The same client with this API key.
    #[must_use]
    pub fn with_key(&self, key: &'static str) -> Self {
        Self {
            key: Some(key),
            ..self.clone()
        }
    }

    /// A request to be filled in.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await.context("no answer")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response
            .bytes()
            .await
            .context("the answer was cut")?
            .to_vec();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer {
            status,
            headers,
            body,
            json,
        })
    }

    /// `GET` of a path.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of an image as raw bytes.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post_image(&self, path: &str, image: Vec<u8>) -> anyhow::Result<Answer> {
        self.post_image_with(path, image, &[]).await
    }

    /// `POST` of an image as raw bytes with further headers.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post_image_with(
        &self,
        path: &str,
        image: Vec<u8>,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .request(Method::POST, path)
            .header("content-type", "image/png")
            .body(image);
        for (name, value) in headers {
            request = request.header(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        self.send(request).await
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` without a body.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path)).await
    }

    /// The sum of a metric's samples whose line contains `with`.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn metric(&self, name: &str, with: &str) -> anyhow::Result<f64> {
        let text = String::from_utf8(self.get("/metrics").await?.body)?;
        let sample = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let exact = rest.starts_with(['{', ' ']) && line.contains(with);
            exact.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        };
        Ok(text.lines().filter_map(sample).sum())
    }
}

//! A page in a browser, as a person uses it, and held to what no page may do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::program::project;

/// Longest time until a page shows what it must; browsers on a machine that compiles beside them are slow.
const LIMIT: Duration = Duration::from_secs(60);

/// A page in a browser; [`Page::close`] judges what it did.
#[derive(Debug)]
pub struct Page {
    pub(crate) client: Client,
    pub(crate) base: String,
    pub(crate) profile: TempDir,
}

/// A command of Chromium's own: to its DevTools or its log.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Page {
    /// Goes to a path of the same gateway and waits until its script has begun.
    ///
    /// # Errors
    /// When the page does not come.
    pub async fn goto(&self, path: &str) -> anyhow::Result<()> {
        self.client.goto(&format!("{}{path}", self.base)).await?;
        self.until(
            "the page begins",
            "document.documentElement.dataset.ready === 'yes'",
        )
        .await;
        Ok(())
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn reload(&self) -> anyhow::Result<()> {
        self.client.refresh().await?;
        self.until(
            "the page begins",
            "document.documentElement.dataset.ready === 'yes'",
        )
        .await;
        Ok(())
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn value(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        Ok(self.client.execute(&script, Vec::new()).await?)
    }

    /// Runs a script in the page; it calls its last argument when it is done.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> anyhow::Result<Value> {
        Ok(self.client.execute_async(script, arguments).await?)
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it is not within the limit; the message has what the page shows.
    pub async fn until(&self, what: &str, expression: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            // An expression may fail while a page is being loaded.
            let value = self.value(expression).await;
            if matches!(value, Ok(Value::Bool(true))) {
                return;
            }
            if Instant::now() > end {
                let shown = self.value("document.body?.innerText").await;
                panic!("{what}: `{expression}` is {value:?}; the page shows {shown:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an element's text contains this one.
    ///
    /// # Panics
    /// As [`Page::until`].
    pub async fn until_text(&self, selector: &str, text: &str) {
        let expression = format!(
            "[...document.querySelectorAll({})].some((e) => e.offsetParent !== null && e.textContent.includes({}))",
            json!(selector),
            json!(text)
        );
        self.until(&format!("{selector} says «{text}»"), &expression)
            .await;
    }

    /// The first element of a selector.
    ///
    /// # Errors
    /// When there is none.
    pub async fn find(&self, selector: &str) -> anyhow::Result<Element> {
        let found = self.client.find(Locator::Css(selector)).await;
        found.with_context(|| selector.to_owned())
    }

    /// Clicks on the first element of a selector.
    ///
    /// # Errors
    /// When there is none, or it cannot be clicked.
    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let clicked = self.find(selector).await?.click().await;
        clicked.with_context(|| selector.to_owned())
    }

    /// Presses a key, whatever has the focus.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn press(&self, key: Key) -> anyhow::Result<()> {
        let value = char::from(key);
        let keys = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        Ok(self.client.perform_actions(keys).await?)
    }

    /// Sends a command to the browser's DevTools.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn devtools(&self, command: &str, parameters: Value) -> anyhow::Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        let path = "goog/cdp/execute";
        let sent = self.client.issue_cmd(Vendor { path, body }).await;
        sent.with_context(|| command.to_owned())
    }

    /// Gives the page another size; narrow ones are those of phones.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn size(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let phone = width < 600;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let touch = json!({"enabled": phone});
        self.devtools("Emulation.setTouchEmulationEnabled", touch)
            .await?;
        Ok(())
    }

    /// Makes the system light or dark.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn scheme(&self, scheme: &str) -> anyhow::Result<()> {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// A folder for what this browser downloads.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn downloads(&self) -> anyhow::Result<PathBuf> {
        let folder = self.profile.path().join("downloads");
        let behavior = json!({"behavior": "allow", "downloadPath": folder.display().to_string()});
        self.devtools("Browser.setDownloadBehavior", behavior)
            .await?;
        Ok(folder)
    }

    /// Files dropped onto an element, as from another window.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn drop_files(&self, selector: &str, files: &[PathBuf]) -> anyhow::Result<()> {
        let (x, y, width, height) = self.find(selector).await?.rectangle().await?;
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({
                "type": kind, "x": x + width / 2.0, "y": y + height / 2.0,
                "data": {"items": [], "files": files, "dragOperationsMask": 1},
            });
            self.devtools("Input.dispatchDragEvent", event).await?;
        }
        Ok(())
    }

    /// Keeps a picture of the whole page as `<name>.png`, where `SELVAGE_PICTURES` names a folder.
    ///
    /// # Errors
    /// When there is no picture.
    pub async fn picture(&self, name: &str) -> anyhow::Result<()> {
        let Some(folder) = std::env::var_os("SELVAGE_PICTURES") else {
            return Ok(());
        };
        let clip = self
            .value("({x: 0, y: 0, width: innerWidth, height: document.documentElement.scrollHeight, scale: 1})")
            .await?;
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.devtools("Page.captureScreenshot", parameters).await?;
        let data = taken["data"].as_str().context("a picture")?;
        let data = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data)?;
        std::fs::create_dir_all(&folder)?;
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), data)?;
        Ok(())
    }

    /// What axe finds to be a serious or critical barrier for people with disabilities, one line each.
    ///
    /// # Errors
    /// When axe is not there (`scripts/browser` fetches it) or does not run.
    pub async fn barriers(&self) -> anyhow::Result<Vec<String>> {
        let axe = project().join(".browser/axe.min.js");
        let axe = std::fs::read_to_string(&axe).with_context(|| {
            format!(
                "{} is missing: run `make test` or scripts/browser",
                axe.display()
            )
        })?;
        self.client.execute(&axe, Vec::new()).await?;
        let script = "const done = arguments[0]; \
             axe.run().then((found) => done(found.violations), (error) => done([{impact: 'critical', id: String(error), nodes: []}]));";
        let found = self.run(script, Vec::new()).await?;
        let found = found.as_array().context("axe's findings")?;
        let describe = |finding: &Value| {
            let nodes: Vec<String> = finding["nodes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|node| format!("{}: {}", node["target"], node["failureSummary"]))
                .collect();
            let id = finding["id"].as_str().unwrap_or_default();
            format!("{id}: {}", nodes.join("; "))
        };
        let serious = |finding: &&Value| {
            ["serious", "critical"].contains(&finding["impact"].as_str().unwrap_or_default())
        };
        Ok(found.iter().filter(serious).map(describe).collect())
    }

    /// What the page has done since this was asked last and no page may do: errors in its console, violations of its policy,
    /// requests to anybody but its gateway. Answers of these statuses are part of the test; the browser calls them errors.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn offences(&self, expected: &[u16]) -> anyhow::Result<BTreeSet<String>> {
        let log = async |kind: &str| {
            let body = json!({"type": kind});
            let entries = self
                .client
                .issue_cmd(Vendor {
                    path: "se/log",
                    body,
                })
                .await?;
            anyhow::Ok(entries.as_array().cloned().unwrap_or_default())
        };
        let mut offences = BTreeSet::new();
        for entry in log("browser").await? {
            let text = entry["message"].as_str().unwrap_or_default();
            let is_expected = expected
                .iter()
                .any(|status| text.contains(&format!("responded with a status of {status} ")))
                || (expected.contains(&0) && text.contains("net::ERR_"));
            if entry["level"] == "SEVERE" && !is_expected {
                offences.insert(format!("console: {text}"));
            }
        }
        for entry in log("performance").await? {
            let message: Value =
                serde_json::from_str(entry["message"].as_str().unwrap_or_default())?;
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"]
                    .as_str()
                    .unwrap_or_default();
                let own = ["blob:", "data:", "chrome:", "about:"]
                    .iter()
                    .any(|scheme| url.starts_with(scheme));
                if !own && !url.starts_with(&format!("{}/", self.base)) {
                    offences.insert(format!("request: {url}"));
                }
            }
        }
        Ok(offences)
    }

    /// Closes the browser.
    ///
    /// # Errors
    /// When the page did what no page may; see [`Page::offences`].
    pub async fn close(self, expected: &[u16]) -> anyhow::Result<()> {
        let offences = self.offences(expected).await?;
        self.client.close().await?;
        ensure!(offences.is_empty(), "the page offended: {offences:#?}");
        Ok(())
    }
}

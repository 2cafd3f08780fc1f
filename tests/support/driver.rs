//! Headless Chromium, started for a test and opened on a gateway.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use fantoccini::ClientBuilder;
use fantoccini::wd::Capabilities;
use serde_json::{Value, json};

use crate::page::Page;

/// A window as a laptop has it.
const WINDOW: (u32, u32) = (1100, 900);

/// A running `chromedriver`; it ends with this value.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When it is not installed: `scripts/browser` does that.
    #[must_use]
    pub fn start() -> Self {
        let child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            child.expect("chromedriver is installed: run `make test` or scripts/browser");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver says which port it has");
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Opens a browser of its own on a gateway's page.
    ///
    /// # Errors
    /// When the browser does not start or the page does not come.
    pub async fn open(&self, gateway: SocketAddr, path: &str) -> anyhow::Result<Page> {
        let profile = tempfile::tempdir()?;
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={},{}", WINDOW.0, WINDOW.1),
            // Whatever else it would look up is not found, so that a page cannot come to depend on it.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned(),
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object")
        };
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(Capabilities::from_iter(capabilities))
            .connect(&self.address)
            .await
            .context("no browser")?;
        let page = Page {
            client,
            base: format!("http://{gateway}"),
            profile,
        };
        page.size(WINDOW.0, WINDOW.1).await?;
        page.goto(path).await?;
        Ok(page)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

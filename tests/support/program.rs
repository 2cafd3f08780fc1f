//! One program under test as a real process: started, read, signalled, never left behind.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use crate::keys;

/// Log lines of any program of this run in which a secret stood.
static LEAKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Log lines kept of each program; enough to see why it failed.
const KEPT_LINES: usize = 2_000;

/// A running `selvage-gateway` or `selvage-worker`.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// What must not stand in it.
    secrets: Vec<String>,
    lines: Mutex<(VecDeque<String>, bool)>,
    changed: Condvar,
}

/// Log lines, of every program this process has started, in which a secret of the tests or a password of its settings stood.
///
/// # Panics
/// When another test thread panicked while it noted one.
#[must_use]
pub fn leaked_secrets() -> Vec<String> {
    LEAKED.lock().unwrap().clone()
}

/// The tests' own secrets and the passwords in the addresses among these settings, in every form a log might show them.
fn secrets(settings: &[(&str, String)]) -> Vec<String> {
    let password =
        |(_, value): &(&str, String)| Url::parse(value).ok()?.password().map(str::to_owned);
    let passwords = settings.iter().filter_map(password);
    let known = keys::SECRETS.into_iter().map(str::to_owned);
    known
        .chain(passwords)
        .filter(|secret| !secret.is_empty())
        .flat_map(|secret| {
            let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
            [secret, bytes.join(", ")]
        })
        .collect()
}

/// The folder of the built programs: two levels above the running test.
///
/// # Panics
/// When the test does not know its own file.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests are built into target/<profile>/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `make test`, or `cargo build --workspace` first",
        path.display()
    );
    path
}

/// The project's folder.
///
/// # Panics
/// When the tests are not run from within the project.
#[must_use]
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is a folder of the project")
        .to_owned()
}

/// The command in the project's folder, with these settings and no others.
fn with_settings<'c>(command: &'c mut Command, settings: &[(&str, String)]) -> &'c mut Command {
    let others =
        |(name, _): &(String, String)| !name.starts_with("SELVAGE_") && name != "ORT_DYLIB_PATH";
    command
        .env_clear()
        .envs(std::env::vars().filter(others))
        .env("SELVAGE_LOG_FORMAT", "json")
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .current_dir(project())
        .stdin(Stdio::null())
}

/// Runs a built program with these arguments and settings to its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn output(name: &str, arguments: &[&str], settings: &[(&str, String)]) -> Output {
    let mut command = Command::new(binary(name));
    let output = with_settings(command.args(arguments), settings).output();
    output.unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}

impl Program {
    /// Starts a built program with these settings; its log goes to memory.
    ///
    /// # Panics
    /// When it cannot be started at all.
    #[must_use]
    pub fn start(name: &'static str, settings: &[(&str, String)]) -> Self {
        Self::run(name, Command::new(binary(name)), settings)
    }

    /// The same, with so few file descriptors.
    ///
    /// # Panics
    /// See [`Program::start`].
    #[must_use]
    pub fn start_with_descriptors(
        name: &'static str,
        settings: &[(&str, String)],
        descriptors: u64,
    ) -> Self {
        let mut command = Command::new("sh");
        // The shell becomes the program, so that its process id stays the same.
        command
            .args(["-c", "ulimit -n \"$1\" && exec \"$2\"", "sh"])
            .arg(descriptors.to_string())
            .arg(binary(name));
        Self::run(name, command, settings)
    }

    fn run(name: &'static str, mut command: Command, settings: &[(&str, String)]) -> Self {
        let mut child = with_settings(&mut command, settings)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Log {
            secrets: secrets(settings),
            ..Log::default()
        });
        let stderr = child.stderr.take().expect("standard error is piped");
        let into = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.push(line);
            }
            into.end();
        });
        Self { name, child, log }
    }

    /// Waits for a log event with this field and gives the field's text.
    ///
    /// # Panics
    /// When the program ends or the limit passes first; the message has its last log lines.
    #[must_use]
    pub fn wait_for_field(&self, field: &str, limit: Duration) -> String {
        let find = |line: &String| {
            let event: Value = serde_json::from_str(line).ok()?;
            event.get(field).map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
        };
        match self.log.wait(find, limit) {
            Some(value) => value,
            None => panic!(
                "{}: no log event with `{field}` within {limit:?}; its log:\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// The address a gateway listens on, or a worker's for its operator.
    ///
    /// # Panics
    /// As [`Program::wait_for_field`], or when the field is no address.
    #[must_use]
    pub fn address(&self, limit: Duration) -> SocketAddr {
        self.logged_address("addr", limit)
    }

    /// The address of a gateway's listener for its operator.
    ///
    /// # Panics
    /// As [`Program::address`].
    #[must_use]
    pub fn ops_address(&self, limit: Duration) -> SocketAddr {
        self.logged_address("ops_addr", limit)
    }

    fn logged_address(&self, field: &str, limit: Duration) -> SocketAddr {
        let text = self.wait_for_field(field, limit);
        text.parse()
            .unwrap_or_else(|_| panic!("{}: `{text}` is no address", self.name))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let (lines, _) = &*self.log.lines.lock().unwrap();
        lines
            .iter()
            .rev()
            .take(60)
            .rev()
            .map(|line| format!("    {line}\n"))
            .collect()
    }

    /// The whole kept log.
    #[must_use]
    pub fn log(&self) -> String {
        self.log
            .lines
            .lock()
            .unwrap()
            .0
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open descriptors; `None` where it has ended.
    #[must_use]
    pub fn descriptors(&self) -> Option<usize> {
        Some(
            std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
                .ok()?
                .count(),
        )
    }

    /// Resident memory in KiB; `None` where it has ended.
    #[must_use]
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Sends a signal by name (`TERM`, `KILL`, `STOP`, `CONT`).
    ///
    /// # Panics
    /// When there is no `kill` program.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(
            status.expect("the kill program runs").success(),
            "{}: kill -{name} failed",
            self.name
        );
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it is still there after the limit.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                let _ended = self.log.wait(|_| None::<()>, Duration::from_secs(2));
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} still runs after {limit:?}; its log:\n{}",
                self.name,
                self.tail()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Log {
    fn push(&self, line: String) {
        if self.secrets.iter().any(|secret| line.contains(secret)) {
            LEAKED.lock().unwrap().push(line.clone());
        }
        let (lines, _) = &mut *self.lines.lock().unwrap();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// The first hit among the lines, waiting for more until the log ends or the limit passes.
    fn wait<T>(&self, find: impl Fn(&String) -> Option<T>, limit: Duration) -> Option<T> {
        let end = Instant::now() + limit;
        let mut guard = self.lines.lock().unwrap();
        loop {
            if let Some(hit) = guard.0.iter().find_map(&find) {
                return Some(hit);
            }
            let left = end.saturating_duration_since(Instant::now());
            if guard.1 || left.is_zero() {
                return None;
            }
            guard = self.changed.wait_timeout(guard, left).unwrap().0;
        }
    }
}

//! The command-line client as a person or a script runs it: in a folder of images, against one gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::program::binary;

/// Longest run of a command on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder of images, and the server to ask about them.
#[derive(Debug)]
pub struct Cli {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

/// A command that still runs; it ends with its value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    printed: String,
}

impl Cli {
    /// A client of the gateway at that address, in an empty folder.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn of(gateway: SocketAddr) -> Self {
        let url = ("SELVAGE_URL", format!("http://{gateway}"));
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            environment: vec![url],
        }
    }

    /// With an environment variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }

    /// With a file in its folder.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder().join(name), bytes).expect("a file can be written");
        self
    }

    /// The folder it runs in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command to its end, with nothing on standard input.
    ///
    /// # Panics
    /// When it cannot be run, or has no end.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).end().await
    }

    /// Runs a command with this on standard input.
    ///
    /// # Panics
    /// As [`Cli::run`].
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut running = self.start(arguments);
        let stdin = running.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(input).await.expect("it reads its input");
        running.end().await
    }

    /// Runs a command whose output nobody reads, as in `selvage … | true`.
    ///
    /// # Panics
    /// As [`Cli::run`].
    pub async fn run_unread(&self, arguments: &[&str]) -> Ran {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(arguments);
        let output = timeout(LIMIT, command.stdout(writer).output()).await;
        let output = output.expect("selvage ends").expect("selvage starts");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: String::from_utf8(output.stderr).expect("it prints text"),
        }
    }

    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.spawn().expect("selvage starts");
        let stderr = child.stderr.take().expect("it is piped");
        Running {
            child,
            stderr: BufReader::new(stderr).lines(),
            printed: String::new(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("selvage"));
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Running {
    /// Waits until it prints this.
    ///
    /// # Panics
    /// When it ends or the limit passes before.
    pub async fn wait_for(&mut self, text: &str) {
        let lines = async {
            while let Some(line) = self.stderr.next_line().await.expect("it can be read") {
                self.printed += &format!("{line}\n");
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = timeout(LIMIT, lines).await;
        assert_eq!(
            found,
            Ok(true),
            "not printed: {text}; but:\n{}",
            self.printed
        );
    }

    /// Sends a signal by name (`INT`, `TERM`).
    ///
    /// # Panics
    /// When it has ended.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let kill = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(kill.await.expect("the kill program runs").success());
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When there is none within the limit, or its output is no text.
    pub async fn end(mut self) -> Ran {
        drop(self.child.stdin.take());
        let mut stdout = String::new();
        let mut out = self.child.stdout.take().expect("it is piped");
        let lines = async {
            while let Some(line) = self.stderr.next_line().await.expect("it can be read") {
                self.printed += &format!("{line}\n");
            }
        };
        let ended = async {
            let (read, ()) = tokio::join!(out.read_to_string(&mut stdout), lines);
            read.expect("it prints text");
            self.child.wait().await.expect("it can be waited for")
        };
        let status = timeout(LIMIT, ended).await.expect("selvage ends");
        Ran {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: self.printed,
        }
    }
}

impl Ran {
    /// Checks the exit code and passes the rest on.
    ///
    /// # Panics
    /// When it is another one; the message has all that was said.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// What was printed, as one JSON text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        let read = serde_json::from_str(&self.stdout);
        read.unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

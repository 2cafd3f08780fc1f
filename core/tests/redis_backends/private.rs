//! A Redis of one test's own, which may be stopped, filled, refused writes and killed.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use selvage_core::program::config::RedisUrl;

use crate::support::{PATIENCE, Raw};

/// A Redis of one test; ends with it.
pub(crate) struct PrivateRedis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl PrivateRedis {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = serve(port, &folder) {
                return Self {
                    child,
                    port,
                    folder,
                };
            }
        }
        panic!("no Redis could be started on a free port")
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub(crate) fn url(&self) -> RedisUrl {
        self.url_as("")
    }

    /// Its address with credentials, as `user:password@`.
    pub(crate) fn url_as(&self, credentials: &str) -> RedisUrl {
        let url = format!("redis://{credentials}127.0.0.1:{}", self.port);
        url.parse().expect("a good URL")
    }

    /// A plain connection to it.
    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(&self.url())
    }

    /// Takes its working folder away.
    pub(crate) fn remove_folder(&self) {
        std::fs::remove_dir_all(self.folder.path()).expect("the folder can be removed");
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again on the same port, empty.
    pub(crate) fn restart(&mut self) {
        self.child = serve(self.port, &self.folder).expect("the port is still free");
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill(1) runs").success());
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL too; one that is gone already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port").port()
}

/// A Redis on that port once it answers; `None` if the port was taken.
fn serve(port: u16, folder: &tempfile::TempDir) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .arg("--dir")
        .arg(folder.path());
    answering(command, port)
}

/// The process of that command once it answers on that port; `None` if the port was taken.
pub(crate) fn answering(mut command: Command, port: u16) -> Option<Child> {
    let child = command.stdout(Stdio::null()).spawn();
    let mut child = child.expect("redis-server is installed (`make test` sees to it)");
    let patience = Instant::now() + PATIENCE;
    let client = redis::Client::open(("127.0.0.1", port)).expect("a usable address");
    loop {
        if child.try_wait().expect("the child is ours").is_some() {
            return None;
        }
        let answer = client
            .get_connection()
            .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
        // A refusal is an answer too: it may want a password.
        if answer.is_ok() || answer.is_err_and(|error| !error.is_io_error()) {
            return Some(child);
        }
        if Instant::now() > patience {
            child.kill().and_then(|()| child.wait()).expect("it ends");
            panic!("redis-server on port {port} does not answer");
        }
        std::thread::yield_now();
    }
}

//! A server that speaks Elasticsearch 8, for tests of whole operations.

use std::env;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rally_driver::RequestTimer;
use rally_driver::client::{Client, ClientOptions, MediaTypes, Request};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Names the program, which is noida-db of PyPI.
const PROGRAM: &str = "RALLY_TEST_ELASTICSEARCH";

/// How long it may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a port and data of its own. It ends when this is dropped.
pub(crate) struct Server {
    process: Child,
    address: String,
    _data: TempDir,
}

impl Server {
    /// Starts one; none if the program is not on this machine, which is said with the name of the test.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            // What `println!` writes is shown of failed tests only.
            let remedy = format!("`pip install noida-db` and name it in {PROGRAM}");
            // In one piece, because other tests write at the same time.
            let line = format!("skipped: {test} needs noida-db; {remedy}\n");
            io::stderr().lock().write_all(line.as_bytes()).unwrap();
            return None;
        };
        // Another process may take the port before the server does. It ends then, and another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let data = tempfile::tempdir().unwrap();
            let process = Command::new(&program)
                .args(["start", "--only", "elasticsearch", "--elasticsearch-port", &port.to_string(), "--data-dir"])
                .arg(data.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut server = Self { process, address: format!("127.0.0.1:{port}"), _data: data };
            if timeout(PATIENCE, server.answers()).await.expect("the server answers in time") {
                return Some(server);
            }
        }
        panic!("{} does not start", program.display());
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until it answers; false if it ends instead.
    async fn answers(&mut self) -> bool {
        let hosts = [self.address.clone()];
        let client =
            Client::new(&hosts, ClientOptions::default(), MediaTypes::default(), 0, RequestTimer::default().into())
                .unwrap();
        while client.request(&Request::new("GET", "/")).await.is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The program may be a script that has started the server.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

fn program() -> Option<PathBuf> {
    let named = env::var_os(PROGRAM).map(PathBuf::from);
    let on_path = || env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join("noida-db")).find(|it| it.is_file());
    named.or_else(on_path)
}

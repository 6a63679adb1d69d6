//! Starting a daemon in the background, and being one.
//!
//! The command runs its own program again with a hidden subcommand. The new process gets the resolved configuration on
//! its standard input (a token must not stand in a command line), its standard error is the log, and on its standard
//! output it says with one line of JSON whether it is up. Then it lets go of both.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::causes::causes;
use crate::daemon::{self, DaemonConfig, Up};
use crate::exit::Exit;
use crate::instance::{Instance, InstanceError};
use crate::logging;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "daemon";

/// How long a daemon may take to come up, besides the time it waits for its coordinator.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// How long a daemon may take to end after it has said why it failed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How much of the log is shown when a daemon dies.
const LOG_LINES: usize = 10;
const MAX_LOG_BYTES: u64 = 16 * 1024;

/// What the daemon says when it is up or knows that it never will be.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Up(Up),
    /// The error and its causes, outermost first.
    Failed(Vec<String>),
}

/// The daemon did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LaunchError {
    /// Its directory or log cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Its process cannot be started.
    #[error("cannot start {} in the background", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The conversation with the new process broke off.
    #[error("cannot talk to the new daemon")]
    Talk(#[source] io::Error),
    /// It said why.
    #[error("{}", .0.join("\n\t"))]
    Failed(Vec<String>),
    /// It ended without saying anything.
    #[error("the daemon ended before it was up ({status}); its log {} ends with:\n{log_end}", log.display())]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// What it wrote last.
        log_end: String,
    },
    /// It said nothing in time and was killed.
    #[error("the daemon was not up within {within:?} and was killed; its log {} ends with:\n{log_end}", log.display())]
    Silent {
        /// How long it had.
        within: Duration,
        /// Its log.
        log: PathBuf,
        /// What it wrote last.
        log_end: String,
    },
}

/// Starts a daemon in the background and returns when it is up.
///
/// # Errors
///
/// If it does not come up; then it does not run.
///
/// # Cancel safety
///
/// If the future is dropped, the daemon goes on.
pub(crate) async fn launch(config: &DaemonConfig) -> Result<Up, LaunchError> {
    let instance = Instance::new(&config.rally_directory, config.address);
    instance.create()?;
    let log = instance.open_log()?;
    let log_start = log.metadata().map_or(0, |metadata| metadata.len());
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("rallyd"));
    let mut child = Command::new(&program)
        .arg(SUBCOMMAND)
        .current_dir("/")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|source| LaunchError::Spawn { program, source })?;
    let within = config.wait.saturating_add(UP_WITHIN);
    let log_end = || read_log_end(&instance.log(), log_start).unwrap_or_else(|error| error.to_string());
    match timeout(within, converse(&mut child, config)).await {
        Ok(Ok(Some(Report::Up(up)))) => Ok(up),
        Ok(Ok(Some(Report::Failed(causes)))) => {
            // It ends by itself; only then can the next one start.
            if timeout(END_WITHIN, child.wait()).await.is_err() {
                child.kill().await.map_err(LaunchError::Talk)?;
            }
            Err(LaunchError::Failed(causes))
        }
        Ok(Ok(None)) => {
            let status = child.wait().await.map_err(LaunchError::Talk)?;
            Err(LaunchError::Died { status, log: instance.log(), log_end: log_end() })
        }
        Ok(Err(error)) => {
            child.kill().await.map_err(LaunchError::Talk)?;
            Err(LaunchError::Talk(error))
        }
        Err(_) => {
            child.kill().await.map_err(LaunchError::Talk)?;
            Err(LaunchError::Silent { within, log: instance.log(), log_end: log_end() })
        }
    }
}

/// Hands the configuration over and returns the report, `None` if the process ended without one.
async fn converse(child: &mut Child, config: &DaemonConfig) -> io::Result<Option<Report>> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    match stdin.write_all(&serde_json::to_vec(config)?).await {
        // It has ended; how, is seen below.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        Ok(()) | Err(_) => drop(stdin),
    }
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&line)?)) }
}

/// The last lines that were written to `log` after its first `start` bytes.
fn read_log_end(log: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(MAX_LOG_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
}

/// Is the daemon in the background: the other side of [`launch`].
pub(crate) async fn be_daemon() -> Exit {
    logging::init();
    let config = match detach() {
        Ok(config) => config,
        Err(error) => {
            error!(%error, "the configuration did not arrive on standard input");
            return Exit::Failure;
        }
    };
    match daemon::run(config, |up| report(&Report::Up(up))).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            let causes = causes(&error);
            error!("{}", causes.join(": "));
            // Nobody hears it if the daemon was up before.
            report(&Report::Failed(causes));
            Exit::Failure
        }
    }
}

/// Leaves the terminal's session and takes the configuration.
fn detach() -> io::Result<DaemonConfig> {
    // Refused only to the leader of a process group, which a child of `launch` is not.
    let _ = rustix::process::setsid();
    let config = serde_json::from_reader(io::stdin().lock())?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(config)
}

/// Tells the command that started this process, and lets go of it.
fn report(report: &Report) {
    let tell = || {
        let line = serde_json::to_string(report)?;
        let mut stdout = io::stdout().lock();
        // The command may have been interrupted meanwhile.
        let told = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        rustix::stdio::dup2_stdout(OpenOptions::new().write(true).open("/dev/null")?)?;
        told
    };
    if let Err(error) = tell() {
        warn!(%error, "the command that started the daemon could not be told");
    }
}

//! `rallyd stop`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::arguments::{Format, StopArguments};
use super::error::CommandError;
use super::selection::{Filter, RunningInstance, only};
use crate::console::Console;
use crate::control::{ControlError, Request, Response, call};
use crate::instance::show_pid;

/// How long a daemon may take to stop gracefully unless the user says otherwise.
pub(super) const DEFAULT_WITHIN: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGTERM, and after SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(3);

/// How long a process may take to end after it has given up its lock.
const EXIT_WITHIN: Duration = Duration::from_secs(1);

/// How often the lock of a daemon that is about to end is looked at.
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn stop(directory: &Path, arguments: &StopArguments, console: Console) -> Result<(), CommandError> {
    let filter = Filter::new(&arguments.selection).await?;
    let mut running = filter.running(directory)?;
    if running.is_empty() {
        return Err(filter.not_running());
    }
    if !arguments.all {
        running = only(running)?.into_iter().collect();
    }
    // One that cannot be stopped does not keep the others alive.
    let (mut failure, mut stopped) = (Ok(()), Vec::new());
    for instance in &running {
        match stop_instance(instance, arguments.within, console).await {
            Ok(ended) => {
                stopped.push(json!({"address": instance.instance.address(), "pid": instance.pid, "ended": ended}));
            }
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    if arguments.format == Format::Json {
        console.data(&format!("{:#}", json!({"daemons": stopped})))?;
    }
    failure
}

/// How a daemon was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ended {
    /// It did so when it was asked.
    Stopped,
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL.
    Killed,
}

/// Stops one daemon: asks it, then sends SIGTERM, then SIGKILL.
pub(super) async fn stop_instance(
    running: &RunningInstance,
    within: Duration,
    console: Console,
) -> Result<Ended, CommandError> {
    let address = running.instance.address();
    let shown = format!("daemon at {address} ({})", show_pid(running.pid));
    let problem = match call(&running.instance, &Request::Stop).await {
        Ok(Response::Stopping) => {
            if has_ended(running, within).await? {
                console.info(&format!("Stopped the {shown}."));
                return Ok(Ended::Stopped);
            }
            format!("did not stop within {within:?}")
        }
        Ok(_) => "did not understand the request to stop".to_owned(),
        Err(ControlError::Unresponsive) => "does not answer".to_owned(),
        Err(ControlError::NotListening) => "is still starting or already stopping".to_owned(),
        Err(ControlError::Io(error)) => format!("cannot be asked to stop ({error})"),
    };
    for (signal, name, done, ended) in
        [(Signal::TERM, "SIGTERM", "terminated", Ended::Terminated), (Signal::KILL, "SIGKILL", "killed", Ended::Killed)]
    {
        // The lock is still held, so the process with this number is still the daemon.
        let Some(holder) = running.instance.running()? else { break };
        console.warning(&format!("The {shown} {problem}; sending {name}."));
        send(running, holder.pid, signal)?;
        if has_ended(running, END_WITHIN).await? {
            running.instance.clean_up()?;
            console.info(&format!("The {shown} was {done}."));
            return Ok(ended);
        }
    }
    if running.instance.running()?.is_some() {
        return Err(CommandError::CannotEnd { address, pid: running.pid, source: None });
    }
    running.instance.clean_up()?;
    console.info(&format!("Stopped the {shown}."));
    Ok(Ended::Stopped)
}

fn send(running: &RunningInstance, pid: Option<u32>, signal: Signal) -> Result<(), CommandError> {
    let sent = match process(pid) {
        Some(target) => kill_process(target, signal).map_err(|error| Some(error.into())),
        None => Err(None),
    };
    match sent {
        // It has ended meanwhile.
        Err(Some(error)) if error_is_no_process(&error) => Ok(()),
        sent => sent.map_err(|source| CommandError::CannotEnd { address: running.instance.address(), pid, source }),
    }
}

fn error_is_no_process(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Waits until the daemon has given up its lock, and then for its process, which has nothing left to do.
async fn has_ended(running: &RunningInstance, within: Duration) -> Result<bool, CommandError> {
    let deadline = Instant::now() + within;
    while running.instance.running()?.is_some() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
    let deadline = Instant::now() + EXIT_WITHIN;
    while process(running.pid).is_some_and(is_alive) && Instant::now() < deadline {
        sleep(POLL).await;
    }
    Ok(true)
}

/// Whether a process does anything yet; one that has ended keeps its number until its parent has noticed.
fn is_alive(process: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())) {
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X'])),
        Err(_) => test_kill_process(process).is_ok(),
    }
}

fn process(pid: Option<u32>) -> Option<Pid> {
    pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
}

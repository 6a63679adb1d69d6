//! `rallyd status`.

use std::path::Path;

use super::arguments::{Format, StatusArguments};
use super::error::CommandError;
use super::selection::Filter;
use crate::causes::causes;
use crate::console::Console;
use crate::control::{Request, Response, call};
use crate::exit::Exit;
use crate::instance::show_pid;
use crate::status::{DaemonReport, StatusDocument, render_text};

pub(super) async fn status(
    directory: &Path,
    arguments: &StatusArguments,
    console: Console,
) -> Result<Exit, CommandError> {
    let filter = Filter::new(&arguments.selection).await?;
    let running = filter.running(directory)?;
    let mut reports = Vec::with_capacity(running.len());
    for running in &running {
        let address = running.instance.address();
        let error = match call(&running.instance, &Request::Status).await {
            Ok(Response::Status(status)) => {
                reports.push(DaemonReport::Answered(status));
                continue;
            }
            Ok(_) => "its answer does not fit; it may be of another version".to_owned(),
            Err(error) => causes(&error).join(": "),
        };
        // One that ended while it was asked is not running.
        if let Some(holder) = running.instance.running()? {
            reports.push(DaemonReport::Unresponsive { address, pid: holder.pid, error });
        }
    }
    match arguments.format {
        Format::Json => console.data(&document(&reports)?)?,
        Format::Text if reports.is_empty() => {}
        Format::Text => console.data(&render_text(&reports))?,
    }
    if reports.is_empty() {
        return Err(filter.not_running());
    }
    let mut exit = Exit::Success;
    for report in &reports {
        if let DaemonReport::Unresponsive { address, pid, error } = report {
            console.error(&format!("The daemon at {address} ({}) cannot be asked: {error}.", show_pid(*pid)));
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}

fn document(reports: &[DaemonReport]) -> Result<String, CommandError> {
    let document = serde_json::to_string_pretty(&StatusDocument::new(reports));
    document.map_err(|error| CommandError::Output(error.into()))
}

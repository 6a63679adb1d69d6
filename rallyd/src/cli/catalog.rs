//! `rallyd list telemetry` and `rallyd list pipelines`: what this version offers.

use clap::Args;
use rally_driver::{TelemetryDevice, telemetry_devices};
use serde_json::json;

use super::arguments::Format;
use super::error::CommandError;
use crate::console::Console;
use crate::race::{PIPELINES, Pipeline};

// A doc comment would take the place of the command's own.
#[derive(Debug, Args)]
pub(crate) struct CatalogArguments {
    /// How to show them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows the telemetry devices.
pub(super) fn telemetry(arguments: CatalogArguments, console: Console) -> Result<(), CommandError> {
    let devices = telemetry_devices();
    if arguments.format == Format::Json {
        let document = |device: &TelemetryDevice| json!({"name": device.name, "description": device.description, "of-nodes": device.of_nodes});
        let devices: Vec<_> = devices.iter().map(document).collect();
        return Ok(console.data(&format!("{:#}", json!({"telemetry": devices})))?);
    }
    let line = |device: &TelemetryDevice| {
        let nodes = if device.of_nodes { " Only of nodes that Rally launches, which it does not yet." } else { "" };
        (device.name, format!("{}{nodes}", device.description))
    };
    show(&devices.iter().map(line).collect::<Vec<_>>(), console)
}

/// Shows the pipelines.
pub(super) fn pipelines(arguments: CatalogArguments, console: Console) -> Result<(), CommandError> {
    if arguments.format == Format::Json {
        let document =
            |it: &Pipeline| json!({"name": it.name, "description": it.description, "available": it.is_there});
        let pipelines: Vec<_> = PIPELINES.iter().map(document).collect();
        return Ok(console.data(&format!("{:#}", json!({"pipelines": pipelines})))?);
    }
    let line =
        |it: &Pipeline| (it.name, format!("{}{}", it.description, if it.is_there { "" } else { " Not there yet." }));
    show(&PIPELINES.iter().map(line).collect::<Vec<_>>(), console)
}

/// Names with what they mean, in two columns.
fn show(lines: &[(&str, String)], console: Console) -> Result<(), CommandError> {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> = lines.iter().map(|(name, meaning)| format!("{name:width$}  {meaning}")).collect();
    Ok(console.data(&lines.join("\n"))?)
}

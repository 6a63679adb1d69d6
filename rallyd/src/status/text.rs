//! The text of `rallyd status`.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use rally_core::{ClusterTime, RaceStatus};
use rally_net::{ClockEstimate, HostRole, HostState, HostSummary, LinkState};

use super::DaemonReport;
use super::document::timestamp;
use crate::control::DaemonStatus;
use crate::duration::{show_duration, show_nanoseconds};
use crate::instance::show_pid;
use crate::race::status_text;

/// A list of hosts that is younger than this is as good as one of this moment.
const FRESH: Duration = Duration::from_secs(1);

/// Renders every daemon of this machine, without colors, in a width of its own.
pub(crate) fn render_text(reports: &[DaemonReport]) -> String {
    reports.iter().map(render).collect::<Vec<_>>().join("\n\n")
}

fn render(report: &DaemonReport) -> String {
    match report {
        DaemonReport::Answered(status) => {
            let race = status.race.as_ref().map_or_else(String::new, |race| format!("\n\n{}", race_lines(race)));
            format!("{}{race}\n\n{}", own_lines(status), cluster(status))
        }
        DaemonReport::Unresponsive { address, pid, error } => {
            lines(&[("Host", address.to_string()), ("Process", show_pid(*pid)), ("Problem", error.clone())])
        }
    }
}

fn own_lines(status: &DaemonStatus) -> String {
    let host = &status.host;
    let log = status.log.as_ref().map_or_else(|| "standard error".to_owned(), |log| log.display().to_string());
    lines(&[
        ("Host", format!("{} ({})", host.address, host.facts.name)),
        ("Role", role(host.role).to_owned()),
        ("Version", format!("{} on {}", host.facts.version, host.facts.platform)),
        ("Up for", show_duration(host.uptime)),
        ("Process", show_pid(Some(status.pid))),
        ("Log", log),
        ("Coordinator", format!("{}, {}", host.coordinator.address, link(&host.coordinator.link))),
        ("Activity", host.activity.to_string()),
    ])
}

/// The race that runs, and how far it is.
fn race_lines(race: &RaceStatus) -> String {
    let age = |since: ClusterTime| show_duration(race.now.saturating_since(since));
    let drivers: Vec<_> = race.drivers.iter().map(|driver| driver.name.as_str()).collect();
    let mut entries = vec![
        ("Race", race.race.to_string()),
        ("Runs for", age(race.since)),
        ("Drivers", if drivers.is_empty() { "not chosen yet".to_owned() } else { drivers.join(", ") }),
    ];
    let waits = race.awaited.iter().map(|it| {
        let said = it.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
        ("Waits for", format!("{}{said}", it.driver))
    });
    let Some(step) = &race.step else {
        entries.push(("Step", "drivers prepare".to_owned()));
        entries.extend(waits);
        return lines(&entries);
    };
    entries.push(("Step", format!("{} of {}, for {}", step.step.until, step.of, age(step.step.start))));
    for task in &step.tasks {
        let known = step.progress.iter().find(|status| status.task == task.task);
        entries.push(("Task", known.map_or_else(|| task.name.clone(), |status| status_text(&task.name, status))));
    }
    entries.extend(waits);
    lines(&entries)
}

fn link(link: &LinkState) -> String {
    match link {
        LinkState::Own { since } => format!("this host, since {}", timestamp(*since)),
        LinkState::Connected { since, suspect: false } => format!("connected since {}", timestamp(*since)),
        LinkState::Connected { since, suspect: true } => {
            format!("connected since {}, but silent for longer than it should be", timestamp(*since))
        }
        LinkState::Connecting { since, attempts, last_error } => {
            let times = if *attempts == 1 { "once" } else { &format!("{attempts} times") };
            let error = last_error.as_deref().map_or_else(String::new, |error| format!("; last error: {error}"));
            format!("not connected since {}, tried {times}{error}", timestamp(*since))
        }
    }
}

fn cluster(status: &DaemonStatus) -> String {
    let host = &status.host;
    let Some(age) = host.hosts_age else {
        return "The hosts of the cluster are not known before the coordinator has answered.".to_owned();
    };
    let age = if age < FRESH { String::new() } else { format!(" ({} ago)", show_duration(age)) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "Address",
        "Name",
        "Role",
        "State",
        "Last heard",
        "Round trip",
        "Clock offset",
        "Cores",
        "Memory",
        "Activity",
    ]);
    for host in &host.hosts {
        table.add_row(row(host));
    }
    for number in [4, 5, 6, 7, 8] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    format!("Hosts of the cluster{age}:\n{}", table.trim_fmt())
}

fn row(host: &HostSummary) -> [String; 10] {
    let unknown = || "-".to_owned();
    [
        host.address.to_string(),
        host.facts.name.clone(),
        role(host.role).to_owned(),
        state(host.state).to_owned(),
        show_duration(host.last_heard),
        host.round_trip.map_or_else(unknown, show_duration),
        host.clock.map_or_else(unknown, clock),
        host.facts.cores.to_string(),
        memory(host.facts.memory),
        host.activity.to_string(),
    ]
}

fn role(role: HostRole) -> &'static str {
    match role {
        HostRole::Coordinator => "coordinator",
        HostRole::Member => "member",
    }
}

fn state(state: HostState) -> &'static str {
    match state {
        HostState::Alive => "alive",
        HostState::Suspect => "suspect",
        HostState::Dead => "dead",
        HostState::Left => "left",
    }
}

fn clock(clock: ClockEstimate) -> String {
    let sign = if clock.offset < 0 { '-' } else { '+' };
    format!("{sign}{} ± {}", show_nanoseconds(clock.offset.unsigned_abs()), show_nanoseconds(clock.error))
}

fn memory(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let gibibytes = bytes as f64 / (1u64 << 30) as f64;
    format!("{gibibytes:.1} GiB")
}

/// `Name   value` on a line each, with the values below one another.
fn lines(entries: &[(&str, String)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    entries.iter().map(|(name, value)| format!("{name:width$}{value}")).collect::<Vec<_>>().join("\n")
}

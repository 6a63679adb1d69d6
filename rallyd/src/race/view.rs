//! Watching a race, wherever it runs.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rally_core::race::RaceVerdict;
use rally_core::{Coordinator, RaceEvent, RaceEventKind, RaceId, RoleError, Sequence, StopMode, TaskIndex, TaskStatus};

use super::text::status_text;
use crate::console::Console;

/// How finely bars show progress.
const FINE: u64 = 1000;

/// How often progress is told where it cannot be overwritten.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Follows a race to its end and shows it. The first Ctrl-C asks for its end, the second for its immediate end.
///
/// # Errors
///
/// [`RoleError`] if the coordinator cannot be asked, or ends.
pub async fn watch(coordinator: &dyn Coordinator, race: &RaceId, mut view: View) -> Result<RaceVerdict, RoleError> {
    let mut events = coordinator.events(race, Sequence::START).await?;
    let mut interrupts = 0;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Ok(()) = tokio::signal::ctrl_c() => {
                interrupts += 1;
                let (mode, message) = match interrupts {
                    1 => (StopMode::Drain, "ending the race; what was measured is kept (once more to end it at once)"),
                    _ => (StopMode::Now, "ending the race at once"),
                };
                view.say(message);
                coordinator.cancel(race, mode).await?;
                continue;
            }
        };
        match event {
            Some(event) => {
                if let Some(verdict) = view.show(event?) {
                    return Ok(verdict);
                }
            }
            None => events = coordinator.events(race, view.seen).await?,
        }
    }
}

/// What is seen of a race: lines that move on a terminal, plain lines elsewhere, nothing if it is quiet.
pub struct View {
    console: Console,
    bars: Option<MultiProgress>,
    tasks: HashMap<TaskIndex, Line>,
    seen: Sequence,
    told: Option<rally_core::ClusterTime>,
}

struct Line {
    name: String,
    bar: Option<ProgressBar>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(console: Console) -> Self {
        let bars = (!console.quiet && io::stderr().is_terminal()).then(MultiProgress::new);
        Self { console, bars, tasks: HashMap::new(), seen: Sequence::START, told: None }
    }

    /// One that shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self::new(Console { quiet: true })
    }

    fn show(&mut self, event: RaceEvent) -> Option<RaceVerdict> {
        self.seen = event.sequence;
        match event.kind {
            RaceEventKind::Started { challenge, drivers } => {
                let drivers: Vec<_> = drivers
                    .iter()
                    .map(|driver| format!("{} ({})", driver.name, driver.clients.end - driver.clients.start))
                    .collect();
                self.say(&format!("preparing challenge [{challenge}] on {}", drivers.join(", ")));
            }
            RaceEventKind::StepStarted { step, of, tasks } => {
                let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
                if self.bars.is_none() {
                    self.say(&format!("step {} of {of}: {}", step.until, names.join(", ")));
                }
                self.told = None;
                self.tasks = tasks.into_iter().map(|task| (task.task, self.line(task.name))).collect();
            }
            RaceEventKind::Progress(tasks) => self.progress(event.at, &tasks),
            RaceEventKind::StepEnded { .. } => {
                for line in self.tasks.values() {
                    if let Some(bar) = &line.bar {
                        bar.finish();
                    }
                }
            }
            RaceEventKind::Noticed { driver, message } => self.say(&format!("{driver}: {message}")),
            RaceEventKind::RoleFailed(error) => self.aside(|console| console.error(&error.to_string())),
            RaceEventKind::Ended(verdict) => return Some(*verdict),
            // Nothing to be seen.
            _ => {}
        }
        None
    }

    fn line(&self, name: String) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{bar:20} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(FINE).with_style(style));
            bar.set_message(name.clone());
            bar
        });
        Line { name, bar }
    }

    fn progress(&mut self, at: rally_core::ClusterTime, tasks: &[TaskStatus]) {
        let is_time = self.told.is_none_or(|told| at.saturating_since(told) >= TELL_EVERY);
        for status in tasks {
            let Some(line) = self.tasks.get(&status.task) else { continue };
            let text = status_text(&line.name, status);
            match &line.bar {
                Some(bar) => {
                    bar.set_position((status.done.unwrap_or(0.0).clamp(0.0, 1.0) * FINE as f64) as u64);
                    bar.set_message(text);
                }
                None if is_time => self.console.info(&text),
                None => {}
            }
        }
        if is_time {
            self.told = Some(at);
        }
    }

    fn say(&self, message: &str) {
        self.aside(|console| console.info(message));
    }

    /// Writes past the bars.
    fn aside(&self, write: impl FnOnce(Console)) {
        match &self.bars {
            Some(bars) => bars.suspend(|| write(self.console)),
            None => write(self.console),
        }
    }
}

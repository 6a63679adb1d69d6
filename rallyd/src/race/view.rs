//! Watching a race, wherever it runs.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io::{self, IsTerminal};
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rally_core::race::RaceVerdict;
use rally_core::{
    ClusterTime, Coordinator, RaceEvent, RaceEventKind, RaceId, RoleError, RoleErrorKind, Sequence, StopMode,
    TaskIndex, TaskStatus,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::text::status_text;
use crate::console::Console;

/// Notices that are remembered as seen; a verdict has fewer.
const NOTICES: usize = 1000;

/// How finely bars show progress.
const FINE: u64 = 1000;

/// How often progress is told where it cannot be overwritten.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How soon a coordinator that was out of reach is asked again for the end of a race.
const CANCEL_AGAIN: Duration = Duration::from_millis(500);

/// Follows a race to its end and shows it. The first Ctrl-C asks for its end, the second for its immediate end.
///
/// A race of this process is also ended if the process is to end, or loses its terminal; any other race goes on without
/// its viewer. From then on these signals do nothing else in this process.
///
/// # Errors
///
/// [`RoleError`] if the coordinator cannot be asked, or ends.
pub async fn watch(coordinator: &dyn Coordinator, race: &RaceId, view: &mut View) -> Result<RaceVerdict, RoleError> {
    let mut interrupts = Interrupts::new(view.is_own);
    watch_with(coordinator, race, view, &mut interrupts).await
}

/// As [`watch`], with signals that somebody else waits for before and after.
pub(crate) async fn watch_with(
    coordinator: &dyn Coordinator,
    race: &RaceId,
    view: &mut View,
    interrupts: &mut Interrupts,
) -> Result<RaceVerdict, RoleError> {
    let mut events = coordinator.events(race, Sequence::START).await?;
    let (mut interrupted, mut cancelling) = (0, None);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = interrupts.next() => {
                interrupted += 1;
                let (mode, message) = match interrupted {
                    1 => (StopMode::Drain, "ending the race; what was measured is kept (once more to end it at once)"),
                    _ => (StopMode::Now, "ending the race at once"),
                };
                view.say(message);
                cancelling = Some(cancel(coordinator, race, mode).boxed());
                continue;
            }
            cancelled = async { match &mut cancelling { Some(it) => it.await, None => pending().await } } => {
                cancelling = None;
                cancelled?;
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

/// Asks for the end of a race until the coordinator has heard it. Whether it is gone for good, its events tell.
async fn cancel(coordinator: &dyn Coordinator, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
    loop {
        match coordinator.cancel(race, mode).await {
            Err(error) if matches!(error.kind, RoleErrorKind::Unreachable | RoleErrorKind::DeadlinePassed) => {
                sleep(CANCEL_AGAIN).await;
            }
            heard => return heard,
        }
    }
}

/// The signals that end a race; those that come while nobody waits are not lost. From the first ones on, the signals do
/// nothing else in this process, also when these are dropped: what goes on after that cannot be interrupted and must end by
/// itself.
pub(crate) struct Interrupts(Vec<Signal>);

impl Interrupts {
    /// All that would end this process, if the race is to end with it; otherwise Ctrl-C alone.
    pub(crate) fn new(is_own: bool) -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let count = if is_own { kinds.len() } else { 1 };
        // A signal that cannot be caught does what it does by default.
        Self(kinds.into_iter().take(count).filter_map(|kind| signal(kind).ok()).collect())
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        poll_fn(|context| {
            // All are asked, so that each of them wakes this up.
            let mut came = false;
            for signal in &mut self.0 {
                came |= matches!(signal.poll_recv(context), Poll::Ready(Some(())));
            }
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What is seen of a race: lines that move on a terminal, plain lines elsewhere, nothing if it is quiet.
pub struct View {
    console: Console,
    bars: Option<MultiProgress>,
    /// The race lives in this process.
    is_own: bool,
    tasks: HashMap<TaskIndex, Line>,
    seen: Sequence,
    told: Option<ClusterTime>,
    /// What drivers and others said, as it was shown.
    notices: Vec<String>,
    /// How the tasks of the step did last.
    last: Vec<TaskStatus>,
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
        let (tasks, seen) = (HashMap::new(), Sequence::START);
        Self { console, bars, is_own: false, tasks, seen, told: None, notices: Vec::new(), last: Vec::new() }
    }

    /// Of a race that ends with this process.
    pub(crate) fn of_own_race(self) -> Self {
        Self { is_own: true, ..self }
    }

    /// One that shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self::new(Console { quiet: true })
    }

    /// What drivers and others said during the race and the user has seen; the verdict need not say it again.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
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
                // The first second says little.
                self.told = Some(event.at);
                self.tasks = tasks.into_iter().map(|task| (task.task, self.line(task.name))).collect();
            }
            RaceEventKind::Progress(tasks) => self.progress(event.at, tasks),
            RaceEventKind::StepEnded { .. } => self.end_step(),
            RaceEventKind::Noticed { driver, message } => {
                let notice = format!("{driver}: {message}");
                self.say(&notice);
                if !self.console.quiet && self.notices.len() < NOTICES {
                    self.notices.push(notice);
                }
            }
            RaceEventKind::RoleFailed(error) => self.aside(|console| console.error(&error.to_string())),
            RaceEventKind::Waiting { drivers, .. } => self.say(&format!("waiting for {}", drivers.join(", "))),
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

    fn progress(&mut self, at: ClusterTime, tasks: Vec<TaskStatus>) {
        let is_time = self.told.is_none_or(|told| at.saturating_since(told) >= TELL_EVERY);
        for status in &tasks {
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
        self.last = tasks;
    }

    /// Leaves what the tasks came to.
    fn end_step(&mut self) {
        for status in std::mem::take(&mut self.last) {
            let Some(line) = self.tasks.remove(&status.task) else { continue };
            match line.bar {
                Some(bar) => bar.finish(),
                None => self.console.info(&status_text(&line.name, &status)),
            }
        }
        // Those that nothing was heard of.
        self.tasks.drain().filter_map(|(_, line)| line.bar).for_each(|bar| bar.finish());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use rally_core::metrics::RaceReport;
    use rally_core::race::RaceLog;
    use rally_core::{EventStream, RaceOutcome, RaceRequest, RaceStatus, Role};
    use rustix::process::{Signal as ProcessSignal, getpid, kill_process};

    use super::*;

    /// A coordinator that is out of reach for the first requests to end its race.
    #[derive(Default)]
    struct OutOfReach {
        log: Arc<RaceLog>,
        asked: AtomicU32,
    }

    fn unreachable() -> RoleError {
        let (role, kind) = (Role::Coordinator, RoleErrorKind::Unreachable);
        RoleError { host: "c".to_owned(), role, phase: "cancel race r".to_owned(), kind, cause: "silence".to_owned() }
    }

    #[async_trait]
    impl Coordinator for OutOfReach {
        async fn start_race(&self, _: RaceRequest) -> Result<(), RoleError> {
            Err(unreachable())
        }

        async fn events(&self, _: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
            Ok(self.log.follow(after))
        }

        async fn cancel(&self, _: &RaceId, _: StopMode) -> Result<(), RoleError> {
            let at = ClusterTime::from_nanos(1);
            // Events come in between.
            self.log.push(at, RaceEventKind::Progress(Vec::new()));
            if self.asked.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(unreachable());
            }
            self.log.push(at, RaceEventKind::Ended(Box::new(RaceVerdict::cancelled())));
            Ok(())
        }

        async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
            Ok(None)
        }

        async fn report(&self, _: &RaceId) -> Result<RaceReport, RoleError> {
            Err(unreachable())
        }
    }

    #[tokio::test]
    async fn the_wish_to_end_a_race_outlasts_a_coordinator_that_is_out_of_reach() {
        let coordinator = OutOfReach::default();
        // A signal that no other test waits for.
        let mut interrupts = Interrupts(vec![signal(SignalKind::user_defined1()).unwrap()]);
        kill_process(getpid(), ProcessSignal::USR1).unwrap();
        let race = "r".parse().unwrap();
        let verdict = watch_with(&coordinator, &race, &mut View::quiet(), &mut interrupts).await.unwrap();
        assert_eq!((verdict.outcome, coordinator.asked.into_inner()), (RaceOutcome::Cancelled, 3));
    }
}

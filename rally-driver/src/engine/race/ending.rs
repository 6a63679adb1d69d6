//! How a race on this driver ends: workers are stopped, and what is left is handed over.

use std::collections::BTreeSet;
use std::time::Duration;

use rally_core::{DriverEventKind, StopMode};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::{Command, InvalidStep, Race, RaceError};
use crate::client::KEY_DELETION;
use crate::engine::worker::{DRAIN, WorkerEvent, WorkerRequest};
use crate::events::NobodyListens;

/// How long workers may take to end: as long as they let requests finish and then wait for API keys to be deleted, and a
/// little more.
pub(super) const END: Duration = DRAIN.saturating_add(KEY_DELETION).saturating_add(Duration::from_secs(5));

impl Race {
    /// Ends the workers and hands over what is left. A drain becomes an end at once as soon as `hurry` is done.
    ///
    /// # Errors
    ///
    /// What went wrong meanwhile: workers that did not end before all, or the first failure of the others.
    pub(super) async fn finish(mut self, mode: StopMode, hurry: impl Future<Output = ()>) -> Result<(), RaceError> {
        self.context.ended.cancel();
        self.stop_workers(mode);
        let mut may_hurry = mode == StopMode::Drain;
        let mut hurry = std::pin::pin!(hurry);
        let mut ending: BTreeSet<usize> = (0..self.workers.len()).collect();
        // Those that have not said yet what they had measured when their clients were stopped.
        let mut measuring = ending.clone();
        let deadline = tokio::time::Instant::now() + END;
        let mut result = Ok(());
        while !ending.is_empty() {
            let report = tokio::select! {
                () = &mut hurry, if may_hurry => {
                    may_hurry = false;
                    self.stop_workers(StopMode::Now);
                    continue;
                }
                report = timeout_at(deadline, self.reports.recv()) => report,
            };
            let Ok(Some(report)) = report else { break };
            match report.event {
                WorkerEvent::Ended(measurement) => {
                    self.merge_last(report.worker, *measurement);
                    self.pending.awaiting.remove(&report.worker);
                    measuring.remove(&report.worker);
                    ending.remove(&report.worker);
                }
                WorkerEvent::Measured(measurement) => {
                    self.merge(report.worker, *measurement);
                    // It answers in order what it was asked for before.
                    if !self.pending.awaiting.remove(&report.worker) {
                        measuring.remove(&report.worker);
                    }
                }
                WorkerEvent::Reached(measurement) => self.merge(report.worker, *measurement),
                // Nobody may listen any more.
                WorkerEvent::Noticed(message) => drop(self.say(DriverEventKind::Noticed { message })),
                WorkerEvent::Ready | WorkerEvent::ClientDone { .. } => (),
                WorkerEvent::Failed(error) => result = result.and(Err(error.into())),
                WorkerEvent::Broken(source) => {
                    result = result.and(Err(RaceError::Worker { worker: report.worker, source }));
                }
                // Nothing has begun, and nothing will.
                WorkerEvent::Unready(_) => (),
            }
            if measuring.is_empty() && self.pending.recording.samples > 0 {
                // What comes now may take longer than anybody waits for it, and nobody may listen any more.
                let _ = self.tell_interval();
            }
        }
        for (number, worker) in std::mem::take(&mut self.workers).into_iter().enumerate() {
            if !ending.contains(&number) {
                // It has said that it ends, so this does not take long.
                let _ = worker.thread.join();
            }
        }
        // Whatever they were told to do without is told by whoever ended the race.
        let _ = self.end_telemetry().await;
        if !ending.is_empty() {
            result = Err(RaceError::Stuck { lost: self.accounts.lose(&ending), workers: ending.clone() });
        }
        self.pending.awaiting = ending;
        // Nobody may listen any more; then nobody misses these.
        let _ = self.hand_over().await;
        result
    }

    /// Completes the segments, and tells the last interval with the final ledger.
    async fn hand_over(&mut self) -> Result<(), NobodyListens> {
        if let Some(segments) = self.segments.take() {
            let (announcements, (written, unwritten)) = segments.finish().await;
            self.accounts.ledger.written = written;
            self.accounts.ledger.unwritten += unwritten;
            announcements.iter().try_for_each(|announcement| self.announce(announcement))?;
        }
        if self.intervals > 0 || self.pending.recording.samples > 0 || self.accounts.ledger.made > 0 {
            self.tell_interval()?;
        }
        Ok(())
    }

    fn stop_workers(&self, mode: StopMode) {
        (0..self.workers.len()).for_each(|worker| self.ask(worker, WorkerRequest::Stop(mode)));
    }
}

/// Waits until a race that ends is to end at once; it can do nothing else any more.
pub(super) async fn end_at_once(commands: &mut mpsc::Receiver<Command>) {
    loop {
        match commands.recv().await {
            Some(Command::Stop { mode: StopMode::Now }) => return,
            Some(Command::Drive { reply, .. }) => drop(reply.send(Err(InvalidStep::Ended))),
            Some(Command::Stop { mode: StopMode::Drain } | Command::CompleteStep { .. } | Command::AttachTelemetry) => {
            }
            None => std::future::pending().await,
        }
    }
}

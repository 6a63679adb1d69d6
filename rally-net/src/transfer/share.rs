//! Reading from several sources at once.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rally_core::ContentHash;
use tokio::sync::{Notify, watch};

use super::blocking::blocking;
use super::error::{FetchError, SourceFailure, SourceFault};
use super::fetch::{FetchProgress, give_up};
use super::plan::Plan;
use super::run_reader::{Failure, Patience, RunReader};
use super::source::Source;
use super::store::Store;

/// How many sources are read at once.
///
/// Each has one buffer that is filled and one that is verified and written, so that a fetch never holds more than
/// `SOURCES_AT_ONCE` × 2 × [`LARGEST_GROUP`](super::manifest::LARGEST_GROUP) = 64 MiB; with one source it is 8 MiB.
pub(super) const SOURCES_AT_ONCE: usize = 8;

/// The sources of one fetch at work.
pub(super) struct Share<'a> {
    content: ContentHash,
    store: &'a Arc<Store>,
    progress: &'a watch::Sender<FetchProgress>,
    plan: Mutex<Plan>,
    /// How many bytes each source has delivered.
    served: Mutex<Vec<u64>>,
    /// The plan has work again, or is complete. What changes it runs on the task that waits for it, so that between looking
    /// at the plan and waiting nothing changes.
    changed: Notify,
}

/// Why a source is read no further for now.
enum Ended {
    /// There is nothing that it could read; how much it may still fail.
    Idle(Patience),
    Failed(Failure),
}

/// A group on its way to the disk.
struct Storing<F> {
    group: usize,
    written: F,
}

impl<'a> Share<'a> {
    /// Shares what is not yet `stored` among sources that can each read some groups, and have `served` so many bytes before.
    pub(super) fn new(
        content: ContentHash,
        store: &'a Arc<Store>,
        stored: Vec<bool>,
        progress: &'a watch::Sender<FetchProgress>,
        readable: Vec<Range<usize>>,
        served: Vec<u64>,
    ) -> Self {
        let plan = Mutex::new(Plan::new(stored, readable));
        Self { content, store, progress, plan, served: Mutex::new(served), changed: Notify::new() }
    }

    /// How many bytes each source has delivered.
    pub(super) fn served(self) -> Vec<u64> {
        self.served.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until every group is stored; sources that fail are noted. Whoever has nothing to read makes room for one that
    /// stands by and has.
    pub(super) async fn run(
        &self,
        sources: &[&dyn Source],
        failures: &mut Vec<SourceFailure>,
    ) -> Result<(), FetchError> {
        let mut waiting: VecDeque<_> = (0..sources.len()).map(|reader| (reader, Patience::default())).collect();
        let mut readers = FuturesUnordered::new();
        while !self.plan().is_complete() {
            while readers.len() < SOURCES_AT_ONCE
                && let Some((reader, patience, run)) = self.next_run(&mut waiting)
            {
                readers.push(self.read(reader, sources[reader], run, patience));
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                ended = readers.next() => match ended {
                    Some((reader, Ended::Idle(patience))) => waiting.push_back((reader, patience)),
                    Some((reader, Ended::Failed(Failure::Source(fault)))) => {
                        give_up(sources[reader], fault, failures);
                        if !self.plan().retire(reader) {
                            return Err(self.no_source(failures));
                        }
                    }
                    Some((_, Ended::Failed(Failure::Storage(error)))) => return Err(error),
                    None => return Err(self.no_source(failures)),
                },
            }
        }
        Ok(())
    }

    /// The first of the waiting sources that has something to read, with its first run.
    fn next_run(&self, waiting: &mut VecDeque<(usize, Patience)>) -> Option<(usize, Patience, Range<usize>)> {
        let mut plan = self.plan();
        let claims = waiting.iter().enumerate().find_map(|(place, (reader, _))| Some((place, plan.claim(*reader)?)));
        let (place, run) = claims?;
        let (reader, patience) = waiting.remove(place)?;
        Some((reader, patience, run))
    }

    fn no_source(&self, failures: &mut Vec<SourceFailure>) -> FetchError {
        FetchError::NoSource { content: self.content, failures: std::mem::take(failures) }
    }

    /// Reads this run of groups and others from one source, until it fails or there is nothing to read.
    async fn read(
        &self,
        reader: usize,
        source: &dyn Source,
        mut run: Range<usize>,
        mut patience: Patience,
    ) -> (usize, Ended) {
        let mut buffers = Vec::new();
        loop {
            let result = self.read_run(reader, source, run, &mut buffers, &mut patience).await;
            self.plan().give_up(reader);
            self.changed.notify_waiters();
            let result = match result {
                Err(Failure::Source(fault)) => patience.bear(fault).await.map_err(Failure::Source),
                other => other,
            };
            if let Err(failure) = result {
                return (reader, Ended::Failed(failure));
            }
            match self.plan().claim(reader) {
                Some(next) => run = next,
                None => return (reader, Ended::Idle(patience)),
            }
        }
    }

    /// Reads one run; while a group is verified and written, the next is read.
    async fn read_run(
        &self,
        reader: usize,
        source: &dyn Source,
        run: Range<usize>,
        buffers: &mut Vec<Vec<u8>>,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        let mut bytes = RunReader::open(source, self.content, self.store.tree.bytes_of(run.clone())).await?;
        let mut storing = None;
        let mut group = run.start;
        let read = loop {
            let mut buffer = buffers.pop().unwrap_or_default();
            buffer.clear();
            let range = self.store.tree.bytes_of(group..group + 1);
            if let Err(fault) = bytes.fill(&mut buffer, (range.end - range.start) as usize).await {
                break Err(fault.into());
            }
            if let Some(earlier) = storing.take() {
                buffers.push(self.settle(reader, earlier).await?);
                patience.restore();
            }
            storing = Some(self.start_storing(group, buffer));
            match self.plan().advance(reader) {
                Some(next) => group = next,
                None => break Ok(()),
            }
        };
        if let Some(last) = storing {
            buffers.push(self.settle(reader, last).await?);
            patience.restore();
        }
        read
    }

    /// Begins to verify a group and to write it.
    fn start_storing(
        &self,
        group: usize,
        bytes: Vec<u8>,
    ) -> Storing<impl Future<Output = io::Result<Option<Vec<u8>>>> + Send + use<>> {
        let store = Arc::clone(self.store);
        let written = blocking(move || {
            if !store.tree.matches(group, &bytes) {
                return Ok(None);
            }
            store.write(group, &bytes)?;
            Ok(Some(bytes))
        });
        Storing { group, written }
    }

    /// Waits until a group is verified and written, and gives its buffer back.
    async fn settle(
        &self,
        reader: usize,
        Storing { group, written }: Storing<impl Future<Output = io::Result<Option<Vec<u8>>>>>,
    ) -> Result<Vec<u8>, Failure> {
        let written = written.await.map_err(|source| self.store.part.error("write", source))?;
        let mut plan = self.plan();
        let Some(buffer) = written else {
            plan.reopen(group);
            drop(plan);
            self.changed.notify_waiters();
            return Err(SourceFault::WrongBytes { range: self.store.tree.bytes_of(group..group + 1) }.into());
        };
        let first = plan.store(group);
        let complete = plan.is_complete();
        drop(plan);
        if first {
            let length = self.store.kept_length(group);
            self.served.lock().unwrap_or_else(PoisonError::into_inner)[reader] += length;
            self.progress.send_modify(|progress| progress.done += length);
        }
        if complete {
            self.changed.notify_waiters();
        }
        Ok(buffer)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The load driver of this host.

use std::error::Error;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use rally_core::{
    Allocation, ClusterTime, ContentHash, DriverAssignment, DriverEvent, EventStream, HostFacts, JoinPoint, LoadDriver,
    RaceId, RacePlan, Role, RoleError, RoleErrorKind, Sequence, Step, StopMode,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::corpus::Preparation;
use crate::engine::{Command, InvalidStep, Race, RaceSetup};
use crate::events::EventLog;
use crate::segment::segment_path;
use crate::source::wanted_documents;
use crate::{Registry, RunnerError};

/// Requests to a race that may wait.
const COMMANDS: usize = 8;

/// Fetches content by its hash, from wherever it is.
#[async_trait]
pub trait ContentSource: Send + Sync + 'static {
    /// The content with this hash.
    ///
    /// # Errors
    ///
    /// Whatever makes it unavailable; the race fails then.
    async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>>;

    /// Puts a range of the bytes of a content into a file of this name in an existing directory, and tells `progress` how
    /// many have arrived. The file must not be there before it is whole.
    ///
    /// # Errors
    ///
    /// Whatever makes it unavailable; the race fails then. By default there is no other host.
    async fn fetch_into(
        &self,
        content: ContentHash,
        _range: Range<u64>,
        _directory: &Path,
        _name: &str,
        _progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(format!("there is no other host that could have {content}").into())
    }
}

/// Tells coordinator time. It must not block.
pub type CoordinatorClock = Arc<dyn Fn() -> ClusterTime + Send + Sync>;

/// Coordinator time where there is no other host: the wall clock at the first call, followed by the monotonic clock.
#[must_use]
pub fn local_clock() -> CoordinatorClock {
    let (anchor, wall) = (Instant::now(), SystemTime::now());
    let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let begin = ClusterTime::from_nanos(0) + wall;
    Arc::new(move || begin + anchor.elapsed())
}

/// A file of documents that is ready on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentsHere {
    /// The corpus that it belongs to.
    pub corpus: String,
    /// Its name there, unpacked.
    pub document_file: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Lines, counted from 0, and the bytes that they begin at, both growing.
    pub offsets: Vec<(u64, u64)>,
}

/// What a [`LocalLoadDriver`] is made from.
#[derive(Clone)]
pub struct DriverOptions {
    /// What the host offers. Errors name it by its name, and there is one worker for each of its cores.
    pub facts: HostFacts,
    /// The runners, parameter sources and schedulers that tracks may use.
    pub registry: Arc<Registry>,
    /// Where race plans come from.
    pub content: Arc<dyn ContentSource>,
    /// Coordinator time.
    pub clock: CoordinatorClock,
    /// Where corpora are kept.
    pub data_dir: PathBuf,
    /// Where raw samples are written; complete files are named by [`LocalLoadDriver::segment_path`].
    pub segment_dir: PathBuf,
}

impl DriverOptions {
    /// A driver of this process with Rally's operations, a worker for each core, and a clock of its own; corpora are
    /// kept in `directory`, raw samples in `samples` below it. Every field may be replaced.
    #[must_use]
    pub fn new(name: &str, directory: &Path, content: Arc<dyn ContentSource>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Self {
            facts: HostFacts { name: name.to_owned(), cores, ..HostFacts::default() },
            registry: Arc::new(Registry::rally()),
            content,
            clock: local_clock(),
            data_dir: directory.to_owned(),
            segment_dir: directory.join("samples"),
        }
    }
}

impl fmt::Debug for DriverOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverOptions")
            .field("facts", &self.facts)
            .field("registry", &self.registry)
            .field("data_dir", &self.data_dir)
            .field("segment_dir", &self.segment_dir)
            .finish_non_exhaustive()
    }
}

/// Applies load from this process.
///
/// Clients run on threads of their own, one per core; the methods only talk to them. Dropping the driver stops its load.
#[derive(Debug)]
pub struct LocalLoadDriver {
    options: DriverOptions,
    current: Mutex<Option<Current>>,
}

/// The race that the driver plays in, or played in last.
#[derive(Debug)]
struct Current {
    assignment: DriverAssignment,
    events: Arc<EventLog>,
    commands: mpsc::Sender<Command>,
    /// Holds the future of the race, which ends when this is dropped.
    _race: JoinSet<()>,
}

/// The driver plays in another race.
#[derive(Debug, thiserror::Error)]
#[error("it plays in race {0}")]
struct Busy(RaceId);

/// The driver does not play in this race.
#[derive(Debug, thiserror::Error)]
#[error("it does not play in this race")]
struct UnknownRace;

/// The same race was prepared with another assignment.
#[derive(Debug, thiserror::Error)]
#[error("it plays in this race already, with another assignment")]
struct OtherAssignment;

impl LocalLoadDriver {
    /// A driver that plays in no race yet.
    #[must_use]
    pub fn new(options: DriverOptions) -> Self {
        Self { options, current: Mutex::default() }
    }

    /// Where the raw samples of a [`DriverEventKind::SegmentWritten`](rally_core::DriverEventKind::SegmentWritten) are.
    #[must_use]
    pub fn segment_path(&self, hash: ContentHash) -> PathBuf {
        segment_path(&self.options.segment_dir, hash)
    }

    /// Where corpora are kept.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Gets all documents of a race ready on this host as drivers do it, whoever reads them, so that other hosts can fetch
    /// them from here. `notice` takes sentences for the user.
    ///
    /// # Errors
    ///
    /// [`RunnerError`] names what cannot be had, or what makes no sense.
    ///
    /// # Cancel safety
    ///
    /// When dropped, no file is left that is not whole.
    pub async fn documents(
        &self,
        plan: &RacePlan,
        notice: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Vec<DocumentsHere>, RunnerError> {
        let Some(challenge) = plan.challenge() else { return Ok(Vec::new()) };
        let (tasks, allocation) =
            (challenge.tasks().cloned().map(Arc::new).collect::<Vec<_>>(), Allocation::new(challenge));
        let wanted = wanted_documents(&plan.track, &tasks, &allocation, 0..allocation.clients)?;
        // Here they are not shipped to, but from.
        let plan = RacePlan { shipped: Vec::new(), ..plan.clone() };
        let preparation = Preparation {
            plan: &plan,
            data_dir: &self.options.data_dir,
            cores: self.options.facts.cores as usize,
            content: &self.options.content,
            notice: &notice,
            threads: &TaskTracker::new(),
        };
        Ok(preparation.run(&wanted).await?.here())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, phase: String, kind: RoleErrorKind, cause: &(dyn Error + 'static)) -> RoleError {
        RoleError::new(self.options.facts.name.clone(), Role::LoadDriver, phase, kind, cause)
    }

    /// Events and commands of a race.
    fn race(&self, race: &RaceId) -> Result<(Arc<EventLog>, mpsc::Sender<Command>), UnknownRace> {
        let current = self.lock();
        let current = current.as_ref().filter(|current| current.assignment.race == *race).ok_or(UnknownRace)?;
        Ok((Arc::clone(&current.events), current.commands.clone()))
    }
}

#[async_trait]
impl LoadDriver for LocalLoadDriver {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        Ok(self.options.facts.clone())
    }

    async fn prepare(&self, assignment: DriverAssignment) -> Result<(), RoleError> {
        let phase = || format!("prepare race {}", assignment.race);
        let mut current = self.lock();
        if let Some(current) = &*current {
            if current.assignment == assignment {
                return Ok(());
            }
            if current.assignment.race == assignment.race {
                return Err(self.error(phase(), RoleErrorKind::Invalid, &OtherAssignment));
            }
            if !current.events.has_ended() {
                return Err(self.error(phase(), RoleErrorKind::Busy, &Busy(current.assignment.race.clone())));
            }
        }
        let options = &self.options;
        let events = Arc::<EventLog>::default();
        let setup = RaceSetup {
            host: options.facts.name.clone(),
            cores: NonZero::new(options.facts.cores as usize).unwrap_or(NonZero::<usize>::MIN),
            registry: Arc::clone(&options.registry),
            data_dir: options.data_dir.clone(),
            segment_dir: options.segment_dir.clone(),
            content: Arc::clone(&options.content),
            clock: Arc::clone(&options.clock),
            assignment: assignment.clone(),
            events: Arc::clone(&events),
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let mut race = JoinSet::new();
        race.spawn(Race::run(setup, receiver));
        *current = Some(Current { assignment, events, commands, _race: race });
        Ok(())
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError> {
        let invalid =
            |error: &(dyn Error + 'static)| self.error(format!("report on race {race}"), RoleErrorKind::Invalid, error);
        let (events, _) = self.race(race).map_err(|error| invalid(&error))?;
        events.follow(after).map_err(|error| invalid(&error))
    }

    async fn drive(&self, race: &RaceId, step: Step) -> Result<(), RoleError> {
        let invalid = |error: &(dyn Error + 'static)| {
            let phase = format!("drive race {race} up to join point {}", step.until);
            self.error(phase, RoleErrorKind::Invalid, error)
        };
        let (_, commands) = self.race(race).map_err(|error| invalid(&error))?;
        let (reply, answer) = oneshot::channel();
        // A race that has ended takes no command, and gives no answer.
        let _ = commands.send(Command::Drive { step, reply }).await;
        answer.await.unwrap_or(Err(InvalidStep::Ended)).map_err(|error| invalid(&error))
    }

    async fn complete_step(&self, race: &RaceId, until: JoinPoint) -> Result<(), RoleError> {
        let (_, commands) = self.race(race).map_err(|error| {
            let phase = format!("complete the step of race {race} before join point {until}");
            self.error(phase, RoleErrorKind::Invalid, &error)
        })?;
        // A race that has ended has completed all its steps.
        let _ = commands.send(Command::CompleteStep { until }).await;
        Ok(())
    }

    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        if let Ok((_, commands)) = self.race(race) {
            // A race that has ended need not be stopped.
            let _ = commands.send(Command::Stop { mode }).await;
        }
        Ok(())
    }
}

//! Files of raw samples on their way from load drivers to the archive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rally_core::ContentHash;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::coordinator::Surroundings;

/// How fast files of raw samples are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPace {
    /// While a race runs: at 8 MiB a second each, which a driver sends with a hundredth of a core.
    Gentle,
    /// When it has ended: as fast as can be.
    Full,
}

/// Files that are fetched at the same time while a race runs, each from another driver.
const AT_ONCE: usize = 4;

/// How long a file that could not be fetched is left alone while a race runs.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A file of raw samples that a driver has completed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SampleFile {
    /// The driver by the name that the user gave it.
    pub(crate) driver: String,
    pub(crate) content: ContentHash,
}

/// The files that drivers have completed and nobody has fetched.
///
/// While the race runs, they are fetched one at a time from each driver and gently; whatever is left is fetched when it has
/// ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleFiles(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The oldest first.
    missing: Mutex<VecDeque<SampleFile>>,
    added: Notify,
}

impl SampleFiles {
    /// Adds a file that was completed.
    pub(crate) fn add(&self, file: SampleFile) {
        self.missing().push_back(file);
        self.0.added.notify_one();
    }

    /// All that nobody has fetched.
    pub(crate) fn all(&self) -> Vec<SampleFile> {
        self.missing().iter().cloned().collect()
    }

    /// Fetches files into a directory as they come. It does not return; when it is dropped, the files that are under way are
    /// missing still, and what has arrived of them is not fetched again.
    ///
    /// A file that cannot be had is tried again after a minute; at the end of the race it is told if it is still missing.
    pub(crate) async fn fetch_as_they_come(self, surroundings: Arc<dyn Surroundings>, directory: PathBuf) {
        let mut fetches = FuturesUnordered::new();
        let mut fetched_from = BTreeSet::new();
        // When they may be tried again.
        let mut failed = BTreeMap::<SampleFile, Instant>::new();
        loop {
            let now = Instant::now();
            let may_be_tried = |file: &SampleFile| failed.get(file).is_none_or(|again| *again <= now);
            while fetches.len() < AT_ONCE
                && let Some(file) = self.next(|file| !fetched_from.contains(&file.driver) && may_be_tried(file))
            {
                fetched_from.insert(file.driver.clone());
                let (surroundings, directory) = (&*surroundings, &*directory);
                fetches.push(async move {
                    let fetched =
                        surroundings.find_samples(&file.driver, file.content, directory, FetchPace::Gentle).await;
                    (file, fetched)
                });
            }
            // Those that may be tried already wait for others of their drivers.
            let again = failed.values().filter(|again| **again > now).min().copied();
            tokio::select! {
                Some((file, fetched)) = fetches.next() => {
                    fetched_from.remove(&file.driver);
                    match fetched {
                        Ok(()) => {
                            failed.remove(&file);
                            self.missing().retain(|missing| *missing != file);
                        }
                        Err(cause) => {
                            debug!(driver = %file.driver, %cause, "raw samples are left for later");
                            failed.insert(file, Instant::now() + AGAIN_AFTER);
                        }
                    }
                }
                () = self.0.added.notified() => {}
                () = sleep_until(again.unwrap_or(now)), if again.is_some() => {}
            }
        }
    }

    fn next(&self, is_wanted: impl Fn(&SampleFile) -> bool) -> Option<SampleFile> {
        self.missing().iter().find(|file| is_wanted(file)).cloned()
    }

    fn missing(&self) -> MutexGuard<'_, VecDeque<SampleFile>> {
        self.0.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;
    use rally_core::race::Timer;
    use rally_core::{HostFacts, LoadDriver, RacePlan};
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::archive::Archive;

    /// Hosts whose files arrive when the test says so.
    struct Slow {
        /// What is under way: driver and content.
        under_way: watch::Sender<Vec<(String, ContentHash)>>,
        arrivals: Semaphore,
    }

    #[async_trait]
    impl Surroundings for Slow {
        fn facts(&self) -> HostFacts {
            HostFacts::default()
        }

        fn timer(&self) -> Arc<dyn Timer> {
            unreachable!("files need no time")
        }

        async fn keep(&self, _plan: Vec<u8>) -> Result<ContentHash, String> {
            Err("there are no plans".to_owned())
        }

        async fn plan(&self, _content: ContentHash) -> Result<RacePlan, String> {
            Err("there are no plans".to_owned())
        }

        async fn load_drivers(&self, _hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String> {
            Err("there are no drivers".to_owned())
        }

        fn archive(&self) -> Option<Archive> {
            None
        }

        async fn find_samples(
            &self,
            driver: &str,
            content: ContentHash,
            _directory: &Path,
            pace: FetchPace,
        ) -> Result<(), String> {
            assert_eq!(pace, FetchPace::Gentle);
            let it = (driver.to_owned(), content);
            self.under_way.send_modify(|all| all.push(it.clone()));
            self.arrivals.acquire().await.unwrap().forget();
            self.under_way.send_modify(|all| all.retain(|other| *other != it));
            if driver == "broken" { Err("its disk is gone".to_owned()) } else { Ok(()) }
        }
    }

    fn file(driver: &str, number: u8) -> SampleFile {
        SampleFile { driver: driver.to_owned(), content: ContentHash::from_bytes([number; 32]) }
    }

    #[tokio::test]
    async fn a_driver_sends_one_file_at_a_time_and_what_does_not_arrive_is_left() {
        let (under_way, mut seen) = watch::channel(Vec::new());
        let slow = Arc::new(Slow { under_way, arrivals: Semaphore::new(0) });
        let files = SampleFiles::default();
        let fetching = files.clone().fetch_as_they_come(Arc::<Slow>::clone(&slow), PathBuf::new());
        let mut fetching = Box::pin(fetching);
        let mut until = async |expected: Vec<SampleFile>| {
            let expected: Vec<_> = expected.into_iter().map(|file| (file.driver, file.content)).collect();
            tokio::select! {
                () = &mut fetching => {}
                seen = seen.wait_for(|seen| *seen == expected) => drop(seen.unwrap()),
            }
        };
        files.add(file("a", 1));
        files.add(file("a", 2));
        files.add(file("broken", 3));
        until(vec![file("a", 1), file("broken", 3)]).await;
        slow.arrivals.add_permits(2);
        until(vec![file("a", 2)]).await;
        // What comes later is noticed, too.
        files.add(file("b", 4));
        until(vec![file("a", 2), file("b", 4)]).await;
        drop(fetching);
        assert_eq!(files.all(), [file("a", 2), file("broken", 3), file("b", 4)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_could_not_be_fetched_is_tried_again_after_a_pause() {
        let (under_way, mut seen) = watch::channel(Vec::new());
        let slow = Arc::new(Slow { under_way, arrivals: Semaphore::new(0) });
        let files = SampleFiles::default();
        let fetching = files.clone().fetch_as_they_come(Arc::<Slow>::clone(&slow), PathBuf::new());
        let mut fetching = Box::pin(fetching);
        files.add(file("broken", 1));
        let begun = Instant::now();
        for is_under_way in [true, false, true] {
            tokio::select! {
                () = &mut fetching => {}
                seen = seen.wait_for(|seen| seen.is_empty() != is_under_way) => drop(seen.unwrap()),
                () = tokio::time::sleep(10 * AGAIN_AFTER) => panic!("it is not tried again"),
            }
            slow.arrivals.add_permits(usize::from(is_under_way));
        }
        assert!(begun.elapsed() >= AGAIN_AFTER, "{:?}", begun.elapsed());
        assert_eq!(files.all(), [file("broken", 1)]);
    }
}

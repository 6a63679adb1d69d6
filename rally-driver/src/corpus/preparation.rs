//! Gets the documents of a race ready on this host: found, unpacked, downloaded, or fetched from another host.

use std::error::Error;
use std::future::ready;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rally_core::track::{Corpus, Documents};
use rally_core::{ContentHash, DataSource, RacePlan};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::download::{self, DownloadError};
use super::lock::Lock;
use super::place::{Place, length};
use super::progress::{Notice, Progress};
use super::slices::{delete_old_slices, fetch_slice, slices_here};
use super::unpacking::{count_lines, unpack_documents};
use super::{Corpora, CorpusError, DocumentFile, OffsetTable};
use crate::driver::{ContentSource, Means};
use crate::engine::Panicked;

/// Documents that somebody on this host reads.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) corpus: &'a Corpus,
    pub(crate) documents: &'a Documents,
    /// The first document and the one behind the last.
    pub(crate) range: Range<u64>,
}

impl Wanted<'_> {
    /// The names of the corpus and of the unpacked file.
    pub(crate) fn names(&self) -> (String, String) {
        (self.corpus.name.clone(), self.documents.document_file.clone())
    }
}

/// Gets documents ready.
#[derive(Clone)]
pub(crate) struct Preparation<'a> {
    pub(crate) plan: &'a RacePlan,
    pub(crate) data_dir: &'a Path,
    /// Document sets at the same time, and threads that unpack one.
    pub(crate) cores: usize,
    pub(crate) content: &'a Arc<dyn ContentSource>,
    pub(crate) notice: &'a Notice,
    /// Where what blocks is done, so that its end can be waited for.
    pub(crate) threads: &'a TaskTracker,
}

impl Preparation<'_> {
    /// Gets all of them ready.
    ///
    /// # Errors
    ///
    /// [`CorpusError`] names the first file that cannot be had, and what would help.
    ///
    /// # Cancel safety
    ///
    /// When dropped, whatever runs on `threads` stops soon, and no file is left that is not whole.
    pub(crate) async fn run(&self, wanted: &[Wanted<'_>]) -> Result<Corpora, CorpusError> {
        let files: Vec<_> = wanted.iter().map(|wanted| self.prepare(wanted.clone()).boxed()).collect();
        let files = stream::iter(files).buffer_unordered(self.cores.max(1)).try_collect().await?;
        Ok(Corpora { files })
    }

    /// Gets those ready as a whole that can be had by these means, so that other hosts can fetch them from here.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); without [`Means::Download`], what cannot be had is left out instead.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub(crate) async fn run_here(&self, wanted: &[Wanted<'_>], means: Means) -> Result<Corpora, CorpusError> {
        let files: Vec<_> = wanted.iter().map(|wanted| self.prepare_here(wanted, means).boxed()).collect();
        let files = stream::iter(files).buffer_unordered(self.cores.max(1));
        let files = files.try_filter_map(|file| ready(Ok(file))).try_collect().await?;
        Ok(Corpora { files })
    }

    async fn prepare_here(
        &self,
        wanted: &Wanted<'_>,
        means: Means,
    ) -> Result<Option<((String, String), Arc<DocumentFile>)>, CorpusError> {
        let place = Place::of(self.data_dir, self.plan.track_directory.as_deref(), wanted.corpus, wanted.documents)?;
        match self.whole(&place, means).await {
            Ok(file) => Ok(file.map(|file| (wanted.names(), Arc::new(file)))),
            Err(error) if means == Means::Download => Err(error),
            Err(error) => {
                (self.notice)(format!("{} is not offered to other hosts: {}", place.name, chain(&error)));
                Ok(None)
            }
        }
    }

    /// Which parts of a content are here from earlier races, in which it was this file: their bytes, and where they are.
    ///
    /// # Errors
    ///
    /// The directory of the corpus cannot be read.
    pub(crate) fn slices(
        &self,
        wanted: &Wanted<'_>,
        content: ContentHash,
    ) -> Result<Vec<(Range<u64>, PathBuf)>, CorpusError> {
        let place = Place::of(self.data_dir, None, wanted.corpus, wanted.documents)?;
        slices_here(&place, content)
    }

    /// The whole file, if it can be had by these means.
    async fn whole(&self, place: &Place, means: Means) -> Result<Option<DocumentFile>, CorpusError> {
        let is_here = place.unpacked()?.is_some() || (means >= Means::Unpack && place.archive()?.is_some());
        if !is_here && means < Means::Download {
            return Ok(None);
        }
        let (path, table) = self.have(place).await?;
        let length = length(&path)?.unwrap_or_default();
        Ok(Some(DocumentFile { path, begins_at: 0, length, table }))
    }

    async fn prepare(&self, wanted: Wanted<'_>) -> Result<((String, String), Arc<DocumentFile>), CorpusError> {
        let names = wanted.names();
        let Wanted { corpus, documents, range } = wanted;
        let place = Place::of(self.data_dir, self.plan.track_directory.as_deref(), corpus, documents)?;
        let mut shipped = self.plan.shipped.iter();
        let shipped = shipped.find(|it| it.corpus == corpus.name && it.document_file == documents.document_file);
        let file = match shipped {
            Some(shipped) => {
                let lines_per_document = documents.number_of_lines() / documents.number_of_documents.max(1);
                let lines = range.start * lines_per_document..range.end * lines_per_document;
                let begin = |bytes| self.begin("fetching", &place.name, &place, Some(bytes));
                delete_old_slices(&place, &self.plan.shipped)?;
                fetch_slice(self.content, &place, shipped, &lines, begin).await?
            }
            None => {
                let (path, table) = self.have(&place).await?;
                let length = length(&path)?.unwrap_or_default();
                DocumentFile { path, begins_at: 0, length, table }
            }
        };
        Ok((names, Arc::new(file)))
    }

    /// The unpacked file of a document set, and where its lines are.
    async fn have(&self, place: &Place) -> Result<(PathBuf, OffsetTable), CorpusError> {
        if let Some(file) = place.unpacked()? {
            return self.count(place, file).await;
        }
        let archive = place.archive()?;
        if archive.is_none() {
            self.check_may_download(place)?;
        }
        let path = place.hidden("lock");
        let cannot_write = |source| CorpusError::Write { path: path.clone(), source };
        let directory = path.parent().unwrap_or(&place.directory);
        tokio::fs::create_dir_all(directory).await.map_err(cannot_write)?;
        let waits = || (self.notice)(format!("waiting for another driver that prepares {} here", place.name));
        let lock = Lock::take(&path, waits).await.map_err(cannot_write)?;
        // Another driver may have done it in the meantime.
        if let Some(file) = place.unpacked()? {
            return self.count(place, file).await;
        }
        let archive = match place.archive()? {
            Some(archive) => archive,
            None => {
                self.download(place).await?;
                match place.archive()? {
                    Some(archive) => archive,
                    None => return self.count(place, place.file()).await,
                }
            }
        };
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let progress = self.begin("unpacking", &name, place, None);
        let (own, threads) = (place.clone(), self.cores);
        self.blocking(place, move |cancelled| {
            // As long as the thread writes, nobody else does.
            let _lock = lock;
            unpack_documents(&own, &archive, threads, progress, cancelled)
        })
        .await
    }

    async fn count(&self, place: &Place, file: PathBuf) -> Result<(PathBuf, OffsetTable), CorpusError> {
        let own = place.clone();
        self.blocking(place, move |cancelled| count_lines(&own, &file, &cancelled).map(|table| (file, table))).await
    }

    /// Whether what is missing may be downloaded.
    fn check_may_download(&self, place: &Place) -> Result<(), CorpusError> {
        let why = if self.plan.data == DataSource::Local {
            "--data=local downloads nothing"
        } else if self.plan.offline {
            "--offline downloads nothing"
        } else if place.base_url.is_none() {
            "the track does not say with `base-url` where it can be downloaded"
        } else {
            return Ok(());
        };
        Err(place.missing(|path| format!("{why}; put it at {}", path.display())))
    }

    async fn download(&self, place: &Place) -> Result<(), CorpusError> {
        self.check_may_download(place)?;
        let (name, expected) = place.source();
        let target = place.directory.join(name);
        let base_url = place.base_url.as_deref().unwrap_or_default();
        let failed = |url: String, error| match error {
            DownloadError::Server(mut problem) => {
                if self.plan.test_mode && problem.contains("404") {
                    problem = "the server does not have it (404); the track does not support --test-mode".to_owned();
                }
                CorpusError::Download { corpus: place.corpus.clone(), url, problem }
            }
            DownloadError::Write(source) => CorpusError::Write { path: target.clone(), source },
        };
        let url = download::address(base_url, name).map_err(|error| failed(name.to_owned(), error))?;
        let failed = |error| failed(download::shown(&url), error);
        let client = download::client().map_err(failed)?;
        let mut progress = self.begin("downloading", name, place, expected);
        download::download(&client, &url, &target, expected, &mut progress).await.map_err(failed)?;
        let found = length(&target)?.unwrap_or_default();
        place.check(&target, found, expected)
    }

    fn begin(&self, doing: &str, name: &str, place: &Place, total: Option<u64>) -> Progress {
        Progress::begin(self.notice, format!("{doing} {name} of corpus {}", place.corpus), total)
    }

    /// Runs something that blocks on another thread. It is told to stop if nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce(CancellationToken) -> Result<T, CorpusError> + Send + 'static,
    ) -> Result<T, CorpusError> {
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        match self.threads.spawn_blocking(move || work(cancelled)).await {
            Ok(result) => result,
            Err(error) => Err(CorpusError::Aborted {
                corpus: place.corpus.clone(),
                document_file: place.name.clone(),
                problem: match error.try_into_panic() {
                    Ok(payload) => Panicked::with(payload.as_ref()).to_string(),
                    Err(cancelled) => cancelled.to_string(),
                },
            }),
        }
    }
}

/// An error and its cause in one line.
fn chain(error: &CorpusError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use rally_core::track::{Challenge, Operation, Task, Track};

    use super::*;

    struct Nothing;

    #[async_trait]
    impl ContentSource for Nothing {
        async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
            Err(format!("nothing is known of {content}").into())
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_an_error_that_names_the_file() {
        let documents = Documents::builder("places.json", 1).target_index("i");
        let track = Track::builder("t")
            .corpus(Corpus::builder("places").documents(documents))
            .challenge(Challenge::builder("c").task(Task::builder(Operation::builder("bulk").property("bulk-size", 1))))
            .build()
            .unwrap();
        let plan = RacePlan::new(track, "c");
        let (content, notice): (Arc<dyn ContentSource>, Notice) = (Arc::new(Nothing), Arc::new(|_| ()));
        let (data_dir, threads) = (Path::new("data"), TaskTracker::new());
        let preparation =
            Preparation { plan: &plan, data_dir, cores: 1, content: &content, notice: &notice, threads: &threads };
        let corpus = &plan.track.corpora[0];
        let place = Place::of(data_dir, None, corpus, &corpus.documents[0]).unwrap();
        let error = preparation.blocking::<()>(&place, |_| panic!("no end in sight")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "places.json of corpus `places` could not be unpacked or counted: it panicked: no end in sight; this is a \
             defect, please report it"
        );
    }
}

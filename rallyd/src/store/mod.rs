//! Where results go beside the archive: an Elasticsearch cluster for teams whose results outgrow one machine.
//!
//! The document of a race is stored before it begins, so that a store that cannot be used is known before the race and not
//! after it. Everything else follows from the archive when the race has ended and before the next one begins: nothing
//! disturbs the load, and what a store does not take stays in the archive.

mod elasticsearch;
mod queries;
mod records;
mod settings;
mod templates;
#[cfg(test)]
mod tests;

pub use elasticsearch::ElasticsearchStore;
pub use settings::{InvalidStoreSettings, StoreSettings};

use std::cell::Cell;
use std::time::Duration;

use rally_core::metrics::{MetricsStore, RaceDocument, RecordContext, StoreError, result_documents};
use rally_core::track::JsonObject;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
pub(crate) use records::TaskRecords;

/// How long a store may take for a race that has no sample.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Records that are handed over at once.
const CHUNK: usize = 5_000;

/// Makes sure that a store can be used, and stores the document of a race that is about to begin.
pub(crate) async fn begin(settings: StoreSettings, race: RaceDocument) -> Result<(), StoreError> {
    on_own_thread(settings, async move |store| {
        store.set_up().await?;
        store.store_race(&race).await
    })
    .await
}

/// How long a store may take for everything of a race with this many samples: it is given up if it takes less than about
/// 3,000 records in each second.
pub(crate) fn patience(samples: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_millis(samples))
}

/// Stores everything of a race that has ended, `within` a time; `cluster` is what is known of the cluster under test.
///
/// # Cancel safety
///
/// When dropped, the store is left with what it has got by then.
pub(crate) async fn finish(
    settings: StoreSettings,
    archive: Archive,
    race: RaceDocument,
    cluster: JsonObject,
    tasks: Vec<TaskRecords>,
    within: Duration,
) -> Result<(), StoreError> {
    on_own_thread(settings, async move |store| {
        let place = store.settings().hosts.join(", ");
        let stored = Cell::new(0);
        let everything = store_everything(store, &archive, &race, &cluster, &tasks, &stored);
        timeout(within, everything).await.unwrap_or_else(|_| {
            let taken = match stored.get() {
                0 => "not a single record".to_owned(),
                count => format!("its first {count} records and not the others"),
            };
            let action = format!("store race {}", race.race_id);
            Err(StoreError { place, action, cause: format!("it has taken {taken} within {within:?}") })
        })
    })
    .await
}

/// Counts the records that are `stored`.
async fn store_everything(
    store: &mut ElasticsearchStore,
    archive: &Archive,
    race: &RaceDocument,
    cluster: &JsonObject,
    tasks: &[TaskRecords],
    stored: &Cell<usize>,
) -> Result<(), StoreError> {
    store.store_race(race).await?;
    store.store_results(race, result_documents(race)).await?;
    let context = RecordContext::new(race, cluster);
    let factor = store.settings().downsample_factor;
    let place = store.settings().hosts.join(", ");
    let mut records = records::records(archive, &race.race_id, &context, tasks, factor);
    loop {
        let mut chunk = Vec::new();
        for record in records.by_ref().take(CHUNK) {
            let cause = |cause| StoreError { place: place.clone(), action: "read the archive".to_owned(), cause };
            chunk.push(record.map_err(cause)?);
        }
        if chunk.is_empty() {
            return Ok(());
        }
        let count = chunk.len();
        store.store_records(race, chunk).await?;
        stored.set(stored.get() + count);
    }
}

/// Clients stay on one thread, and reading samples blocks it. The thread ends early when this is dropped.
pub(crate) async fn on_own_thread<T, W>(settings: StoreSettings, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: AsyncFnOnce(&mut ElasticsearchStore) -> Result<T, StoreError> + Send + 'static,
{
    let place = settings.hosts.join(", ");
    let failed = {
        let place = place.clone();
        move |cause: String| StoreError { place: place.clone(), action: "be used".to_owned(), cause }
    };
    let cannot = failed.clone();
    let stop = CancellationToken::new();
    let _stop_when_dropped = stop.clone().drop_guard();
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| cannot(format!("there is no runtime for it: {error}")))?;
        let mut store = ElasticsearchStore::new(settings).map_err(|error| cannot(error.to_string()))?;
        runtime.block_on(async {
            tokio::select! {
                done = work(&mut store) => done,
                () = stop.cancelled() => Err(cannot("it is no longer wanted".to_owned())),
            }
        })
    });
    thread.await.unwrap_or_else(|error| Err(failed(format!("the thread that stores ended: {error}"))))
}

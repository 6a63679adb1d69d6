//! Where results go beside the archive: an Elasticsearch cluster for teams whose results outgrow one machine.
//!
//! A store is tried before anything is made ready for a race, and the document of the race is stored just before it
//! begins, so that a store that cannot be used is known before the race and not after it. Everything else is copied
//! from the archive when the race has ended and before the next one begins: nothing disturbs the load, and what a store
//! does not take stays in the archive.

mod elasticsearch;
mod queries;
mod settings;
mod templates;
#[cfg(test)]
mod tests;

pub use elasticsearch::ElasticsearchStore;
pub use settings::{InvalidStoreSettings, StoreSettings};

use std::cell::Cell;
use std::time::Duration;

use futures_util::StreamExt;
use rally_core::metrics::{MetricsStore, RaceDocument, StoreError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;

/// How long a store may take for a race that has no sample.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Makes sure that a store can be used for a race; nothing of the race goes there yet.
pub(crate) async fn prepare(settings: StoreSettings, race: RaceDocument) -> Result<(), StoreError> {
    on_own_thread(settings, race, async |store, _| store.set_up().await).await
}

/// Stores the document of a race that is about to begin.
pub(crate) async fn begin(settings: StoreSettings, race: RaceDocument) -> Result<(), StoreError> {
    on_own_thread(settings, race, async |store, race| store.store_race(race).await).await
}

/// How long a store may take for everything of a race with this many samples: it is given up if it takes less than about
/// 3,000 records in each second.
pub(crate) fn patience(samples: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_millis(samples))
}

/// Copies a race that has ended from the archive, `within` a time.
///
/// # Cancel safety
///
/// When dropped, the store is left with what it has got by then.
pub(crate) async fn finish(
    settings: StoreSettings,
    archive: Archive,
    race: RaceDocument,
    within: Duration,
) -> Result<(), StoreError> {
    let archive = archive.downsampled(settings.downsample_factor);
    on_own_thread(settings, race, async move |store, race| {
        let (place, stored) = (store.place(), Cell::new(0));
        let everything = async {
            store.store_race(race).await?;
            let mut records = archive.records(race);
            while let Some(page) = records.next().await {
                let page = page?;
                let count = page.len();
                store.store_records(race, page).await?;
                stored.set(stored.get() + count);
            }
            Ok(())
        };
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

/// Clients stay on one thread, and reading samples blocks it. The thread ends early when this is dropped.
async fn on_own_thread<W>(settings: StoreSettings, race: RaceDocument, work: W) -> Result<(), StoreError>
where
    W: AsyncFnOnce(&mut ElasticsearchStore, &RaceDocument) -> Result<(), StoreError> + Send + 'static,
{
    let place = settings.place();
    let failed = move |cause: String| StoreError { place: place.clone(), action: "be used".to_owned(), cause };
    let cannot = failed.clone();
    let stop = CancellationToken::new();
    let _stop_when_dropped = stop.clone().drop_guard();
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| cannot(format!("there is no runtime for it: {error}")))?;
        let mut store = ElasticsearchStore::new(settings, &race.environment).map_err(|it| cannot(it.to_string()))?;
        runtime.block_on(async {
            tokio::select! {
                done = work(&mut store, &race) => done,
                () = stop.cancelled() => Err(cannot("it is no longer wanted".to_owned())),
            }
        })
    });
    thread.await.unwrap_or_else(|error| Err(failed(format!("the thread that stores ended: {error}"))))
}

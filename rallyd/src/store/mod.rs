//! Where results go beside the archive: an Elasticsearch cluster for teams whose results outgrow one machine.
//!
//! The document of a race is stored before it begins, so that a store that cannot be used is known before the race and not
//! after it. Everything else is copied from the archive when the race has ended and before the next one begins: nothing
//! disturbs the load, and what a store does not take stays in the archive.

mod elasticsearch;
mod queries;
mod settings;
mod templates;
#[cfg(test)]
mod tests;

pub use elasticsearch::ElasticsearchStore;
pub use settings::{InvalidStoreSettings, StoreSettings};

use futures_util::StreamExt;
use rally_core::metrics::{MetricsStore, RaceDocument, StoreError};

use crate::archive::Archive;

/// Makes sure that a store can be used, and stores the document of a race that is about to begin.
pub(crate) async fn begin(settings: StoreSettings, race: RaceDocument) -> Result<(), StoreError> {
    on_own_thread(settings, race, async |store, race| {
        store.set_up().await?;
        store.store_race(race).await
    })
    .await
}

/// Copies a race that has ended from the archive.
pub(crate) async fn finish(settings: StoreSettings, archive: Archive, race: RaceDocument) -> Result<(), StoreError> {
    let archive = archive.downsampled(settings.downsample_factor);
    on_own_thread(settings, race, async move |store, race| {
        store.store_race(race).await?;
        let mut records = archive.records(race);
        while let Some(page) = records.next().await {
            store.store_records(race, page?).await?;
        }
        Ok(())
    })
    .await
}

/// Clients stay on one thread, and reading samples blocks it.
async fn on_own_thread<W>(settings: StoreSettings, race: RaceDocument, work: W) -> Result<(), StoreError>
where
    W: AsyncFnOnce(&mut ElasticsearchStore, &RaceDocument) -> Result<(), StoreError> + Send + 'static,
{
    let place = settings.place();
    let failed = move |cause: String| StoreError { place: place.clone(), action: "be used".to_owned(), cause };
    let cannot = failed.clone();
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| cannot(format!("there is no runtime for it: {error}")))?;
        let mut store = ElasticsearchStore::new(settings, &race.environment).map_err(|it| cannot(it.to_string()))?;
        runtime.block_on(work(&mut store, &race))
    });
    thread.await.unwrap_or_else(|error| Err(failed(format!("the thread that stores ended: {error}"))))
}

//! A source that is read slowly.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use rally_core::ContentHash;
use rally_net::{Manifest, Source, SourceError};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A source that gives no more than so many bytes a second, to all its readers together.
pub(super) struct GentleSource {
    source: Arc<dyn Source>,
    budget: Arc<Budget>,
}

impl GentleSource {
    pub(super) fn new(source: Arc<dyn Source>, bytes_per_second: u32) -> Self {
        Self { source, budget: Arc::new(Budget { bytes_per_second, spent_until: Mutex::new(Instant::now()) }) }
    }
}

#[async_trait]
impl Source for GentleSource {
    fn name(&self) -> &str {
        self.source.name()
    }

    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        self.source.manifest(content).await
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        let bytes = self.source.read(content, range).await?;
        let pause = Box::pin(sleep_until(Instant::now()));
        Ok(Box::new(GentleReader { bytes, budget: Arc::clone(&self.budget), pause }))
    }
}

/// What may be read by when.
#[derive(Debug)]
struct Budget {
    bytes_per_second: u32,
    /// Nothing more may be read before.
    spent_until: Mutex<Instant>,
}

impl Budget {
    /// Takes bytes that were read into account. Gives the time before which no more may be read.
    fn spend(&self, bytes: usize, now: Instant) -> Instant {
        let mut until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(now) + Duration::from_secs(1) * bytes as u32 / self.bytes_per_second;
        *until
    }
}

struct GentleReader {
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    budget: Arc<Budget>,
    pause: Pin<Box<Sleep>>,
}

impl AsyncRead for GentleReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.pause.as_mut().poll(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.bytes).poll_read(context, buffer))?;
        let until = self.budget.spend(buffer.filled().len() - before, Instant::now());
        self.pause.as_mut().reset(until);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Gives as many bytes as are asked for, at once.
    struct Plenty;

    #[async_trait]
    impl Source for Plenty {
        fn name(&self) -> &str {
            "plenty"
        }

        async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
            Err(SourceError::NotOffered { content })
        }

        async fn read(
            &self,
            _content: ContentHash,
            range: Range<u64>,
        ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
            Ok(Box::new(Cursor::new(vec![7; (range.end - range.start) as usize])))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_readers_together_read_no_faster_than_is_allowed_and_miss_nothing() {
        let source = GentleSource::new(Arc::new(Plenty), 1_000);
        let begun = Instant::now();
        let read = async || {
            let mut bytes = source.read(ContentHash::from_bytes([0; 32]), 0..3_000).await.unwrap();
            let mut buffer = [0; 500];
            let mut total = 0;
            while let read @ 1.. = bytes.read(&mut buffer).await.unwrap() {
                assert!(buffer[..read].iter().all(|byte| *byte == 7));
                total += read;
            }
            total
        };
        let (one, other) = tokio::join!(read(), read());
        assert_eq!((one, other), (3_000, 3_000));
        // The clock stands still but for pauses.
        assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(begun.elapsed() <= Duration::from_secs(7), "{:?}", begun.elapsed());
    }
}

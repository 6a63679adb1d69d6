//! File operations on threads that may block.

use std::io;

/// Starts a short file operation off the runtime's threads, and waits for it once polled.
///
/// When the future is dropped, the operation still runs to its end.
pub(super) fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let handle = tokio::task::spawn_blocking(operation);
    async {
        match handle.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(io::Error::other("the runtime is shutting down")),
            },
        }
    }
}

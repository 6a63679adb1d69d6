//! Where the two ends of a connection run.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Two machines in one process: each has a runtime with one thread.
///
/// Both go on between measurements, as heartbeats must.
#[derive(Debug)]
pub struct Sides {
    listening: Runtime,
    dialing: Runtime,
}

impl Sides {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn new() -> Result<Self> {
        let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self { listening: runtime()?, dialing: runtime()? })
    }

    /// Runs something to its end on the side that accepts connections.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn listening<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        run(&self.listening, work)
    }

    /// Runs something to its end on the side that opens connections.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn dialing<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        run(&self.dialing, work)
    }
}

/// The runtime's own thread does the work; that of the caller only waits.
fn run<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(runtime.spawn(work)).expect("the work does not panic")
}

/// A directory for files of a bench, in memory if the system offers that.
///
/// # Errors
///
/// It cannot be made.
pub fn scratch() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? })
}

//! The side of the command.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::{DEADLINE, Request, Response, SocketPath, read_frame, write_frame};
use crate::instance::Instance;

/// How often a daemon that does not listen yet is tried.
const RETRY: Duration = Duration::from_millis(20);

/// The daemon could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It took the connection, or not even that, and then nothing came.
    #[error("it does not answer within {DEADLINE:?}; it is stopped, stuck or overloaded")]
    Unresponsive,
    /// It runs, but does not listen: it is about to be up, or about to end.
    #[error("it is still starting or already stopping")]
    NotListening,
    /// The conversation broke off.
    #[error("its control socket does not work")]
    Io(#[from] io::Error),
}

/// Asks the daemon of `instance`; takes three seconds at most. A daemon that is still starting is waited for.
///
/// # Errors
///
/// If the daemon is not there or does not answer in time.
pub async fn call(instance: &Instance, request: &Request) -> Result<Response, ControlError> {
    let exchange = async {
        let socket = SocketPath::new(&instance.control_socket())?;
        let mut stream = loop {
            match UnixStream::connect(&socket.path).await {
                Err(error) if is_absent(&error) && matches!(instance.running(), Ok(Some(_))) => sleep(RETRY).await,
                connected => break connected?,
            }
        };
        write_frame(&mut stream, request).await?;
        read_frame(&mut stream).await
    };
    match timeout(DEADLINE, exchange).await {
        Ok(Ok(response)) => Ok(response),
        // The daemon has not even accepted the many callers before us.
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::Unresponsive),
        Ok(Err(error)) => Err(error.into()),
        Err(_) if instance.control_socket().exists() => Err(ControlError::Unresponsive),
        Err(_) => Err(ControlError::NotListening),
    }
}

/// Whether nobody listens: there is no socket, or one that a killed daemon left.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

//! The side of the command.

use std::io;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{DEADLINE, Request, Response, SocketPath, read_frame, write_frame};
use crate::instance::Instance;

/// The daemon could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It took the connection, or not even that, and then nothing came.
    #[error("it does not answer within {DEADLINE:?}; it is stopped, stuck or overloaded")]
    Unresponsive,
    /// The conversation broke off.
    #[error("its control socket does not work")]
    Io(#[from] io::Error),
}

/// Asks the daemon of `instance`; takes [`DEADLINE`] at most.
///
/// # Errors
///
/// If the daemon is not there or does not answer in time.
pub async fn call(instance: &Instance, request: &Request) -> Result<Response, ControlError> {
    let exchange = async {
        let socket = SocketPath::new(&instance.control_socket())?;
        let mut stream = UnixStream::connect(&socket.path).await?;
        write_frame(&mut stream, request).await?;
        read_frame(&mut stream).await
    };
    match timeout(DEADLINE, exchange).await {
        Ok(Ok(response)) => Ok(response),
        // The daemon has not even accepted the many callers before us.
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::Unresponsive),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ControlError::Unresponsive),
    }
}

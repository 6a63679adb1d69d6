//! The side of the daemon.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DEADLINE, Request, Response, SocketPath, read_frame, write_frame};
use crate::instance::Instance;

/// Commands that may be served at the same time; more wait in the socket's backlog.
const MAX_CALLERS: usize = 32;

/// How long callers have to take their answers when the daemon stops.
const GRACE: Duration = Duration::from_millis(300);

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request; dropped after [`DEADLINE`].
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// Listens on an instance's control socket, which is removed on drop.
#[derive(Debug)]
pub(crate) struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlServer {
    /// Binds the socket. The caller holds the instance's lock, so a socket that is already there is nobody's.
    pub(crate) fn bind(instance: &Instance) -> io::Result<Self> {
        let path = instance.control_socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&SocketPath::new(&path)?.path)?;
        let server = Self { listener, path };
        fs::set_permissions(&server.path, Permissions::from_mode(0o600))?;
        Ok(server)
    }

    /// Serves callers until `stop`; then those that have not got their answer within [`GRACE`] are let go.
    pub(crate) async fn serve(&self, handler: &Arc<impl Handler>, stop: &CancellationToken) {
        let mut callers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = callers.join_next() => log_panic(ended),
                accepted = self.listener.accept(), if callers.len() < MAX_CALLERS => match accepted {
                    Ok((stream, _)) => {
                        callers.spawn(serve_one(stream, Arc::clone(handler)));
                    }
                    Err(error) => {
                        warn!(%error, "a control connection could not be accepted");
                        // Most likely there are too many open files; that does not get better at once.
                        tokio::time::sleep(GRACE).await;
                    }
                },
            }
        }
        let finish = async {
            while let Some(ended) = callers.join_next().await {
                log_panic(ended);
            }
        };
        if timeout(GRACE, finish).await.is_err() {
            callers.shutdown().await;
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "the control socket could not be removed");
        }
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "serving a control request failed");
    }
}

async fn serve_one(mut stream: UnixStream, handler: Arc<impl Handler>) {
    let exchange = async {
        let uid = stream.peer_cred()?.uid();
        if uid != rustix::process::geteuid().as_raw() && uid != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("user {uid} may not control this daemon"),
            ));
        }
        let request = read_frame(&mut stream).await?;
        debug!(?request, "control request");
        write_frame(&mut stream, &handler.handle(request).await).await
    };
    match timeout(DEADLINE, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a control conversation broke off"),
        Err(_) => debug!("a control conversation took too long"),
    }
}

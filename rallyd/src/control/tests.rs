use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::instance::Instance;

/// Refuses everything, naming the request.
struct Echo;

impl Handler for Echo {
    async fn handle(&self, request: Request) -> Response {
        match request {
            Request::Stop => Response::Stopping,
            other => Response::Refused(format!("{other:?}")),
        }
    }
}

fn instance(directory: &Path) -> Instance {
    let instance = Instance::new(directory, "127.0.0.1:1900".parse().unwrap());
    instance.create().unwrap();
    instance
}

async fn asks(instance: &Instance, server: &ControlServer, request: Request) -> Result<Response, ControlError> {
    let stop = CancellationToken::new();
    let asks = async {
        let response = call(instance, &request).await;
        stop.cancel();
        response
    };
    let handler = Arc::new(Echo);
    let (response, ()) = tokio::join!(asks, server.serve(&handler, &stop));
    response
}

#[tokio::test]
async fn a_request_is_answered_over_a_socket_that_only_its_owner_can_use() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(rally.path());
    let server = ControlServer::bind(&instance).unwrap();
    let mode = std::fs::metadata(instance.control_socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(asks(&instance, &server, Request::Stop).await.unwrap() == Response::Stopping);
    assert!(asks(&instance, &server, Request::Status).await.unwrap() == Response::Refused("Status".to_owned()));
    drop(server);
    assert!(!instance.control_socket().exists());
    assert!(matches!(call(&instance, &Request::Status).await, Err(ControlError::Io(_))));
}

#[tokio::test]
async fn a_socket_in_a_very_deep_directory_works() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(&rally.path().join("d".repeat(120)));
    let server = ControlServer::bind(&instance).unwrap();
    assert!(asks(&instance, &server, Request::Stop).await.unwrap() == Response::Stopping);
    drop(server);
    assert!(!instance.control_socket().exists());
}

#[tokio::test]
async fn a_socket_that_a_killed_daemon_left_is_replaced() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(rally.path());
    drop(std::os::unix::net::UnixListener::bind(instance.control_socket()).unwrap());
    let server = ControlServer::bind(&instance).unwrap();
    assert!(asks(&instance, &server, Request::Stop).await.unwrap() == Response::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_given_up() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(rally.path());
    // The kernel takes the connection, but nobody serves it, as with a daemon that got SIGSTOP.
    let _server = ControlServer::bind(&instance).unwrap();
    assert!(matches!(call(&instance, &Request::Status).await, Err(ControlError::Unresponsive)));
}

#[tokio::test]
async fn a_daemon_that_is_still_starting_is_waited_for() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(rally.path());
    let _lock = instance.lock().unwrap();
    let (stop, handler) = (CancellationToken::new(), Arc::new(Echo));
    let asks = async {
        let response = call(&instance, &Request::Stop).await;
        stop.cancel();
        response
    };
    let starts = async {
        // The first attempt has failed by now.
        tokio::task::yield_now().await;
        ControlServer::bind(&instance).unwrap().serve(&handler, &stop).await;
    };
    let (response, ()) = tokio::join!(biased; asks, starts);
    assert_eq!(response.unwrap(), Response::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_listens_is_given_up() {
    let rally = tempfile::tempdir().unwrap();
    let instance = instance(rally.path());
    let _lock = instance.lock().unwrap();
    assert!(matches!(call(&instance, &Request::Status).await, Err(ControlError::NotListening)));
}

#[tokio::test]
async fn frames_are_bounded_and_complete() {
    let mut frame = Vec::new();
    write_frame(&mut frame, &Request::Status).await.unwrap();
    assert_eq!(frame, b"\0\0\0\x08\"Status\"");
    assert_eq!(read_frame::<Request>(&mut &*frame).await.unwrap(), Request::Status);
    for (bytes, kind) in [
        (&b"\xff\xff\xff\xff"[..], io::ErrorKind::InvalidData),
        (b"\0\0\0\x08\"Stat", io::ErrorKind::UnexpectedEof),
        (b"\0\0", io::ErrorKind::UnexpectedEof),
        (b"\0\0\0\x02{}", io::ErrorKind::InvalidData),
    ] {
        assert_eq!(read_frame::<Request>(&mut &*bytes).await.unwrap_err().kind(), kind, "{bytes:?}");
    }
}

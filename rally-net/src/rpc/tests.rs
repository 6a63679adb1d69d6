//! Both sides over a bare QUIC connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, SendStream, ServerConfig, TransportConfig, VarInt};
use rally_core::{Epoch, HostId};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::service::{MAX_CONCURRENT_REQUESTS, serve};
use super::*;
use crate::frame::{self, FrameError, MAX_FRAME};
use crate::status::HostRole;
use crate::tls::COORDINATOR_SERVER_NAME;
use crate::{Authority, Credentials, client_config, server_config};

/// Longer than anything here takes on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

macro_rules! requests {
    ($($name:literal $request:ident($body:ty) => $answer:ty;)*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        struct $request($body);

        impl Request for $request {
            const NAME: &'static str = $name;
            type Answer = $answer;
        }
    )*};
}

requests! {
    "test/double" Double(u64) => u64;
    "test/echo" Echo(Vec<u8>) => Vec<u8>;
    "test/fill" Fill(u32) => Vec<u8>;
    "test/hang" Hang(()) => ();
    "test/wait" Wait(()) => ();
    "test/panic" Panic(()) => ();
    "test/secret" Secret(()) => ();
    "test/missing" Missing(()) => ();
    "test/count" Count(u64) => u64;
    "test/tick" Tick(()) => u64;
    "test/items" Items(Vec<u32>) => Vec<u8>;
    "test/refuse" Refuse(()) => ();
    "test/break" Break(u64) => u64;
    "test/bytes" ReadBytes(u64) => ();
}

/// Sends a message when it is dropped.
struct Guard(mpsc::Sender<&'static str>, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.try_send(self.1).expect("room for it");
    }
}

/// What the services do to the test.
struct Seen {
    /// What has begun and what was dropped.
    steps: mpsc::Receiver<&'static str>,
    /// How many `Wait`s run, and how many ran at most.
    most: Arc<AtomicUsize>,
    /// Each permit lets one `Wait` end.
    gate: Arc<Semaphore>,
}

impl Seen {
    async fn step(&mut self) -> &'static str {
        timeout(SOON, self.steps.recv()).await.expect("a step in time").expect("services live")
    }
}

fn services() -> (Services, Seen) {
    let (sender, steps) = mpsc::channel(1024);
    let (most, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let mut services = Services::new();
    let any = Access::AnyHost;
    services.answer(any, |_, Double(number)| async move { number * 2 });
    services.answer(any, |_, Echo(bytes)| async move { bytes });
    services.answer(any, |_, Fill(length)| async move { vec![0; length as usize] });
    let hang = sender.clone();
    services.answer(any, move |_, Hang(())| {
        let guard = Guard(hang.clone(), "the call was dropped");
        hang.try_send("the call began").unwrap();
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    let (running, highest, permits) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most), Arc::clone(&gate));
    let began = sender.clone();
    services.answer(any, move |_, Wait(())| {
        let (running, highest, permits) = (Arc::clone(&running), Arc::clone(&highest), Arc::clone(&permits));
        let began = began.clone();
        async move {
            highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            began.try_send("a wait began").unwrap();
            permits.acquire().await.unwrap().forget();
            running.fetch_sub(1, Ordering::SeqCst);
        }
    });
    services.answer(any, |_, Panic(())| async move { panic!("for the test") });
    services.answer(Access::CoordinatorOnly, |_, Secret(())| async move {});
    services.stream(any, |_, Count(until)| async move { Ok(futures_util::stream::iter(0..until)) });
    services.stream(any, move |_, Tick(())| {
        let guard = Guard(sender.clone(), "the subscription was dropped");
        async move {
            Ok(futures_util::stream::unfold((guard, 0), async |(guard, number)| {
                if number == 3 {
                    std::future::pending::<()>().await;
                }
                Some((number, (guard, number + 1)))
            }))
        }
    });
    services.stream(any, |_, Items(lengths)| async move {
        Ok(futures_util::stream::iter(lengths).map(|length| vec![0; length as usize]))
    });
    services.stream(any, |_, Refuse(())| async move {
        Err::<futures_util::stream::Empty<()>, _>(Rejection::CoordinatorOnly("the test".to_owned()))
    });
    services.stream(any, |_, Break(at)| async move {
        Ok(futures_util::stream::iter(0..)
            .map(move |number| if number == at { panic!("for the test") } else { number }))
    });
    services.bytes(any, |_, ReadBytes(length)| async move {
        Ok(move |mut stream: SendStream| async move {
            stream.write_chunk(Bytes::from(vec![7; length as usize])).await?;
            Ok(stream.finish()?)
        })
    });
    (services, Seen { steps, most, gate })
}

/// A caller and the services at the other end of its connection.
struct Pair {
    peer: Peer,
    seen: Seen,
    /// The connection at the services' end.
    far: Connection,
    _ends: [Endpoint; 2],
    _serving: JoinSet<()>,
}

async fn pair() -> Pair {
    pair_as(HostRole::Member).await
}

/// The services take the caller for a host of that role.
async fn pair_as(role: HostRole) -> Pair {
    let directory = TempDir::new().unwrap();
    let authority = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
    let credentials = |host, role| {
        let (key, request) = Credentials::request().unwrap();
        let lifetime = Duration::from_secs(3600);
        let chain = authority.issue(&request, host, role, lifetime, SystemTime::now()).unwrap();
        Credentials::from_issued(key, chain, authority.fingerprint()).unwrap()
    };
    let (here, there) = (HostId::from_random(1), HostId::from_random(2));
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(MAX_CONCURRENT_REQUESTS));
    let tls = server_config(&credentials(there, HostRole::Coordinator)).unwrap();
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    server.transport_config(Arc::new(transport));
    let tls = client_config(&credentials(here, HostRole::Member)).unwrap();
    let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));

    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ends = [Endpoint::server(server, free).unwrap(), Endpoint::client(free).unwrap()];
    let address = ends[0].local_addr().unwrap();
    let (near, far) = tokio::join!(
        async { ends[1].connect_with(client, address, COORDINATOR_SERVER_NAME).unwrap().await.unwrap() },
        async { ends[0].accept().await.unwrap().await.unwrap() }
    );
    let (services, seen) = services();
    let services = Arc::new(services);
    let caller = Peer::new(far.clone(), here, role, Epoch(1), "caller".to_owned());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let _ = serve(&services, &caller).await;
    });
    let peer = Peer::new(near, there, HostRole::Coordinator, Epoch(1), "services".to_owned());
    Pair { peer, seen, far, _ends: ends, _serving: serving }
}

fn rejection<T: std::fmt::Debug>(answer: Result<T, CallError>) -> Rejection {
    match answer.unwrap_err() {
        CallError::Rejected { peer, rejection } if peer == "services" => rejection,
        other => panic!("{other}"),
    }
}

/// Sends bytes as a request and reads the answer's one frame, `None` if there is none.
async fn raw(peer: &Peer, bytes: &[u8]) -> Option<Result<(), Rejection>> {
    let (mut send, mut receive) = peer.connection().open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    let answer = timeout(SOON, frame::read(&mut receive)).await.expect("an end in time");
    answer.unwrap().map(|body| frame::decode(&body).unwrap())
}

async fn next<T>(items: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    timeout(SOON, items.next()).await.expect("an item in time")
}

/// What arrives of a subscription before it fails, which may be at once.
async fn until_error<R: Request>(peer: &Peer, request: &R) -> (Vec<R::Answer>, CallError) {
    let mut arrived = Vec::new();
    let mut items = match peer.subscribe(request, SOON).await {
        Ok(items) => items,
        Err(error) => return (arrived, error),
    };
    loop {
        match next(&mut items).await.expect("an error before the end") {
            Ok(item) => arrived.push(item),
            Err(error) => {
                assert!(next(&mut items).await.is_none());
                return (arrived, error);
            }
        }
    }
}

#[tokio::test]
async fn calls_subscriptions_and_bytes_are_answered() {
    let pair = pair().await;
    let peer = &pair.peer;
    assert_eq!(peer.call(&Double(21), SOON).await.unwrap(), 42);
    let items = peer.subscribe(&Count(1000), SOON).await.unwrap();
    let items: Vec<u64> = items.map(Result::unwrap).collect().await;
    assert_eq!(items, (0..1000).collect::<Vec<_>>());
    let mut bytes = peer.read(&ReadBytes(100_000), SOON).await.unwrap();
    assert_eq!(bytes.read_to_end(200_000).await.unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn what_is_not_served_is_rejected_with_the_reason() {
    let pair = pair().await;
    let peer = &pair.peer;
    let missing = || Rejection::UnknownService("test/missing".to_owned());
    assert_eq!(rejection(peer.call(&Missing(()), SOON).await), missing());
    assert_eq!(rejection(peer.subscribe(&Missing(()), SOON).await), missing());
    assert_eq!(rejection(peer.read(&Missing(()), SOON).await), missing());
    let refused = Rejection::CoordinatorOnly("the test".to_owned());
    assert_eq!(rejection(peer.subscribe(&Refuse(()), SOON).await), refused);
    let secret = Rejection::CoordinatorOnly("test/secret".to_owned());
    assert_eq!(rejection(peer.call(&Secret(()), SOON).await), secret);
    let pair = pair_as(HostRole::Coordinator).await;
    pair.peer.call(&Secret(()), SOON).await.unwrap();
}

#[tokio::test]
async fn malformed_requests_are_rejected_and_hurt_nobody_else() {
    let pair = pair().await;
    let peer = &pair.peer;
    let head = |name| Head { name, within: 10_000 };
    for (bytes, answer) in [
        // No head, a head alone, bytes behind the request, for each kind of service.
        (frame::encode(&[255_u8; 16]).unwrap(), Some(Err(Rejection::Malformed))),
        (frame::encode(&()).unwrap(), Some(Err(Rejection::Malformed))),
        (frame::encode(&head("test/double")).unwrap(), Some(Err(Rejection::Malformed))),
        (frame::encode(&(head("test/count"), 1_u64, 1_u64)).unwrap(), Some(Err(Rejection::Malformed))),
        (frame::encode(&(head("test/bytes"), 1_u64, 1_u64)).unwrap(), Some(Err(Rejection::Malformed))),
        // Frames that are too long, break off, or never begin.
        ((MAX_FRAME as u32 + 1).to_le_bytes().to_vec(), None),
        (vec![200, 0, 0, 0, 1], None),
        (vec![1], None),
        (Vec::new(), None),
    ] {
        assert_eq!(raw(peer, &bytes).await, answer, "{bytes:?}");
    }
    assert_eq!(peer.call(&Double(1), SOON).await.unwrap(), 2);
}

#[tokio::test]
async fn a_service_ends_when_its_caller_gives_up() {
    let mut pair = pair().await;
    let (peer, seen) = (&pair.peer, &mut pair.seen);
    let error = peer.call(&Hang(()), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlinePassed { request: "test/hang", .. }), "{error}");
    assert_eq!([seen.step().await, seen.step().await], ["the call began", "the call was dropped"]);
}

#[tokio::test]
async fn a_service_ends_at_the_deadline_even_if_its_caller_goes_on_waiting() {
    let mut pair = pair().await;
    let (peer, seen) = (&pair.peer, &mut pair.seen);
    let request = frame::encode(&(Head { name: Hang::NAME, within: 20 }, Hang(()))).unwrap();
    assert_eq!(raw(peer, &request).await, Some(Err(Rejection::DeadlinePassed)));
    assert_eq!([seen.step().await, seen.step().await], ["the call began", "the call was dropped"]);
}

#[tokio::test]
async fn a_service_ends_when_the_call_or_the_subscription_is_dropped() {
    let mut pair = pair().await;
    let (peer, seen) = (&pair.peer, &mut pair.seen);
    let call = peer.call(&Hang(()), SOON);
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        step = seen.step() => assert_eq!(step, "the call began"),
    }
    assert_eq!(seen.step().await, "the call was dropped");

    let mut ticks = peer.subscribe(&Tick(()), SOON).await.unwrap();
    for tick in 0..3 {
        assert_eq!(next(&mut ticks).await.unwrap().unwrap(), tick);
    }
    drop(ticks);
    assert_eq!(seen.step().await, "the subscription was dropped");
}

#[tokio::test]
async fn a_panic_is_told_to_the_caller_and_never_looks_like_an_end() {
    let pair = pair().await;
    let peer = &pair.peer;
    assert_eq!(rejection(peer.call(&Panic(()), SOON).await), Rejection::Crashed("test/panic".to_owned()));
    let (items, end) = until_error(peer, &Break(2)).await;
    // What is under way may be lost with the stream.
    assert!(items.is_empty() || items == [0] || items == [0, 1], "{items:?}");
    assert!(matches!(end, CallError::Broken { .. }), "{end}");
    assert_eq!(peer.call(&Double(2), SOON).await.unwrap(), 4);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_held_back_and_served_in_the_end() {
    let mut pair = pair().await;
    let (peer, seen) = (&pair.peer, &mut pair.seen);
    let limit = MAX_CONCURRENT_REQUESTS as usize;
    let calls = join_all((0..3 * limit).map(|_| peer.call(&Wait(()), SOON)));
    let (answers, ()) = tokio::join!(calls, async {
        for _ in 0..limit {
            seen.step().await;
        }
        seen.gate.add_permits(3 * limit);
    });
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(seen.most.load(Ordering::SeqCst), limit);
}

#[tokio::test]
async fn what_is_too_long_is_an_error_and_never_a_hang() {
    let pair = pair().await;
    let peer = &pair.peer;
    let longest = MAX_FRAME - 64;
    assert_eq!(peer.call(&Echo(vec![1; longest]), SOON).await.unwrap().len(), longest);
    let request = peer.call(&Echo(vec![1; MAX_FRAME]), SOON).await.unwrap_err();
    assert!(matches!(&request, CallError::Broken { source: FrameError::TooLong { .. }, .. }), "{request:?}");
    let answer = peer.call(&Fill(MAX_FRAME as u32), SOON).await.unwrap_err();
    assert!(matches!(answer, CallError::Broken { .. }), "{answer:?}");
    let (_, end) = until_error(peer, &Items(vec![1, MAX_FRAME as u32, 1])).await;
    assert!(matches!(end, CallError::Broken { .. }), "{end}");
    assert_eq!(peer.call(&Double(3), SOON).await.unwrap(), 6);
}

#[tokio::test]
async fn a_lost_connection_ends_calls_and_subscriptions_at_both_ends() {
    let mut pair = pair().await;
    let (peer, seen, far) = (&pair.peer, &mut pair.seen, &pair.far);
    let mut ticks = peer.subscribe(&Tick(()), SOON).await.unwrap();
    for _ in 0..3 {
        next(&mut ticks).await.unwrap().unwrap();
    }
    let (call, ()) = tokio::join!(peer.call(&Hang(()), SOON), async {
        assert_eq!(seen.step().await, "the call began");
        far.close(crate::close::CloseCode::Goodbye.into(), b"");
    });
    let call = call.unwrap_err();
    assert_eq!(call.to_string(), "lost the connection to services: the host there has left");
    assert!(matches!(next(&mut ticks).await, Some(Err(CallError::Lost { .. }))));
    assert!(next(&mut ticks).await.is_none());
    let mut dropped = [seen.step().await, seen.step().await];
    dropped.sort_unstable();
    assert_eq!(dropped, ["the call was dropped", "the subscription was dropped"]);
    assert!(matches!(peer.call(&Double(1), SOON).await, Err(CallError::Lost { .. })));
}

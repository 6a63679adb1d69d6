//! Two QUIC endpoints with the settings of hosts, and nothing above them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rally_core::HostId;
use rally_net::{
    Authority, COORDINATOR_SERVER_NAME, Credentials, DEFAULT_CERTIFICATE_LIFETIME, HostRole, client_config,
    server_config, socket,
};
use tokio::task::JoinSet;

use crate::{BulkFile, Sides, scratch};

/// Bytes are handed to the transport in pieces of this size, as hosts do it.
const BLOCK: usize = 512 << 10;

/// No request is longer.
const MAX_REQUEST: usize = 1 << 20;

/// What the dialing side asks for with the first byte of a stream.
const ECHO: u8 = 0;
const MEMORY: u8 = 1;
const FILE: u8 = 2;

/// A connection between two endpoints, whose listening side does what a stream's first byte says.
#[derive(Debug)]
pub struct Bare {
    connection: Connection,
    /// The listening side, until this is dropped.
    _serving: JoinSet<()>,
}

impl Bare {
    /// Connects two endpoints; `file` is what the listening side reads from.
    ///
    /// # Errors
    ///
    /// There are no credentials or no sockets.
    pub fn connect(sides: &Sides, file: Option<&BulkFile>) -> Result<Self> {
        let directory = scratch()?;
        let authority = Authority::open_or_create(directory.path(), SystemTime::now())?;
        let listening = server_config(&credentials(&authority, 1, HostRole::Coordinator)?)?;
        let dialing = socket::client(client_config(&credentials(&authority, 2, HostRole::Member)?)?)?;
        let listener = sides.listening(async { endpoint() })?;
        listener.set_server_config(Some(socket::server(listening)?));
        let (acceptor, file) = (listener.clone(), file.cloned());
        let address = listener.local_addr()?;
        let serving = sides.listening(async move {
            let mut serving = JoinSet::new();
            serving.spawn(async move {
                if let Some(incoming) = acceptor.accept().await
                    && let Ok(connection) = incoming.await
                {
                    socket::trust(&connection);
                    serve(connection, file).await;
                }
            });
            serving
        });
        let connection = sides.dialing(async move {
            let dialer = endpoint()?;
            anyhow::Ok(dialer.connect_with(dialing, address, COORDINATOR_SERVER_NAME)?.await?)
        })?;
        Ok(Self { connection, _serving: serving })
    }

    /// How long so many requests take, one after the other.
    ///
    /// # Panics
    ///
    /// If one is not answered.
    pub fn echo(&self, sides: &Sides, body: &Bytes, requests: u64) -> Duration {
        let connection = self.connection.clone();
        let request = Bytes::from([&[ECHO], &body[..]].concat());
        sides.dialing(async move {
            let start = Instant::now();
            for _ in 0..requests {
                let mut stream = ask(&connection, request.clone()).await.expect("a stream");
                let answer = stream.read_to_end(MAX_REQUEST).await.expect("an answer");
                assert_eq!(answer.len(), request.len());
            }
            start.elapsed()
        })
    }

    /// How long so many bytes take, from memory to nothing.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub fn transfer(&self, sides: &Sides, length: u64) -> Result<Duration> {
        let connection = self.connection.clone();
        sides.dialing(async move {
            let start = Instant::now();
            let mut stream = ask(&connection, [&[MEMORY][..], &length.to_le_bytes()].concat().into()).await?;
            let mut rest = length;
            while let Some(chunk) = stream.read_chunk(BLOCK, true).await? {
                rest -= chunk.bytes.len() as u64;
            }
            ensure!(rest == 0, "{rest} bytes are missing");
            Ok(start.elapsed())
        })
    }

    /// How long the file takes, into another one that is removed afterwards.
    ///
    /// # Errors
    ///
    /// The connection or the files fail.
    pub fn copy(&self, sides: &Sides, directory: &Path) -> Result<Duration> {
        let connection = self.connection.clone();
        let path = directory.join("bare copy");
        let target = path.clone();
        let elapsed = sides.dialing(async move {
            let start = Instant::now();
            let mut stream = ask(&connection, Bytes::from_static(&[FILE])).await?;
            let mut file = File::create(target)?;
            while let Some(chunk) = stream.read_chunk(BLOCK, true).await? {
                file.write_all(&chunk.bytes)?;
            }
            file.sync_all()?;
            anyhow::Ok(start.elapsed())
        });
        std::fs::remove_file(path)?;
        elapsed
    }
}

/// Makes credentials for a host of a cluster.
///
/// # Errors
///
/// The authority does not issue them.
pub fn credentials(authority: &Authority, host: u128, role: HostRole) -> Result<Credentials> {
    let (key, request) = Credentials::request()?;
    let (host, now) = (HostId::from_random(host), SystemTime::now());
    let chain = authority.issue(&request, host, role, DEFAULT_CERTIFICATE_LIFETIME, now)?;
    Ok(Credentials::from_issued(key, chain, authority.fingerprint())?)
}

fn endpoint() -> Result<Endpoint> {
    let socket = socket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(socket::endpoint(socket, &[0; 32])?)
}

async fn ask(connection: &Connection, request: Bytes) -> Result<RecvStream> {
    let (mut send, receive) = connection.open_bi().await?;
    send.write_chunk(request).await?;
    send.finish()?;
    Ok(receive)
}

async fn serve(connection: Connection, file: Option<BulkFile>) {
    let mut running = JoinSet::new();
    while let Ok((send, receive)) = connection.accept_bi().await {
        while running.try_join_next().is_some() {}
        running.spawn(answer(send, receive, file.as_ref().map(|file| file.path.clone())));
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream, file: Option<PathBuf>) -> Result<()> {
    let request = Bytes::from(receive.read_to_end(MAX_REQUEST).await?);
    match (request[0], file) {
        (MEMORY, _) => {
            let mut rest = u64::from_le_bytes(request[1..].try_into()?);
            let block = Bytes::from(vec![1; BLOCK]);
            while rest > 0 {
                let piece = block.slice(..block.len().min(rest as usize));
                rest -= piece.len() as u64;
                send.write_chunk(piece).await?;
            }
        }
        (FILE, Some(path)) => {
            let mut file = File::open(path)?;
            loop {
                let mut block = BytesMut::zeroed(BLOCK);
                match file.read(&mut block)? {
                    0 => break,
                    read => send.write_chunk(block.split_to(read).freeze()).await?,
                }
            }
        }
        _ => send.write_chunk(request).await?,
    }
    Ok(send.finish()?)
}

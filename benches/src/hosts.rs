//! A coordinator and a member.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rally_core::ContentHash;
use rally_net::{
    Access, Fetch, FetchProgress, Host, HostConfig, Peer, PeerSource, Place, Request, Source, TokenSource, fetch,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{Sides, scratch};

const WITHIN: Duration = Duration::from_secs(60);

/// Asks for its own body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Echo(pub Bytes);

impl Request for Echo {
    const NAME: &'static str = "bench/echo";
    type Answer = Bytes;
}

/// A coordinator that echoes and offers files, and a member that uses it.
#[derive(Debug)]
pub struct Hosts {
    directory: TempDir,
    coordinator: Host,
    /// Keeps the connection.
    _member: Host,
    peer: Peer,
}

impl Hosts {
    /// Starts both and waits until they are connected.
    ///
    /// # Errors
    ///
    /// One of them cannot be started.
    pub fn start(sides: &Sides) -> Result<Self> {
        let directory = scratch()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let home = directory.path().join("coordinator");
        let mut config = HostConfig::new(&home, address, Place::coordinator());
        config.services.answer(Access::AnyHost, |_, Echo(body)| async { body });
        let coordinator = sides.listening(Host::start(config))?;

        let token = TokenSource::CoordinatorDirectory(home);
        let place = Place::Member { coordinator: coordinator.address(), token };
        let config = HostConfig::new(directory.path().join("member"), address, place);
        let (member, peer) = sides.dialing(async {
            let member = Host::start(config).await?;
            member.joined().await?;
            let peer = member.coordinator().context("the coordinator is gone")?;
            anyhow::Ok((member, peer))
        })?;
        Ok(Self { directory, coordinator, _member: member, peer })
    }

    /// How long so many requests take, one after the other.
    ///
    /// # Panics
    ///
    /// If one is not answered.
    pub fn echo(&self, sides: &Sides, body: &Bytes, requests: u64) -> Duration {
        let (peer, request) = (self.peer.clone(), Echo(body.clone()));
        sides.dialing(async move {
            let start = Instant::now();
            for _ in 0..requests {
                let answer = peer.call(&request, WITHIN).await.expect("an answer");
                assert_eq!(answer.len(), request.0.len());
            }
            start.elapsed()
        })
    }

    /// Makes a file of so many bytes and lets the coordinator offer it.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn offer(&self, sides: &Sides, length: u64) -> Result<BulkFile> {
        let path = self.directory.path().join("offered");
        let mut file = File::create(&path)?;
        let mut written = 0_u64;
        while written < length {
            // No two blocks are equal.
            let block: Vec<u8> = (0..64_u64 << 10).flat_map(|i| (written ^ i << 20).to_le_bytes()).collect();
            let block = &block[..block.len().min((length - written) as usize)];
            file.write_all(block)?;
            written += block.len() as u64;
        }
        let (shelf, offered) = (Arc::clone(self.coordinator.shelf()), path.clone());
        let content = sides.listening(async move { shelf.add(offered).await })?;
        Ok(BulkFile { path, content, length })
    }

    /// How long the member takes to fetch that file; its copy is removed afterwards.
    ///
    /// # Errors
    ///
    /// The fetch fails, or had less to do than it should.
    pub fn fetch(&self, sides: &Sides, file: &BulkFile) -> Result<Duration> {
        let request = Fetch {
            content: file.content,
            directory: self.directory.path().to_owned(),
            name: "copy".parse()?,
            range: None,
        };
        let source: Arc<dyn Source> = Arc::new(PeerSource::new(self.peer.clone()));
        let (elapsed, fetched) = sides.dialing(async move {
            let start = Instant::now();
            let fetched = fetch(&request, &[source], &watch::Sender::new(FetchProgress::default())).await;
            (start.elapsed(), fetched)
        });
        let fetched = fetched?;
        ensure!(fetched.length == file.length && fetched.resumed == 0, "only a part was fetched: {fetched:?}");
        std::fs::remove_file(fetched.path)?;
        Ok(elapsed)
    }

    /// Where the files of this cluster are.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// A file that the coordinator offers.
#[derive(Clone, Debug)]
pub struct BulkFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is asked for by.
    pub content: ContentHash,
    /// Its length in bytes.
    pub length: u64,
}

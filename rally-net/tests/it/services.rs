//! Services that an embedder adds to a host.

use rally_net::{Access, Host, HostConfig, Place, Request, TokenSource};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::cluster::SOON;

#[derive(Serialize, Deserialize)]
struct Double(u32);

impl Request for Double {
    const NAME: &'static str = "test/double";
    type Answer = u32;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_answers_what_its_embedder_added() {
    let (home, away) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let address = "127.0.0.1:0".parse().unwrap();
    let mut config = HostConfig::new(home.path(), address, Place::coordinator());
    config.services.answer(Access::AnyHost, |_, Double(number)| async move { number * 2 });
    let coordinator = Host::start(config).await.unwrap();
    let token = TokenSource::CoordinatorDirectory(home.path().to_owned());
    let place = Place::Member { coordinator: coordinator.address(), token };
    let member = Host::start(HostConfig::new(away.path(), address, place)).await.unwrap();
    timeout(SOON, member.joined()).await.expect("in time").expect("let in");
    let peer = member.coordinator().expect("a connection");
    assert_eq!(peer.call(&Double(21), SOON).await.unwrap(), 42);
}

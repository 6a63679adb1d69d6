//! Segmentation offload: one system call hands the kernel many packets, until the kernel refuses.

#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::SystemTime;

use quinn::{Connection, UdpStats};
use rally_core::HostId;
use rally_net::{
    Authority, COORDINATOR_SERVER_NAME, Credentials, DEFAULT_CERTIFICATE_LIFETIME, HostRole, client_config,
    server_config, socket,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::cluster::SOON;

/// In bytes: thousands of packets.
const BULK: usize = 8 << 20;

/// Makes the kernel refuse offload at this socket from now on, with the error that drivers without offload cause: it does
/// not cut what it may not write checksums into.
#[expect(unsafe_code, reason = "no library sets this option")]
fn refuse_offload(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as `socket`, and the option's value is an `int` that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on).try_into().unwrap(),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn credentials(authority: &Authority, host: u128, role: HostRole) -> Credentials {
    let (key, request) = Credentials::request().unwrap();
    let (host, now) = (HostId::from_random(host), SystemTime::now());
    let chain = authority.issue(&request, host, role, DEFAULT_CERTIFICATE_LIFETIME, now).unwrap();
    Credentials::from_issued(key, chain, authority.fingerprint()).unwrap()
}

fn sent(connection: &Connection) -> UdpStats {
    connection.stats().udp_tx
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_when_the_kernel_stops_cutting_packets() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
    let listening = server_config(&credentials(&authority, 1, HostRole::Coordinator)).unwrap();
    let dialing = client_config(&credentials(&authority, 2, HostRole::Member)).unwrap();

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sender_socket = socket::bind(address).unwrap();
    let kernel_side = sender_socket.try_clone().unwrap();
    let listener = socket::endpoint(sender_socket, &[1; 32]).unwrap();
    listener.set_server_config(Some(socket::server(listening).unwrap()));
    let dialer = socket::endpoint(socket::bind(address).unwrap(), &[2; 32]).unwrap();
    let connecting = dialer
        .connect_with(socket::client(dialing).unwrap(), listener.local_addr().unwrap(), COORDINATOR_SERVER_NAME)
        .unwrap();
    let (receiver, sender) = tokio::join!(connecting, async { listener.accept().await.unwrap().await });
    let (receiver, sender) = (receiver.unwrap(), sender.unwrap());
    socket::trust(&sender);

    let (mut with, mut refused) = (UdpStats::default(), false);
    send_bulk(&sender, &receiver, || {
        if !refused {
            with = sent(&sender);
            refuse_offload(&kernel_side);
            refused = true;
        }
    })
    .await;
    assert!(with.ios * 2 < with.datagrams, "many packets had gone out at once: {with:?}");

    // On a busy machine the sender may have handed everything over before the kernel began to refuse: this one is refused.
    send_bulk(&sender, &receiver, || ()).await;
    let before = sent(&sender);
    send_bulk(&sender, &receiver, || ()).await;
    let after = sent(&sender);
    assert_eq!(after.ios - before.ios, after.datagrams - before.datagrams, "every packet goes out alone");
    assert_eq!((sender.close_reason(), receiver.close_reason()), (None, None));
}

/// Sends a lot over one stream, all of which has to arrive; calls `meanwhile` whenever more of its rest has.
async fn send_bulk(sender: &Connection, receiver: &Connection, mut meanwhile: impl FnMut()) {
    let (mut request, mut incoming) = receiver.open_bi().await.unwrap();
    request.write_all(b"?").await.unwrap();
    let (mut outgoing, _) = sender.accept_bi().await.unwrap();
    let writing = async move {
        outgoing.write_all(&vec![7; BULK]).await.unwrap();
        outgoing.finish().unwrap();
    };
    let reading = async {
        let mut received = 0;
        while let Some(chunk) = timeout(SOON, incoming.read_chunk(BULK, true)).await.expect("in time").unwrap() {
            received += chunk.bytes.len();
            if received >= BULK / 4 {
                meanwhile();
            }
        }
        assert_eq!(received, BULK);
    };
    tokio::join!(writing, reading);
}

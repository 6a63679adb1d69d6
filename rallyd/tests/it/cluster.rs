//! Hosts that come, go, stall and come back.

use std::net::Ipv4Addr;

use jiff::SignedDuration;
use rustix::process::Signal;

use crate::lab::{DEAD_WITHIN, Host, Lab, PORT, REJOIN_WITHIN, SOON, files, lasting, note, within};

/// What a daemon leaves in its directory on purpose: who it is, how often it was started and with what, and its log.
const MEMBER_FILES: [&str; 5] = ["daemon.log", "epoch", "identity.pem", "start.json", "transport.key"];

/// What a coordinator leaves beside that: its authority, and the tokens with which hosts may join.
const COORDINATOR_FILES: [&str; 3] = ["authority/authority.pem", "authority/tokens.json", "local.token"];

/// How often something is tried that has to happen within a few seconds.
const ATTEMPTS: usize = 5;

/// Every order of three hosts.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn hosts_find_each_other_in_every_order_of_starts_and_stops() {
    let lab = Lab::<3>::new("hosts_find_each_other_in_every_order_of_starts_and_stops");
    let [coordinator, members @ ..] = &lab.hosts;
    // The members' token is of a cluster that has to exist already, though not to run.
    coordinator.start(&[]);
    let token = format!("--token={}", coordinator.token(&[]));
    coordinator.stop();
    let follow = format!("--coordinator-ip={}", coordinator.ip);
    for (order, stops) in ORDERS.iter().zip(ORDERS.iter().rev()) {
        note(&format!("started in the order {order:?}, stopped in the order {stops:?}"));
        for &index in order {
            match index {
                0 => coordinator.start(&[]),
                _ => lab.hosts[index].start(&[&follow, &token, "--wait=100ms"]),
            };
        }
        lab.is_whole(REJOIN_WITHIN);
        for &index in stops {
            lab.hosts[index].stop();
        }
        // They join anew each time.
        for member in members {
            member.forget();
        }
    }
}

#[test]
fn a_member_that_was_killed_is_dead_until_it_returns_as_the_same_host() {
    let lab = Lab::<3>::new("a_member_that_was_killed_is_dead_until_it_returns_as_the_same_host");
    lab.start();
    let [coordinator, member, other] = &lab.hosts;
    let before = member.running();
    member.kill();
    within(DEAD_WITHIN, "coordinator and other member know that it is dead", || {
        [coordinator, other].iter().all(|host| host.sees(member).as_deref() == Some("dead"))
    });
    // It needs no token any more.
    member.start(&[&format!("--coordinator-ip={}", coordinator.ip)]);
    let after = member.running();
    assert_eq!((before.id(), before.epoch() + 1), (after.id(), after.epoch()));
    lab.is_whole(SOON);
    assert_eq!(coordinator.running().cluster_size(), 3, "it is not a new host");

    // As quick as a service manager.
    member.kill();
    member.start(&[&format!("--coordinator-ip={}", coordinator.ip)]);
    lab.is_whole(SOON);
    assert_eq!(member.running().epoch(), before.epoch() + 2);
    let changes = coordinator.changes(before.id());
    let count = |wanted| changes.iter().filter(|change| *change == wanted).count();
    assert_eq!((count("Restarted"), count("Joined")), (2, 1), "{changes:?}");
}

#[test]
fn a_coordinator_that_was_killed_or_restarted_finds_its_members_again() {
    let lab = Lab::<3>::new("a_coordinator_that_was_killed_or_restarted_finds_its_members_again");
    lab.start();
    let [coordinator, members @ ..] = &lab.hosts;
    let ids = || members.each_ref().map(|member| member.running().id().to_owned());
    let before = (coordinator.running(), ids());
    coordinator.kill();
    within(DEAD_WITHIN, "both members know that it is gone", || {
        members.iter().all(|member| member.link().as_deref() == Some("connecting"))
    });
    coordinator.start(&[]);
    lab.is_whole(REJOIN_WITHIN);
    let after = (coordinator.running(), ids());
    assert_eq!((before.0.id(), before.0.epoch() + 1), (after.0.id(), after.0.epoch()));
    assert_eq!(before.1, after.1);

    let said = coordinator.run(&["restart"]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    lab.is_whole(REJOIN_WITHIN);
    assert_eq!(coordinator.running().epoch(), before.0.epoch() + 2);
    assert_eq!(before.1, ids());
}

#[test]
fn a_member_that_stalls_is_suspect_then_dead_and_recovers_from_both() {
    let lab = Lab::<2>::new("a_member_that_stalls_is_suspect_then_dead_and_recovers_from_both");
    lab.start();
    let [coordinator, member] = &lab.hosts;
    let sees = |state| move || coordinator.sees(member).as_deref() == Some(state);
    let before = member.running();

    // Between suspicion and death are three seconds; a machine that is too busy to use them gets another chance.
    let mut seen = coordinator.changes(before.id()).len();
    let new_changes = |seen: usize| coordinator.changes(before.id()).split_off(seen);
    let recovered = (0..ATTEMPTS).any(|_| {
        let stalled = member.signal(Signal::STOP);
        within(DEAD_WITHIN, "the stalled member is suspect", || !sees("alive")());
        stalled.resume();
        within(REJOIN_WITHIN, "the member that goes on is alive", sees("alive"));
        let changes = new_changes(seen);
        note(&format!("{changes:?}"));
        seen += changes.len();
        changes.iter().all(|change| change == "Suspected" || change == "Recovered")
    });
    assert!(recovered, "a short stall ends the connection");

    let stalled = member.signal(Signal::STOP);
    within(DEAD_WITHIN, "the stalled member is dead", sees("dead"));
    stalled.resume();
    within(REJOIN_WITHIN, "the member that goes on is alive", sees("alive"));
    lab.is_whole(SOON);
    let after = member.running();
    assert_eq!((before.id(), before.epoch(), before.pid()), (after.id(), after.epoch(), after.pid()));
    let changes = new_changes(seen);
    assert_eq!(lasting(&changes), ["Suspected", "Died", "Returned"], "it is the same start of the same host");
}

#[test]
fn a_coordinator_that_stalls_is_suspect_then_given_up_and_blames_nobody() {
    let lab = Lab::<3>::new("a_coordinator_that_stalls_is_suspect_then_given_up_and_blames_nobody");
    lab.start();
    let [coordinator, members @ ..] = &lab.hosts;
    let [member, _] = members;
    let before = member.running();

    let stalled = coordinator.signal(Signal::STOP);
    within(DEAD_WITHIN, "the members suspect the stalled coordinator", || {
        members.iter().all(|member| member.running().suspects_coordinator())
    });
    stalled.resume();
    within(SOON, "the members trust the coordinator that goes on", || {
        members.iter().all(|member| !member.running().suspects_coordinator())
    });
    lab.is_whole(SOON);
    // It is exact to a second, and a new connection would be at least two seconds younger.
    let moved = member.running().link_since().duration_since(before.link_since());
    assert!(moved <= SignedDuration::from_secs(1), "the connection is another one, {moved:?} younger");
    for member in members {
        let changes = coordinator.changes(member.running().id());
        assert_eq!(lasting(&changes), ["Joined"], "the coordinator blames a member");
    }

    let stalled = coordinator.signal(Signal::STOP);
    within(DEAD_WITHIN, "the members give the stalled coordinator up", || {
        members.iter().all(|member| member.link().as_deref() == Some("connecting"))
    });
    stalled.resume();
    lab.is_whole(REJOIN_WITHIN);
    let after = member.running();
    assert_eq!((before.id(), before.epoch()), (after.id(), after.epoch()));
}

#[test]
fn daemons_that_were_stopped_leave_no_process_socket_or_lock_behind() {
    let lab = Lab::<3>::new("daemons_that_were_stopped_leave_no_process_socket_or_lock_behind");
    lab.start();
    let [coordinator, member, other] = &lab.hosts;
    // Beside the member, on the same machine.
    let beside = PORT + 1;
    let follow = [&format!("--coordinator-ip={}:{PORT}", coordinator.ip), &format!("--port={beside}")[..]];
    let token = format!("--token={}", coordinator.token(&[]));
    member.start(&[follow[0], follow[1], &token]);
    assert_eq!(member.run(&["stop"]).exit, 2, "it has to be said which one");
    assert_eq!(lab.processes().len(), 4);
    assert!(is_bound(coordinator, PORT) && is_bound(member, PORT) && is_bound(member, beside));

    for host in [member, other, coordinator] {
        let said = host.run(&["stop", "--all"]);
        assert_eq!(said.exit, 0, "{}", said.stderr);
        assert_eq!(host.run(&["status"]).exit, 3);
    }
    assert_eq!(lab.processes(), []);
    assert!(!is_bound(coordinator, PORT) && !is_bound(member, PORT) && !is_bound(member, beside));

    let mut expected = [&MEMBER_FILES[..], &COORDINATOR_FILES[..]].concat();
    expected.sort_unstable();
    for (host, port, expected) in [
        (coordinator, PORT, &expected[..]),
        (member, PORT, &MEMBER_FILES[..]),
        (member, beside, &MEMBER_FILES[..]),
        (other, PORT, &MEMBER_FILES[..]),
    ] {
        let left = files(&host.instances().join(format!("{}-{port}", host.ip)));
        assert_eq!(left, expected);
        note(&format!("left on purpose at {}:{port}: {}", host.ip, left.join(", ")));
    }
    assert_eq!(files(&other.home).len(), MEMBER_FILES.len(), "there is nothing beside the daemon's directory");
}

/// Whether a socket of the host is bound to the port at its IPv4 address.
fn is_bound(host: &Host, port: u16) -> bool {
    let ip: Ipv4Addr = host.ip.to_string().parse().unwrap();
    let sockets = host.inside("cat").arg("/proc/net/udp").output().unwrap();
    let address = format!(" {:08X}:{port:04X} ", u32::from_ne_bytes(ip.octets()));
    String::from_utf8(sockets.stdout).unwrap().contains(&address)
}

#[test]
fn a_member_that_is_stopped_has_left_and_may_return() {
    let lab = Lab::<2>::new("a_member_that_is_stopped_has_left_and_may_return");
    lab.start();
    let [coordinator, member] = &lab.hosts;
    let before = member.running();
    member.stop();
    within(SOON, "the member has left", || coordinator.sees(member).as_deref() == Some("left"));
    let said = member.run(&["restart"]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    lab.is_whole(SOON);
    let after = member.running();
    assert_eq!((before.id(), before.epoch() + 1), (after.id(), after.epoch()));
    assert_eq!(lasting(&coordinator.changes(before.id())), ["Joined", "Left", "Restarted"]);
}

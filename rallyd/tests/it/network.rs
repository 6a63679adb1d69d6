//! Networks that lose, delay, refuse and cut packets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::lab::{DEAD_WITHIN, Family, Host, Lab, PORT, REJOIN_WITHIN, SOON, lasting, note, throughout, within};
use crate::relay::Relay;

fn packets_from(host: &Host) -> String {
    match host.ip {
        IpAddr::V4(ip) => format!("ip saddr {ip}"),
        IpAddr::V6(ip) => format!("ip6 saddr {ip}"),
    }
}

/// Waits until a partition is known on both sides.
fn parted(coordinator: &Host, member: &Host) {
    within(DEAD_WITHIN, "the coordinator no longer counts on the member", || {
        matches!(coordinator.sees(member).as_deref(), Some("dead" | "left" | "suspect"))
    });
    within(DEAD_WITHIN, "the member knows that its coordinator is gone", || {
        member.link().as_deref() == Some("connecting")
    });
}

#[test]
fn partitions_are_noticed_from_both_sides_and_heal() {
    let test = "partitions_are_noticed_from_both_sides_and_heal";
    let Some(lab) = Lab::<3>::with_own_network(test, Family::V4) else { return };
    lab.start();
    let [coordinator, member, other] = &lab.hosts;
    let before = member.running();
    let (from_member, from_coordinator) = (packets_from(member), packets_from(coordinator));

    note("no packet gets through");
    coordinator.drop_incoming(&[&from_member]);
    member.drop_incoming(&[&from_coordinator]);
    parted(coordinator, member);
    within(DEAD_WITHIN, "the member is dead", || coordinator.sees(member).as_deref() == Some("dead"));
    assert_eq!(coordinator.sees(other).as_deref(), Some("alive"), "nobody else is affected");
    coordinator.let_all_in();
    member.let_all_in();
    lab.is_whole(REJOIN_WITHIN);

    note("no packet from the member gets through");
    coordinator.drop_incoming(&[&from_member]);
    parted(coordinator, member);
    within(DEAD_WITHIN, "the member is dead", || coordinator.sees(member).as_deref() == Some("dead"));
    coordinator.let_all_in();
    lab.is_whole(REJOIN_WITHIN);

    note("no packet from the coordinator gets through");
    member.drop_incoming(&[&from_coordinator]);
    parted(coordinator, member);
    member.let_all_in();
    lab.is_whole(REJOIN_WITHIN);

    note("the member's own firewall forbids it to send");
    member.drop_outgoing(&[&format!("udp dport {PORT}")]);
    parted(coordinator, member);
    member.let_all_in();
    lab.is_whole(REJOIN_WITHIN);

    let after = member.running();
    assert_eq!((before.id(), before.epoch()), (after.id(), after.epoch()), "it is the same start of the same host");
    let changes = coordinator.changes(before.id());
    assert!(!changes.iter().any(|change| change == "Restarted"), "{changes:?}");
}

#[test]
fn a_cluster_forms_and_lasts_with_delay_and_loss() {
    let lab = Lab::<3>::on_loopback("a_cluster_forms_and_lasts_with_delay_and_loss", "a relay makes the network bad");
    let [coordinator, members @ ..] = &lab.hosts;
    coordinator.start(&[]);
    let token = format!("--token={}", coordinator.token(&[]));
    let target = SocketAddr::new(coordinator.ip, PORT);
    let relays = members.each_ref().map(|member| Relay::new(target, SocketAddr::new(member.ip, 0)));
    for (member, relay) in members.iter().zip(&relays) {
        member.start(&[&format!("--coordinator-ip={}", relay.address()), &token]);
    }
    let ids = members.each_ref().map(|member| member.running().id().to_owned());
    // Behind a relay a member has another address.
    let states = || {
        let status = coordinator.running();
        ids.each_ref().map(|id| status.of(id).map(|record| record["state"].as_str().unwrap().to_owned()))
    };
    let as_good_as_alive = || states().iter().all(|state| matches!(state.as_deref(), Some("alive" | "suspect")));
    throughout(Duration::from_secs(15), "no member is given up, and none gives up", || {
        as_good_as_alive() && members.iter().all(|member| member.link().as_deref() == Some("connected"))
    });
    let status = coordinator.running();
    for id in &ids {
        let round_trip = status.of(id).unwrap()["round_trip"].as_f64().unwrap();
        assert!((0.1..0.2).contains(&round_trip), "{round_trip} s there and back, each with a delay of 50 ms");
        let changes = coordinator.changes(id);
        assert!(changes[1..].iter().all(|change| change == "Suspected" || change == "Recovered"), "{changes:?}");
    }
    for relay in &relays {
        let (passed, dropped) = relay.counts();
        note(&format!("the relay passed {passed} packets and dropped {dropped}"));
        assert!(dropped > 0);
    }
}

#[test]
fn a_cluster_without_any_ipv4_address_works() {
    let test = "a_cluster_without_any_ipv4_address_works";
    let Some(lab) = Lab::<3>::with_own_network(test, Family::V6) else { return };
    lab.start();
    let [coordinator, member, _] = &lab.hosts;
    assert_eq!(member.running().text("address"), format!("[{}]:{PORT}", member.ip));
    let said = member.run(&["restart", &format!("--coordinator-ip=[{}]:{PORT}", coordinator.ip)]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    lab.is_whole(SOON);
    let said = member.run(&["start", "--coordinator-ip=10.77.0.1"]);
    assert_eq!((said.exit, said.stderr.contains("no route to the coordinator 10.77.0.1")), (64, true), "{said:?}");
}

#[test]
fn a_cluster_forms_and_lasts_where_large_packets_vanish() {
    let test = "a_cluster_forms_and_lasts_where_large_packets_vanish";
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::<3>::with_own_network(test, family) else { return };
        note(&format!("{family:?}"));
        lab.limit_switch_to(1280);
        lab.start();
        let [coordinator, member, other] = &lab.hosts;
        // These know how much fits.
        member.tool("ip", "link set eth0 mtu 1280");
        coordinator.tool("ip", "link set eth0 mtu 1280");
        let said = member.run(&["restart"]);
        assert_eq!(said.exit, 0, "{}", said.stderr);
        lab.is_whole(SOON);
        let since = other.running().link_since();
        throughout(Duration::from_secs(3), "nobody is given up", || {
            let as_good_as_alive = |host| matches!(coordinator.sees(host).as_deref(), Some("alive" | "suspect"));
            [member, other].into_iter().all(as_good_as_alive)
        });
        lab.is_whole(SOON);
        let changes = coordinator.changes(other.running().id());
        assert_eq!(lasting(&changes), ["Joined"], "connected since {since}");
    }
}

#[test]
fn a_connection_survives_that_its_network_gets_worse() {
    let test = "a_connection_survives_that_its_network_gets_worse";
    let Some(lab) = Lab::<2>::with_own_network(test, Family::V4) else { return };
    lab.start();
    let [coordinator, member] = &lab.hosts;
    // Without checksums by the card, the kernel refuses to cut one large buffer into packets.
    for host in &lab.hosts {
        host.tool("ethtool", "-K eth0 tx off");
    }
    lab.limit_switch_to(1280);
    for (index, host) in lab.hosts.iter().enumerate() {
        let from = packets_from(&lab.hosts[1 - index]);
        host.drop_incoming(&[&format!("{from} numgen random mod 100 < 5")]);
    }
    throughout(Duration::from_secs(5), "requests are answered", || {
        coordinator.sees(member).is_some_and(|state| state != "dead") && member.link().as_deref() == Some("connected")
    });
    lab.is_whole(SOON);
    let changes = coordinator.changes(member.running().id());
    assert_eq!(lasting(&changes), ["Joined"]);
}

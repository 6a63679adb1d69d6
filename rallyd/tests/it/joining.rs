//! Who is let in and who is not, and what they are told.

use std::fs;
use std::path::Path;

use rally_net::JoinToken;

use crate::lab::{Family, Host, Lab, PORT, REJOIN_WITHIN, SOON, Said, lasting, note, report, within};

/// The start was refused with that sentence, and no daemon is left.
fn assert_refused(host: &Host, said: &Said, sentence: &str) {
    assert_eq!(said.exit, 64, "{}", said.stderr);
    assert!(said.stderr.contains(sentence), "expected: {sentence}\nsaid: {}", said.stderr);
    assert_eq!(host.run(&["status"]).exit, 3, "no daemon is left");
    note(&format!("refused: {sentence}"));
}

/// A token of `of`'s cluster with the secret of one of another cluster.
fn with_secret(of: &str, other: &str) -> String {
    let (of, other): (JoinToken, JoinToken) = (of.parse().unwrap(), other.parse().unwrap());
    JoinToken { secret: other.secret, ..of }.to_string()
}

#[test]
fn a_host_without_a_good_token_is_told_why_it_cannot_join() {
    let lab = Lab::<3>::new("a_host_without_a_good_token_is_told_why_it_cannot_join");
    let [coordinator, stranger, other] = &lab.hosts;
    coordinator.start(&[]);
    other.start(&[]);
    let follow = format!("--coordinator-ip={}", coordinator.ip);
    let refused = |token: &str, sentence: &str| {
        let said = stranger.try_start(&[&follow, &format!("--token={token}")]);
        assert_refused(stranger, &said, sentence);
        assert!(said.stderr.matches("rallyd token").count() <= 1, "advice is given once: {}", said.stderr);
        // It is not by a certificate from before that it is let in or refused.
        stranger.forget();
    };

    // On loopback addresses the coordinator might be of the same user, and its token might come.
    if lab.has_own_network() {
        let said = stranger.try_start(&[&follow]);
        assert_refused(stranger, &said, "has no token to join with: run `rallyd token` on the coordinator");
    }
    let (good, foreign) = (coordinator.token(&[]), other.token(&[]));
    refused(&good[..good.len() - 1], "the join token is cut off");
    refused(&with_secret(&good, &foreign), "the secret of this join token is wrong");
    refused(&foreign, "the coordinator's authority is not the one in the join token");

    let list =
        || serde_json::from_str::<serde_json::Value>(&coordinator.run(&["token", "list", "--format=json"]).stdout);
    let state = |id: &str| {
        let tokens = list().unwrap()["tokens"].take();
        tokens.as_array().unwrap().iter().find(|token| token["id"] == id).map(|token| token["state"].clone())
    };
    let id = |token: &str| token.parse::<JoinToken>().unwrap().id.to_string();

    let short = coordinator.token(&["--lifetime=1s"]);
    within(SOON, "the token has expired", || state(&id(&short)).is_none_or(|state| state == "expired"));
    refused(&short, "this join token expired at");
    let revoked = coordinator.token(&["--note=to be revoked"]);
    assert_eq!(state(&id(&revoked)), Some("valid".into()));
    assert_eq!(coordinator.run(&["token", "revoke", &id(&revoked)]).exit, 0);
    refused(&revoked, "this join token was revoked");

    assert_eq!(coordinator.running().cluster_size(), 1, "nobody was let in");
    stranger.start(&[&follow, &format!("--token={good}")]);
    assert_eq!(coordinator.sees(stranger).as_deref(), Some("alive"));
    let said = stranger.run(&["token"]);
    assert_eq!((said.exit, said.stderr.contains("tokens are made on the coordinator")), (64, true), "{said:?}");
}

#[test]
fn a_host_of_another_cluster_or_with_another_role_is_refused() {
    let lab = Lab::<3>::new("a_host_of_another_cluster_or_with_another_role_is_refused");
    let [first, second, member] = &lab.hosts;
    first.start(&[]);
    second.start(&[]);
    let (follow_first, follow_second) =
        (format!("--coordinator-ip={}", first.ip), format!("--coordinator-ip={}", second.ip));
    let token = first.token(&[]);
    member.start(&[&follow_first, &format!("--token={token}")]);
    let said = member.run(&["restart", &follow_second]);
    assert_refused(member, &said, "is from another cluster");
    assert_eq!(second.running().cluster_size(), 1);

    // What was its coordinator is a member now, and not of this cluster.
    first.stop();
    let said = first.try_start(&[&follow_second, &format!("--token={}", second.token(&[]))]);
    assert_refused(first, &said, "is that of a Coordinator, but this host is to be a Member");

    // Where a member listens, nobody takes it for the coordinator.
    first.forget();
    let said = member.start(&[&follow_first, "--wait=100ms"]);
    assert!(said.stderr.contains("keeps trying"), "{}", said.stderr);
    let said = first.try_start(&[&format!("--coordinator-ip={}", member.ip), &format!("--token={token}")]);
    assert_refused(first, &said, "answers where the coordinator should be, and its certificate does not allow that");
}

#[test]
fn a_second_host_with_the_same_identity_is_refused_and_the_first_goes_on() {
    let lab = Lab::<3>::new("a_second_host_with_the_same_identity_is_refused_and_the_first_goes_on");
    let [coordinator, original, copy] = &lab.hosts;
    coordinator.start(&[]);
    let follow = format!("--coordinator-ip={}", coordinator.ip);
    original.start(&[&follow, &format!("--token={}", coordinator.token(&[]))]);
    let before = original.running();
    copy_identity(&original.instance(), &copy.instance());
    let said = copy.try_start(&[&follow]);
    assert_refused(copy, &said, &format!("a host with the same identity is connected from {}", original.ip));
    assert!(said.stderr.contains("delete `identity.pem` in this host's directory"), "{}", said.stderr);
    let after = original.running();
    assert_eq!((before.pid(), after.link()), (after.pid(), "connected"));
    assert_eq!(lasting(&coordinator.changes(before.id())), ["Joined"]);
    assert_eq!(coordinator.running().cluster_size(), 2);
}

/// As an image of the machine would.
fn copy_identity(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["identity.pem", "epoch", "transport.key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn a_host_whose_clock_is_hours_off_is_told_so() {
    let test = "a_host_whose_clock_is_hours_off_is_told_so";
    let lab = Lab::<2>::new(test);
    let [coordinator, member] = &lab.hosts;
    let Some(library) = faketime(member) else {
        report(&format!("skipped: {test} needs faketime"));
        return;
    };
    coordinator.start(&[]);
    let token = coordinator.token(&[]);
    let start = |clock: &str| {
        let follow = format!("--coordinator-ip={}", coordinator.ip);
        let node = format!("--node-ip={}", member.ip);
        let mut command = member.command(&["start", &node, &follow, &format!("--token={token}")]);
        // Only the wall clock is set wrong: the other one has no zero that could be wrong.
        command.envs([("LD_PRELOAD", &library[..]), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME", clock)]);
        Said::from(command.output().unwrap())
    };
    assert_refused(member, &start("+5h"), "ahead of the coordinator's, and at most 1 h is allowed: set the clock");
    assert_refused(member, &start("-5h"), "behind the coordinator's, and at most 1 h is allowed: set the clock");
    let said = start("+20m");
    assert_eq!(said.exit, 0, "{}", said.stderr);
    member.stop();
    // It has a certificate now, which is valid at that time.
    assert_refused(member, &start("+5h"), "ahead of the coordinator's, and at most 1 h is allowed: set the clock");
}

/// The library that sets clocks wrong, if it is installed. Its program would wait for the daemon to end.
pub(crate) fn faketime(host: &Host) -> Option<String> {
    let show = ["-m", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"];
    let output = host.inside("faketime").args(show).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_said_to_be() {
    let test = "a_coordinator_that_cannot_be_reached_is_said_to_be";
    let Some(lab) = Lab::<2>::with_own_network(test, Family::V4) else { return };
    let [coordinator, member] = &lab.hosts;
    coordinator.start(&[]);
    let token = format!("--token={}", coordinator.token(&[]));
    for start in [&["--coordinator-ip=192.0.2.1", &token][..], &["--coordinator-ip=fd00::1", &token]] {
        let said = member.run(&[&["start"], start].concat());
        assert_refused(member, &said, "no route to the coordinator");
    }
    let said = member.try_start(&["--coordinator-ip=192.0.2.1", &token]);
    assert_refused(member, &said, "there is no route from");
    let follow = format!("--coordinator-ip={}", coordinator.ip);
    let said = member.run(&["start", "--node-ip=10.77.0.99", &follow, &token]);
    assert_refused(member, &said, "10.77.0.99 is no address of this machine");

    coordinator.drop_incoming(&["meta l4proto udp"]);
    let said = member.start(&[&follow, &token, "--wait=3s"]);
    let advice = format!("check that it is started there and that UDP port {PORT} is open in both directions");
    assert!(said.stderr.contains("[WARNING]") && said.stderr.contains(&advice), "{}", said.stderr);
    note(&format!("warned: {advice}"));
    let advice = format!("check that rallyd runs there as the coordinator, and that UDP port {PORT} is open");
    within(SOON, "status says what to check", || member.run(&["status"]).stdout.contains(&advice));
    coordinator.let_all_in();
    within(REJOIN_WITHIN, "the member has joined", || coordinator.sees(member).as_deref() == Some("alive"));

    // Without a daemon the kernel answers that the port is closed.
    coordinator.stop();
    let said = member.run(&["restart", "--wait=1s"]);
    assert!(said.exit == 0 && said.stderr.contains("has not answered yet"), "{}", said.stderr);
}

#[test]
fn secrets_stay_out_of_command_lines_logs_and_status() {
    let lab = Lab::<2>::new("secrets_stay_out_of_command_lines_logs_and_status");
    let [coordinator, member] = &lab.hosts;
    coordinator.start(&[]);
    let token = coordinator.token(&[]);
    member.start(&[&format!("--coordinator-ip={}", coordinator.ip), &format!("--token={token}")]);
    lab.is_whole(SOON);
    let refused = coordinator.run(&["token", "revoke", "00000000"]);
    assert_eq!(refused.exit, 64, "{refused:?}");

    let mut secrets = vec![token];
    for (host, names) in [
        (coordinator, &["identity.pem", "authority/authority.pem", "local.token", "transport.key"][..]),
        (member, &["identity.pem", "transport.key"]),
    ] {
        for name in names {
            secrets.extend(secret_lines(&fs::read_to_string(host.instance().join(name)).unwrap()));
        }
    }
    assert!(secrets.len() >= 10, "{} secrets were found", secrets.len());
    for host in &lab.hosts {
        let pid = host.running().pid().as_raw_pid();
        let read = |name: &str| String::from_utf8(fs::read(format!("/proc/{pid}/{name}")).unwrap()).unwrap();
        let said = [
            ("command line", read("cmdline")),
            ("environment", read("environ")),
            ("log", host.log()),
            ("status", host.run(&["status"]).stdout),
            ("status as JSON", host.run(&["status", "--format=json"]).stdout),
            ("list of tokens", host.run(&["token", "list", "--format=json"]).stdout),
            ("settings", fs::read_to_string(host.instance().join("start.json")).unwrap()),
        ];
        for (place, text) in said {
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret stands in the {place}: {text}");
        }
    }
}

/// The lines of a file that are worth keeping to oneself: all but what is in certificates and around keys.
fn secret_lines(text: &str) -> Vec<String> {
    let mut certificate = false;
    let mut secrets = Vec::new();
    for line in text.lines() {
        match line {
            "-----BEGIN CERTIFICATE-----" => certificate = true,
            "-----END CERTIFICATE-----" => certificate = false,
            _ if certificate || line.starts_with("-----") || line.len() < 16 => {}
            _ => secrets.push(line.to_owned()),
        }
    }
    secrets
}

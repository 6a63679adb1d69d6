use std::time::{Duration, UNIX_EPOCH};

use rally_core::metrics::SampleType;
use rally_core::{
    Activity, AwaitedDriver, ClusterTime, Epoch, HostFacts, HostId, JoinPoint, LivePercentiles, RaceDriver, RaceStatus,
    Role, RunningTask, Step, StepStatus, TaskIndex, TaskStatus,
};
use rally_net::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};

use super::*;

fn facts(name: &str) -> HostFacts {
    HostFacts {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        cores: 16,
        memory: 67_322_544_128,
        platform: "Linux 6.1.0 x86_64".to_owned(),
        flavor: Some("release".to_owned()),
        cpu: Some("AMD EPYC 9354P".to_owned()),
        logical_cores: Some(16),
        physical_cores: Some(8),
        governor: Some("performance".to_owned()),
        ..HostFacts::default()
    }
}

fn summary(number: u8, role: HostRole, state: HostState) -> HostSummary {
    let is_member = role == HostRole::Member;
    HostSummary {
        id: HostId::from_random(number.into()),
        role,
        address: ([10, 0, 0, number], 1900).into(),
        state,
        last_heard: if is_member { Duration::from_millis(120 * u64::from(number)) } else { Duration::ZERO },
        round_trip: is_member.then_some(Duration::from_micros(310)),
        clock: is_member.then_some(ClockEstimate { offset: -1_234_000, error: 85_000 }),
        wall_shift: 0,
        epoch: Epoch(3),
        facts: facts(&format!("host-{number}")),
        activity: Activity::Idle,
    }
}

fn status(role: HostRole, link: LinkState, hosts: Vec<HostSummary>, hosts_age: Option<Duration>) -> DaemonReport {
    let number = if role == HostRole::Coordinator { 1 } else { 2 };
    DaemonReport::Answered(Box::new(DaemonStatus {
        pid: 4711,
        log: (role == HostRole::Member).then(|| "/home/u/.rally/hosts/10.0.0.2-1900/daemon.log".into()),
        directory: format!("/home/u/.rally/hosts/10.0.0.{number}-1900").into(),
        host: HostStatus {
            id: hosts_age.map(|_| HostId::from_random(number.into())),
            role,
            address: ([10, 0, 0, number], 1900).into(),
            epoch: Epoch(3),
            uptime: Duration::from_secs(11_520),
            facts: facts(&format!("host-{number}")),
            activity: Activity::Idle,
            coordinator: CoordinatorStatus { address: ([10, 0, 0, 1], 1900).into(), link },
            hosts,
            hosts_age,
        },
        race: None,
    }))
}

fn coordinator() -> DaemonReport {
    let mut racing = summary(3, HostRole::Member, HostState::Alive);
    racing.activity =
        Activity::Racing { race: "nightly".parse().unwrap(), roles: vec![Role::LoadDriver, Role::Provisioner] };
    let hosts = vec![
        summary(1, HostRole::Coordinator, HostState::Alive),
        summary(2, HostRole::Member, HostState::Suspect),
        racing,
    ];
    let since = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    status(HostRole::Coordinator, LinkState::Own { since }, hosts, Some(Duration::ZERO))
}

/// A coordinator whose race is in its second step, of which one task has not reported yet.
fn racing_coordinator() -> DaemonReport {
    let DaemonReport::Answered(mut status) = coordinator() else { unreachable!() };
    let at = |seconds: u64| ClusterTime::from_nanos(seconds * 1_000_000_000);
    let millis = Duration::from_millis;
    let task = |task, name: &str| RunningTask { task: TaskIndex(task), name: name.to_owned() };
    let progress = TaskStatus {
        task: TaskIndex(1),
        done: Some(0.25),
        sample_type: SampleType::Normal,
        samples: 120,
        failed: 2,
        throughput: 1234.5,
        unit: "docs".to_owned(),
        service_time: Some(LivePercentiles { p50: millis(3), p90: millis(5), p99: millis(8) }),
    };
    let step = Step { until: JoinPoint(2), start: at(90) };
    let tasks = vec![task(1, "index"), task(2, "search")];
    status.race = Some(RaceStatus {
        race: "nightly".parse().unwrap(),
        since: at(60),
        now: at(100),
        drivers: vec![
            RaceDriver { name: "10.0.0.2".to_owned(), clients: 0..4 },
            RaceDriver { name: "10.0.0.3".to_owned(), clients: 4..8 },
        ],
        step: Some(StepStatus { step, of: 5, tasks, progress: vec![progress] }),
        awaited: vec![AwaitedDriver { driver: "10.0.0.3".to_owned(), said: None }],
    });
    DaemonReport::Answered(status)
}

#[test]
fn the_race_that_runs_is_shown_with_its_step_and_progress() {
    insta::assert_snapshot!(render_text(&[racing_coordinator()]));
    let document = serde_json::to_value(StatusDocument::new(&[racing_coordinator()])).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&document["hosts"][0]["race"]).unwrap());
}

#[test]
fn while_drivers_prepare_the_text_says_whom_the_race_waits_for_and_what_that_one_does() {
    let DaemonReport::Answered(mut status) = racing_coordinator() else { unreachable!() };
    let race = status.race.as_mut().unwrap();
    race.step = None;
    race.awaited[0].said = Some("downloading documents.json.bz2: 31.2 % of 252.4 MiB".to_owned());
    let text = render_text(&[DaemonReport::Answered(status)]);
    let line = "Waits for  10.0.0.3 (downloading documents.json.bz2: 31.2 % of 252.4 MiB)";
    assert!(text.lines().any(|it| it == line), "{text}");
}

fn lonely_member() -> DaemonReport {
    let since = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let last_error = Some("no answer within 3 s".to_owned());
    status(HostRole::Member, LinkState::Connecting { since, attempts: 7, last_error }, Vec::new(), None)
}

fn unresponsive() -> DaemonReport {
    let error = "it does not answer within 3s".to_owned();
    DaemonReport::Unresponsive { address: ([10, 0, 0, 4], 1900).into(), pid: Some(4712), error }
}

#[test]
fn the_text_of_a_coordinator_lists_every_host() {
    insta::assert_snapshot!(render_text(&[coordinator()]));
}

#[test]
fn the_text_says_why_a_host_is_not_connected_or_does_not_answer() {
    insta::assert_snapshot!(render_text(&[lonely_member(), unresponsive()]));
}

#[test]
fn the_text_says_how_old_a_members_knowledge_is() {
    let since = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let hosts = vec![summary(1, HostRole::Coordinator, HostState::Alive)];
    let link = LinkState::Connected { since, suspect: true };
    insta::assert_snapshot!(render_text(&[status(HostRole::Member, link, hosts, Some(Duration::from_millis(1500)))]));
}

#[test]
fn the_document_has_a_stable_shape() {
    let document = StatusDocument::new(&[coordinator(), lonely_member(), unresponsive()]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn a_status_survives_the_control_socket() {
    let DaemonReport::Answered(status) = racing_coordinator() else { unreachable!() };
    let text = serde_json::to_vec(&status).unwrap();
    assert_eq!(serde_json::from_slice::<DaemonStatus>(&text).unwrap(), *status);
}

//! What is left of a race that has ended changes nothing in the next one.

use std::time::Duration;

use futures_util::StreamExt;
use rally_core::{
    Activity, ClusterTime, DriverEvent, DriverEventKind, EventStream, JoinPoint, LoadDriver, Role, RoleErrorKind,
    Sequence, Step, StopMode,
};
use rally_net::{Timing, UplinkEvent};
use tokio::time::timeout;

use crate::cluster::{SOON, coordinator, quick};
use crate::fakes::{assignment, race};
use crate::network::uplink;
use crate::relay::{Relay, Weather};
use crate::roles::Playing;

/// What the next events say.
async fn told(events: &mut EventStream<DriverEvent>, count: usize) -> Vec<String> {
    let take = async {
        let mut told = Vec::new();
        while told.len() < count {
            let event = events.next().await.expect("another event").expect("no failure");
            let DriverEventKind::Noticed { message } = event.kind else { panic!("{event:?}") };
            told.push(message);
        }
        told
    };
    timeout(SOON, take).await.expect("events in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_requests_of_an_old_race_change_nothing_in_the_next_one() {
    let (_directory, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    // A lease outlasts the silence that ends a connection by two heartbeats: time to connect again, also on a busy machine.
    let (heartbeat, dead_after) = (Duration::from_secs(1), Duration::from_secs(4));
    let timing = Timing { heartbeat, suspect_after: Duration::from_millis(2_500), dead_after, ..quick() };
    let playing = Playing::at(relay.address(), &coordinator, timing).await;
    let driver = coordinator.load_driver(playing.id());
    let (first, second) = (race("first"), race("second"));
    driver.prepare(assignment("first")).await.unwrap();
    let mut old = driver.events(&first, Sequence::START).await.unwrap();
    playing.driver.happen(2);
    assert_eq!(told(&mut old, 2).await, ["event 1 of first", "event 2 of first"]);

    // The next race begins while somebody still follows the last one, also when both have to be asked for again.
    driver.prepare(assignment("second")).await.unwrap();
    let mut new = driver.events(&second, Sequence::START).await.unwrap();
    assert_eq!(told(&mut new, 2).await, ["event 1 of second", "event 2 of second"]);
    let mut link = playing.host.events();
    relay.set(Weather::cut());
    playing.driver.happen(1);
    uplink(&mut link, |event| matches!(event, UplinkEvent::CoordinatorLost { .. })).await;
    relay.set(Weather::default());
    assert_eq!(told(&mut old, 1).await, ["event 3 of first"]);
    assert_eq!(told(&mut new, 1).await, ["event 3 of second"]);

    // Work for the old race does not reach the driver, and that it is stopped once more does not stop the new one.
    let until = JoinPoint(1);
    let step = Step { until, start: ClusterTime::from_nanos(5) };
    driver.prepare(assignment("second")).await.unwrap();
    let before = playing.driver.calls().len();
    let drive = driver.drive(&first, step).await.unwrap_err();
    let complete = driver.complete_step(&first, until).await.unwrap_err();
    assert_eq!([drive.kind, complete.kind], [RoleErrorKind::Forbidden; 2], "{drive} {complete}");
    driver.stop(&first, StopMode::Now).await.unwrap();
    driver.drive(&second, step).await.unwrap();
    assert_eq!(playing.driver.calls()[before..], [r#"stop ("first", Now)"#, r#"drive ("second", 1, 5)"#]);
    let activity = playing.host.status().await.activity;
    assert_eq!(activity, Activity::Racing { race: second, roles: vec![Role::LoadDriver] });
}

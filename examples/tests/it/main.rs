//! Examples that race, from their beginning to their end: each of them checks what came of it.

#[path = "../../examples/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "what its `main` reads are the arguments of tests here")]
#[path = "../../examples/one_task.rs"]
mod one_task;
#[path = "../../examples/race.rs"]
mod race;
#[expect(dead_code, reason = "what its `main` reads are the arguments of tests here")]
#[path = "../../examples/redis.rs"]
mod redis;

#[test]
fn a_race_in_one_process_has_typed_results_and_an_archive() {
    race::main().unwrap();
}

#[tokio::test]
async fn one_task_of_a_program_asks_a_url() {
    one_task::run(None).await.unwrap();
}

#[tokio::test]
async fn another_protocol_is_measured_with_a_runner_of_its_own() {
    redis::run(None).await.unwrap();
}

#[test]
fn two_hosts_of_a_cluster_in_one_process_drive_a_race_together() {
    cluster::main().unwrap();
}

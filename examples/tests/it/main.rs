//! Examples that race, from their beginning to their end: each of them checks what came of it.

#[path = "../../examples/cluster.rs"]
mod cluster;
#[path = "../../examples/race.rs"]
mod race;

#[test]
fn a_race_in_one_process_has_typed_results_and_an_archive() {
    race::main().unwrap();
}

#[test]
fn two_hosts_of_a_cluster_in_one_process_drive_a_race_together() {
    cluster::main().unwrap();
}

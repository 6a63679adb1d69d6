//! Bulks against a server that speaks Elasticsearch, which is asked afterwards what it has.

use std::path::Path;

use rally_core::metrics::TaskInterval;
use rally_core::track::{Corpus, Documents, Operation, OperationBuilder, Task, Track};
use rally_driver::client::{Client, ClientOptions, MediaTypes, Request};
use rally_driver::{Registry, RequestTimer, TaskRun};
use serde_json::{Value, json};

use crate::server::Server;

const DOCUMENTS: u64 = 1_000;

/// Two clients that send a corpus in bulks of 90 documents.
async fn send(server: &Server, home: &Path, bulk: OperationBuilder) -> TaskInterval {
    let documents = Documents::builder("d.json", DOCUMENTS).target_index("i");
    let bulk = bulk.property("bulk-size", 90).property("refresh", "true");
    let report = TaskRun::new(Task::builder(bulk).clients(2))
        .track(Track::builder("tests").corpus(Corpus::builder("c").documents(documents)))
        .target_hosts([format!("http://{}", server.address())])
        .data_dir(home)
        .run(Registry::rally())
        .await
        .unwrap();
    report.normal().unwrap().clone()
}

async fn count(server: &Server, query: Value) -> u64 {
    let timer = RequestTimer::default().into();
    let client =
        Client::new(&[server.address().to_owned()], ClientOptions::default(), MediaTypes::default(), 0, timer).unwrap();
    let request = Request::new("POST", "/i/_count").json(json!({ "query": query }).to_string());
    let answer: Value = serde_json::from_slice(&client.request(&request).await.unwrap().body).unwrap();
    answer["count"].as_u64().unwrap()
}

#[tokio::test]
async fn every_document_arrives_once_and_conflicting_ones_take_the_place_of_others() {
    let Some(server) = Server::start("every_document_arrives_once_and_conflicting_ones_take_the_place").await else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("c")).unwrap();
    let lines = (0..DOCUMENTS).map(|n| format!("{{\"n\":{n},\"t\":\"ü\"}}\n")).collect::<String>();
    std::fs::write(home.path().join("c/d.json"), lines).unwrap();

    let measured = send(&server, home.path(), Operation::builder("bulk").property("detailed-results", true)).await;
    // Each client sends half of the documents: five bulks and a smaller one.
    assert_eq!((measured.samples, measured.failed, &*measured.unit), (12, 0, "docs"));
    assert_eq!(measured.throughput.iter().map(|bin| bin.weight).sum::<u64>(), DOCUMENTS);
    assert_eq!(count(&server, json!({ "match_all": {} })).await, DOCUMENTS);
    assert_eq!(count(&server, json!({ "range": { "n": { "lt": 250 } } })).await, 250);

    let with_ids =
        || Operation::builder("bulk").property("conflicts", "sequential").property("conflict-probability", 0);
    send(&server, home.path(), with_ids()).await;
    assert_eq!(count(&server, json!({ "match_all": {} })).await, 2 * DOCUMENTS);
    send(&server, home.path(), with_ids()).await;
    assert_eq!(count(&server, json!({ "match_all": {} })).await, 2 * DOCUMENTS);
    let updates = with_ids().property("conflict-probability", 100).property("on-conflict", "update");
    assert_eq!(send(&server, home.path(), updates).await.failed, 0);
    assert_eq!(count(&server, json!({ "match_all": {} })).await, 2 * DOCUMENTS);
}

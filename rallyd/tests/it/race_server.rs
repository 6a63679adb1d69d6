//! Races against a server that is not of this project: what the report says is what the server says it got.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::note;
use crate::race_lab::{RaceLab, Server, write_track};

/// With one driver and with three. The server looks at every document in each search, so more of them would take minutes.
const DOCUMENTS: u64 = 20_000;
const BULK: u64 = 1_000;
const THROTTLED: u64 = 30;
const UNTHROTTLED: u64 = 60;

/// Places with the fields of geonames.
fn write_corpus(path: &Path, documents: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut out = BufWriter::new(fs::File::create(path).unwrap());
    for number in 0..documents {
        let country = ["AT", "CH", "DE", "FR", "NO"][number as usize % 5];
        writeln!(
            out,
            r#"{{"geonameid":{number},"name":"Place {} of {country}","country_code":"{country}","feature_class":"P","population":{},"elevation":{},"timezone":"Europe/Oslo","location":[{},{}]}}"#,
            number % 1_000,
            number * 7919 % 1_000_000,
            number % 4_000,
            number % 180,
            number % 90,
        )
        .unwrap();
    }
    out.flush().unwrap();
}

fn places(lab: &RaceLab, documents: u64) -> std::path::PathBuf {
    let search = |name: &str, query: Value| json!({"name": name, "operation-type": "search", "index": "places", "body": {"query": query}});
    let track = json!({
        "version": 2,
        "indices": [{"name": "places"}],
        "corpora": [{"name": "places", "documents": [
            {"source-file": "documents.json", "document-count": documents, "target-index": "places"}
        ]}],
        "operations": [
            {"name": "index", "operation-type": "bulk", "bulk-size": BULK},
            search("by-name", json!({"match": {"name": "17"}})),
            search("by-country", json!({"term": {"country_code": "AT"}}))
        ],
        "schedule": [
            {"operation": "delete-index"},
            {"operation": "create-index"},
            {"operation": "index", "clients": 4},
            {"operation": "refresh"},
            {"parallel": {"tasks": [
                {"operation": "by-name", "clients": 3, "iterations": THROTTLED / 3, "target-throughput": 15},
                {"operation": "by-country", "clients": 3, "iterations": UNTHROTTLED / 3}
            ]}}
        ]
    });
    write_track(&lab.drivers()[0].home, "places", &track)
}

#[test]
fn documents_and_requests_of_the_report_are_those_of_the_server_with_one_driver_and_with_three() {
    let test = "documents_and_requests_of_the_report_are_those_of_the_server_with_one_driver_and_with_three";
    let Some(lab) = RaceLab::new(test) else { return };
    let Some(server) = Server::start(test, &lab, lab.coordinator()) else { return };
    let corpus = lab.drivers()[0].home.join(".rally/benchmarks/data/places/documents.json");
    write_corpus(&corpus, DOCUMENTS);
    for other in &lab.drivers()[1..] {
        let beside = other.home.join(".rally/benchmarks/data/places/documents.json");
        fs::create_dir_all(beside.parent().unwrap()).unwrap();
        fs::hard_link(&corpus, &beside).unwrap();
    }
    let (track, hosts) = (places(&lab, DOCUMENTS), server.target_hosts());
    for drivers in [1, 3] {
        note(&format!("with {drivers} drivers"));
        let names: Vec<_> = lab.drivers()[..drivers].iter().map(|host| host.ip.to_string()).collect();
        let on = format!("--load-driver-hosts={}", names.join(","));
        let said = lab.race_on(&format!("places-{drivers}"), &track, &[&hosts, &on]).end();
        // Each client makes its own bulks, and the last one of each may be smaller.
        let bulks = 4 * (DOCUMENTS / 4).div_ceil(BULK);
        said.is_complete(1 + 1 + bulks + 1 + THROTTLED + UNTHROTTLED);
        assert_eq!(server.get("/places/_count").unwrap()["count"], DOCUMENTS);
        let stats = server.get("/places/_stats").unwrap();
        assert_eq!(stats["_all"]["primaries"]["bulk"]["total_operations"], bulks);
        assert_eq!(stats["_all"]["primaries"]["indexing"]["index_total"], DOCUMENTS);
        note(&format!("searches as the server counts them: {}", stats["_all"]["primaries"]["search"]["query_total"]));
    }
}

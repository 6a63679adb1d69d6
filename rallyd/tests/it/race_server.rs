//! Races against a server that is not of this project: what the report says is what the server says it got.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rally_core::metrics::OperationMetrics;
use serde_json::{Value, json};

use crate::lab::note;
use crate::race_lab::{RaceLab, Server, write_track};
use crate::race_ledger::id;

/// Clients that index, as many as there are drivers at most; and as many of either search.
const CLIENTS: u64 = 3;

/// What is indexed and searched. The server looks at every document in each search, so 200,000 of them leave room for a
/// few searches only.
struct Load {
    documents: u64,
    bulk_size: u64,
    throttled: u64,
    unthrottled: u64,
}

/// Places with fields of geonames.
fn write_corpus(path: &Path, documents: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut out = BufWriter::new(fs::File::create(path).unwrap());
    for number in 0..documents {
        let country = ["AT", "CH", "DE", "FR", "NO"][number as usize % 5];
        writeln!(
            out,
            r#"{{"geonameid":{number},"name":"Place {name} of {country}","asciiname":"Place {name}","feature_class":"P","feature_code":"PPL","country_code":"{country}","admin1_code":"{admin:02}","population":{population},"dem":"{dem}","timezone":"Europe/Oslo","location":[{longitude},{latitude}]}}"#,
            name = number % 1_000,
            admin = number % 17,
            population = number * 7919 % 1_000_000,
            dem = number % 4_000,
            longitude = number % 180,
            latitude = number % 90,
        )
        .unwrap();
    }
    out.flush().unwrap();
}

impl Load {
    fn write_track(&self, lab: &RaceLab) -> PathBuf {
        let search = |name: &str, body: Value| json!({"name": name, "operation-type": "search", "index": "places", "body": body});
        let track = json!({
            "version": 2,
            "indices": [{"name": "places"}],
            "corpora": [{"name": "places", "documents": [
                {"source-file": "documents.json", "document-count": self.documents, "target-index": "places"}
            ]}],
            "operations": [
                {"name": "index", "operation-type": "bulk", "bulk-size": self.bulk_size},
                search("by-name", json!({"query": {"match": {"name": "17"}}})),
                search("all", json!({"query": {"match_all": {}}, "size": 0}))
            ],
            "schedule": [
                {"operation": "delete-index"},
                {"operation": "create-index"},
                {"operation": "index", "clients": CLIENTS},
                {"operation": "refresh"},
                {"parallel": {"tasks": [
                    {"operation": "by-name", "clients": CLIENTS, "iterations": self.throttled / CLIENTS, "target-throughput": 15},
                    {"operation": "all", "clients": CLIENTS, "iterations": self.unthrottled / CLIENTS}
                ]}}
            ]
        });
        write_track(&lab.drivers()[0].home, "places", &track)
    }

    /// Races with so many drivers, and compares what is told with what the server says.
    fn race(&self, lab: &RaceLab, server: &Server<'_>, drivers: usize) {
        let corpus = lab.drivers()[0].home.join(".rally/benchmarks/data/places/documents.json");
        write_corpus(&corpus, self.documents);
        for other in &lab.drivers()[1..drivers] {
            let beside = other.home.join(".rally/benchmarks/data/places/documents.json");
            fs::create_dir_all(beside.parent().unwrap()).unwrap();
            fs::copy(&corpus, &beside).unwrap();
        }
        let names: Vec<_> = lab.drivers()[..drivers].iter().map(|host| host.ip.to_string()).collect();
        let (hosts, on) = (server.target_hosts(), format!("--load-driver-hosts={}", names.join(",")));
        let race = format!("places-{drivers}");
        let said = lab.race_on(&race, &self.write_track(lab), &[&hosts, &on]).end();

        // Each client makes its own bulks, and the last one of each may be smaller.
        let share = |client: u64| (client + 1) * self.documents / CLIENTS - client * self.documents / CLIENTS;
        let bulks: u64 = (0..CLIENTS).map(|client| share(client).div_ceil(self.bulk_size)).sum();
        said.is_complete(1 + 1 + bulks + 1 + self.throttled + self.unthrottled);
        let results = lab.archive().load(&id(&race)).unwrap().results.unwrap();
        let of = |task: &str| results.op_metrics.iter().find(|it: &&OperationMetrics| it.task == task).unwrap();
        assert!(["index", "by-name", "all"].iter().all(|task| of(task).error_rate == 0.0));

        // Asked first, because a count is a search.
        let stats = server.get("/places/_stats").unwrap()["_all"]["primaries"].take();
        assert_eq!(stats["bulk"]["total_operations"], bulks);
        assert_eq!(stats["indexing"]["index_total"], self.documents);
        assert_eq!(stats["search"]["query_total"], self.throttled + self.unthrottled);
        assert_eq!(server.get("/places/_count").unwrap()["count"], self.documents);
    }
}

#[test]
fn documents_and_requests_of_the_report_are_those_of_the_server_whatever_the_number_of_drivers() {
    let test = "documents_and_requests_of_the_report_are_those_of_the_server_whatever_the_number_of_drivers";
    let Some(lab) = RaceLab::new(test) else { return };
    let Some(server) = Server::start(test, &lab, lab.coordinator()) else { return };
    let load = Load { documents: 5_000, bulk_size: 500, throttled: 30, unthrottled: 60 };
    for drivers in 1..=3 {
        note(&format!("with {drivers} drivers"));
        load.race(&lab, &server, drivers);
    }
}

#[test]
fn a_race_over_200_000_documents_loses_and_doubles_none() {
    let test = "a_race_over_200_000_documents_loses_and_doubles_none";
    let Some(lab) = RaceLab::new(test) else { return };
    let Some(server) = Server::start(test, &lab, lab.coordinator()) else { return };
    Load { documents: 200_000, bulk_size: 5_000, throttled: 3, unthrottled: 12 }.race(&lab, &server, 3);
}

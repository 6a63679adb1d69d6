//! Races against a server that is not of this project: what the report says is what the server says it got.

use rally_core::metrics::OperationMetrics;

use crate::lab::note;
use crate::places::{Load, PlacesLab, Searching};

#[test]
fn documents_and_requests_of_the_report_are_those_of_the_server_whatever_the_number_of_drivers() {
    let test = "documents_and_requests_of_the_report_are_those_of_the_server_whatever_the_number_of_drivers";
    let Some(lab) = PlacesLab::new(test) else { return };
    let load = Load {
        documents: 200_000,
        bulk_size: 5_000,
        indexing: None,
        searching: Searching::Requests { unthrottled: 9, throttled: 300 },
        naps: None,
    };
    for number in 1..=3 {
        note(&format!("with {number} drivers"));
        let (drivers, race) = (&lab.lab.drivers()[..number], format!("places-{number}"));
        // The server may be busy with a single one of its searches for a minute.
        let said = lab.race_on(&race, drivers, &load, &["--client-options=timeout:240"]).end();
        let document = lab.is_complete(&said, &race, drivers, &load);
        let results = document.results.unwrap();
        let no_errors = |it: &OperationMetrics| it.error_rate == 0.0;
        assert!(results.op_metrics.iter().all(no_errors), "{:?}", results.op_metrics);
    }
}

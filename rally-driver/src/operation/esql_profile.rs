//! Where the time of an ES|QL query went, as its profile says.

use indexmap::IndexMap;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

/// Phases of a query that have a time of their own.
const PHASES: [&str; 6] = ["query", "planning", "parsing", "preanalysis", "dependency_resolution", "analysis"];

/// Steps of a plan that have a time of their own.
const PLAN_STEPS: [&str; 3] = ["logical_optimization", "physical_optimization", "reduction"];

/// All drivers of one description.
#[derive(Debug, Default)]
struct Drivers {
    number: u64,
    /// In nanoseconds, as are the next three: the longest and the sum.
    took: (u64, u64),
    cpu: (u64, u64),
    operators: IndexMap<String, Operators>,
}

/// All operators of one name in such drivers.
#[derive(Debug, Default)]
struct Operators {
    /// In nanoseconds.
    process: u64,
    slices: u64,
}

/// The times in milliseconds: of phases, of drivers by their description, of operators, and of plans.
pub(super) fn profile(profile: &Value) -> JsonObject {
    let mut meta = JsonObject::new();
    for phase in PHASES {
        let nanos = count(&profile[phase], "took_nanos");
        if nanos > 0 {
            meta.insert(format!("{phase}.took_ms"), millis(nanos));
        }
    }
    for (description, drivers) in drivers(profile) {
        meta.insert(format!("{description}.number"), json!(drivers.number));
        for (name, (longest, total)) in [("took", drivers.took), ("cpu", drivers.cpu)] {
            meta.insert(format!("{description}.{name}_ms"), millis(longest));
            meta.insert(format!("{description}.{name}_total_ms"), millis(total));
        }
        for (name, operators) in drivers.operators {
            if operators.process > 0 {
                meta.insert(format!("{description}.{name}.process_ms"), millis(operators.process));
            }
            if operators.slices > 0 {
                meta.insert(format!("{description}.{name}.processed_slices"), json!(operators.slices));
            }
        }
    }
    for plan in list(profile, "plans") {
        for step in PLAN_STEPS {
            let nanos = count(plan, &format!("{step}_nanos"));
            if nanos > 0 {
                meta.insert(format!("{}.{step}.took_ms", text(plan, "description")), millis(nanos));
            }
        }
    }
    meta
}

fn drivers(profile: &Value) -> IndexMap<String, Drivers> {
    let mut all = IndexMap::<String, Drivers>::new();
    for driver in list(profile, "drivers") {
        let drivers = all.entry(text(driver, "description").to_owned()).or_default();
        drivers.number += 1;
        for (key, (longest, total)) in [("took_nanos", &mut drivers.took), ("cpu_nanos", &mut drivers.cpu)] {
            let nanos = count(driver, key);
            *longest = (*longest).max(nanos);
            *total = total.saturating_add(nanos);
        }
        for operator in list(driver, "operators") {
            let name = text(operator, "operator");
            let name = name.split_once('[').map_or(name, |(name, _)| name);
            let operators = drivers.operators.entry(name.to_owned()).or_default();
            let status = &operator["status"];
            for key in ["process_nanos", "receive_nanos", "emit_nanos"] {
                operators.process = operators.process.saturating_add(count(status, key));
            }
            operators.slices = operators.slices.saturating_add(count(status, "processed_slices"));
        }
    }
    all
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("unknown")
}

fn count(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn millis(nanos: u64) -> Value {
    json!(nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_added_up_by_driver_and_operator() {
        let driver = |took: u64, cpu: u64, process: u64| {
            json!({
                "description": "data", "took_nanos": took, "cpu_nanos": cpu,
                "operators": [
                    { "operator": "LuceneSourceOperator[a=1]", "status": { "process_nanos": process, "processed_slices": 2 } },
                    { "operator": "ExchangeSink", "status": { "receive_nanos": 1_000_000, "emit_nanos": 500_000 } },
                    { "operator": "Output" },
                ],
            })
        };
        let given = json!({
            "query": { "took_nanos": 4_000_000 }, "planning": { "took_nanos": 0 }, "analysis": { "took_nanos": 250_000 },
            "drivers": [driver(3_000_000, 1_000_000, 2_000_000), driver(1_000_000, 2_000_000, 500_000)],
            "plans": [{ "description": "final", "logical_optimization_nanos": 1_500_000, "reduction_nanos": 0 }],
        });
        let expected = json!({
            "query.took_ms": 4.0, "analysis.took_ms": 0.25,
            "data.number": 2, "data.took_ms": 3.0, "data.took_total_ms": 4.0, "data.cpu_ms": 2.0, "data.cpu_total_ms": 3.0,
            "data.LuceneSourceOperator.process_ms": 2.5, "data.LuceneSourceOperator.processed_slices": 4,
            "data.ExchangeSink.process_ms": 3.0, "final.logical_optimization.took_ms": 1.5,
        });
        assert_eq!(Value::Object(profile(&given)), expected);
        assert_eq!(profile(&Value::Null), JsonObject::new());
    }
}

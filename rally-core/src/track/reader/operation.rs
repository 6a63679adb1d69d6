//! What operations of some types must look like, so that a race does not begin only to find out later.

use std::collections::HashSet;

use serde_json::Value;

use super::Reader;
use crate::track::fault::Node;
use crate::track::model::OperationType;

/// How an assertion compares.
const CONDITIONS: [&str; 5] = [">", ">=", "<", "<=", "=="];

/// Properties that name another operation of the same composite one.
const REFERENCES: [&str; 3] = ["with-point-in-time-from", "retrieve-results-for", "delete-results-for"];

impl Reader<'_> {
    /// Checks an operation that gets its parameters from the track.
    pub(super) fn check_operation(&mut self, node: &Node<'_>, operation_type: &OperationType) {
        self.check_assertions(node, operation_type);
        if let (OperationType::Composite, Some(requests)) = (operation_type, node.get("requests")) {
            let mut names = HashSet::new();
            collect_names(requests.value(), &mut names);
            self.check_requests(&requests, &names);
        }
        for key in REFERENCES.iter().filter(|_| operation_type.is_built_in()) {
            if let Some(reference) = node.get(key).filter(|reference| !reference.value().is_null()) {
                self.faults.push(reference.fault("nothing is known by its name outside of a `composite` operation"));
            }
        }
    }

    fn check_assertions(&mut self, node: &Node<'_>, operation_type: &OperationType) {
        let Some(assertions) = node.get("assertions").filter(|assertions| !assertions.value().is_null()) else {
            return;
        };
        if !assertions.value().is_array() {
            self.faults.push(assertions.fault("must be an array of assertions"));
        }
        for assertion in assertions.elements() {
            let property = assertion.value().get("property").and_then(Value::as_str);
            let condition = assertion.value().get("condition").and_then(Value::as_str);
            let is_complete = property.is_some() && assertion.value().get("value").is_some();
            if !is_complete || !condition.is_some_and(|condition| CONDITIONS.contains(&condition)) {
                self.faults.push(assertion.fault(format!(
                    "must have a `property`, a `condition`, which is one of {}, and a `value`",
                    CONDITIONS.join(" ")
                )));
            }
        }
        let has_details = node.get("detailed-results").is_some_and(|detailed| *detailed.value() == true);
        let is_search = matches!(
            operation_type,
            OperationType::Search
                | OperationType::ScrollSearch
                | OperationType::PaginatedSearch
                | OperationType::CompositeAgg
        );
        if is_search && !has_details && node.get("pages").is_none() {
            self.faults.push(assertions.lack("assertions about a search need `\"detailed-results\": true`"));
        }
    }

    /// Checks a list of operations and streams within a composite operation whose operations have these names.
    fn check_requests(&mut self, list: &Node<'_>, names: &HashSet<&str>) {
        if !list.value().is_array() {
            self.faults.push(list.fault("must be an array of operations and streams"));
        }
        for element in list.elements() {
            if let Some(stream) = element.get("stream") {
                self.check_requests(&stream, names);
                continue;
            }
            let Some((name, text)) =
                element.get("operation-type").and_then(|name| Some((name, name.value().as_str()?)))
            else {
                self.faults.push(element.fault("must have an `operation-type` or a `stream`"));
                continue;
            };
            let operation_type = OperationType::from(text);
            if !operation_type.is_allowed_within_composite() {
                let allowed: Vec<_> = OperationType::WITHIN_COMPOSITE.iter().map(OperationType::as_str).collect();
                self.faults.push(
                    name.fault(format!("cannot be part of a composite operation; what can: {}", allowed.join(", "))),
                );
            }
            self.check_assertions(&element, &operation_type);
            if let (OperationType::Composite, Some(requests)) = (operation_type, element.get("requests")) {
                self.check_requests(&requests, names);
            }
            for reference in REFERENCES.iter().filter_map(|key| element.get(key)) {
                let elements = reference.value().as_array().map_or_else(Vec::new, |list| list.iter().collect());
                let unknown = |name: &&Value| name.as_str().is_some_and(|name| !names.contains(name));
                if [reference.value()].into_iter().chain(elements).any(|name| unknown(&name)) {
                    self.faults.push(reference.fault("no operation of the composite one has this name"));
                }
            }
        }
    }
}

/// Collects the names of all operations in a list of operations and streams.
fn collect_names<'a>(list: &'a Value, names: &mut HashSet<&'a str>) {
    for element in list.as_array().into_iter().flatten() {
        names.extend(element.get("name").and_then(Value::as_str));
        for inner in ["stream", "requests"].iter().filter_map(|key| element.get(key)) {
            collect_names(inner, names);
        }
    }
}

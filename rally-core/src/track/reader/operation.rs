//! What operations of some types must look like, so that a race does not begin only to find out later.

use serde_json::Value;

use super::Reader;
use crate::track::fault::Node;
use crate::track::model::OperationType;

/// How an assertion compares.
const CONDITIONS: [&str; 5] = [">", ">=", "<", "<=", "=="];

impl Reader<'_> {
    /// Checks an operation that gets its parameters from the track.
    pub(super) fn check_operation(&mut self, node: &Node<'_>, operation_type: &OperationType) {
        self.check_assertions(node, operation_type);
        if let (OperationType::Composite, Some(requests)) = (operation_type, node.get("requests")) {
            self.check_requests(&requests);
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

    /// Checks a list of operations and streams within a composite operation.
    fn check_requests(&mut self, list: &Node<'_>) {
        if !list.value().is_array() {
            self.faults.push(list.fault("must be an array of operations and streams"));
        }
        for element in list.elements() {
            if let Some(stream) = element.get("stream") {
                self.check_requests(&stream);
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
            self.check_operation(&element, &operation_type);
        }
    }
}

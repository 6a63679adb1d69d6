//! Telemetry devices that failed, by what they failed of.

use std::cell::RefCell;

use crate::RunnerError;

/// A cluster that is gone makes all devices fail, each with a word of its own; it is one cause.
#[derive(Debug, Default)]
pub(super) struct Failures(RefCell<Vec<Failure>>);

#[derive(Debug)]
struct Failure {
    cluster: String,
    kind: String,
    /// As the first device said it.
    cause: String,
    /// Those that nobody was told of.
    untold: Vec<&'static str>,
    was_told: bool,
}

impl Failures {
    /// Adds a device that failed. True if the cause is a new one.
    pub(super) fn add(&self, device: &'static str, cluster: &str, error: &RunnerError) -> bool {
        let kind = match error {
            // Descriptions differ in the moment at which the connection broke.
            RunnerError::Transport { class, .. } => format!("no answer: {class}"),
            other => other.to_string(),
        };
        let mut failures = self.0.borrow_mut();
        if let Some(known) = failures.iter_mut().find(|it| it.cluster == cluster && it.kind == kind) {
            known.untold.push(device);
            return false;
        }
        let (cluster, cause) = (cluster.to_owned(), error.to_string());
        failures.push(Failure { cluster, kind, cause, untold: vec![device], was_told: false });
        true
    }

    /// A sentence for each cause with devices that nobody was told of.
    pub(super) fn take_untold(&self) -> Vec<String> {
        let mut failures = self.0.borrow_mut();
        let told = failures.iter_mut().filter(|failure| !failure.untold.is_empty()).map(|failure| {
            let untold = std::mem::take(&mut failure.untold);
            let devices = if untold.len() == 1 { "device" } else { "devices" };
            let names = untold.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let too = if std::mem::replace(&mut failure.was_told, true) { ", too" } else { "" };
            format!("telemetry {devices} {names} at cluster `{}`{too}: {}", failure.cluster, failure.cause)
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorClass;

    #[test]
    fn devices_that_failed_of_the_same_are_told_together() {
        let lost = |description: &str| {
            let description = description.to_owned();
            RunnerError::Transport { class: ErrorClass::Connect, description }
        };
        let failures = Failures::default();
        assert!(failures.add("node-stats", "default", &lost("es:9200: Connection refused")));
        assert!(!failures.add("ml-stats", "default", &lost("lost the connection to es:9200: reset")));
        assert!(failures.add("ml-stats", "other", &lost("es:9201: Connection refused")));
        assert!(failures.add("transform-stats", "default", &RunnerError::Other("no transforms".to_owned())));
        assert_eq!(
            failures.take_untold(),
            [
                "telemetry devices `node-stats`, `ml-stats` at cluster `default`: es:9200: Connection refused",
                "telemetry device `ml-stats` at cluster `other`: es:9201: Connection refused",
                "telemetry device `transform-stats` at cluster `default`: no transforms",
            ]
        );
        assert_eq!(failures.take_untold(), [""; 0]);
        failures.add("shard-stats", "default", &lost("late"));
        assert_eq!(
            failures.take_untold(),
            ["telemetry device `shard-stats` at cluster `default`, too: es:9200: Connection refused"]
        );
    }
}

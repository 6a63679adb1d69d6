//! Leaves out what cannot run on Elasticsearch Serverless.

use super::model::{Operation, ScheduleElement, ServerlessStatus, Track};

/// Removes the tasks whose operation is not permitted. Parallel elements stay as they are.
pub(crate) fn filter(track: &mut Track, operator: bool) {
    for challenge in &mut track.challenges {
        let name = &challenge.name;
        let mut removed = Vec::new();
        challenge.schedule.retain(|element| match element {
            ScheduleElement::Parallel(_) => {
                challenge.serverless_info.push(format!("Treating parallel task in challenge [{name}] as public."));
                true
            }
            ScheduleElement::Task(task) if permitted(&task.operation, operator) => true,
            ScheduleElement::Task(task) => {
                removed.push(format!("[{}]", task.name));
                false
            }
        });
        if !removed.is_empty() {
            let tasks = removed.join(", ");
            challenge.serverless_info.push(format!("Excluding {tasks} as challenge [{name}] is run on serverless."));
        }
    }
}

fn permitted(operation: &Operation, operator: bool) -> bool {
    let needed = if operator { ServerlessStatus::Internal } else { ServerlessStatus::Public };
    operation.run_on_serverless().unwrap_or_else(|| operation.operation_type.serverless_status() >= needed)
}

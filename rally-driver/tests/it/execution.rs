//! One client that executes one operation, without a race around it.

use std::rc::Rc;
use std::sync::Arc;

use rally_core::RacePlan;
use rally_core::track::{Operation, ScheduleElement, Task};
use rally_driver::client::Clients;
use rally_driver::{
    Outcome, ParamSource, ParamSourceSetup, Partition, Registry, RequestTimer, Runner, RunnerError, RunnerSetup, Span,
};
use serde_json::Value;

use crate::fixture::{challenge, plan};

pub(crate) struct Execution {
    timer: Rc<RequestTimer>,
    source: Box<dyn ParamSource>,
    runner: Box<dyn Runner>,
}

/// A race of one operation, whose properties are those of an object, against a cluster at this address.
pub(crate) fn race(address: &str, operation_type: &str, properties: Value) -> RacePlan {
    let mut plan = plan(challenge().task(Task::builder(Operation::builder(operation_type))));
    // What they make no sense with is to be found by the operation itself.
    if let ScheduleElement::Task(task) = &mut plan.track.challenges[0].schedule[0] {
        let operation = Arc::make_mut(&mut task.operation);
        operation.params.extend(properties.as_object().unwrap().clone());
        if let Some(name) = properties["name"].as_str() {
            name.clone_into(&mut operation.name);
        }
    }
    plan.target_hosts.insert("default".to_owned(), vec![address.to_owned()]);
    plan
}

impl Execution {
    pub(crate) fn new(plan: RacePlan) -> Result<Self, RunnerError> {
        let registry = Arc::new(Registry::rally());
        let timer = Rc::new(RequestTimer::default());
        let task = Arc::new(plan.challenge().unwrap().tasks().next().unwrap().clone());
        let plan = Arc::new(plan);
        let partition = Partition { index: 0, total: 1 };
        let source = registry.param_source(&ParamSourceSetup::new(
            Arc::clone(&plan),
            Arc::clone(&task),
            partition,
            Arc::from(std::path::Path::new(".")),
            0,
        ))?;
        let runner = registry.runner(&RunnerSetup {
            clients: Rc::new(Clients::new(&plan, 0, &timer).unwrap()),
            plan,
            task,
            partition,
            timer: Rc::clone(&timer),
            registry: Arc::clone(&registry),
            composite: None,
        })?;
        Ok(Self { timer, source, runner })
    }

    /// Executes the operation once.
    pub(crate) async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let params = self.source.next()?.unwrap();
        self.runner.prepare(&params)?;
        self.runner.run().await
    }

    /// When the requests of the last execution were sent and answered.
    pub(crate) fn span(&self) -> Option<Span> {
        self.timer.take()
    }
}

/// Executes an operation once.
pub(crate) async fn execute(address: &str, operation_type: &str, properties: Value) -> Result<Outcome, RunnerError> {
    Execution::new(race(address, operation_type, properties))?.run().await
}

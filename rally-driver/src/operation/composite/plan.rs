//! From the `requests` of a composite operation to the runners that execute them.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rally_core::track::{JsonObject, OperationType, Task};
use serde_json::Value;

use super::CompositeContext;
use crate::parameters::Parameters;
use crate::{Params, RequestTimer, Runner, RunnerError, RunnerSetup};

/// One after the other.
#[derive(Debug)]
pub(super) enum Step {
    /// Several lists of steps at the same time; the step is done when all of them are.
    Streams(Vec<Vec<Self>>),
    /// One operation.
    Operation(Box<Inner>),
}

/// An operation inside a composite one, with a timer of its own.
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) operation_type: String,
    pub(super) timer: Rc<RequestTimer>,
    pub(super) runner: Box<dyn Runner>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Calls `visit` with every operation.
pub(super) fn each(steps: &[Step], visit: &mut impl FnMut(&Inner)) {
    for step in steps {
        match step {
            Step::Operation(inner) => visit(inner),
            Step::Streams(streams) => streams.iter().for_each(|stream| each(stream, visit)),
        }
    }
}

/// Makes steps, with a runner for each operation.
pub(super) struct Planner<'a> {
    setup: &'a RunnerSetup,
    context: &'a Rc<CompositeContext>,
    /// The task, but for its operation.
    task: Task,
}

impl<'a> Planner<'a> {
    pub(super) fn new(setup: &'a RunnerSetup, context: &'a Rc<CompositeContext>) -> Self {
        let mut task = Task::clone(&setup.task);
        let operation = Arc::make_mut(&mut task.operation);
        operation.params = JsonObject::new();
        operation.param_source = None;
        Self { setup, context, task }
    }

    /// The steps of a composite operation, whose parameters these are.
    pub(super) fn steps(&self, params: &JsonObject) -> Result<Vec<Step>, RunnerError> {
        let requests = self.given(params).wanted("requests")?;
        let mut steps = Vec::new();
        self.add(requests, "requests", &mut steps)?;
        Ok(steps)
    }

    fn given<'b>(&'b self, params: &'b JsonObject) -> Parameters<'b> {
        Parameters::new(&self.setup.task.operation.name, params)
    }

    /// Adds the steps of a list: neighbouring streams run together, and everything else on its own.
    fn add(&self, list: &Value, what: &str, steps: &mut Vec<Step>) -> Result<(), RunnerError> {
        let Value::Array(list) = list else {
            return Err(self.given(&JsonObject::new()).wrong(what, "a list", list));
        };
        let mut streams = Vec::new();
        for element in list {
            if let Some(stream) = element.get("stream") {
                let mut inner = Vec::new();
                self.add(stream, "stream", &mut inner)?;
                streams.push(inner);
                continue;
            }
            if !streams.is_empty() {
                steps.push(Step::Streams(std::mem::take(&mut streams)));
            }
            self.add_operation(element, steps)?;
        }
        if !streams.is_empty() {
            steps.push(Step::Streams(streams));
        }
        Ok(())
    }

    fn add_operation(&self, element: &Value, steps: &mut Vec<Step>) -> Result<(), RunnerError> {
        let name = &self.setup.task.operation.name;
        let given = element.as_object().and_then(|params| Some((params, params.get("operation-type")?.as_str()?)));
        let Some((params, name_of_type)) = given else {
            return Err(RunnerError::Assertion(format!(
                "operation `{name}`: each of its requests must have `stream` or `operation-type`, which {element} has not"
            )));
        };
        let operation_type = OperationType::from(name_of_type);
        if !operation_type.is_allowed_within_composite() {
            let allowed: Vec<_> = OperationType::WITHIN_COMPOSITE.iter().map(OperationType::as_str).collect();
            return Err(RunnerError::Assertion(format!(
                "operation `{name}`: `{operation_type}` cannot be part of a composite operation; what can: {}",
                allowed.join(", ")
            )));
        }
        if operation_type == OperationType::Composite {
            // It shares everything with this one, so its steps are steps of this one.
            let requests = self.given(params).wanted("requests")?;
            return self.add(requests, "requests", steps);
        }
        steps.push(Step::Operation(Box::new(self.inner(operation_type, params)?)));
        Ok(())
    }

    fn inner(&self, operation_type: OperationType, params: &JsonObject) -> Result<Inner, RunnerError> {
        let name = params.get("name").and_then(Value::as_str).unwrap_or(operation_type.as_str()).to_owned();
        let mut task = self.task.clone();
        let operation = Arc::make_mut(&mut task.operation);
        operation.name.clone_from(&name);
        operation.operation_type = operation_type.clone();
        operation.params = params.clone();
        let timer = Rc::new(RequestTimer::default());
        let mut runner = self.setup.registry.runner(&RunnerSetup {
            task: Arc::new(task),
            clients: Rc::new(self.setup.clients.timed_by(&timer)),
            timer: Rc::clone(&timer),
            composite: Some(Rc::clone(self.context)),
            ..self.setup.clone()
        })?;
        runner.prepare(&Params::from(params.clone()))?;
        Ok(Inner { name, operation_type: operation_type.to_string(), timer, runner })
    }
}

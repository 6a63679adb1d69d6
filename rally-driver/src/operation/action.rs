//! Operations that are made of their parameters in advance, and executed with them at hand.

use async_trait::async_trait;

use super::given::Given;
use super::retry::Retry;
use super::unprepared;
use crate::{Outcome, Params, Registry, Runner, RunnerError, RunnerSetup};

/// Registers an operation that is executed once, whatever becomes of it.
pub(super) fn once<A: Action + 'static>(registry: &mut Registry, name: &str, make: Make<A>) {
    registry.register_runner(name, move |setup| Acting::new(setup, make));
}

/// Registers an operation that is tried again as its parameters say.
pub(super) fn retried<A: Action + 'static>(registry: &mut Registry, name: &str, make: Make<A>) {
    registry.register_runner(name, move |setup| Ok(Retry::new(setup, Acting::new(setup, make)?)));
}

/// Makes an action of parameters, with all requests that are known by then.
pub(super) type Make<A> = fn(&Given<'_>) -> Result<A, RunnerError>;

/// What an operation does with the parameters that it was made with.
#[async_trait(?Send)]
pub(super) trait Action {
    /// Whether it ends its task by itself, through [`Action::progress`].
    const ENDS_ITS_TASK: bool = false;

    /// Executes it once. What it was made from is at hand, for requests that are only known by then.
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError>;

    /// How much is done, from 0 to 1.
    fn progress(&self) -> Option<f64> {
        None
    }
}

/// The runner of an [`Action`].
pub(super) struct Acting<A> {
    setup: RunnerSetup,
    make: Make<A>,
    prepared: Option<(Params, A)>,
}

impl<A: Action> Acting<A> {
    pub(super) fn new(setup: &RunnerSetup, make: Make<A>) -> Result<Self, RunnerError> {
        setup.clients.default_cluster()?;
        Ok(Self { setup: setup.clone(), make, prepared: None })
    }
}

#[async_trait(?Send)]
impl<A: Action> Runner for Acting<A> {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let action = (self.make)(&Given::new(&self.setup, params))?;
        self.prepared = Some((params.clone(), action));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (params, action) = self.prepared.as_mut().ok_or_else(unprepared)?;
        action.run(&Given::new(&self.setup, params)).await
    }

    fn progress(&self) -> Option<f64> {
        self.prepared.as_ref().and_then(|(_, action)| action.progress())
    }

    fn is_self_terminating(&self) -> bool {
        A::ENDS_ITS_TASK
    }
}

//! `composite`: operations that belong together, one after the other or in concurrent streams.

mod context;
mod plan;

use std::cell::RefCell;
use std::rc::Rc;

use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, TryStreamExt};
use tokio::sync::Semaphore;

pub use context::CompositeContext;
pub(super) use context::Opening;

use super::given::Given;
use super::unprepared;
use crate::{InnerTiming, Outcome, Params, RequestTimer, Runner, RunnerError, RunnerSetup};
use plan::{Inner, Planner, Step};

#[derive(Debug)]
pub(super) struct Composite {
    setup: RunnerSetup,
    context: Rc<CompositeContext>,
    steps: Option<Vec<Step>>,
    /// How many operations may run at the same time; any number if there is none.
    limit: Option<Semaphore>,
}

impl Composite {
    pub(super) fn new(setup: &RunnerSetup) -> Self {
        Self { setup: setup.clone(), context: Rc::default(), steps: None, limit: None }
    }
}

#[async_trait(?Send)]
impl Runner for Composite {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let limit = Given::new(&self.setup, params).positive("max-connections")?;
        self.limit =
            limit.map(|limit| Semaphore::new(usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)));
        self.steps = Some(Planner::new(&self.setup, &self.context).steps(params)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let steps = self.steps.as_mut().ok_or_else(unprepared)?;
        self.context.clear();
        let execution = Execution { limit: self.limit.as_ref(), outer: &self.setup.timer, timings: RefCell::default() };
        if let Err(error) = execution.run(steps).await {
            // Requests that were cut short count, too.
            plan::each(steps, &mut |inner| {
                if let Some(span) = inner.timer.take() {
                    self.setup.timer.add(span);
                }
            });
            return Err(error);
        }
        Ok(Outcome { inner: execution.timings.into_inner(), ..Outcome::default() })
    }
}

/// One execution of a composite operation.
struct Execution<'a> {
    limit: Option<&'a Semaphore>,
    outer: &'a RequestTimer,
    /// In the order in which operations were done.
    timings: RefCell<Vec<InnerTiming>>,
}

impl Execution<'_> {
    /// Runs steps one after the other. The first error drops whatever else is running.
    fn run<'a>(&'a self, steps: &'a mut [Step]) -> LocalBoxFuture<'a, Result<(), RunnerError>> {
        async move {
            for step in steps {
                match step {
                    Step::Operation(inner) => self.run_one(inner).await?,
                    Step::Streams(streams) => {
                        let mut running: FuturesUnordered<_> =
                            streams.iter_mut().map(|stream| self.run(stream)).collect();
                        while running.try_next().await?.is_some() {}
                    }
                }
            }
            Ok(())
        }
        .boxed_local()
    }

    async fn run_one(&self, inner: &mut Inner) -> Result<(), RunnerError> {
        let _permit = match self.limit {
            Some(limit) => Some(limit.acquire().await.expect("the semaphore is never closed")),
            None => None,
        };
        let result = inner.runner.run().await;
        let span = inner.timer.take();
        if let Some(span) = span {
            self.outer.add(span);
        }
        let outcome = result?;
        let span = span.ok_or_else(|| {
            RunnerError::Other(format!("the operation `{}` within a composite one sent no request", inner.name))
        })?;
        self.timings.borrow_mut().push(InnerTiming {
            operation: inner.name.clone(),
            operation_type: inner.operation_type.clone(),
            span,
            success: outcome.success,
            meta: outcome.meta,
        });
        Ok(())
    }
}

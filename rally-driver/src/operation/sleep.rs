//! `sleep`: no request, but a measured pause.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;

use super::{invalid, missing, request};
use crate::{Outcome, Params, RequestTimer, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct Sleep {
    setup: RunnerSetup,
    timer: Rc<RequestTimer>,
    duration: Duration,
}

impl Sleep {
    pub(super) fn new(setup: &RunnerSetup) -> Self {
        Self { setup: setup.clone(), timer: Rc::clone(&setup.timer), duration: Duration::ZERO }
    }
}

#[async_trait(?Send)]
impl Runner for Sleep {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = params.get("duration").ok_or_else(|| missing(&self.setup, "duration"))?;
        self.duration = request::seconds(given)
            .ok_or_else(|| invalid(&self.setup, format!("`duration` must be a number of seconds, not {given}")))?;
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.timer.sent();
        tokio::time::sleep(self.duration).await;
        self.timer.received();
        Ok(Outcome::default())
    }
}

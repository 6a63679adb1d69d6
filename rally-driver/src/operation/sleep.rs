//! `sleep`: no request, but a measured pause.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;

use super::given::Given;
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
        let given = Given::new(&self.setup, params);
        self.duration = given.seconds_if_any("duration")?.ok_or_else(|| given.missing("duration"))?;
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.timer.sent();
        tokio::time::sleep(self.duration).await;
        self.timer.received();
        Ok(Outcome::default())
    }
}

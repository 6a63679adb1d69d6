//! `open-point-in-time` and `close-point-in-time`: a state of an index that the searches of a composite operation share.

use async_trait::async_trait;
use serde_json::json;

use super::action::Action;
use super::composite::Opening;
use super::given::Given;
use crate::client::{Body, Request};
use crate::{Outcome, RunnerError};

/// Opens a point in time and keeps its id under the operation's name.
pub(super) fn open(given: &Given<'_>) -> Result<Opening, RunnerError> {
    given.context()?;
    let keep_alive = given.get("keep-alive").cloned().unwrap_or_else(|| json!("1m"));
    let call = given.call("POST", format!("/{}/_pit", given.name("index")?)).query("keep_alive", keep_alive);
    Opening::new(given, call, "the point in time", false)
}

/// Closes the point in time that another operation has opened.
pub(super) struct Closing {
    name: String,
    request: Request,
}

pub(super) fn close(given: &Given<'_>) -> Result<Closing, RunnerError> {
    given.context()?;
    let name = given.wanted_text("with-point-in-time-from")?.to_owned();
    Ok(Closing { name, request: given.call("DELETE", "/_pit").request()? })
}

#[async_trait(?Send)]
impl Action for Closing {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let context = given.context()?;
        self.request.body = Body::Json(json!({ "id": context.get(&self.name)? }).to_string().into());
        given.request(&self.request).await?;
        context.remove(&self.name);
        Ok(Outcome::default())
    }
}

//! What the operations inside a composite one share.

use std::cell::RefCell;

use async_trait::async_trait;
use indexmap::IndexMap;

use crate::client::PreparedRequest;
use crate::operation::action::Action;
use crate::operation::given::{Call, Given};
use crate::operation::json::find;
use crate::operation::senseless;
use crate::{Outcome, RunnerError};

/// Ids that operations inside a composite one pass on to each other under names of the track's choice, such as that of a
/// point in time. It is empty at the start of each execution of the outermost composite operation.
#[derive(Debug, Default)]
pub struct CompositeContext {
    /// None for what the cluster was done with at once, and did not keep.
    ids: RefCell<IndexMap<String, Option<String>>>,
}

impl CompositeContext {
    /// Keeps an id under a name, in place of the one before.
    pub fn put(&self, name: &str, id: &str) {
        let mut ids = self.ids.borrow_mut();
        match ids.get_mut(name) {
            Some(Some(known)) => id.clone_into(known),
            _ => drop(ids.insert(name.to_owned(), Some(id.to_owned()))),
        }
    }

    /// Keeps that there is nothing to ask for under a name any more.
    pub(crate) fn put_done(&self, name: &str) {
        self.ids.borrow_mut().insert(name.to_owned(), None);
    }

    /// The id of that name.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if there is none.
    pub fn get(&self, name: &str) -> Result<String, RunnerError> {
        self.find(name)?.ok_or_else(|| RunnerError::Other(format!("the cluster was done with `{name}` at once")))
    }

    /// The same; none for what the cluster was done with at once.
    pub(crate) fn find(&self, name: &str) -> Result<Option<String>, RunnerError> {
        let ids = self.ids.borrow();
        ids.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = ids.keys().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            RunnerError::Other(format!(
                "no operation of this composite one has opened or submitted `{name}` before; known is {known}"
            ))
        })
    }

    /// Forgets the id of that name.
    pub fn remove(&self, name: &str) {
        self.ids.borrow_mut().shift_remove(name);
    }

    pub(crate) fn clear(&self) {
        self.ids.borrow_mut().clear();
    }
}

/// Asks for something that the cluster keeps, and keeps its id under the name of the operation.
pub(in crate::operation) struct Opening {
    name: String,
    request: PreparedRequest,
    /// What it asks for.
    what: &'static str,
    /// The cluster may be done with it at once, so that there is no id.
    may_be_done: bool,
}

impl Opening {
    pub(in crate::operation) fn new(
        given: &Given<'_>,
        call: Call<'_>,
        what: &'static str,
        may_be_done: bool,
    ) -> Result<Self, RunnerError> {
        Ok(Self { name: given.wanted_text("name")?.to_owned(), request: call.prepare()?, what, may_be_done })
    }
}

#[async_trait(?Send)]
impl Action for Opening {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let Self { name, request, what, may_be_done } = self;
        let response = given.send(request).await?;
        let id: Option<String> = find(&response.body, "id").map_err(senseless(what))?;
        match id {
            Some(id) => given.context()?.put(name, &id),
            None if *may_be_done => given.context()?.put_done(name),
            None => return Err(RunnerError::response(format!("{what} `{name}` has no `id` in the answer"))),
        }
        Ok(Outcome::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_by_name_until_they_are_removed() {
        let context = CompositeContext::default();
        context.put("pit", "1");
        context.put("search", "2");
        context.put("pit", "3");
        assert_eq!(context.get("pit").unwrap(), "3");
        context.remove("pit");
        let error = context.get("pit").unwrap_err().to_string();
        assert!(error.contains("`pit`") && error.ends_with("known is `search`"), "{error}");
        context.put_done("search");
        assert_eq!(context.find("search").unwrap(), None);
        assert_eq!(context.get("search").unwrap_err().to_string(), "the cluster was done with `search` at once");
        context.clear();
        assert!(context.get("search").unwrap_err().to_string().ends_with("known is nothing"));
    }
}

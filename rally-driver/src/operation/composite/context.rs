//! What the operations inside a composite one share.

use std::cell::RefCell;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::client::Client;
use crate::operation::given::Given;
use crate::operation::in_composite;
use crate::{Params, RunnerError, RunnerSetup};

/// Ids that operations inside a composite one pass on to each other under names of the track's choice, such as that of a
/// point in time. It is empty at the start of each execution of the outermost composite operation.
#[derive(Debug, Default)]
pub struct CompositeContext {
    ids: RefCell<IndexMap<String, String>>,
}

impl CompositeContext {
    /// Keeps an id under a name, in place of the one before.
    pub fn put(&self, name: &str, id: &str) {
        let mut ids = self.ids.borrow_mut();
        match ids.get_mut(name) {
            Some(known) => id.clone_into(known),
            None => drop(ids.insert(name.to_owned(), id.to_owned())),
        }
    }

    /// The id of that name.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if there is none.
    pub fn get(&self, name: &str) -> Result<String, RunnerError> {
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

/// What operations need that refer to each other by name inside of a composite one.
#[derive(Debug)]
pub(in crate::operation) struct Linked {
    setup: RunnerSetup,
    pub(in crate::operation) client: Rc<Client>,
    pub(in crate::operation) context: Rc<CompositeContext>,
}

impl Linked {
    /// # Errors
    ///
    /// [`RunnerError::Assertion`] outside of a composite operation.
    pub(in crate::operation) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, context: Rc::clone(in_composite(setup)?) })
    }

    pub(in crate::operation) fn given<'a>(&'a self, params: &'a Params) -> Given<'a> {
        Given::new(&self.setup, params)
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
        context.clear();
        assert!(context.get("search").unwrap_err().to_string().ends_with("known is nothing"));
    }
}

//! The parameter sources that Rally has for its operation types.

mod admin;
mod bulk;
mod search;
mod wanted;

pub(crate) use wanted::wanted_documents;

use rally_core::track::JsonObject;

use crate::{ParamSource, Params, Registry, RunnerError};

/// Registers all of them.
pub(crate) fn register(registry: &mut Registry) {
    for name in wanted::READERS {
        registry.register_param_source(name, bulk::BulkSource::new);
    }
    for name in ["search", "scroll-search", "paginated-search", "composite-agg"] {
        registry.register_param_source(name, search::params);
    }
    admin::register(registry);
}

/// A source that gives the same parameters each time.
#[derive(Debug)]
struct Fixed(Params);

impl Fixed {
    fn new(values: JsonObject) -> Self {
        Self(values.into())
    }
}

impl ParamSource for Fixed {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        Ok(Some(self.0.clone()))
    }
}

//! The runners of Rally's operation types.

mod action;
mod admin;
mod assertion;
mod async_search;
mod bulk;
mod composite;
mod composite_agg;
mod esql;
mod esql_profile;
mod field_caps;
mod given;
mod json;
mod pages;
mod paginated;
mod point_in_time;
mod raw_request;
mod request;
mod retry;
mod run_until;
mod scroll;
mod search;
mod search_answer;
mod sleep;
mod sql;

use std::rc::Rc;

pub use composite::CompositeContext;

pub(crate) use assertion::Asserting;
pub(crate) use request::encode;

use crate::{Registry, RunnerError, RunnerSetup};
use action::{Acting, once};
use retry::Retry;

/// Registers all of them.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_runner("bulk", bulk::Bulk::new);
    registry.register_runner("sleep", |setup| Ok(sleep::Sleep::new(setup)));
    registry.register_runner("raw-request", raw_request::RawRequest::new);
    registry.register_runner("search", search::Search::new);
    registry.register_runner("scroll-search", scroll::Scroll::new);
    for name in ["paginated-search", "composite-agg"] {
        registry.register_runner(name, paginated::Paginated::new);
    }
    admin::register(registry);
    once(registry, "submit-async-search", async_search::submit);
    registry.register_runner("get-async-search", |setup| {
        Ok(Retry::until_success(setup, Acting::new(setup, async_search::get)?))
    });
    once(registry, "delete-async-search", async_search::delete);
    once(registry, "open-point-in-time", point_in_time::open);
    once(registry, "close-point-in-time", point_in_time::close);
    registry.register_runner("sql", sql::Sql::new);
    for name in ["esql", "esql-profile"] {
        registry.register_runner(name, esql::Esql::new);
    }
    registry.register_runner("field-caps", field_caps::FieldCaps::new);
    registry.register_runner("run-until", |setup| Ok(Retry::new(setup, run_until::RunUntil::new(setup)?)));
    registry.register_runner("composite", |setup| Ok(composite::Composite::new(setup)));
}

/// What operations inside a composite one share, for those that make no sense elsewhere.
fn in_composite(setup: &RunnerSetup) -> Result<&Rc<CompositeContext>, RunnerError> {
    setup.composite.as_ref().ok_or_else(|| {
        let operation = &setup.task.operation;
        RunnerError::Assertion(format!(
            "operation `{}`: what `{}` refers to by name is only known inside of a `composite` operation",
            operation.name, operation.operation_type
        ))
    })
}

fn unprepared() -> RunnerError {
    RunnerError::Other("the runner was not prepared".to_owned())
}

/// What is said of an answer that cannot be read.
fn senseless(what: &str) -> impl Fn(json::Malformed) -> RunnerError + use<'_> {
    move |error| RunnerError::response(format!("the answer to {what} makes no sense: {error}"))
}

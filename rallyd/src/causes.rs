//! An error and everything that caused it.

use std::error::Error;
use std::iter::successors;

/// The text of `error` and of each of its causes, outermost first.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

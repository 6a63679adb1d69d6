//! Searches of several pages: how many there are to be, and what they add up to.

use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::given::Given;
use super::search_answer::SearchAnswer;
use crate::{Outcome, RunnerError};

/// How many pages are wanted: a number, or `all`, which is none.
pub(super) fn page_limit(given: &Given<'_>) -> Result<Option<u64>, RunnerError> {
    match given.wanted("pages")? {
        Value::String(text) if text == "all" => Ok(None),
        pages => match given.positive("pages") {
            Ok(pages) => Ok(pages),
            Err(_) => Err(given.wrong("pages", "a whole number above 0 or `all`", pages)),
        },
    }
}

/// What the pages of one execution add up to.
#[derive(Debug, Default)]
pub(super) struct PageTotals {
    pub(super) pages: u64,
    /// Hits in total as the first page says, and how exact that is.
    first: Option<(u64, String)>,
    took: u64,
    timed_out: bool,
}

impl PageTotals {
    pub(super) fn add(&mut self, page: &SearchAnswer<'_>) {
        self.pages += 1;
        self.first.get_or_insert_with(|| (page.hits(), page.relation().to_owned()));
        self.took = self.took.saturating_add(page.took.unwrap_or(0));
        self.timed_out |= page.timed_out.unwrap_or(false);
    }

    /// Hits in total as the first page says.
    pub(super) fn hits(&self) -> u64 {
        self.first.as_ref().map_or(0, |(hits, _)| *hits)
    }

    pub(super) fn has_reached(&self, limit: Option<u64>) -> bool {
        limit.is_some_and(|limit| self.pages >= limit)
    }

    pub(super) fn outcome(self) -> Outcome {
        let (hits, relation) = self.first.unwrap_or_else(|| (0, "eq".to_owned()));
        let meta = JsonObject::from_iter([
            ("pages".to_owned(), json!(self.pages)),
            ("hits".to_owned(), json!(hits)),
            ("hits_relation".to_owned(), json!(relation)),
            ("timed_out".to_owned(), json!(self.timed_out)),
            ("took".to_owned(), json!(self.took)),
        ]);
        Outcome { weight: self.pages, unit: "pages".into(), meta, ..Outcome::default() }
    }
}

//! What a race says at its end.

mod summary;

pub use summary::{NumberAlignment, Shown, SummaryLine, csv, markdown, summary_lines, warnings};

//! What a race says at its end, and what two races say side by side.

mod arguments;
mod compare;
mod escape;
mod html;
mod junit;
mod races;
mod rows;
mod summary;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod times;
mod verdict;

pub use arguments::ReportArguments;
pub use compare::{
    CompareFormat, ComparedLine, ComparedRace, Noise, SIGNIFICANCE, compare, comparison, comparison_heading,
};
pub use html::{RacePage, comparison_html};
pub use junit::junit;
pub use races::{races_json, races_table};
pub use summary::{FINAL_SCORE, ReportFormat, Shown, SummaryOptions, summary, warnings};
pub use table::{Cell, NumberAlignment, csv, markdown};
pub use times::RaceTimes;
pub(crate) use verdict::NOBODY_WROTE_DOWN;
pub use verdict::{findings_text, incompleteness, thresholds_text};

use rally_core::track::JsonObject;
use serde_json::Value;

/// User tags as `key=value` pairs.
pub(crate) fn tags_text(tags: &JsonObject) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key}={text}"),
        other => format!("{key}={other}"),
    };
    tags.iter().map(pair).collect::<Vec<_>>().join(", ")
}

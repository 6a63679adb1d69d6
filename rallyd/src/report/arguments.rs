//! The command line of reports.

use std::path::PathBuf;

use clap::Args;

use super::{NumberAlignment, ReportFormat, Shown, SummaryOptions};
use crate::settings::ReportingSettings;

/// How the summary report looks, and where it goes beside standard output.
#[derive(Clone, Debug, Default, Args)]
pub struct ReportArguments {
    /// How the summary report is written.
    #[arg(long, value_enum, default_value_t)]
    pub report_format: ReportFormat,
    /// Where numbers of the report stand.
    #[arg(long, value_enum, default_value_t)]
    pub report_numbers_align: NumberAlignment,
    /// Which lines the report has.
    #[arg(long, value_enum, default_value_t)]
    pub show_in_report: Shown,
    /// File to which the report is appended, too.
    #[arg(long)]
    pub report_file: Option<PathBuf>,
    /// File that is written as JUnit XML: the race, its tasks and its thresholds as test cases.
    #[arg(long)]
    pub junit_file: Option<PathBuf>,
}

impl ReportArguments {
    /// How the summary looks with these settings.
    #[must_use]
    pub fn options(&self, settings: &ReportingSettings) -> SummaryOptions {
        SummaryOptions {
            shown: self.show_in_report,
            format: self.report_format,
            alignment: self.report_numbers_align,
            processing_time: settings.output_processing_time,
        }
    }
}

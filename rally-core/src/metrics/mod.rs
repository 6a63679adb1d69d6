//! What is measured: the times of a request, distributions that can be merged, intervals on their way to the coordinator, and
//! the documents and stores in which it is kept.

mod cluster;
mod distribution;
mod document;
mod interval;
mod moments;
mod proportion_test;
mod race;
mod rank_test;
mod record;
mod results;
mod series;
mod store;
mod threshold;
mod throughput;
mod times;

pub use cluster::{ClusterResults, FieldUsage, JobTimes, Spread, TelemetryTotals, TransformMean};
pub use distribution::Distribution;
pub use document::{ArchivedVerdict, DriverFindings, Findings, Pending, RaceDocument, RaceReport, TaskErrors};
pub use interval::{
    DriverHealth, ErrorCount, Interval, Ledger, ReportedThroughput, TaskInterval, TaskProgress, ThroughputBin,
};
pub use moments::Moments;
pub use proportion_test::proportion_test;
pub use race::{IntervalStanding, RaceMetrics, task_meta};
pub use rank_test::{RANK_TEST_MIN, rank_test};
pub use record::{RecordContext, TaskValue, result_documents};
pub use results::{OperationMetrics, Percentiles, Results, ThroughputSummary};
pub use series::{MAX_SECONDS, TaskSeries, series_of_records};
pub use store::{FoundRaces, MemoryStore, MetricsStore, RECORD_PAGE, RaceFilter, RecordPages, StoreError};
pub use threshold::{
    Aggregate, Threshold, ThresholdMetric, ThresholdOperator, ThresholdOutcome, ThresholdStanding,
    ThresholdSyntaxError, ThresholdTask, ThresholdUnit, TimeValue,
};
pub use throughput::{Throughput, ThroughputValue};
pub use times::{RequestTimes, SampleType, TimeKind};

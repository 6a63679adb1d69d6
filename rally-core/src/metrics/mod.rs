//! What is measured: the times of a request, distributions that can be merged, and intervals on their way to the
//! coordinator.

mod cluster;
mod distribution;
mod document;
mod interval;
mod proportion_test;
mod race;
mod rank_test;
mod record;
mod results;
mod threshold;
mod throughput;
mod times;

pub use cluster::{ClusterResults, FieldUsage, JobTimes, Spread, TelemetryTotals, TransformMean};
pub use distribution::Distribution;
pub use document::{ArchivedVerdict, DriverFindings, Findings, RaceDocument, RaceReport, TaskErrors};
pub use interval::{DriverHealth, ErrorCount, Interval, Ledger, TaskInterval, TaskProgress, ThroughputBin};
pub use proportion_test::proportion_test;
pub use race::{IntervalStanding, RaceMetrics};
pub use rank_test::{RANK_TEST_MIN, rank_test};
pub use record::{MemoryStore, MetricsStore, RecordContext, StoreError, TaskValue, result_documents};
pub use results::{OperationMetrics, Percentiles, Results, ThroughputSummary};
pub use threshold::{
    Aggregate, Threshold, ThresholdMetric, ThresholdOperator, ThresholdOutcome, ThresholdStanding,
    ThresholdSyntaxError, ThresholdTask, ThresholdUnit, TimeValue,
};
pub use throughput::{Throughput, ThroughputValue};
pub use times::{RequestTimes, SampleType, TimeKind};

//! Raw samples on disk: Parquet files, compressed with zstd, each named by the hash of its content.
//!
//! | column | type | meaning |
//! | --- | --- | --- |
//! | `task` | text | the task |
//! | `operation`, `operation_type` | text | its operation, or the operation inside a composite one |
//! | `inner` | boolean | whether it is an operation inside a composite one |
//! | `client` | 32 bits | the client of the race |
//! | `sample_type` | text | `warmup` or `normal` |
//! | `time` | timestamp | when the runner was called, in coordinator time |
//! | `relative_time` | 64 bits | the same in nanoseconds since the start of the step |
//! | `service_time` | 64 bits | nanoseconds |
//! | `processing_time`, `latency` | 64 bits | nanoseconds; none for inner operations |
//! | `dispatch_lag` | 64 bits | nanoseconds; none if the task is not throttled |
//! | `weight`, `unit` | 64 bits, text | work that was done |
//! | `success` | boolean | |
//! | `throughput` | double | units per second, if the runner knows better than the driver |
//! | `meta` | text | a JSON object of what the runner says of it, and of what went wrong |
//!
//! A race of many requests takes the memory of one of few. A worker encodes each sample at once, in some thirty bytes
//! (`batch.rs`), and hands over a batch of them before it is large; what waits for the disk is bounded by its bytes; the
//! thread that writes (`writer.rs`) decodes batches into one row group at a time (`row_group.rs`).

mod batch;
mod row_group;
mod writer;

pub(crate) use batch::{RawSample, SampleCollector, SampleSender};
pub(crate) use writer::{Announcement, SegmentWriter, WriteSegmentError, segment_path};

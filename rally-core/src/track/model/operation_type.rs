//! Operation types: those that Rally knows, and all others.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who may run an operation on Elasticsearch Serverless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerlessStatus {
    /// Nobody.
    Blocked,
    /// Operators.
    Internal,
    /// Everybody.
    Public,
}

macro_rules! operation_types {
    ($($variant:ident = $name:literal, $purpose:ident, $status:ident;)*) => {
        /// What kind of operation it is, which decides how it is run.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        #[non_exhaustive]
        pub enum OperationType {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// A type that a plugin brings, or `enrich-policy`, which Rally runs but does not count among its types.
            Other(String),
        }

        impl From<&str> for OperationType {
            fn from(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl OperationType {
            /// Every type that Rally counts among its own.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in track files.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// Whether this is administration rather than load, and thus left out of reports unless they ask for it.
            #[must_use]
            pub fn is_admin(&self) -> bool {
                match self {
                    $(Self::$variant => operation_types!(@admin $purpose),)*
                    Self::Other(_) => false,
                }
            }

            /// Who may run it on serverless. Whatever a plugin brings counts as public.
            #[must_use]
            pub fn serverless_status(&self) -> ServerlessStatus {
                match self {
                    $(Self::$variant => ServerlessStatus::$status,)*
                    Self::Other(_) => ServerlessStatus::Public,
                }
            }
        }
    };
    (@admin admin) => { true };
    (@admin load) => { false };
}

operation_types! {
    Bulk = "bulk", load, Public;
    Search = "search", load, Public;
    ScrollSearch = "scroll-search", load, Public;
    PaginatedSearch = "paginated-search", load, Public;
    CompositeAgg = "composite-agg", load, Public;
    RawRequest = "raw-request", load, Public;
    Composite = "composite", load, Public;
    Sql = "sql", load, Public;
    Esql = "esql", load, Public;
    EsqlProfile = "esql-profile", load, Public;
    FieldCaps = "field-caps", load, Public;
    SubmitAsyncSearch = "submit-async-search", load, Public;
    DeleteAsyncSearch = "delete-async-search", load, Public;
    GetAsyncSearch = "get-async-search", load, Public;
    OpenPointInTime = "open-point-in-time", load, Public;
    ClosePointInTime = "close-point-in-time", load, Public;
    RunUntil = "run-until", load, Public;
    IndexStats = "index-stats", load, Internal;
    NodeStats = "node-stats", load, Internal;
    WaitForRecovery = "wait-for-recovery", load, Internal;
    WaitForSnapshotCreate = "wait-for-snapshot-create", load, Internal;
    WaitForCurrentSnapshotsCreate = "wait-for-current-snapshots-create", load, Internal;
    Downsample = "downsample", load, Internal;
    ForceMerge = "force-merge", admin, Internal;
    ClusterHealth = "cluster-health", admin, Internal;
    PutPipeline = "put-pipeline", admin, Public;
    Refresh = "refresh", admin, Public;
    CreateIndex = "create-index", admin, Public;
    DeleteIndex = "delete-index", admin, Public;
    CreateDataStream = "create-data-stream", admin, Public;
    DeleteDataStream = "delete-data-stream", admin, Public;
    CreateIndexTemplate = "create-index-template", admin, Blocked;
    DeleteIndexTemplate = "delete-index-template", admin, Blocked;
    CreateComposableTemplate = "create-composable-template", admin, Public;
    DeleteComposableTemplate = "delete-composable-template", admin, Public;
    CreateComponentTemplate = "create-component-template", admin, Public;
    DeleteComponentTemplate = "delete-component-template", admin, Public;
    ShrinkIndex = "shrink-index", admin, Blocked;
    CreateMlDatafeed = "create-ml-datafeed", admin, Public;
    DeleteMlDatafeed = "delete-ml-datafeed", admin, Public;
    StartMlDatafeed = "start-ml-datafeed", admin, Public;
    StopMlDatafeed = "stop-ml-datafeed", admin, Public;
    CreateMlJob = "create-ml-job", admin, Public;
    DeleteMlJob = "delete-ml-job", admin, Public;
    OpenMlJob = "open-ml-job", admin, Public;
    CloseMlJob = "close-ml-job", admin, Public;
    Sleep = "sleep", admin, Public;
    CreateSnapshotRepository = "create-snapshot-repository", admin, Internal;
    DeleteSnapshotRepository = "delete-snapshot-repository", admin, Internal;
    CreateSnapshot = "create-snapshot", admin, Internal;
    RestoreSnapshot = "restore-snapshot", admin, Internal;
    PutSettings = "put-settings", admin, Internal;
    CreateTransform = "create-transform", admin, Public;
    StartTransform = "start-transform", admin, Public;
    WaitForTransform = "wait-for-transform", admin, Public;
    DeleteTransform = "delete-transform", admin, Public;
    TransformStats = "transform-stats", admin, Public;
    CreateIlmPolicy = "create-ilm-policy", admin, Blocked;
    DeleteIlmPolicy = "delete-ilm-policy", admin, Blocked;
}

impl OperationType {
    /// What may be part of a composite operation, beside what a plugin brings.
    pub const WITHIN_COMPOSITE: [Self; 12] = [
        Self::Composite,
        Self::OpenPointInTime,
        Self::ClosePointInTime,
        Self::Search,
        Self::PaginatedSearch,
        Self::CompositeAgg,
        Self::RawRequest,
        Self::Sleep,
        Self::SubmitAsyncSearch,
        Self::GetAsyncSearch,
        Self::DeleteAsyncSearch,
        Self::FieldCaps,
    ];

    /// Whether operations of this type may be part of a composite one.
    #[must_use]
    pub fn is_allowed_within_composite(&self) -> bool {
        !self.is_built_in() || Self::WITHIN_COMPOSITE.contains(self)
    }

    /// Whether Rally itself can run operations of this type.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        match self {
            Self::Other(name) => name == "enrich-policy",
            _ => true,
        }
    }
}

impl From<String> for OperationType {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<OperationType> for String {
    fn from(operation_type: OperationType) -> Self {
        match operation_type {
            OperationType::Other(name) => name,
            known => known.as_str().to_owned(),
        }
    }
}

impl fmt::Display for OperationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_type() {
        for operation_type in OperationType::ALL {
            assert_eq!(&OperationType::from(operation_type.as_str()), operation_type);
            assert!(operation_type.is_built_in());
        }
        assert!(!OperationType::from("knn-recall").is_built_in());
    }

    #[test]
    fn internal_types_are_for_operators_only() {
        assert!(OperationType::ForceMerge.serverless_status() < ServerlessStatus::Public);
        assert!(OperationType::ForceMerge.serverless_status() >= ServerlessStatus::Internal);
        assert!(OperationType::CreateIlmPolicy.serverless_status() < ServerlessStatus::Internal);
    }
}

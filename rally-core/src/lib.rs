//! The domain of Rally: what a race is made of, and the roles that take part in it.
//!
//! The crate defines identifiers ([`RaceId`], [`HostId`]), coordinator time ([`ClusterTime`]) and the three role traits
//! ([`LoadDriver`], [`Provisioner`], [`Coordinator`]). Whoever holds an `Arc<dyn LoadDriver>` cannot tell whether the
//! driver runs in this process or on another host; every role fails with the same [`RoleError`], which names host,
//! role, phase and cause.
//!
//! # What this crate leaves out
//!
//! There is no async runtime, no socket, no HTTP, no clock and no process here. Time and randomness are handed in.

pub mod allocation;
mod content;
mod host;
mod id;
pub mod metrics;
pub mod race;
mod role;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;
mod time;
pub mod track;

pub use allocation::{Allocation, ClientTask, Completion, TaskIndex};
pub use content::{ContentHash, ParseContentHashError};
pub use host::{Activity, HostFacts};
pub use id::{Epoch, HostId, InvalidRaceId, JoinPoint, ParseHostIdError, RaceId};
pub use race::{DataSource, OnError, RaceDescription, RacePlan, RacePlanError, ShippedFile, ShippedPart, ShippingHost};
pub use role::coordinator::{
    AwaitedDriver, Coordinator, LivePercentiles, RaceDriver, RaceEvent, RaceEventKind, RaceOutcome, RaceRequest,
    RaceStatus, RunningTask, StepStatus, TaskStatus,
};
pub use role::driver::{DriverAssignment, DriverEvent, DriverEventKind, LoadDriver, Step};
pub use role::error::{Role, RoleError, RoleErrorKind};
pub use role::provisioner::{LaunchedNode, NodePlan, PlannedNode, Provisioner, ProvisionerEvent, ProvisionerEventKind};
pub use role::{EventStream, Sequence, StopMode};
pub use time::ClusterTime;

//! The command line of a race.

use clap::{Args, ValueEnum};
use rally_core::race::OnDriverLoss;
use rally_core::{DataSource, OnError};

use crate::report::ReportArguments;
use crate::track::{TemplateArgs, TrackSelection};

/// Race against a cluster that runs already.
///
/// With a daemon on this machine the race runs in the coordinator's daemon, and this command only shows it; without one
/// it runs in this process.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    From this machine:\n    \
    rallyd race --track-path=./mytrack --target-hosts=10.0.0.9:9200\n  \
    From two others:\n    \
    rallyd race --track=http_logs --target-hosts=10.0.0.9 --load-driver-hosts=10.0.0.2,10.0.0.3\n  \
    What would run where:\n    \
    rallyd race --track-path=./mytrack --dry-run\n  \
    With a condition for the exit code:\n    \
    rallyd race --track=http_logs --fail-if 'search.service_time.p99 > 50ms'\n\n\
    Ctrl-C ends the race and keeps what was measured; a second one ends it at once.")]
pub struct RaceArguments {
    #[command(flatten, next_help_heading = "Track")]
    #[expect(missing_docs, reason = "a doc comment would become part of the help")]
    pub track: TrackSelection,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of the help")]
    pub template: TemplateArgs,
    /// Challenge to run [default: the track's own default].
    #[arg(long, help_heading = "Track")]
    pub challenge: Option<String>,
    /// Tasks to run: names, `type:` and an operation type, or `tag:` and a tag, with commas in between.
    #[arg(long, conflicts_with = "exclude_tasks", help_heading = "Track")]
    pub include_tasks: Option<String>,
    /// Tasks to leave out, written in the same way.
    #[arg(long, help_heading = "Track")]
    pub exclude_tasks: Option<String>,
    /// Only try the track out: few documents, few iterations.
    #[arg(long, help_heading = "Track")]
    pub test_mode: bool,
    /// What surrounds the race; `rallyd list pipelines` shows them all.
    #[arg(long, default_value = "benchmark-only", help_heading = "Cluster under test")]
    pub pipeline: String,
    /// The cluster under test: hosts with commas in between, or a JSON object with hosts by the cluster's name.
    #[arg(long, default_value = "localhost:9200", help_heading = "Cluster under test")]
    pub target_hosts: String,
    /// Options of the clients: `key:value` pairs with commas in between, or a JSON object by the cluster's name.
    #[arg(long, help_heading = "Cluster under test")]
    pub client_options: Option<String>,
    /// Hosts that apply the load, by address or name, with commas in between.
    #[arg(long, default_value = "localhost", help_heading = "Load")]
    pub load_driver_hosts: String,
    /// Where load drivers get corpora from that they do not have.
    #[arg(long, value_enum, default_value = "download", help_heading = "Load")]
    pub data: DataArgument,
    /// Begin without waiting until the cluster under test answers.
    #[arg(long, help_heading = "Cluster under test")]
    pub skip_rest_api_check: bool,
    /// What a failed request does to the race.
    #[arg(long, value_enum, default_value = "continue", help_heading = "Load")]
    pub on_error: OnErrorArgument,
    /// What the loss of a load driver does to the race.
    #[arg(long, value_enum, default_value = "fail", help_heading = "Load")]
    pub on_driver_loss: OnDriverLossArgument,
    /// Condition under which the race counts as failed, such as 'search.service_time.p99 > 50ms'; may be given again.
    ///
    /// It is TASK.METRIC OPERATOR LIMIT. The task is a name, in quotes if need be, or * for all. The metric is throughput.min,
    /// .mean, .median or .max; a percentile (.p99), .mean, .min or .max of latency, service_time or processing_time;
    /// error_rate; or duration. The operator is one of `>`, `>=`, `<` and `<=`, and the limit a number with us, ms, s, min, %
    /// or docs/s. A value that the race does not have fails it, too. Tracks have such conditions in `fail-if` of their own
    /// `meta` or of a challenge's. The exit code is 99.
    #[arg(long, value_name = "CONDITION", help_heading = "Measuring")]
    pub fail_if: Vec<String>,
    /// Telemetry devices, with commas in between.
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Measuring")]
    pub telemetry: String,
    /// Parameters of telemetry devices: `key:value` pairs with commas in between, or JSON.
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Measuring")]
    pub telemetry_params: String,
    /// Version of the cluster under test.
    #[arg(long, help_heading = "Cluster under test")]
    pub distribution_version: Option<String>,
    /// Evaluate the assertions of operations.
    #[arg(long, help_heading = "Load")]
    pub enable_assertions: bool,
    /// Run every task against all clusters at the same time.
    #[arg(long, help_heading = "Cluster under test")]
    pub multi_cluster: bool,
    /// The id of the race [default: a random one].
    #[arg(long, help_heading = "Race")]
    pub race_id: Option<String>,
    /// Show what would run where, and do not race.
    #[arg(long, help_heading = "Race")]
    pub dry_run: bool,
    /// How to print the results, or what --dry-run or --detach shows.
    #[arg(long, value_enum, default_value_t, help_heading = "Race")]
    pub format: PlanFormat,
    #[command(flatten, next_help_heading = "Report")]
    #[expect(missing_docs, reason = "a doc comment would become part of the help")]
    pub report: ReportArguments,
    /// What to note of the race: `key:value` pairs with commas in between, or JSON.
    #[arg(long, alias = "user-tag", default_value = "", hide_default_value = true, help_heading = "Race")]
    pub user_tags: String,
    /// When the race began, for its documents, as `YYYY-MM-DD HH:MM:SS` in UTC [default: now].
    #[arg(long, hide = true, value_parser = start_date)]
    pub effective_start_date: Option<jiff::Timestamp>,
    /// Return as soon as the race has begun; `rallyd attach` shows it again. It needs a daemon.
    #[arg(long, help_heading = "Race")]
    pub detach: bool,
}

fn start_date(text: &str) -> Result<jiff::Timestamp, String> {
    let date = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text);
    let utc = date.and_then(|date| jiff::tz::TimeZone::UTC.to_timestamp(date));
    utc.map_err(|_| "expected: YYYY-MM-DD HH:MM:SS".to_owned())
}

/// How `--dry-run` prints a plan, and a race its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people; may change.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

/// `--on-error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnErrorArgument {
    /// It is recorded, and the race goes on unless nothing answers at all.
    Continue,
    /// It ends the race.
    Abort,
    /// It is recorded, and the race goes on whatever it was.
    ContinueOnNetwork,
}

impl From<OnErrorArgument> for OnError {
    fn from(argument: OnErrorArgument) -> Self {
        match argument {
            OnErrorArgument::Continue => Self::Continue,
            OnErrorArgument::Abort => Self::Abort,
            OnErrorArgument::ContinueOnNetwork => Self::ContinueOnNetwork,
        }
    }
}

/// `--data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataArgument {
    /// Each downloads what is missing from where the track says.
    Download,
    /// Everything must be there.
    Local,
    /// Each fetches what its clients read from the drivers that have it, or from the coordinator.
    Ship,
}

impl From<DataArgument> for DataSource {
    fn from(argument: DataArgument) -> Self {
        match argument {
            DataArgument::Download => Self::Download,
            DataArgument::Local => Self::Local,
            DataArgument::Ship => Self::Ship,
        }
    }
}

/// `--on-driver-loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnDriverLossArgument {
    /// It fails, and what was measured is kept.
    Fail,
    /// It goes on with the others, and its result is marked.
    Continue,
}

impl From<OnDriverLossArgument> for OnDriverLoss {
    fn from(argument: OnDriverLossArgument) -> Self {
        match argument {
            OnDriverLossArgument::Fail => Self::Fail,
            OnDriverLossArgument::Continue => Self::Continue,
        }
    }
}

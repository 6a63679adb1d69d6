//! The command line as clap sees it.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rally_core::RaceId;
use rally_net::TokenId;

use super::races::{CompareArguments, DeleteCommand, HtmlReportArguments, ListCommand};
use crate::address::HostPort;
use crate::background;
use crate::duration::parse_duration;
use crate::race::RaceArguments;
use crate::report::ReportArguments;
use crate::track::TrackCommand;

/// Benchmarks Elasticsearch and everything that speaks its API.
///
/// `race` runs a track against a cluster, from this machine or from many: their daemons form a cluster of their own, in which one
/// is the coordinator and all others follow it. They may start in any order.
#[derive(Debug, Parser)]
#[command(
    name = "rallyd",
    version,
    infer_long_args = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
        rallyd demo                                                  a race in small\n  \
        rallyd list tracks                                           what can be raced\n  \
        rallyd race --track=http_logs --target-hosts=10.0.0.9        from this machine\n  \
        rallyd list races                                            what was measured\n  \
        rallyd report RACE-ID                                        as one HTML file\n  \
        rallyd compare --baseline=RACE-ID --contender=RACE-ID        what is beyond noise\n\n\
        Several machines:\n  \
        rallyd start --node-ip=10.0.0.1 --coordinator-ip=10.0.0.1    on the coordinator\n  \
        rallyd token                                                 prints a join string, there\n  \
        rallyd start --coordinator-ip=10.0.0.1 --token=…             on every other machine\n  \
        rallyd status                                                anywhere\n\n\
        Exit codes: 0 all well, 2 wrong usage, 3 no daemon runs, 64 failure,\n\
        99 a threshold says so, 130 interrupted.\n\
        Settings come from flags, then RALLY_* variables, then ~/.rally/rally.ini, then defaults."
)]
pub(crate) struct Arguments {
    /// Say nothing but errors and what was asked for.
    #[arg(long, short, global = true, display_order = 100)]
    pub(crate) quiet: bool,

    /// Has no effect but to take --quiet back.
    #[arg(long, global = true, hide = true, overrides_with = "quiet")]
    pub(crate) no_quiet: bool,

    /// Assume that there is no network: use what is on this machine.
    #[arg(long, global = true, display_order = 101)]
    pub(crate) offline: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArguments),
    Race(Box<RaceCommand>),
    Attach(AttachArguments),
    #[command(subcommand)]
    List(ListCommand),
    Report(HtmlReportArguments),
    Compare(CompareArguments),
    #[command(subcommand)]
    Delete(DeleteCommand),
    #[command(flatten)]
    Track(TrackCommand),
    Start(StartArguments),
    Stop(StopArguments),
    Restart(RestartArguments),
    Status(StatusArguments),
    Token(TokenArguments),
    /// Is the daemon in the background; `start` runs it.
    #[command(name = background::SUBCOMMAND, hide = true)]
    Daemon,
}

// A race, and the daemon to which it is given. A doc comment would take the place of the race's own.
#[derive(Clone, Debug, Args)]
pub(crate) struct RaceCommand {
    #[command(flatten)]
    pub(crate) race: RaceArguments,

    #[command(flatten, next_help_heading = "Daemon of this machine")]
    pub(crate) selection: Selection,
}

/// Show a race in small, with nothing to set up.
///
/// Three daemons on this machine race a track that comes along against a stand-in for Elasticsearch. Nothing needs to be installed, and nothing is left but the archive of the race. The stand-in is there to be looked at;
/// its figures say nothing about any search engine.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd demo                                                     takes less than half a minute\n  \
    rallyd demo --documents=5000 --seconds=1                        even less\n\n\
    Ctrl-C ends the race and keeps what was measured; a second one ends it at once.")]
pub(crate) struct DemoArguments {
    /// Documents to index.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) documents: u64,

    /// How many seconds the searches take, after one of warm-up; with less than ten, nothing can be told from noise.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,

    /// How to show the report at the end.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Show a race that runs, or the report of one that has ended.
///
/// A race that runs is shown from its beginning to its end. It is asked for at the coordinator, through the daemon of this machine. One that has ended is found as long
/// as it is in the archive of the coordinator, or of this machine; for that no daemon needs to run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd attach                                                   the race that runs now\n  \
    rallyd attach nightly-7                                         this one\n  \
    rallyd attach nightly-7 --format=json                           for programs\n\n\
    Ctrl-C ends a race that runs and keeps what was measured; a second one ends it at once.\n\
    Closing the terminal leaves it alone.")]
pub(crate) struct AttachArguments {
    /// The id of the race [default: the one that runs now].
    pub(crate) race_id: Option<RaceId>,

    /// How to print the results.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) report: ReportArguments,

    #[command(flatten)]
    pub(crate) selection: Selection,
}

// Where the daemon is and whom it follows. A doc comment would take the place of the command's own.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterArguments {
    /// This machine's address [default: the one from which packets to the coordinator leave].
    ///
    /// An IP address or a host name at which the other machines can reach this one. Also RALLY_NODE_IP, or `node.ip`
    /// in section [cluster] of rally.ini.
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<String>,

    /// The coordinator's address; if it is this machine's own, this is the coordinator.
    ///
    /// An IP address or a host name, with a port if that is not --port: `10.0.0.1:1901`, `[::1]:1901`. Also
    /// RALLY_COORDINATOR_IP, or `coordinator.ip` in section [cluster] of rally.ini.
    #[arg(long, value_name = "IP")]
    pub(crate) coordinator_ip: Option<String>,

    /// The UDP port of this machine [default: 1900].
    ///
    /// Also RALLY_PORT, or `port` in section [cluster] of rally.ini.
    #[arg(long)]
    pub(crate) port: Option<String>,

    /// The join string that `rallyd token` prints on the coordinator; needed once, and not on the same machine.
    ///
    /// Others may see it in the list of processes while the command runs; RALLY_TOKEN, or `join.token` in section
    /// [cluster] of rally.ini, keeps it to yourself.
    #[arg(long, value_name = "JOIN STRING")]
    pub(crate) token: Option<String>,

    /// Stay in the foreground, log to standard error and stop on SIGTERM or SIGINT.
    ///
    /// For service managers (systemd is told when the daemon is ready) and containers. Also if
    /// RALLY_RUNNING_IN_DOCKER is TRUE.
    #[arg(long)]
    pub(crate) foreground: bool,

    /// How long to wait for the coordinator's answer, such as `30s` or `2m`; without one the daemon stays up and keeps
    /// trying.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) wait: Duration,

    /// How to show what was done.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Start the daemon in the background.
///
/// Returns when the daemon is up and has joined its cluster. If the coordinator does not answer in time, the daemon
/// stays up and keeps trying, since the order of starts never matters. If the coordinator refuses it, the daemon ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd start --node-ip=10.0.0.1 --coordinator-ip=10.0.0.1       the coordinator\n  \
    rallyd start --node-ip=10.0.0.2 --coordinator-ip=10.0.0.1 --token=…\n                                                                  \
    a member\n  \
    rallyd start --coordinator-ip=127.0.0.1                         a cluster of one\n  \
    rallyd start --coordinator-ip=127.0.0.1:1900 --port=1901        a second daemon beside it\n  \
    rallyd start --coordinator-ip=10.0.0.1 --foreground             under systemd or in a container")]
pub(crate) struct StartArguments {
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

/// Stop the daemon if it runs, and start it again.
///
/// What is not given is as it was when the daemon was last started.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd restart                                                  as it was started\n  \
    rallyd restart --coordinator-ip=10.0.0.9                        following another coordinator")]
pub(crate) struct RestartArguments {
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

// Which of several daemons on this machine is meant. A doc comment would take the place of the command's own.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Selection {
    /// Only the daemon at this address of this machine.
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<HostPort>,

    /// Only the daemon on this UDP port.
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// Stop the daemon.
///
/// It tells the other hosts, ends what it runs for them and closes its port. If that takes too long, its process is
/// terminated, and at last killed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd stop                                                     the only daemon of this machine\n  \
    rallyd stop --port=1901                                         one of several\n  \
    rallyd stop --all                                               all of them\n\n\
    The exit code is 3 if no daemon runs.")]
pub(crate) struct StopArguments {
    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Stop every daemon of this user on this machine.
    #[arg(long, conflicts_with_all = ["node_ip", "port"])]
    pub(crate) all: bool,

    /// How long the daemon may take before its process is terminated, such as `30s` or `2m`.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) within: Duration,

    /// How to show what was done.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Show the daemon and its cluster.
///
/// The daemon itself answers: its role, the coordinator it follows, and every host of the cluster.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd status                                                   every daemon of this machine\n  \
    rallyd status --format=json | jq '.hosts[0].cluster[].state'    for programs\n\n\
    The exit code is 3 if no daemon runs.")]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) selection: Selection,

    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

/// Print a join string with which other machines can join the cluster.
///
/// On the coordinator only. The join string is all there is on standard output.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        rallyd token                                                    good for 24 hours\n  \
        rallyd token --lifetime=1h --note='rack 7'                      good for one\n  \
        rallyd token list                                               which are there\n  \
        rallyd token revoke 3f2a90c1                                    makes one worthless"
)]
pub(crate) struct TokenArguments {
    #[command(subcommand)]
    pub(crate) command: Option<TokenCommand>,

    #[command(flatten)]
    pub(crate) create: CreateTokenArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a new join string, like `rallyd token` alone.
    Create(CreateTokenArguments),
    /// List the tokens that can be used to join.
    List {
        #[command(flatten)]
        selection: Selection,

        /// How to show them.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a token worthless; hosts that have joined with it stay.
    Revoke {
        /// The token's id as `rallyd token list` shows it.
        id: TokenId,

        #[command(flatten)]
        selection: Selection,

        /// How to show what was done.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreateTokenArguments {
    /// How long the join string is good for, such as `30m`, `24h` or `7d`.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) lifetime: Duration,

    /// What it is for, as `rallyd token list` shows it.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) note: String,

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let words = std::iter::once("rallyd").chain(line.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn unambiguous_prefixes_of_options_are_accepted() {
        let Ok(Command::Start(start)) = parse("start --node 10.0.0.2 --coord=10.0.0.1 --p 1901 --fore --w 1m") else {
            panic!("not a start")
        };
        let cluster = start.cluster;
        assert_eq!(cluster.node_ip.as_deref(), Some("10.0.0.2"));
        assert_eq!(cluster.coordinator_ip.as_deref(), Some("10.0.0.1"));
        assert_eq!((cluster.port.as_deref(), cluster.foreground), (Some("1901"), true));
        assert_eq!(cluster.wait, Duration::from_secs(60));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for (line, kind) in [
            ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("--version", ErrorKind::DisplayVersion),
            ("begin", ErrorKind::InvalidSubcommand),
            ("start --wait soon", ErrorKind::ValueValidation),
            ("start --colour", ErrorKind::UnknownArgument),
            ("stop --all --port 1900", ErrorKind::ArgumentConflict),
            ("stop --port 70000", ErrorKind::ValueValidation),
            ("status --node-ip a:b", ErrorKind::ValueValidation),
            ("status --format yaml", ErrorKind::InvalidValue),
            ("token revoke", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(parse(line).expect_err(line), kind, "{line}");
        }
    }

    #[test]
    fn a_token_is_created_with_and_without_saying_so() {
        for line in ["token --lifetime 1h", "token create --lifetime 1h"] {
            let Ok(Command::Token(TokenArguments { command, create })) = parse(line) else { panic!("not a token") };
            let create = match command {
                Some(TokenCommand::Create(create)) => create,
                Some(other) => panic!("{other:?}"),
                None => create,
            };
            assert_eq!(create.lifetime, Duration::from_secs(3600), "{line}");
        }
    }

    #[test]
    fn the_help_teaches() {
        let mut command = Arguments::command().term_width(100);
        command.build();
        let mut help = command.render_help().to_string();
        for name in ["start", "stop", "restart", "status", "token", "race", "attach", "compare"] {
            let command = command.find_subcommand_mut(name).expect(name);
            help = format!("{help}\n──── {name}\n{}", command.render_help());
        }
        insta::assert_snapshot!(help);
    }

    /// Every command below `above` with what it is about; hidden ones are left out.
    fn abouts(above: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        for command in above.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = format!("{path} {}", command.get_name());
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            abouts(command, &path, found);
            found.push((path, about));
        }
    }

    #[test]
    fn every_command_says_what_it_is_about_and_no_two_say_the_same() {
        let mut found = Vec::new();
        abouts(&Arguments::command(), "rallyd", &mut found);
        assert!(found.iter().all(|(_, about)| about.len() > 10), "{found:?}");
        for (path, about) in &found {
            let same: Vec<_> = found.iter().filter(|(_, other)| other == about).map(|(path, _)| path).collect();
            assert_eq!(same, [path], "{about}");
        }
        let of = |path: &str| found.iter().find(|(it, _)| it == path).map(|(_, about)| about.as_str());
        assert_eq!(of("rallyd race"), Some("Race against a cluster that runs already"));
        assert_eq!(of("rallyd start"), Some("Start the daemon in the background"));
        assert_eq!(of("rallyd attach").map(|about| &about[..22]), Some("Show a race that runs,"));
    }
}

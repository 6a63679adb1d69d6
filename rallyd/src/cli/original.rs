//! What the command line of the original has and this one does not: flags and commands that scripts may still use.
//!
//! Flags without a meaning here are left out, with a note; everything else is refused with what to do instead.

use std::ffi::{OsStr, OsString};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::arguments::Arguments;

/// What becomes of a flag.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is left out; why that does no harm.
    LeftOut(&'static str),
    /// It is about launching a cluster: left out if the user says that there is one already, otherwise refused.
    Launches,
    /// It is refused; what to do instead.
    Refused(&'static str),
}

/// A flag of the original.
#[derive(Debug)]
struct Flag {
    /// Whose it is; of every command if this is empty.
    commands: &'static [&'static str],
    name: &'static str,
    has_value: bool,
    fate: Fate,
}

const fn flag(commands: &'static [&'static str], name: &'static str, has_value: bool, fate: Fate) -> Flag {
    Flag { commands, name, has_value, fate }
}

const RACE: &[&str] = &["race"];
const LIST: &[&str] = &["list"];
const NODE: &[&str] = &["start", "stop"];

const NOT_OF_LIST: Fate = Fate::LeftOut("it says nothing about what is listed");
const NODES: Fate = Fate::Refused(
    "nodes of a cluster under test are not launched yet; `rallyd start` and `rallyd stop` are about this machine's daemon, \
     and `rallyd race --pipeline=benchmark-only` races against a cluster that runs already",
);

const FLAGS: &[Flag] = &[
    flag(
        &[],
        "--configuration-name",
        true,
        Fate::Refused("RALLY_HOME=DIRECTORY is the way to another rally.ini, with archive and tracks of its own"),
    ),
    flag(RACE, "--revision", true, Fate::Launches),
    flag(RACE, "--car", true, Fate::Launches),
    flag(RACE, "--car-params", true, Fate::Launches),
    flag(RACE, "--runtime-jdk", true, Fate::Launches),
    flag(RACE, "--elasticsearch-plugins", true, Fate::Launches),
    flag(RACE, "--plugin-params", true, Fate::Launches),
    flag(RACE, "--distribution-repository", true, Fate::Launches),
    flag(RACE, "--team-path", true, Fate::Launches),
    flag(RACE, "--team-repository", true, Fate::Launches),
    flag(RACE, "--team-revision", true, Fate::Launches),
    flag(RACE, "--cluster-name", true, Fate::Launches),
    flag(RACE, "--source-build-method", true, Fate::Launches),
    flag(RACE, "--preserve-install", false, Fate::LeftOut("nothing is installed that could be kept")),
    flag(
        RACE,
        "--kill-running-processes",
        false,
        Fate::LeftOut("a second race at the same time is refused, and told which one runs and how to end it"),
    ),
    flag(
        RACE,
        "--enable-driver-profiling",
        false,
        Fate::LeftOut("the report says how busy load drivers were, and any profiler can look at rallyd"),
    ),
    flag(LIST, "--limit", true, NOT_OF_LIST),
    flag(LIST, "--track", true, NOT_OF_LIST),
    flag(LIST, "--challenge", true, NOT_OF_LIST),
    flag(LIST, "--benchmark-name", true, NOT_OF_LIST),
    flag(LIST, "--from-date", true, NOT_OF_LIST),
    flag(LIST, "--to-date", true, NOT_OF_LIST),
    flag(LIST, "--user-tags", true, NOT_OF_LIST),
    flag(LIST, "--user-tag", true, NOT_OF_LIST),
    flag(LIST, "--distribution-version", true, NOT_OF_LIST),
    flag(LIST, "--track-path", true, NOT_OF_LIST),
    flag(LIST, "--track-repository", true, NOT_OF_LIST),
    flag(LIST, "--track-revision", true, NOT_OF_LIST),
    flag(LIST, "--team-path", true, NOT_OF_LIST),
    flag(LIST, "--team-repository", true, NOT_OF_LIST),
    flag(LIST, "--team-revision", true, NOT_OF_LIST),
    flag(NODE, "--installation-id", true, NODES),
    flag(NODE, "--race-id", true, NODES),
    flag(NODE, "--runtime-jdk", true, NODES),
    flag(NODE, "--telemetry", true, NODES),
    flag(NODE, "--telemetry-params", true, NODES),
    flag(NODE, "--preserve-install", false, NODES),
    flag(NODE, "--skip-telemetry", false, NODES),
];

const LAUNCHING: &str = "clusters are not launched yet; install and start one by other means, and race against it with \
                         --pipeline=benchmark-only and --target-hosts";
const ANNOTATIONS: &str = "there are no annotations; `--user-tags` of `rallyd race` notes something of a race, and whatever \
                           shows the Elasticsearch metrics store can annotate its charts";
const SETTINGS: &str = "there is nothing to configure at first; docs/cluster.md has what rally.ini may say";

/// Commands of the original, below another one if they are, and what to do instead.
const COMMANDS: &[(Option<&str>, &str, &str)] = &[
    (None, "add", ANNOTATIONS),
    (Some("delete"), "annotation", ANNOTATIONS),
    (Some("list"), "annotations", ANNOTATIONS),
    (Some("list"), "cars", LAUNCHING),
    (Some("list"), "elasticsearch-plugins", LAUNCHING),
    (None, "build", LAUNCHING),
    (None, "download", LAUNCHING),
    (None, "install", LAUNCHING),
    (None, "create-track", "tracks are not made from clusters yet; docs/tracks.md says what a track is made of"),
    (
        None,
        "generate",
        "neither the original nor this version makes charts of races like that; `rallyd report` makes pages",
    ),
    (None, "configure", SETTINGS),
];

/// Why a command line is not carried out.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It makes no sense, or asks for help.
    Clap(clap::Error),
    /// The original has it, and this program does not: a sentence.
    Refused(String),
}

/// Reads the command line, with notes about what was left out of it.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Arguments, Vec<String>), Unusable> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut notes = Vec::new();
    loop {
        let error = match Arguments::try_parse_from(&words) {
            Ok(arguments) => return Ok((arguments, notes)),
            Err(error) => error,
        };
        let named = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let given = words.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-'));
        let command = given.clone().next().unwrap_or_default();
        let unusable = match (error.kind(), named(ContextKind::InvalidArg), named(ContextKind::InvalidSubcommand)) {
            (ErrorKind::UnknownArgument, Some(name), _) => {
                let flag = FLAGS
                    .iter()
                    .find(|flag| flag.name == name && (flag.commands.is_empty() || flag.commands.contains(&command)));
                match flag.map(|flag| (flag, reason(flag, &words))) {
                    Some((flag, Ok(reason))) => {
                        if remove(flag, &mut words) {
                            notes.push(format!("{name} has no effect: {reason}"));
                            continue;
                        }
                        Unusable::Clap(error)
                    }
                    Some((_, Err(instead))) => Unusable::Refused(format!("{name} is not there: {instead}")),
                    None => Unusable::Clap(error),
                }
            }
            (ErrorKind::InvalidSubcommand, _, Some(name)) => {
                let known = COMMANDS
                    .iter()
                    .find(|(above, known, _)| *known == name && above.is_none_or(|above| above == command));
                match known {
                    Some((_, _, instead)) => Unusable::Refused(format!("`{name}` is not there: {instead}")),
                    None => Unusable::Clap(error),
                }
            }
            _ => Unusable::Clap(error),
        };
        return Err(unusable);
    }
}

/// Why a flag may be left out; as an error, what to do instead.
fn reason(flag: &Flag, words: &[OsString]) -> Result<&'static str, &'static str> {
    match flag.fate {
        Fate::LeftOut(reason) => Ok(reason),
        Fate::Launches if is_benchmark_only(words) => Ok("the cluster under test runs already"),
        Fate::Launches => Err(LAUNCHING),
        Fate::Refused(instead) => Err(instead),
    }
}

fn is_benchmark_only(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--pipeline=benchmark-only")
        || words.windows(2).any(|pair| pair[0] == "--pipeline" && pair[1] == "benchmark-only")
}

/// Takes a flag out of the command line, with its value; false if it is not there as a word of its own.
fn remove(flag: &Flag, words: &mut Vec<OsString>) -> bool {
    let with_value = format!("{}=", flag.name);
    let is_flag = |word: &OsString| {
        word.as_os_str() == OsStr::new(flag.name) || word.to_str().is_some_and(|word| word.starts_with(&with_value))
    };
    let Some(place) = words.iter().position(is_flag) else { return false };
    let word = words.remove(place);
    if flag.has_value && word.as_os_str() == OsStr::new(flag.name) && place < words.len() {
        words.remove(place);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line of the original comes to.
    #[derive(Debug, PartialEq)]
    enum Answer {
        Accepted,
        Noted,
        Refused,
        NotUnderstood,
    }

    fn answer(line: &str) -> Answer {
        match parse(std::iter::once("rallyd").chain(line.split_whitespace()).map(OsString::from)) {
            Ok((_, notes)) if notes.is_empty() => Answer::Accepted,
            Ok(_) => Answer::Noted,
            Err(Unusable::Refused(_)) => Answer::Refused,
            Err(Unusable::Clap(error)) => {
                println!("{line}: {error}");
                Answer::NotUnderstood
            }
        }
    }

    /// Every line with each of the flags.
    fn check(expected: Answer, command: &str, flags: &[&str]) {
        for flag in flags {
            assert_eq!(answer(&format!("{command} {flag}")), expected, "{command} {flag}");
        }
    }

    #[test]
    fn every_flag_of_the_original_is_accepted_or_answered_in_a_sentence() {
        use Answer::{Accepted, Noted, Refused};
        let of_tracks = ["--track-repository=mine", "--track-revision=abc", "--quiet", "--no-quiet", "--offline"];
        for command in ["race", "info", "render-track", "validate-track"] {
            check(Accepted, &format!("{command} --track=t"), &of_tracks);
            check(Accepted, command, &["--track-path=p"]);
            let parameters = ["--track-params=a:1", "--ignore-unused-track-params"];
            check(Accepted, &format!("{command} --track=t"), &parameters);
        }
        check(
            Accepted,
            "race --track=t",
            &[
                "--race-id=r",
                "--pipeline=benchmark-only",
                "--challenge=c",
                "--target-hosts=h",
                "--load-driver-hosts=l",
                "--client-options=timeout:60",
                "--on-error=abort",
                "--telemetry=gc",
                "--telemetry-params=a:1",
                "--distribution-version=8.0.0",
                "--include-tasks=a",
                "--exclude-tasks=a",
                "--user-tags=a:1",
                "--user-tag=a:1",
                "--report-format=csv",
                "--report-numbers-align=left",
                "--show-in-report=all-percentiles",
                "--report-file=f",
                "--test-mode",
                "--enable-assertions",
                "--multi-cluster",
                "--skip-rest-api-check",
            ],
        );
        let left_out = ["--preserve-install", "--kill-running-processes", "--enable-driver-profiling"];
        check(Noted, "race --track=t", &left_out);
        let launching = [
            "--revision=current",
            "--car=4gheap",
            "--car-params=a:1",
            "--runtime-jdk=21",
            "--elasticsearch-plugins=p",
            "--plugin-params=a:1",
            "--distribution-repository=release",
            "--team-path=p",
            "--team-repository=r",
            "--team-revision=r",
            "--cluster-name=c",
            "--source-build-method=docker",
            "--car 4gheap",
        ];
        check(Refused, "race --track=t", &launching);
        check(Noted, "race --track=t --pipeline=benchmark-only", &launching);
        check(Noted, "race --track=t --pipeline benchmark-only", &launching);
        for command in ["race --track=t", "list races", "list tracks", "compare --baseline=a --contender=b"] {
            check(Refused, command, &["--configuration-name=ci"]);
        }
    }

    #[test]
    fn every_command_of_the_original_is_accepted_or_answered_in_a_sentence() {
        use Answer::{Accepted, Noted, Refused};
        let common = [
            "--limit=3",
            "--track=t",
            "--benchmark-name=n",
            "--from-date=20260101",
            "--to-date=20260101",
            "--challenge=c",
            "--user-tags=a:1",
            "--user-tag=a:1",
        ];
        check(Accepted, "list races", &common);
        check(Accepted, "list races", &["--format=json", "--format=text"]);
        let sources = ["--track-path=p", "--track-repository=r", "--track-revision=r"];
        check(Noted, "list races", &sources);
        check(Accepted, "list tracks", &sources);
        check(Accepted, "list tracks", &["--distribution-version=8.0.0"]);
        check(Noted, "list tracks", &common);
        for what in ["list telemetry", "list pipelines"] {
            check(Noted, what, &common);
            check(Noted, what, &sources);
        }
        for what in ["list races", "list tracks", "list telemetry", "list pipelines"] {
            check(Noted, what, &["--team-path=p", "--team-repository=r", "--team-revision=r", "--team-path p"]);
        }
        check(Refused, "list", &["cars", "elasticsearch-plugins", "annotations", "cars --team-path=p"]);
        check(Refused, "add", &["annotation --race-timestamp=20260101T000000Z --message=m", "annotation --dry-run"]);
        check(Refused, "delete", &["annotation --id=1", "annotation --dry-run --id=1"]);
        check(Accepted, "delete race --id=a,b", &["--dry-run"]);
        check(
            Accepted,
            "compare --baseline=a --contender=b",
            &["--report-format=csv", "--report-numbers-align=left", "--report-file=f", "--show-in-report=true"],
        );
        check(Accepted, "info --track=t", &["--challenge=c", "--include-tasks=a", "--exclude-tasks=a"]);
        check(
            Accepted,
            "render-track --track=t",
            &["--build-flavor=serverless", "--serverless-operator", "--output-path=o"],
        );
        check(
            Accepted,
            "validate-track --track=t",
            &["--challenge=c", "--build-flavor=serverless", "--serverless-operator"],
        );
        check(Refused, "", &["create-track --track=t --target-hosts=h --indices=i --output-path=o"]);
        check(Refused, "", &["build --revision=current --target-os=linux", "download --distribution-version=8.0.0"]);
        check(Refused, "", &["install --http-port=39200 --node-name=n", "generate charts", "configure"]);
        check(Refused, "start", &["--installation-id=i --race-id=r", "--race-id=r --telemetry=gc --runtime-jdk=21"]);
        check(Refused, "stop", &["--installation-id=i", "--preserve-install --installation-id=i", "--skip-telemetry"]);
        check(Accepted, "start", &["--node-ip=10.0.0.1 --coordinator-ip=10.0.0.1"]);
        check(Accepted, "", &["stop", "status", "restart --node-ip=10.0.0.1 --coordinator-ip=10.0.0.1"]);
    }

    #[test]
    fn what_neither_knows_is_left_to_the_parser() {
        check(Answer::NotUnderstood, "", &["begin", "race --track=t --colour", "start --car=4gheap", "list cart"]);
        check(Answer::NotUnderstood, "race", &["--pipeline=benchmark-only", "--kill-running-processes"]);
    }
}

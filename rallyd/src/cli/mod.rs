//! The command line.

mod arguments;
mod attach;
mod catalog;
mod demo;
mod error;
mod original;
mod race;
mod races;
mod report;
mod selection;
mod start;
mod status;
mod stop;
mod token;
mod track;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::background;
use crate::causes::causes;
use crate::console::Console;
use crate::control::{Request, Response, call};
use crate::exit::Exit;
use crate::settings::rally_directory;
use crate::track::TrackCommand;

use arguments::Command;
use error::CommandError;
use original::Unusable;
use races::{DeleteCommand, ListCommand};
use selection::RunningInstance;

/// How long look-ups that were given up may hold up the end of the process.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(100);

/// Everything that `main` does: reads the command line, carries it out and returns the exit code.
pub fn main() -> ExitCode {
    let (arguments, notes) = match original::parse(env::args_os()) {
        Ok(parsed) => parsed,
        Err(Unusable::Refused(sentence)) => {
            Console { quiet: false }.error(&format!("{sentence}."));
            return Exit::Usage.into();
        }
        Err(Unusable::Clap(error)) => {
            // `--help` and `--version` come this way, too. There is nothing to do if the output is closed.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success }.into();
        }
    };
    let console = Console { quiet: arguments.quiet };
    notes.iter().for_each(|note| console.warning(note));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.error(&format!("Cannot start the runtime: {error}"));
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(run(arguments.command, arguments.offline, console));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    exit.into()
}

async fn run(command: Command, offline: bool, console: Console) -> Exit {
    let name = match &command {
        Command::Start(_) => "start",
        Command::Stop(_) => "stop",
        Command::Restart(_) => "restart",
        Command::Status(_) => "show the status",
        Command::Token(_) => "manage tokens",
        Command::Race(_) => "race",
        Command::Demo(_) => "show a race in small",
        Command::Attach(_) => "show the race",
        Command::Track(TrackCommand::Info(_)) => "show information about the track",
        Command::Track(TrackCommand::RenderTrack(_)) => "render the track",
        Command::Track(TrackCommand::ValidateTrack(_)) => "validate the track",
        Command::Track(TrackCommand::ListTracks(_)) | Command::List(_) => "list",
        Command::Delete(_) => "delete",
        Command::Compare(_) => "compare",
        Command::Report(_) => "write the report",
        Command::Daemon => return background::be_daemon().await,
    };
    // A daemon in the foreground has its own idea of an interrupt, and so has whoever watches a race.
    let has_own_interrupt = matches!(command, Command::Race(_) | Command::Demo(_) | Command::Attach(_));
    let result = if has_own_interrupt || start::stays_in_foreground(&command) {
        carry_out(command, offline, console).await
    } else {
        let hint = match command {
            Command::Start(_) | Command::Restart(_) => "; the daemon goes on if it was started, see `rallyd status`",
            _ => "",
        };
        tokio::select! {
            result = carry_out(command, offline, console) => result,
            Ok(()) = tokio::signal::ctrl_c() => Err(CommandError::Interrupted(hint)),
        }
    };
    result.unwrap_or_else(|error| {
        let causes = causes(&error);
        // Lists and excerpts end as they are.
        let full_stop = if causes.last().is_some_and(|cause| cause.contains('\n')) { "" } else { "." };
        console.error(&format!("Cannot {name}. {}{full_stop}", sentence(&causes.join("\n\t"))));
        error.exit()
    })
}

async fn carry_out(command: Command, offline: bool, console: Console) -> Result<Exit, CommandError> {
    let directory = directory()?;
    match command {
        Command::Start(start) => start::start(&directory, start.cluster, console).await?,
        Command::Stop(stop) => stop::stop(&directory, &stop, console).await?,
        Command::Restart(restart) => start::restart(&directory, restart.cluster, console).await?,
        Command::Status(status) => return status::status(&directory, &status, console).await,
        Command::Token(token) => token::token(&directory, token, console).await?,
        Command::Race(command) => return Box::pin(race::race(&directory, &command, offline, console)).await,
        Command::Demo(arguments) => return Box::pin(demo::demo(&directory, &arguments, console)).await,
        Command::Attach(arguments) => return attach::attach(&directory, &arguments, console).await,
        Command::List(ListCommand::Tracks(tracks)) => {
            track::track(&directory, TrackCommand::ListTracks(tracks), offline, console).await?;
        }
        Command::List(ListCommand::Telemetry(arguments)) => catalog::telemetry(arguments, console)?,
        Command::List(ListCommand::Pipelines(arguments)) => catalog::pipelines(arguments, console)?,
        Command::List(ListCommand::Races(arguments)) => races::list(&directory, arguments, console).await?,
        Command::Delete(DeleteCommand::Race(arguments)) => races::delete(&directory, arguments, console).await?,
        Command::Compare(arguments) => races::compare(&directory, &arguments, console).await?,
        Command::Report(arguments) => races::report(&directory, &arguments, console).await?,
        Command::Track(track) => track::track(&directory, track, offline, console).await?,
        Command::Daemon => return Ok(background::be_daemon().await),
    }
    Ok(Exit::Success)
}

/// This user's Rally directory as an absolute path, since the daemon runs elsewhere.
fn directory() -> Result<PathBuf, CommandError> {
    let directory = rally_directory(|name| env::var_os(name)).ok_or(CommandError::NoHome)?;
    std::path::absolute(directory).map_err(CommandError::NoCurrentDirectory)
}

/// Error texts are fragments; this makes one the beginning of a sentence.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// Asks a daemon that runs.
async fn ask(running: &RunningInstance, request: &Request) -> Result<Response, CommandError> {
    let address = running.instance.address();
    match call(&running.instance, request).await {
        Ok(Response::Refused(reason)) => Err(CommandError::Refused { address, reason }),
        Ok(response) => Ok(response),
        Err(source) => Err(CommandError::Control { address, pid: running.pid, source }),
    }
}

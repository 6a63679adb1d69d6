//! The exit codes of `rallyd`, all in one place.

use std::process::ExitCode;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All well.
    Success = 0,
    /// The command line could not be understood.
    Usage = 2,
    /// The command needs a running daemon and there is none.
    NotRunning = 3,
    /// The command failed; Rally's own code for every failure.
    Failure = 64,
    /// The race is complete, and a threshold says that it counts as failed.
    Threshold = 99,
    /// The user interrupted it: 128 plus the number of SIGINT.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

//! What a command says: data on standard output, messages on standard error.

use std::io::{self, Write};

/// The terminal of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    /// Leave out everything but data and errors.
    pub(crate) quiet: bool,
}

impl Console {
    /// What was done, or is good to know.
    pub(crate) fn info(self, message: &str) {
        if !self.quiet {
            self.message("INFO", message);
        }
    }

    /// What is probably not as it should be.
    pub(crate) fn warning(self, message: &str) {
        if !self.quiet {
            self.message("WARNING", message);
        }
    }

    /// Why the command failed.
    pub(crate) fn error(self, message: &str) {
        self.message("ERROR", message);
    }

    /// What people see around data that is for them: a heading.
    pub(crate) fn plain(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
        }
    }

    /// Data, for people or programs.
    pub(crate) fn data(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
            // Whoever reads, such as `head`, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    fn message(self, level: &str, message: &str) {
        // What another host said may be part of it, and must not move the cursor.
        let message: String =
            message.chars().filter(|&character| matches!(character, '\n' | '\t') || !character.is_control()).collect();
        // Without standard error there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "[{level}] {message}");
    }
}

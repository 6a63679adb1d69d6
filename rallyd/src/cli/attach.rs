//! `rallyd attach`.

use std::path::Path;

use super::arguments::AttachArguments;
use super::error::CommandError;
use super::selection::Filter;
use crate::console::Console;
use crate::exit::Exit;

pub(super) async fn attach(
    directory: &Path,
    arguments: &AttachArguments,
    console: Console,
) -> Result<Exit, CommandError> {
    let filter = Filter::new(&arguments.selection).await?;
    let _ = (directory, console);
    Err(filter.not_running())
}

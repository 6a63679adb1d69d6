//! The commands about tracks on their own: `cargo run -p rallyd --example track -- info --track-path=DIRECTORY`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use rallyd::track::{TrackCommand, TrackSettings, run};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: TrackCommand,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    let mut warn = |warning: &str| {
        // There is nobody left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "[WARNING] {warning}");
    };
    match run(arguments.command, &TrackSettings::default(), &mut out, &mut warn).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "[ERROR] {:#}", anyhow::Error::from(error));
            ExitCode::from(64)
        }
    }
}

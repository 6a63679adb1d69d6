//! `rallyd token`.

use std::path::Path;

use comfy_table::{Table, presets};
use rally_net::{HostRole, TokenState, TokenSummary};
use serde::Serialize;
use serde_json::json;

use super::arguments::{CreateTokenArguments, Format, Selection, TokenArguments, TokenCommand};
use super::ask;
use super::error::CommandError;
use super::selection::{Filter, RunningInstance, only};
use crate::console::Console;
use crate::control::{Request, Response};
use crate::duration::show_duration;
use crate::status::timestamp;

pub(super) async fn token(directory: &Path, arguments: TokenArguments, console: Console) -> Result<(), CommandError> {
    match arguments.command.unwrap_or(TokenCommand::Create(arguments.create)) {
        TokenCommand::Create(arguments) => create(directory, arguments, console).await,
        TokenCommand::List { selection, format } => list(directory, &selection, format, console).await,
        TokenCommand::Revoke { id, selection, format } => {
            let coordinator = coordinator(directory, &selection).await?;
            match ask(&coordinator, &Request::RevokeToken { id }).await? {
                Response::Revoked => console.info(&format!("Token {id} is worthless now.")),
                _ => return Err(unexpected(&coordinator)),
            }
            if format == Format::Json {
                console.data(&format!("{:#}", json!({"revoked": id.to_string()})))?;
            }
            Ok(())
        }
    }
}

async fn create(directory: &Path, arguments: CreateTokenArguments, console: Console) -> Result<(), CommandError> {
    let CreateTokenArguments { lifetime, note, selection, format } = arguments;
    let coordinator = coordinator(directory, &selection).await?;
    match ask(&coordinator, &Request::CreateToken { lifetime, note }).await? {
        Response::Token(token) => {
            let address = coordinator.instance.address();
            match format {
                Format::Text => console.data(token.reveal())?,
                Format::Json => {
                    let document = json!({
                        "join_string": token.reveal(),
                        "lifetime_seconds": lifetime.as_secs(),
                        "coordinator": address,
                    });
                    console.data(&format!("{document:#}"))?;
                }
            }
            console.info(&format!(
                "Good for {}. On each machine that is to join: rallyd start --coordinator-ip={} --token=…",
                show_duration(lifetime),
                address,
            ));
            Ok(())
        }
        _ => Err(unexpected(&coordinator)),
    }
}

/// A token as `token list --format=json` shows it.
#[derive(Serialize)]
struct TokenDocument<'a> {
    id: String,
    note: &'a str,
    state: TokenState,
    created: String,
    expires: String,
    uses: u64,
}

async fn list(directory: &Path, selection: &Selection, format: Format, console: Console) -> Result<(), CommandError> {
    let coordinator = coordinator(directory, selection).await?;
    let Response::Tokens(tokens) = ask(&coordinator, &Request::ListTokens).await? else {
        return Err(unexpected(&coordinator));
    };
    match format {
        Format::Json => console.data(&document(&tokens)?)?,
        Format::Text if tokens.is_empty() => console.info("There is no token that could be used to join."),
        Format::Text => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["Id", "State", "Expires", "Uses", "Note"]);
            for token in &tokens {
                table.add_row([
                    token.id.to_string(),
                    state(token.state).to_owned(),
                    timestamp(token.expires),
                    token.uses.to_string(),
                    token.note.clone(),
                ]);
            }
            if let Some(column) = table.column_mut(0) {
                column.set_padding((0, 1));
            }
            console.data(&table.trim_fmt())?;
        }
    }
    Ok(())
}

fn state(state: TokenState) -> &'static str {
    match state {
        TokenState::Valid => "valid",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
    }
}

fn document(tokens: &[TokenSummary]) -> Result<String, CommandError> {
    let tokens = tokens.iter().map(|token| TokenDocument {
        id: token.id.to_string(),
        note: &token.note,
        state: token.state,
        created: timestamp(token.created),
        expires: timestamp(token.expires),
        uses: token.uses,
    });
    let document = serde_json::json!({ "tokens": tokens.collect::<Vec<_>>() });
    serde_json::to_string_pretty(&document).map_err(|error| CommandError::Output(error.into()))
}

/// The selected coordinator on this machine; members beside it do not matter.
async fn coordinator(directory: &Path, selection: &Selection) -> Result<RunningInstance, CommandError> {
    let filter = Filter::new(selection).await?;
    let mut coordinators = Vec::new();
    let mut otherwise = filter.not_running();
    for running in filter.running(directory)? {
        match ask(&running, &Request::Status).await {
            Ok(Response::Status(status)) if status.host.role == HostRole::Coordinator => coordinators.push(running),
            Ok(Response::Status(status)) => {
                otherwise = CommandError::NotCoordinator { coordinator: status.host.coordinator.address };
            }
            Ok(_) => otherwise = unexpected(&running),
            Err(error) => otherwise = error,
        }
    }
    only(coordinators)?.ok_or(otherwise)
}

fn unexpected(running: &RunningInstance) -> CommandError {
    CommandError::UnexpectedAnswer { address: running.instance.address() }
}
